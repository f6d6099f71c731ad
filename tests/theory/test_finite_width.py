"""Fluctuations at finite width: formulas against simulation."""

import math

import numpy as np
import pytest

from depthscale.errors import TheoryError
from depthscale.theory.finite_width import (
    born_dead,
    jacobian_spectrum,
    largest_singular_value_squared,
    layer_fluctuation,
    log_norm,
)


def _haar(rng: np.random.Generator, n: int) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(n, n)))
    return q * np.sign(np.diag(r))


def _carried(rng: np.random.Generator, depth: int, n: int, orthogonal: bool) -> float:
    """‖J v‖² of a ReLU network with independent masks, as Hanin & Nica have it: the masks of one input."""
    h = rng.normal(size=n)
    v = rng.normal(size=n)
    v /= np.linalg.norm(v)
    for _ in range(depth):
        w = _haar(rng, n) * math.sqrt(2) if orthogonal else rng.normal(size=(n, n)) * math.sqrt(2 / n)
        h, v = w @ h, w @ v
        v *= h > 0
        h = np.maximum(h, 0)
    return float(v @ v)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_log_norm_of_a_relu_network(orthogonal: bool) -> None:
    rng = np.random.default_rng(0)
    depth, n, runs = 8, 60, 500
    logs = np.log([_carried(rng, depth, n, orthogonal) for _ in range(runs)])
    predicted = log_norm(depth, n, orthogonal=orthogonal)
    assert predicted.variance == pytest.approx((3 if orthogonal else 5) * depth / n, rel=1e-3)
    standard_error = logs.var() * math.sqrt(2 / runs)
    # the formula is the first order in 1/n; the second is of relative size 5/n
    assert abs(logs.var() - predicted.variance) < 3 * standard_error + predicted.variance * 10 / n
    assert abs(logs.mean() - predicted.mean) < 3 * logs.std() / math.sqrt(runs) + abs(predicted.mean) * 10 / n


def test_forward_fluctuation_of_a_layer() -> None:
    rng = np.random.default_rng(1)
    n, runs = 50, 20_000
    for name, f in (("relu", lambda x: np.maximum(x, 0)), ("tanh", np.tanh)):
        means = (f(rng.normal(size=(runs, n))) ** 2).mean(axis=1)
        measured = means.var() / means.mean() ** 2
        assert layer_fluctuation(name, n) == pytest.approx(measured, rel=4 * math.sqrt(2 / runs) + 0.02)
    assert layer_fluctuation("relu", 100) == pytest.approx(0.05, rel=1e-3)
    assert layer_fluctuation("linear", 100) == pytest.approx(0.02, rel=1e-3)


def test_born_dead() -> None:
    rng = np.random.default_rng(2)
    depth, n, runs = 4, 3, 4000
    dead = 0
    for _ in range(runs):
        h = rng.normal(size=n)
        for _ in range(depth):
            h = np.maximum(rng.normal(size=(n, n)) @ h, 0)
        dead += not h.any()
    expected = born_dead(depth, n)
    assert expected == pytest.approx(1 - (1 - 2.0**-n) ** depth)
    assert abs(dead / runs - expected) < 3 * math.sqrt(expected * (1 - expected) / runs)
    assert born_dead(10, 1000) == pytest.approx(0.0, abs=1e-200)
    assert born_dead(3, 5, inactive=1.0) == 1.0


@pytest.mark.parametrize(
    ("activation", "orthogonal"), [("linear", False), ("linear", True), ("relu", False), ("relu", True)]
)
def test_spectrum_of_the_jacobian(activation: str, orthogonal: bool) -> None:
    rng = np.random.default_rng(3)
    depth, n, runs = 4, 160, 6
    first, second = [], []
    for _ in range(runs):
        j = np.eye(n)
        h = rng.normal(size=n)
        gain = 1.0 if activation == "linear" else 2.0
        for _ in range(depth):
            w = (_haar(rng, n) if orthogonal else rng.normal(size=(n, n)) / math.sqrt(n)) * math.sqrt(gain)
            h, j = w @ h, w @ j
            if activation == "relu":
                j = j * (h > 0)[:, None]
                h = np.maximum(h, 0)
        eigenvalues = np.linalg.svd(j, compute_uv=False) ** 2
        first.append(eigenvalues.mean())
        second.append((eigenvalues**2).mean())
    predicted = jacobian_spectrum(depth, activation, orthogonal=orthogonal)
    for measured, value in ((first, predicted.mean), (second, predicted.second)):
        error = 3 * np.std(measured, ddof=1) / math.sqrt(runs) + value * 15 / n
        assert abs(np.mean(measured) - value) < error
    if activation == "linear" and not orthogonal:
        assert predicted.second == pytest.approx(depth + 1)


def test_edge_of_a_gaussian_product() -> None:
    rng = np.random.default_rng(4)
    n, depth = 600, 2
    j = rng.normal(size=(n, n)) @ rng.normal(size=(n, n)) / n
    assert np.linalg.norm(j, 2) ** 2 == pytest.approx(largest_singular_value_squared(depth), rel=0.06)
    assert largest_singular_value_squared(1) == 4.0


def test_bad_input() -> None:
    with pytest.raises(TheoryError, match="width"):
        log_norm(3, 0)
    with pytest.raises(TheoryError, match="probability"):
        born_dead(3, 4, inactive=1.5)
    with pytest.raises(TheoryError, match="slope 0"):
        jacobian_spectrum(3, "sign")
    with pytest.raises(TheoryError, match="length q"):
        layer_fluctuation("relu", 10, q=-1.0)
