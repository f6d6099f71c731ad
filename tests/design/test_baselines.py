"""Baselines keep to their time: what cannot be stopped is made small enough beforehand."""

import time

import numpy as np
import pytest

from depthscale.design.baselines import PROBE, _boosting, _rows_that_fit, fit_baselines


@pytest.fixture(scope="module")
def wide():
    """20,000 rows of 100 numbers in ten classes, the last of which has three rows."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 9, 20_000)
    y[[5, 777, 19_000]] = 9
    return (rng.normal(size=(20_000, 100)) + y[:, None] * 0.1).astype("float32"), y


def sleeper(seconds_per_row):
    seen = []

    def iterate(rows):
        seen.append(len(rows))
        time.sleep(seconds_per_row * len(rows))

    return iterate, seen


def test_all_rows_where_an_iteration_is_quick(wide):
    iterate, seen = sleeper(0)
    assert len(_rows_that_fit(iterate, wide[1], 0, 10.0, "classification")) == 20_000
    assert seen == [PROBE]


def test_rows_in_proportion_to_what_an_iteration_may_take(wide):
    iterate, _ = sleeper(1e-4)  # 0.2 s for the probe, 2 s for all rows; an eighth of 4 s is 0.5 s: 5,000 rows
    rows = _rows_that_fit(iterate, wide[1], 0, 4.0, "classification")
    assert 2_500 < len(rows) <= 5_000
    assert len(np.unique(rows)) == len(rows)


def test_every_class_keeps_a_row(wide):
    iterate, _ = sleeper(1e-4)
    rows = _rows_that_fit(iterate, wide[1], 3, 0.1, "classification")
    assert set(wide[1][rows]) == set(range(10))


def test_the_note_says_how_many_rows(wide):
    x, y = wide
    _, note = _boosting(x, y, 0, 0.05, "classification")
    assert "of 20,000 rows" in note


def test_small_tables_are_taken_whole():
    x = np.random.default_rng(0).normal(size=(200, 3))
    found = {b.name: b for b in fit_baselines(x, x[:, :1] * 2, "regression", seed=0, limit=1.0)}
    assert "rows" not in found["histogram gradient boosting"].note
    ridge = found["ridge regression"].predict(x)
    assert np.allclose(ridge.ravel(), 2 * x[:, 0], atol=1e-2)
