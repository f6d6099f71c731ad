"""Maxima of correlated Gaussians: mean, variance, covariance of two maxima, and how often they are one and the same.

n standard Gaussians with correlation ρ are u_i = √ρ z + √(1−ρ) g_i with g_i independent, so everything reduces to
maxima of independent ones. For two windows of n entries of which o are matched (the same entry at correlation r, or
one entry at r = 1), Hoeffding's identity gives

    Cov(max u, max v) = ∫∫ [Φ2(u, v; r)^o (Φ(u)Φ(v))^(n−o) − (Φ(u)Φ(v))^n] du dv.

The bivariate Φ2 is integrated up from dΦ2/dr = φ2 once, on a grid; n may be any real number of at least 1 (windows at
a border hold fewer entries: the average is used).
"""

from functools import lru_cache

import numpy as np

from depthscale.numerics.estimate import Array
from depthscale.theory.copula import nodes

_U = np.linspace(-6.5, 6.5, 79)  # (U,)
_H = float(_U[1] - _U[0])
_ANGLES = np.linspace(-np.pi / 2, np.pi / 2, 49)  # r = sin of these


@lru_cache(maxsize=1)
def _cdf() -> Array:
    """Φ(u) on the grid: (U,)."""
    from scipy.special import ndtr

    return np.asarray(ndtr(_U))


@lru_cache(maxsize=1)
def _bivariate() -> Array:
    """Φ2(u, v; sin θ) on the grid: (θ, U, U)."""
    nodes, weights = np.polynomial.legendre.leggauss(6)
    step = _ANGLES[1] - _ANGLES[0]
    u, v = _U[:, None], _U[None, :]
    out = np.empty((len(_ANGLES), len(_U), len(_U)))
    middle = len(_ANGLES) // 2
    out[middle] = _cdf()[:, None] * _cdf()[None, :]
    for sign in (1, -1):
        for k in range(middle):
            start = _ANGLES[middle + sign * k]
            total = np.zeros_like(out[0])
            for x, w in zip(nodes, weights, strict=True):
                t = start + sign * step * (x + 1) / 2
                cosine2 = max(np.cos(t) ** 2, 1e-12)
                total += w * np.exp(-(u * u - 2 * u * v * np.sin(t) + v * v) / (2 * cosine2))
            out[middle + sign * (k + 1)] = out[middle + sign * k] + sign * step / 2 * total / (2 * np.pi)
    exact = np.minimum(_cdf()[:, None], _cdf()[None, :])
    out[-1] = exact  # r = 1
    out[0] = np.maximum(_cdf()[:, None] + _cdf()[None, :] - 1.0, 0.0)
    return np.clip(out, 1e-300, 1.0)


@lru_cache(maxsize=512)
def single(n: float) -> tuple[float, float]:
    """Mean and variance of the largest of n independent standard Gaussians."""
    u = np.linspace(-9.0, 9.0, 2001)
    from scipy.special import ndtr

    upper = 1.0 - ndtr(u) ** n
    h = u[1] - u[0]
    # E max = ∫_0^∞ (1 − F) − ∫_{−∞}^0 F, E max² = 2∫_0^∞ u (1 − F) − 2∫_{−∞}^0 u F
    positive = u > 0
    inner = np.where(positive, upper, -(1.0 - upper))
    inner[u == 0] = upper[u == 0] - 0.5
    mean = float(inner.sum() * h)
    second = float((2 * np.abs(u) * np.abs(inner)).sum() * h)
    return mean, second - mean * mean


@lru_cache(maxsize=512)
def _covariances(n: float, shared: float) -> Array:
    """Cov of two maxima for every angle of the grid: (θ,)."""
    both = _bivariate()
    product = both[len(_ANGLES) // 2]
    terms = both**shared * product ** (n - shared) - product**n
    return np.asarray(terms.sum(axis=(1, 2)) * _H * _H)


def covariance(n: float, shared: float, r: Array) -> Array:
    """Cov(max u, max v) for windows of n of which ``shared`` entries are matched at correlation r (any shape)."""
    table = _covariances(n, shared)
    angle = np.arcsin(np.clip(r, -1.0, 1.0))
    return np.asarray(np.interp(angle, _ANGLES, table) + _curvature(table, angle))


def _curvature(table: Array, angle: Array) -> Array:
    """What linear interpolation between the angles leaves out, to second order."""
    step = _ANGLES[1] - _ANGLES[0]
    second = np.gradient(np.gradient(table, step), step)
    t = (angle - _ANGLES[0]) / step
    part = t - np.floor(t)
    return np.asarray(-0.5 * step * step * part * (1 - part) * np.interp(angle, _ANGLES, second))


@lru_cache(maxsize=512)
def _matches(n: float) -> Array:
    """P(both maxima are the same one of n matched pairs), for every angle: (θ,)."""
    both = _bivariate()
    u, v = _U[:, None], _U[None, :]
    out = np.empty(len(_ANGLES))
    for k, t in enumerate(_ANGLES):
        cosine2 = np.cos(t) ** 2
        if cosine2 < 5e-3:  # narrower than the grid: filled in below
            out[k] = 0.0 if t < 0 else 1.0
            continue
        density = np.exp(-(u * u - 2 * u * v * np.sin(t) + v * v) / (2 * cosine2)) / (2 * np.pi * np.sqrt(cosine2))
        out[k] = n * float((density * both[k] ** (n - 1)).sum()) * _H * _H
    return np.clip(out, 0.0, 1.0)


def match(n: float, r: Array) -> Array:
    """P(the largest of u and the largest of v have one index) for n pairs at correlation r; 1/n at r = 0."""
    return np.asarray(np.interp(np.arcsin(np.clip(r, -1.0, 1.0)), _ANGLES, _matches(n)))


@lru_cache(maxsize=64)
def quantiles_at_nodes(n: float, rho: float) -> Array:
    """``quantiles`` at ``copula.nodes()``: forward and backward rules ask for the same ones."""
    return quantiles(n, rho, nodes())


def quantiles(n: float, rho: float, z: Array) -> Array:
    """H(z), the value of the largest of n Gaussians of correlation ρ that has the standing of a standard Gaussian z.

    H(z) for standard Gaussian z has the law of the maximum.
    """
    from scipy.special import ndtr

    common, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    t = np.linspace(-9.0, 9.0, 721)
    own = np.sqrt(max(1 - rho, 1e-12))
    law = ndtr((t[:, None] - np.sqrt(max(rho, 0.0)) * common) / own) ** n @ weights
    law, index = np.unique(law, return_index=True)
    return np.asarray(np.interp(ndtr(z), law, t[index]))
