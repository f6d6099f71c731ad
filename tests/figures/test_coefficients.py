import math

import pytest

from depthscale.figures import coefficients

HOLDS = coefficients.run(True, 0, lambda _: None)
FAILS = [
    HOLDS | {"listed": [n + (i == 7) for i, n in enumerate(HOLDS["listed"])]},
    HOLDS | {"growth": HOLDS["growth"] | {"5": 4.0}},
    HOLDS | {"mnist_degree_5": 1e9},
]


def test_published_counts():
    assert HOLDS["mnist_degree_5"] == pytest.approx(math.prod(range(785, 790)) / 120)
