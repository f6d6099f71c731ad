"""Pair averages against a method and an arithmetic of their own: u2 given u1, panels of 16 points, 64-bit mantissas.

The package integrates over sum and difference, or sums Hermite series, in double precision.
"""

import numpy as np
import pytest

from depthscale.theory import activation

Long = np.longdouble
CORRELATIONS = [-1.0, -0.99, -0.3, 0.0, 0.5, 0.999, 1 - 1e-8, 1.0]


def gauss():
    """Gauss-Legendre points on [0, 1], polished by Newton's method to the last of 64 bits."""
    x, n = np.polynomial.legendre.leggauss(16)[0].astype(Long), 16
    for _ in range(3):
        before, now = np.ones_like(x), x
        for k in range(2, n + 1):
            before, now = now, ((2 * k - 1) * x * now - (k - 1) * before) / k
        slope = n * (x * now - before) / (x * x - 1)
        x = x - now / slope
    return (x + 1) / 2, 1 / ((1 - x * x) * slope * slope)


X, W = gauss()
FAR = 11
STRUCTURE = np.array([0.0, 1.0, 2.2, 4.5, 9.0, 18.0])  # where activations of unit scale bend


def nodes(edges):
    """Points and weights (with the Gaussian's density) between sorted edges (…, E): (…, (E − 1) 16)."""
    edges = np.sort(np.clip(edges, -FAR, FAR), axis=-1)
    left, width = edges[..., :-1, None], np.diff(edges, axis=-1)[..., None]
    z = (left + width * X).reshape(*edges.shape[:-1], -1)
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi * Long(1))
    return z, (width * W).reshape(z.shape) * density


def pair(f, kinks, q, c, curved=True):
    """E f(u1) f(u2), u2 = c u1 + √(1 − c²) y √q."""
    s, c, kinks = np.sqrt(Long(q)), Long(c), np.array(kinks, dtype=Long)
    r = np.sqrt((1 - c) * (1 + c))
    bends = (np.concatenate([-STRUCTURE, STRUCTURE, kinks]).astype(Long) if curved else kinks) / s
    whole = np.arange(-FAR, FAR + 1, 2).astype(Long)
    outer = [whole, bends]
    if c != 0:  # u2's average over y varies on the scale r/c around the places that c z meets
        grades = np.array([-9, -5, -2.5, 0, 2.5, 5, 9]) * r / abs(c)
        outer += [(kinks[:, None] / (s * c) + grades).ravel(), bends / c]
    z, w = nodes(np.concatenate(outer))
    inner = f(s * c * z)
    if r > 0:
        wide = np.broadcast_to(whole[::2], (len(z), len(whole[::2])))
        y, v = nodes(np.concatenate([wide, (bends - c * z[:, None]) / r], axis=1))
        inner = np.sum(v * f(s * (c * z[:, None] + r * y)), axis=1)
    return np.sum(w * f(s * z) * inner)


def awkward(x):
    """Kinks at −0.7 and 0.4, a jump at 1.3."""
    middle = np.where(x < 1.3, 0.4 * np.cos(x - 0.4), np.tanh(x))
    return np.where(x < -0.7, x / 5 - 0.56, np.where(x < 0.4, x, middle))


def awkward_exactly(x):
    """The same function of longer numbers: its constants are those that double precision holds."""
    middle = np.where(x < Long(1.3), Long(0.4) * np.cos(x - Long(0.4)), np.tanh(x))
    return np.where(x < Long(-0.7), x / 5 - Long(0.56), np.where(x < Long(0.4), x, middle))


CASES = {
    "tanh": (lambda: activation("tanh"), np.tanh, []),
    "silu": (lambda: activation("silu"), lambda x: x / (1 + np.exp(-x)), []),
    "elu": (lambda: activation("elu"), lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), [0]),
    "hardswish": (lambda: activation("hardswish"), lambda x: x * np.clip(x / 6 + 0.5, 0, 1), [-3, 3]),
    "relu": (lambda: activation("relu"), lambda x: np.maximum(x, 0), [0]),
    "awkward": (lambda: activation(awkward), awkward_exactly, [-0.7, 0.4, 1.3]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("q", [0.02, 1.0, 25.0])
def test_pairs_from_opposite_to_equal_and_their_bounds(name, q):
    make, f, kinks = CASES[name]
    act = make()
    size = float(act.second_moment(q))
    for c in CORRELATIONS:
        truth = pair(f, kinks, q, c, curved=name not in ("relu", "hardswish"))
        fast = act.correlation(q, c)
        assert abs(float(fast - truth)) <= 1e-13 * size, c
        found = act.estimate("correlation", q, c=c)
        assert abs(float(found.value - truth)) <= found.error, c
        assert found.error <= 1e-11 * size, c


def test_the_oracle_knows_the_arc_cosine_kernel():
    # Cho & Saul 2009
    for c in CORRELATIONS:
        theta = np.arctan2(np.sqrt((1 - Long(c)) * (1 + Long(c))), Long(c))
        truth = (np.sin(theta) + (np.arccos(Long(-1)) - theta) * c) * 3 / (2 * np.arccos(Long(-1)))
        assert abs(float(pair(CASES["relu"][1], [0], 3.0, c) - truth)) <= 1e-16
