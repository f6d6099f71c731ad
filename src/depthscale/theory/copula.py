"""Elements that are a function of a Gaussian: x = H(z), with z standard Gaussian and pair correlations κ.

With Hermite coefficients h_n of H, Cov(x_i, x_j) = Σ_{n≥1} h_n² κⁿ; this serves maxima and sums that are not
Gaussian, on which another function acts.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from depthscale.numerics.estimate import Array

_ORDER = 48


@lru_cache(maxsize=1)
def nodes() -> Array:
    """Where functions of the standard Gaussian are sampled: (Z,). None at 0, where many functions bend or jump."""
    return np.linspace(-8.0, 8.0, 600)


@lru_cache(maxsize=1)
def weights() -> Array:
    """The weights of averages over the nodes: (Z,)."""
    w = np.exp(-(nodes() ** 2) / 2)
    return np.asarray(w / w.sum())


@lru_cache(maxsize=1)
def _basis() -> Array:
    """Orthonormal Hermite polynomials times the weights: (N, Z)."""
    z = nodes()
    out = np.empty((_ORDER, len(z)))
    out[0], out[1] = 1.0, z
    for n in range(1, _ORDER - 1):
        out[n + 1] = (z * out[n] - np.sqrt(n) * out[n - 1]) / np.sqrt(n + 1)
    return np.asarray(out * weights())


def average(values: Array) -> float:
    """E of a function sampled at the nodes."""
    return float(values.dot(weights()))


def squares(values: Array) -> tuple[Array, float]:
    """Squared Hermite coefficients (N,) and what is missing from the second moment."""
    a = _basis().dot(values) ** 2
    return a, max(average(values * values) - float(a.sum()), 0.0)


def pair(values: Array, kappa: Array, powers: Array | None = None) -> Array:
    """E[H(z_i) H(z_j)] at correlations κ (any shape), of which ``powers_of`` may be known."""
    a, rest = squares(values)
    return _series(a, rest, powers_of(kappa) if powers is None else powers).reshape(kappa.shape)


def powers_of(kappa: Array) -> Array:
    """Powers of correlations κ (any shape), as ``pair`` uses them: (_ORDER + 1, K)."""
    return _powers(np.clip(kappa, -1.0, 1.0).ravel())


def _powers(k: Array) -> Array:
    """1, k, k², …: (_ORDER + 1, K)."""
    out = np.empty((_ORDER + 1, len(k)))
    out[0], out[1] = 1.0, k
    done = 2
    while done <= _ORDER:  # k⁰ … kⁿ⁻¹ times kⁿ gives the next n
        more = min(done, _ORDER + 1 - done)
        np.multiply(out[:more], out[1] * out[done - 1], out=out[done : done + more])
        done += more
    return out


def _series(a: Array, rest: float, powers: Array) -> Array:
    out = a.dot(powers[:-1])
    return np.asarray(out + rest * np.where(powers[1] > 0, powers[-1], 0.0) if rest else out)


def correlations(values: Array, covariance: Array) -> Array:
    """The κ at which H(z) has these covariances (any shape)."""
    mean = average(values)
    powers = _grid_powers()
    rising = np.maximum.accumulate(_series(*squares(values), powers) - mean * mean)
    return np.asarray(np.interp(covariance, rising + 1e-15 * np.arange(len(rising)), powers[1]))


@lru_cache(maxsize=1)
def _grid_powers() -> Array:
    """Powers of the correlations that ``correlations`` tabulates at."""
    return _powers(np.sin(np.linspace(-np.pi / 2, np.pi / 2, 201)))


def runs(values: Array) -> tuple[Array, NDArray[np.intp]]:
    """Values without immediate repetitions, and how often each of them stands there."""
    starts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    return values[starts], np.concatenate([starts[1:], [len(values)]]) - starts


def sum_law(first: Array, second: Array) -> Array:
    """H of the sum of two independent elements with these laws: quantiles of the convolution, at the nodes."""
    from scipy.special import ndtr, ndtri

    w = weights()[::4] / weights()[::4].sum()
    a, b = np.sort(first), np.sort(second)
    some, times = runs(a[::4])  # a ramp is 0 for half of them
    low, high = a[20] + b[20], a[-21] + b[-21]
    t = np.linspace(low, high, 241)
    steps = np.arange(len(b)) * 1e-12 * (high - low + 1e-300)  # where H is flat the law has an atom
    x, b = t - some[:, None], b + steps  # along a row the places in b are near one another, which a search likes
    free = (x > b[0]) & (x < b[-1])  # elsewhere the second is surely above or below
    below = np.where(x < b[-1], ndtr(nodes()[0]), ndtr(nodes()[-1]))
    below[free] = ndtr(np.interp(x[free], b, nodes()))
    inside = np.maximum.accumulate(np.repeat(below.T, times, axis=1) @ w)
    kept = np.append(True, np.diff(inside) > 0) & (inside > 1e-11) & (inside < 1 - 1e-11)
    if kept.sum() < 8:
        return np.asarray(a + b)
    rank, t = ndtri(inside[kept]), t[kept]
    below, above = np.minimum(nodes() - rank[0], 0), np.maximum(nodes() - rank[-1], 0)
    inner = np.interp(nodes(), rank, t)
    return np.asarray(inner + below * _end(rank, t, 0) + above * _end(rank, t, -1))


def _end(rank: Array, t: Array, at: int) -> float:
    """The slope of a quantile function at its end."""
    i, j = (0, 5) if at == 0 else (-6, -1)
    return float((t[j] - t[i]) / max(rank[j] - rank[i], 1e-9))
