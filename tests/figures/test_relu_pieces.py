import numpy as np

from depthscale.figures import relu_pieces
from depthscale.foundations.multilayer import IDENTITY, RELU, Layer, forward, make

HOLDS = {
    "pieces": [15, 19],
    "pieces_at_the_start": [17, 22],
    "mean_squared_error": [0.02, 0.1],
    "largest_bow_of_a_piece": 1e-12,
    "mean_pieces": 17.0,
    "variance_of_y": 0.5,
    "x": [0.0, 1.0],
    "y": [0.0, 1.0],
    "knots": [-10.0, 0.0, 10.0],
    "values": [0.0, 1.0, 0.0],
}
FAILS = [
    HOLDS | {"pieces": [15, 122]},
    HOLDS | {"mean_pieces": 70.0},
    HOLDS | {"largest_bow_of_a_piece": 0.1},
    HOLDS | {"mean_squared_error": [0.5, 0.5]},
]


def test_a_sawtooth_has_its_known_bends():
    """Two layers that fold [0, 1] twice (Telgarsky 2016): bends at the quarters."""
    fold = Layer(np.array([[1.0], [1.0]]), np.array([0.0, -0.5]), RELU)
    again = Layer(np.array([[2.0, -4.0], [2.0, -4.0]]), np.array([0.0, -0.5]), RELU)
    net = [fold, again, Layer(np.array([[2.0, -4.0]]), np.zeros(1), IDENTITY)]
    np.testing.assert_allclose(relu_pieces.bends(net, 0, 1), [0.25, 0.5, 0.75], atol=1e-12)
    assert relu_pieces.bends([fold, Layer(np.array([[1.0, 0.0]]), np.zeros(1), IDENTITY)], 0.1, 1) == []


def test_bends_are_found_where_a_fine_grid_finds_them():
    rng = np.random.default_rng(1)
    net = make((1, 10, 10, 1), RELU, rng)
    net[0].bias[:] = rng.normal(size=10)
    grid = np.linspace(-3, 3, 200_001)
    second = np.abs(np.diff(forward(net, grid[:, None])[0][:, 0], 2))
    at = grid[1:-1][second > 1e-11]
    groups = [g.mean() for g in np.split(at, np.flatnonzero(np.diff(at) > 1e-4) + 1)]
    np.testing.assert_allclose(relu_pieces.bends(net, -3, 3), groups, atol=1e-4)
