import numpy as np
import pytest

from depthscale.figures import overfitting

HOLDS = {
    "order": list(range(10)),
    "train_error": [0.5, 0.34, 0.33, 0.07, 0.05, 0.04, 0.03, 0.02, 0.01, 1e-20],
    "test_error": [0.6, 0.34, 0.34, 0.13, 0.13, 0.14, 0.15, 0.17, 0.2, 0.7],
    "test_standard_error": [0.01] * 10,
    "best_order": 3,
    "excess_at_0": 0.47,
    "excess_at_0_standard_error": 0.01,
    "excess_at_9": 0.57,
    "excess_at_9_standard_error": 0.05,
    "draws": 200,
    "x": [0.0, 3.0],
    "y": [0.1, 0.2],
    "fresh": [0.0, 3.0],
    "curves": {"1": [0.0, 0.1], "3": [0.0, 0.1], "9": [0.1, 0.2]},
}
FAILS = [
    HOLDS | {"best_order": 9},
    HOLDS | {"train_error": [0.5, 0.6, *HOLDS["train_error"][2:]]},
    HOLDS | {"excess_at_9": -0.1},
]


def test_not_enough_draws_decide_nothing():
    assert overfitting.judge(HOLDS | {"excess_at_9_standard_error": 0.4}).kind == "undecided"


def test_the_errors_are_those_of_numpys_fits():
    data = overfitting.run(True, 5, lambda _: None)
    rng, x = np.random.default_rng(5), np.linspace(0, 2 * np.pi, overfitting.POINTS)
    draws = np.sin(x) + overfitting.NOISE * rng.normal(size=(overfitting.POINTS, data["draws"])).T
    fits = [np.polynomial.Polynomial.fit(x, y, 4) for y in draws]
    naive = np.mean([np.mean((p(x) - y) ** 2) for p, y in zip(fits, draws, strict=True)])
    assert data["train_error"][4] == pytest.approx(naive)
    assert overfitting.judge(data).kind == "holds"
