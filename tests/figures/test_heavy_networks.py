import pytest

from depthscale.figures import heavy_networks


def data(left, correlation=0.6):
    return {
        "queries": 150,
        "n": 8,
        "size_over_time": [0.4 + 0.05 * i for i in range(10)],
        "worth_over_time": [50.0 + 3 * i for i in range(10)],
        "same_over_time": [50.0 + 2 * i for i in range(10)],
        "correlation": [correlation + 0.01 * (i % 3) for i in range(8)],
        "advantage": [30.0 + i % 2 for i in range(8)],
        "left": [left + i % 2 for i in range(8)],
    }


HOLDS = data(5.0)
FAILS = [data(25.0), data(5.0, -0.2)]


def test_the_share_that_is_left():
    low, high = heavy_networks._ratios([10.0] * 5, [20.0] * 5)
    assert low == high == pytest.approx(0.5)
