import math

import numpy as np
import pytest
from scipy import stats

from depthscale.report.stats import rmse_interval, shares_differ, wilson


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (1, 7), (360, 365), (9_912, 10_000), (1, 1)])
def test_wilson_is_scipys(k: int, n: int) -> None:
    ends = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k / n, n) == pytest.approx((ends.low, ends.high), abs=1e-12)


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson(0.5, 0) == (0.0, 1.0)


def test_rmse_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    runs, n, sigma = 2000, 400, 3.0
    hits = 0
    for _ in range(runs):
        low, high = rmse_interval(list(sigma * rng.standard_normal(n)))
        hits += low <= sigma <= high
    # 95 % nominal; the error of this estimate is 0.5 %, the normal approximation costs about another
    assert abs(hits / runs - 0.95) < 0.02
    assert rmse_interval([1.0]) == (0.0, math.inf)


def test_shares_differ_as_the_z_test() -> None:
    assert not shares_differ(0.986, 0.975, 365)
    assert shares_differ(0.99, 0.97, 2000)
    assert not shares_differ(0.5, 0.5, 10)
    assert not shares_differ(0.0, 1.0, 0)
