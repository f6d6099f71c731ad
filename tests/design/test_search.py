"""The race: proposals are valid, halving stops the worse, and a rebuilt search goes on as if never stopped."""

import json

import optuna
import pytest
from hypothesis import given, settings, strategies as st

from depthscale import record
from depthscale.design import search as module
from depthscale.design.search import RUNGS, Progress, Search, from_fields, to_fields
from depthscale.design.space import Facts, first_guesses, propose
from depthscale.errors import DepthscaleError, GraphError

IMAGES = Facts("image", "classification", (1, 8, 8), 10, 1200)
TABLE = Facts("table", "regression", (12,), 1, 400)
FACTS = [IMAGES, Facts("image", "classification", (3, 32, 32), 10, 40_000), TABLE]


def quality(screened) -> float:
    """A made-up truth about candidates, fixed by their decisions."""
    return int(screened.graph.key[:6], 16) / 16**6


def start(screened, number):
    def race(rung):
        score = quality(screened) * (1 - 0.5 / rung)
        return Progress(score, {"accuracy": score}, [{"epoch": rung, "loss": 1 - score}])

    return race


def never() -> bool:
    return False


@pytest.mark.parametrize("facts", FACTS)
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_every_proposal_is_a_network_for_the_data(facts, seed):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    candidate = propose(study.ask(), facts)
    shapes = candidate.graph.shapes()
    assert shapes[candidate.graph.inputs[0]] == (1, *facts.input_shape)
    assert shapes[candidate.graph.outputs[0]] == (1, facts.outputs)
    assert set(candidate.training) == {"learning_rate", "weight_decay", "batch_size", "augment"}


@pytest.mark.parametrize("facts", FACTS)
def test_first_guesses_decide_everything(facts):
    for guess in first_guesses(facts):
        candidate = propose(optuna.trial.FixedTrial(guess), facts)  # raises where a decision is missing
        assert candidate.words


def test_halving_stops_two_thirds_and_keeps_the_best_it_saw():
    search = Search(TABLE, 0, start)
    for _ in range(30):
        search.step(never)
    trained = [t for t in search.trials if t.trained]
    stopped = [t for t in trained if t.state == "pruned"]
    assert len(trained) >= 20
    assert 0.4 <= len(stopped) / len(trained) <= 0.9
    assert all(t.rung == RUNGS[-1] for t in trained if t.state == "complete")
    assert search.best.score == max(t.score for t in trained)


def test_a_search_rebuilt_from_its_record_goes_on_the_same():
    whole = Search(TABLE, 7, start)
    for _ in range(14):
        whole.step(never)
    first = Search(TABLE, 7, start)
    for _ in range(6):
        first.step(never)
    # through the record's text, as a killed process would find it
    kept = [from_fields(record.loads(record.dumps(to_fields(t)))) for t in first.trials]
    second = Search(TABLE, 7, start, kept)
    for _ in range(8):
        second.step(never)

    def what(search):
        return [(t.number, t.state, t.words, dict(t.decisions), t.score, t.rung) for t in search.trials]

    assert what(second) == what(whole)


def test_seeds_search_differently():
    def decisions(seed):
        search = Search(TABLE, seed, start)
        for _ in range(8):
            search.step(never)
        return json.dumps([dict(t.decisions) for t in search.trials])

    assert decisions(0) == decisions(0) != decisions(1)


def test_divergence_and_invalid_proposals_are_kept_apart(monkeypatch):
    def diverging(screened, number):
        return lambda rung: Progress(float("-inf"), {}, [], failed="loss became NaN at step 3")

    search = Search(TABLE, 0, diverging)
    assert search.step(never).state == "diverged"
    with pytest.raises(DepthscaleError, match="at least one candidate to train.*NaN at step 3"):
        _ = search.best

    def invalid(trial, facts):
        raise GraphError("nothing fits")

    monkeypatch.setattr(module, "propose", invalid)
    assert search.step(never).state == "invalid"


def test_the_clock_ends_a_trial_between_rungs():
    trial = Search(TABLE, 0, start).step(lambda: True)
    assert (trial.state, trial.rung) == ("pruned", 1)
    assert "time" in trial.why


def test_what_the_budget_cannot_afford_is_drawn_again():
    search = Search(IMAGES, 0, start, most=5e5)
    for _ in range(12):
        search.step(never)
    sampled = search.trials[len(first_guesses(IMAGES)) :]
    assert sampled
    assert all(t.multiply_adds <= 5e5 for t in sampled)
    assert [t.number for t in search.trials] == list(range(12))


@pytest.mark.parametrize("name", ["evolution", "local", "q-learning", "mcts", "random"])
def test_any_strategy_of_the_search_and_rebuilt_it_goes_on_the_same(name):
    whole = Search(TABLE, 3, start, strategy=name)
    for _ in range(14):
        whole.step(never)
    half = [from_fields(to_fields(t)) for t in whole.trials[:8]]
    again = Search(TABLE, 3, start, half, strategy=name)
    for _ in range(6):
        again.step(never)
    assert [t.decisions for t in again.trials] == [t.decisions for t in whole.trials]


@pytest.mark.parametrize("name", ["largest", "tppe"])
def test_strategies_that_are_none(name):
    with pytest.raises(DepthscaleError, match="expected a strategy"):
        Search(TABLE, 0, start, strategy=name)
