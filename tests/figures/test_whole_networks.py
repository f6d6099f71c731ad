import pytest

from depthscale.figures import whole_networks
from depthscale.figures.whole_networks import CLOSE, SPACES


def data(whole):
    accuracy = {"blockwise": [0.90, 0.91, 0.92, 0.90], "whole": [a + whole for a in (0.90, 0.91, 0.92, 0.90)]}
    accuracy["wired"] = [0.9] * 4
    return {
        "target": 12_000,
        "epochs": 3,
        "accuracy": accuracy,
        "parameters": {k: [11_000, 12_000, 12_500, 12_200] for k in SPACES},
    }


HOLDS = data(0.05)
FAILS = [data(-0.05), data(-0.01)]


@pytest.mark.parametrize("name", SPACES)
def test_sizes_are_equal(name):
    drawn = whole_networks._drawn(name, (1, 8, 8), 10, 2, 12_000, 0)
    assert all(abs(g.cost().parameters - 12_000) <= CLOSE * 12_000 for g in drawn)
