import pytest

from depthscale.errors import SearchError
from depthscale.figures import whole_networks
from depthscale.figures.whole_networks import CLOSE, SPACES, TARGET


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
    drawn = whole_networks._drawn(name, (1, 8, 8), 10, 2, TARGET, 0)
    assert len(drawn) == 2
    assert all(abs(g.cost().parameters - TARGET) <= CLOSE * TARGET for g in drawn)


def test_a_size_that_no_network_has_is_said_to_be_so():
    with pytest.raises(SearchError, match="about 10 parameters, found 0 of 1"):
        whole_networks._drawn("blockwise", (1, 8, 8), 10, 1, 10, 0)
