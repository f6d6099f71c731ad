import numpy as np
import optuna
import pytest

from depthscale.errors import SearchError
from depthscale.search.strategies import STRATEGIES, strategy
from depthscale.search.strategies.evolution import RegularizedEvolution
from depthscale.search.strategies.mcts import TreeSearch
from depthscale.search.strategies.predictor import Encoder, Ensemble
from depthscale.search.strategies.q_learning import QLearning, Standard
from depthscale.search.strategies.simple import LocalSearch

OURS = [n for n in STRATEGIES if n not in ("tpe", "gp", "nsga2")]
optuna.logging.set_verbosity(optuna.logging.WARNING)


def conditional(trial):
    """Anybody's objective: categories, integers, logarithmic numbers, and decisions that others depend on."""
    kind = trial.suggest_categorical("kind", ["plain", "residual"])
    depth = trial.suggest_int("depth", 1, 12)
    rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    score = -abs(depth - 9) / 12 - abs(np.log10(rate) + 3) / 2
    if kind == "residual":
        score += 0.5 * trial.suggest_int("gain", 1, 64, log=True) / 64
    return score


def digits(trial):
    """Six decisions of five options; the score is their sum, so the best is 24."""
    return float(sum(trial.suggest_categorical(f"x{i}", [0, 1, 2, 3, 4]) for i in range(6)))


def run(name, objective, trials, seed=0, direction="maximize"):
    study = optuna.create_study(direction=direction, sampler=strategy(name, seed))
    study.optimize(objective, n_trials=trials)
    return study


@pytest.mark.parametrize("name", OURS)
class TestEvery:
    def test_works_in_anybodys_study(self, name):
        study = run(name, conditional, 30)
        assert len(study.trials) == 30
        assert study.best_value > -1

    def test_the_same_seed_gives_the_same_search(self, name):
        a, b, c = (run(name, conditional, 25, seed) for seed in (1, 1, 2))
        assert [t.params for t in a.trials] == [t.params for t in b.trials]
        assert [t.params for t in a.trials] != [t.params for t in c.trials]

    def test_goes_on_after_a_restart_as_if_there_had_been_none(self, name):
        whole = run(name, conditional, 30)
        half = optuna.create_study(direction="maximize", sampler=strategy(name, 0))
        half.optimize(conditional, n_trials=17)
        half.sampler = strategy(name, 0)
        half.optimize(conditional, n_trials=13)
        assert [t.params for t in half.trials] == [t.params for t in whole.trials]

    def test_minimises_too(self, name):
        up = run(name, digits, 40)
        down = run(name, lambda t: -digits(t), 40, direction="minimize")
        assert [t.params for t in up.trials] == [t.params for t in down.trials]

    def test_survives_trials_that_fail_and_are_pruned(self, name):
        def objective(trial):
            value = digits(trial)
            if trial.number % 5 == 1:
                raise ValueError
            if trial.number % 5 == 2:
                trial.report(value, 1)
                raise optuna.TrialPruned
            return float("nan") if trial.number % 5 == 3 else value

        study = optuna.create_study(direction="maximize", sampler=strategy(name, 0))
        study.optimize(objective, n_trials=40, catch=ValueError)
        assert len(study.trials) == 40

    def test_open_trials_side_by_side(self, name):
        """As several workers would have them."""
        study = optuna.create_study(direction="maximize", sampler=strategy(name, 0))
        for _ in range(8):
            batch = [study.ask() for _ in range(4)]
            for trial in batch:
                study.tell(trial, digits(trial))
        assert len(study.trials) == 32


@pytest.mark.parametrize("name", [n for n in OURS if n != "random"])
def test_learns(name):
    """Better than random on a sum of six parts: the mean best of n seeds by more than twice its standard error."""
    n = 8 if name in ("progressive", "predictor", "controller") else 24
    found = np.array([run(name, digits, 150, seed).best_value for seed in range(n)])
    chance = np.array([run("random", digits, 150, seed).best_value for seed in range(n)])
    error = np.sqrt(found.var(ddof=1) / n + chance.var(ddof=1) / n)
    assert found.mean() - chance.mean() > 2 * error


class TestLocalSearch:
    def test_evaluates_all_neighbours_and_moves_to_the_best(self):
        study = run("local", digits, 1 + 24 + 1)
        start = study.trials[0].params
        for trial in study.trials[1:25]:
            assert sum(trial.params[k] != start[k] for k in start) == 1
        best = max(study.trials[1:25], key=lambda t: t.value).params
        moved = study.trials[25].params
        assert sum(moved[k] != best[k] for k in best) == 1

    def test_starts_anew_in_a_local_optimum(self):
        """Nothing is better than anything else: after the neighbours of the start comes a new start."""
        study = optuna.create_study(direction="maximize", sampler=LocalSearch(0))
        study.optimize(lambda t: 0.0 * digits(t), n_trials=26)
        a, b = study.trials[0].params, study.trials[25].params
        assert sum(a[k] != b[k] for k in a) > 1

    def test_first_improvement(self):
        study = optuna.create_study(direction="maximize", sampler=LocalSearch(0, first=True))
        study.optimize(digits, n_trials=60)
        assert study.best_value >= 22


class TestEvolution:
    def test_children_differ_from_a_living_member_in_one_decision(self):
        study = optuna.create_study(direction="maximize", sampler=RegularizedEvolution(0, population=5, tournament=2))
        study.optimize(digits, n_trials=40)
        params = [t.params for t in study.trials]
        for i in range(5, 40):
            assert any(sum(params[i][k] != p[k] for k in p) == 1 for p in params[i - 5 : i])

    def test_a_tournament_larger_than_the_population(self):
        with pytest.raises(SearchError, match="tournament ≤ population"):
            RegularizedEvolution(0, population=2, tournament=3)


class TestQLearning:
    def test_epsilon_falls_from_one_to_its_least(self):
        q = QLearning(0, schedule=100, least=0.1)
        eps = [q.epsilon(n) for n in range(0, 200, 10)]
        assert eps[0] == 1.0
        assert eps[-1] == pytest.approx(0.1)
        assert eps == sorted(eps, reverse=True)

    def test_the_table_converges_to_the_reward_of_the_best_action(self):
        """One decision, two options: their values approach the mean ranks of their scores, a half apart."""
        q = QLearning(0, rate=0.3, schedule=1, least=0.5)
        study = optuna.create_study(direction="maximize", sampler=q)
        study.optimize(lambda t: float(t.suggest_categorical("x", [0, 1])), n_trials=80)
        q.catch_up(study)
        table = q.q["x", None]
        assert table[1] - table[0] == pytest.approx(0.5, abs=0.05)


class TestTreeSearch:
    def test_visits_add_up(self):
        sampler = TreeSearch(0)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.optimize(digits, n_trials=60)
        sampler.catch_up(study)
        assert sampler.root.visits == 60
        assert sum(c.visits for c in sampler.root.children.values()) == 60
        best = max(sampler.root.children.items(), key=lambda kv: kv[1].visits)
        assert best[0][1] >= 3


class TestPredictor:
    def test_the_encoder_is_exact_for_sums_of_pairs(self):
        """A function of pairs of decisions is fitted to nothing left, from enough rows."""
        from depthscale.search.space import Choice

        rng = np.random.default_rng(0)
        domains = {f"x{i}": Choice((0, 1, 2)) for i in range(4)}
        worth = rng.normal(size=(4, 4, 3, 3))
        rows = [{n: int(rng.integers(3)) for n in domains} for _ in range(300)]
        y = np.array([sum(worth[i, j, r[f"x{i}"], r[f"x{j}"]] for i in range(4) for j in range(i)) for r in rows])
        encoder = Encoder(domains, None)
        x = np.array([encoder(r) for r in rows])
        fitted = Ensemble(x[:200], y[:200], 3, rng, 1e-8)(x[200:])
        assert np.abs(fitted - y[200:]).max() < 1e-3

    def test_features_are_columns(self):
        from depthscale.search.space import Choice

        encoder = Encoder({"x": Choice((0, 1))}, lambda d: np.array([7.0 * float(d["x"])]))
        assert encoder({"x": 1}).tolist() == [0, 1, 7]


def test_ranks():
    standard = Standard()
    assert [standard.add(s) for s in (1.0, 2.0, 0.0, float("-inf"))] == [0.5, 0.75, pytest.approx(1 / 6), 0.0]


def test_unknown_name():
    with pytest.raises(SearchError, match="did you mean 'evolution'"):
        strategy("evolutoin")
