"""Budgets as people write them."""

import math

import pytest

from depthscale.design.budget import plan, seconds
from depthscale.errors import DepthscaleError


@pytest.mark.parametrize(
    ("text", "value"), [("60", 60), (60, 60), ("60s", 60), ("8m", 480), ("1.5h", 5400), (" 2 min ", 120), (".5s", 0.5)]
)
def test_seconds(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["0", "0s", "-5s", "", "soon", "5 days", "1e9", "nan", "inf", None])
def test_unusable_budgets(text):
    with pytest.raises(DepthscaleError, match="expected a budget"):
        seconds(text)


def test_the_shares_fit_into_the_budget():
    for total in ("10s", "60s", "8m", "2h"):
        p = plan(total, None)
        assert p.search + p.final + 3 * p.baseline <= 1.2 * seconds(total)


def test_counting_trials_sets_no_time():
    p = plan(None, 5)
    assert p.total is None
    assert p.search == math.inf
    assert plan("60s", 5).total == 60
    with pytest.raises(DepthscaleError, match="at least 1 trial"):
        plan(None, 0)
