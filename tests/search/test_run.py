"""Searches from end to end, on a small table and on digits."""

import json

import numpy as np
import pytest
import torch

from depthscale import zoo
from depthscale.build import build
from depthscale.errors import SearchError
from depthscale.search.evaluate import Source, TrainingEvaluator, annealed, seed_of, settings
from depthscale.search.finish import _budget
from depthscale.search.plan import Spending
from depthscale.search.run import search
from depthscale.search.spaces import space as named_space
from depthscale.search.table import is_table
from depthscale.search.watch import Watcher
from depthscale.train import Budget, fit
from tests.search import fakes


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return fakes.table(tmp_path_factory.mktemp("t") / "table.csv")


def tiny(decide):
    """Chains for the 64 pixels of digits."""
    width = decide("width", [8, 16, 32])
    return zoo.mlp((64, *[width] * decide("depth", [1, 2]), 10), "relu", input_shape=(1, 8, 8))


@pytest.fixture(scope="module")
def looked_up(table, tmp_path_factory):
    return search("nasbench201", table, trials=12, seeds=3, out=tmp_path_factory.mktemp("out") / "new")


class TestTable:
    def test_everybody_had_the_same(self, looked_up):
        assert looked_up.strategies == ("evolution", "random", "local", "largest")
        assert all(len({t.key for t in r.tried}) == len(r.tried) == 12 for r in looked_up.runs)
        assert [r.seed for r in looked_up.of("local")] == [0, 1, 2]

    def test_selection_does_not_see_the_test(self, looked_up):
        for run in looked_up.runs:
            assert run.best.outcome.score == max(t.outcome.score for t in run.tried)
            assert run.reports[-1] == run.best.outcome.report

    def test_time_is_what_the_table_recorded(self, looked_up):
        run = looked_up.runs[0]
        expected = sum((1000 + t.outcome.score) * 12 / 200 for t in run.tried)
        assert run.seconds[-1] == pytest.approx(expected)

    def test_largest_network_wins_where_size_is_everything(self, looked_up):
        assert min(looked_up.values("largest")) >= np.mean(looked_up.values("random"))

    def test_files(self, looked_up):
        found = json.loads((looked_up.out / "search.json").read_text())
        assert found["strategies"]["random"]["paired"]["n"] == 3
        page = (looked_up.out / "report.html").read_text()
        assert all(f">{name}<" in page for name in looked_up.strategies)
        assert "paired by seed" in page
        assert page.count("<svg") >= 5
        assert "nasbench201 on table.csv (cifar10)" in page

    def test_a_budget_in_simulated_time(self, table):
        result = search("nasbench201", table, budget="20m", baselines=())
        assert 1100 <= result.runs[0].seconds[-1] < 1300

    def test_what_the_table_lacks(self, table, tmp_path):
        short = tmp_path / "short.csv"
        short.write_text("\n".join(table.read_text().splitlines()[:4]) + "\n")
        with pytest.raises(SearchError, match="expected a cell of the table"):
            search("nasbench201", short, trials=3)

    def test_networks_that_are_no_cells(self, table):
        with pytest.raises(SearchError, match="search the space nasbench201"):
            search("layerwise", table, trials=2)

    def test_selection_by_test_is_refused(self, table):
        with pytest.raises(SearchError, match="validation column"):
            search("nasbench201", table, trials=2, select="test12")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("run") / "digits"


@pytest.fixture(scope="module")
def result(out):
    """One strategy and one baseline, three networks each."""
    return search(
        tiny,
        "digits",
        trials=3,
        trial_epochs=2,
        baselines=("random",),
        beside={"linear": zoo.mlp((64, 10), input_shape=(1, 8, 8))},
        out=out,
    )


class TestTraining:
    def test_finds_and_trains_networks(self, result):
        assert result.winner.value > 0.5
        assert {f.strategy for f in result.finals} == {"evolution", "random", ""}
        assert result.winner.parameters == sum(p.numel() for p in result.winner.module.parameters())

    def test_the_test_split_is_opened_once(self, result):
        assert result.dataset.test_opened == 1

    def test_what_is_written_runs(self, result, out):
        names = {}
        exec((out / "model.py").read_text(), names)
        net = names["load"](out / "model.safetensors")
        x = torch.from_numpy(result.dataset.val.x[:5])
        with torch.no_grad():
            assert torch.allclose(net(x), result.winner.module(x), atol=1e-6)

    def test_a_folder_that_is_taken(self, result, out):
        with pytest.raises(SearchError, match="holds a search; go on with it"):
            search(tiny, "digits", trials=3, out=out)

    def test_resumed_nothing_is_trained_again(self, result, out):
        seen = []

        class Seen(Watcher):
            def tried(self, study, number, words, outcome, state):
                seen.append(study)

        again = search(
            tiny, "digits", trials=4, trial_epochs=2, baselines=("random",), out=out, resume=True, watcher=Seen()
        )
        assert sorted(seen) == ["evolution/0", "random/0"]
        assert [t.outcome.score for t in again.runs[0].tried[:3]] == [t.outcome.score for t in result.runs[0].tried]

    def test_resumed_with_another_space(self, result, out):
        with pytest.raises(SearchError, match="expected to go on with the search that the storage holds"):
            search("layerwise", "digits", trials=4, trial_epochs=2, out=out, resume=True)

    def test_a_time_budget(self, tmp_path):
        result = search("layerwise", "digits", budget="3s", baselines=(), joint=True, max_parameters=3_000)
        assert result.winner.parameters <= 3_000
        assert any(k.startswith("train/") for k in result.runs[0].best.decisions)


@pytest.mark.parametrize(("elapsed", "seconds"), [(0, 48.0), (46, 48.0), (74, 20.0), (200, 10.0)])
def test_a_search_that_overran_leaves_less_for_the_winners(elapsed, seconds):
    spending = Spending.of("100s", None, None)
    evaluator = TrainingEvaluator(Source("digits"), epochs=1)
    assert _budget(evaluator, spending, 4, None, elapsed).seconds == pytest.approx(seconds / 4)


@pytest.mark.parametrize("data", ["digits", "diabetes"])
def test_several_draws_are_the_mean_of_networks_trained_alone(data):
    source = Source(data)
    dataset = source.load()
    space = named_space("mlp", input_shape=dataset.input_shape, outputs=dataset.outputs)
    draw = space.sample(np.random.default_rng(1))
    evaluator = TrainingEvaluator(source, epochs=1, rungs=(9,), draws=2)
    found = evaluator.begin(space, draw, seed=7).run(9)
    own, graph = seed_of(7, space, draw), space.graph(draw.architecture)
    config = annealed(settings(draw.decisions, dataset, own, "auto"), ema=None, budget=Budget(epochs=1))
    # the rows come in the order of the first draw's seed for both
    alone = [fit(build(graph, own + k), dataset, config=config, progress=False).val for k in range(2)]
    assert found.epochs == 2
    assert found.metrics["loss"] == pytest.approx(sum(v["loss"] for v in alone) / 2, rel=1e-3)
    name = "accuracy" if data == "digits" else "rmse"
    assert found.metrics[name] == pytest.approx(sum(v[name] for v in alone) / 2, abs=0.01)


def test_a_search_whose_networks_are_drawn_several_times(tmp_path):
    result = search(tiny, "digits", trials=3, trial_epochs=1, draws=3, baselines=("random",))
    tried = result.of("evolution")[0].tried
    assert "mean of 3 draws" in result.signal
    assert all(t.outcome.epochs == 3 for t in tried if t.state == "complete")


def test_darts_end_to_end(tmp_path):
    """The supernet's cell is trained, tested and written like any other winner."""
    options = {"width": 2, "cells": 1}
    result = search(
        "nasbench201", "digits", strategy="darts", epochs=0.5, trial_epochs=0.25, baselines=("random",), limit=400,
        options=options, out=tmp_path / "out",
    )  # fmt: skip
    assert len(result.of("darts")[0].tried) == 1
    assert "none" not in result.winner.words
    assert (tmp_path / "out" / "model.safetensors").exists()
    again = search(
        "nasbench201", "digits", strategy="darts", epochs=0.5, trial_epochs=0.25, baselines=("random",), limit=400,
        options=options, out=tmp_path / "out", resume=True,
    )  # fmt: skip
    assert again.winner.words == result.winner.words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strategy": "darts", "trials": 1}, "expected the space nasbench201 and data"),
        ({"strategy": "evolutoin"}, "did you mean 'evolution'"),
        ({"seeds": 0}, "at least 1 seed"),
        ({"draws": 0, "trials": 1}, "at least 1 draw"),
        ({"draws": 2, "budget": "5s"}, "give trials or epochs as the budget"),
        ({"trial_epochs": -1, "trials": 1}, "more than 0 epochs"),
        ({"trials": 0}, "more than 0 trials"),
        ({"resume": True, "out": "/nowhere/at/all"}, "no /nowhere"),
        ({"scores": ("zenn",), "strategy": "screened", "trials": 1, "baselines": ()}, "expected a score"),
    ],
)
def test_bad_input(change, words):
    with pytest.raises(SearchError, match=words):
        search(tiny, "digits", **change)


def test_what_is_a_table(table, tmp_path):
    assert is_table(table)
    other = tmp_path / "data.csv"
    other.write_text("a,b\n1,2\n")
    assert not is_table(other)
    assert not is_table("digits")
