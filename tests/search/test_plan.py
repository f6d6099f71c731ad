"""How a budget is shared out."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from depthscale.data import load
from depthscale.errors import GraphError, SearchError
from depthscale.search import plan
from depthscale.search.plan import Spending, affordable, workers_for
from depthscale.search.space import Script, as_space, within
from depthscale.search.spaces import space


def crew(asked=None, *, seconds=900.0, table=False, shared=True, device="cpu"):
    return workers_for(asked, Spending(seconds, None, None), table=table, shared=shared, device=device)


def test_workers(monkeypatch):
    monkeypatch.setattr(plan.os, "sched_getaffinity", lambda pid: range(4))
    assert crew() == 4
    assert crew(3) == 3
    assert [crew(table=True), crew(shared=False), crew(seconds=10.0), crew(seconds=None)] == [1] * 4
    monkeypatch.setattr(plan.os, "sched_getaffinity", lambda pid: range(64))
    assert crew() == plan.MOST_WORKERS
    with pytest.raises(SearchError, match="at least 1 worker"):
        crew(0)


def test_shares_of_a_budget_leave_something():
    studies, workers = 4, 2
    each = Spending(900.0, None, None).limits(studies, workers, table=False).seconds
    searching = each * studies / workers
    assert searching + plan.FINISHING * 900 < 0.95 * 900
    assert searching <= plan.LATEST * 900


class TestAffordable:
    def test_what_time_allows(self, monkeypatch):
        """A pass over the training rows within the time, at the speed that was measured."""
        monkeypatch.setattr(plan, "speed", lambda dataset, device: 1e9)
        dataset = SimpleNamespace(train=SimpleNamespace(y=np.zeros(1000)))
        most = affordable(space("layerwise"), dataset, 2.0, "cpu", 0)
        assert most == 2_000_000
        s = within(space("layerwise"), multiply_adds=most)
        rng = np.random.default_rng(0)
        drawn = []
        while len(drawn) < 10:
            with contextlib.suppress(GraphError):
                drawn.append(s.sample(rng).architecture.cost().multiply_adds)
        assert max(drawn) <= most

    def test_the_cheapest_are_let_in_on_a_slow_machine(self, monkeypatch):
        monkeypatch.setattr(plan, "speed", lambda dataset, device: 1.0)
        dataset = SimpleNamespace(train=SimpleNamespace(y=np.zeros(1000)))
        s = space("layerwise")
        limited = within(s, multiply_adds=affordable(s, dataset, 1.0, "cpu", 0))
        rng = np.random.default_rng(1)
        found = 0
        for _ in range(200):
            with contextlib.suppress(GraphError):
                limited.sample(rng)
                found += 1
        assert found > 10

    @pytest.mark.parametrize("name", ["digits", "diabetes"])
    def test_speed_is_measured(self, name):
        assert 1e5 < plan.speed(load(name), "cpu") < 1e15


def test_spaces_of_graphs_can_be_limited_both_ways():
    from depthscale import zoo

    s = as_space(lambda d: zoo.mlp((5, d("w", [4, 8, 400]), 2)))
    with pytest.raises(GraphError, match="at most 100 multiply-adds"):
        within(s, 10_000, 100).draw(Script({"w": 400}))
    assert within(s, 10_000, 100).draw(Script({"w": 8})).architecture.cost().parameters < 100
