import numpy as np
import optuna
import pytest
import torch

from depthscale.errors import SearchError
from depthscale.search.strategies import ONE_SHOT, STRATEGIES, strategy
from depthscale.search.strategies.evolution import RegularizedEvolution
from depthscale.search.strategies.mcts import TreeSearch
from depthscale.search.strategies.policy import Controller
from depthscale.search.strategies.q_learning import QLearning, Standard
from depthscale.search.strategies.simple import LocalSearch
from depthscale.search.strategies.surrogate import NOISE, SCALES, Surrogate

OURS = [n for n in STRATEGIES if n not in ("tpe", "gp", "nsga2", "screened", "largest", *ONE_SHOT)]
optuna.logging.set_verbosity(optuna.logging.WARNING)


def conditional(trial):
    """Anybody's objective: categories, integers, logarithmic numbers, and decisions that others depend on."""
    kind = trial.suggest_categorical("kind", ["plain", "residual"])
    depth = trial.suggest_int("depth", 1, 12)
    rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    score = -abs(depth - 9) / 12 - abs(np.log10(rate) + 3) / 2
    score -= trial.suggest_float("drop", 0.0, 0.5, step=0.1) + 0.01 * trial.suggest_int("batch", 8, 32, step=8) / 8
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
        assert study.best_value > -1.2

    def test_the_same_seed_gives_the_same_search(self, name):
        a, b, c = (run(name, conditional, 18, seed) for seed in (1, 1, 2))
        assert [t.params for t in a.trials] == [t.params for t in b.trials]
        assert [t.params for t in a.trials] != [t.params for t in c.trials]

    def test_goes_on_after_a_restart_as_if_there_had_been_none(self, name):
        whole = run(name, conditional, 22)
        half = optuna.create_study(direction="maximize", sampler=strategy(name, 0))
        half.optimize(conditional, n_trials=14)
        half.sampler = strategy(name, 0)
        half.optimize(conditional, n_trials=8)
        assert [t.params for t in half.trials] == [t.params for t in whole.trials]

    def test_minimises_too(self, name):
        up = run(name, digits, 20)
        down = run(name, lambda t: -digits(t), 20, direction="minimize")
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
    """The last trials are better than chance (12 on average, the mean of six digits) by three standard errors."""
    seeds, trials, late = 3, 90, 20
    found = np.array([[t.value for t in run(name, digits, trials, seed).trials[-late:]] for seed in range(seeds)])
    chance = np.sqrt(6 * 2 / found.size)  # a digit's variance is 2
    assert found.mean() > 12 + 3 * chance


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


class TestController:
    def seen(self, sampler):
        """A batch's worth of trials, as the sampler saw them."""
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.optimize(digits, n_trials=3)
        sampler.catch_up(study)
        return list(sampler.history)

    def test_the_first_pass_is_reinforce(self):
        """The gradient of the surrogate where nothing has moved yet is that of -advantage log p - bonus entropy."""
        sampler = Controller(0, batch=100, entropy=0.3)
        trial = self.seen(sampler)[0]
        weights = [sampler.cell, *sampler.heads.values()]
        old = [log.detach() for log, _ in sampler._logs([trial])]
        got = torch.autograd.grad(sampler._loss([trial], torch.tensor([0.7]), old), weights)
        plain = -sum(0.7 * log + 0.3 * entropy for log, entropy in sampler._logs([trial])).sum()
        for a, b in zip(got, torch.autograd.grad(plain, weights), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize(("advantage", "moved", "flat"), [(1.0, -0.5, True), (1.0, 0.5, False), (-1.0, 0.5, True)])
    def test_what_has_gone_far_enough_is_not_pushed_on(self, advantage, moved, flat):
        """A good action that has become e^0.5 times as likely, and a bad one e^-0.5 times, have no gradient left."""
        sampler = Controller(0, batch=100, entropy=0.0)
        trial = self.seen(sampler)[0]
        old = [log.detach() + moved for log, _ in sampler._logs([trial])]
        (gradient,) = torch.autograd.grad(sampler._loss([trial], torch.tensor([advantage]), old), [sampler.cell])
        assert bool((gradient == 0).all()) == flat

    def test_trials_that_are_alike_are_one_program(self):
        """Log probabilities and entropies of several trials are those of each alone; others are told apart."""
        sampler = Controller(0, batch=100)
        trials = self.seen(sampler)
        groups = list(sampler._alike([(t, float(i)) for i, t in enumerate(trials)]))
        assert sorted(float(a) for _, group in groups for a in group) == [0.0, 1.0, 2.0]
        for group, _ in groups:
            assert len({tuple(t.decisions) for t in group}) == 1
            for k, trial in enumerate(group):
                for together, alone in zip(sampler._logs(group), sampler._logs([trial]), strict=True):
                    torch.testing.assert_close(together[0][k], alone[0][0])
                    torch.testing.assert_close(together[1][k], alone[1][0])

    def test_numbers_out_of_range(self):
        with pytest.raises(SearchError, match="at least 1 pass"):
            Controller(0, passes=0)


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


class TestSurrogate:
    def rows(self, n, rng):
        """Three numbers, as decisions (one column) and features (two), and a smooth function of them."""
        x = rng.random((n, 3))
        return x, np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2]

    def test_interpolates_and_knows_what_it_does_not_know(self):
        rng = np.random.default_rng(0)
        x, y = self.rows(80, rng)
        surrogate = Surrogate(x, y, decisions=3)
        near, truth = self.rows(200, rng)
        mean, spread = surrogate(near)
        assert np.corrcoef(mean, truth)[0, 1] > 0.97
        assert surrogate(near + 10)[1].min() > spread.max()

    def test_against_the_naive_formula(self):
        """One member's posterior (Rasmussen & Williams 2006, equations 2.25 and 2.26), mixed by its weights."""
        rng = np.random.default_rng(1)
        x, y = self.rows(12, rng)
        new = rng.random((5, 3))
        s = Surrogate(x, y, decisions=3)
        means, seconds, evidence = [], [], []
        d = ((x[:, None] - x[None]) ** 2).sum(-1)
        unit = d.sum() / (12 * 11)
        for scale in SCALES:
            k = np.exp(-0.5 * d / (scale**2 * unit)) + NOISE * np.eye(12)
            ks = np.exp(-0.5 * ((new[:, None] - x[None]) ** 2).sum(-1) / (scale**2 * unit))
            inverse = np.linalg.inv(k)
            m, v = ks @ inverse @ s.z, 1 - np.diag(ks @ inverse @ ks.T)
            means.append(m)
            seconds.append(v + m**2)
            evidence.append(-0.5 * s.z @ inverse @ s.z - 0.5 * np.linalg.slogdet(k)[1])
        w = np.exp(np.array(evidence) - max(evidence))
        w /= w.sum()
        mean, spread = s(new)
        assert mean == pytest.approx(w @ np.array(means), abs=2e-3)
        assert spread == pytest.approx(np.sqrt(w @ np.array(seconds) - (w @ np.array(means)) ** 2), abs=2e-3)

    def test_expected_improvement_by_simulation(self):
        rng = np.random.default_rng(2)
        x, y = self.rows(30, rng)
        s = Surrogate(x, y, decisions=3)
        new = x[np.argsort(-y)[:4]] + 0.2 * rng.random((4, 3))
        mean, spread = s(new)
        drawn = np.maximum(mean + spread * rng.standard_normal((200_000, 4)) - s.best, 0)
        error = drawn.std(0) / np.sqrt(200_000)
        assert drawn.mean(0).max() > 0.01
        assert np.all(np.abs(s.improvement(new) - drawn.mean(0)) < 5 * error + 1e-12)

    def test_monotone_changes_of_the_score_change_nothing(self):
        x, y = self.rows(30, np.random.default_rng(3))
        a, b = Surrogate(x, y, 1), Surrogate(x, np.exp(5 * y), 1)
        assert a(x)[0] == pytest.approx(b(x)[0])


class TestPredictor:
    def test_tries_nothing_twice(self):
        study = run("predictor", digits, 60)
        assert len({tuple(t.params.items()) for t in study.trials}) == 60

    def test_features_that_tell_the_score_help(self):
        def best(seed, features):
            study = optuna.create_study(direction="maximize", sampler=strategy("predictor", seed, features=features))
            study.optimize(digits, n_trials=25)
            return study.best_value

        told = [best(s, lambda d: np.array([float(sum(d.values()))])) for s in range(4)]
        assert min(told) >= np.mean([best(s, None) for s in range(4)])


class TestScreened:
    def test_tries_the_best_by_its_features(self):
        sampler = strategy("screened", 0, features=lambda d: np.array([float(sum(d.values()))]))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.optimize(digits, n_trials=20)
        values = [t.value for t in study.trials]
        assert min(values[1:]) > 15  # the best of a hundred sums of six digits; the mean of one is 12
        assert len({tuple(t.params.items()) for t in study.trials}) == 20

    def test_needs_features(self):
        with pytest.raises(SearchError, match="expected features"):
            strategy("screened", 0)


def test_ranks():
    standard = Standard()
    assert [standard.add(s) for s in (1.0, 2.0, 0.0, float("-inf"))] == [0.5, 0.75, pytest.approx(1 / 6), 0.0]


def test_unknown_name():
    with pytest.raises(SearchError, match="did you mean 'evolution'"):
        strategy("evolutoin")


def test_tree_search_asks_for_no_network_twice_until_all_were_tried():
    """Eight networks of unequal depth; rewards that pull to one of them."""

    def short(trial):
        x = trial.suggest_categorical("x", [0, 1])
        return 1.0 if x == 0 else 0.1 * trial.suggest_categorical("y", [0, 1, 2])

    study = run("mcts", short, 12)
    # the tree grows by one node a trial, so a network may be met again before its path is in the tree
    assert len({tuple(t.params.items()) for t in study.trials}) == 4
    assert sum(t.params["x"] == 0 for t in study.trials[:6]) <= 2
