"""Functions of a variance, tabulated: Chebyshev pieces of unit length in ln q, laid where somebody asks.

Averages over a Gaussian are analytic in ln q in the strip |Im ln q| < π/2, so 18 nodes on a piece of unit length leave
about (π + √(π² + 1))⁻¹⁸ = 3e-15 of the function. Each piece is checked against the true function between its nodes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from depthscale.numerics.estimate import EPS, Array

N_NODES = 18
_FEW = 256  # rows: more are multiplied piece by piece
Pieces = NDArray[np.int64]
_CHECKS = np.array([-0.93, -0.31, 0.57])


@lru_cache(maxsize=16)
def chebyshev(n: int) -> tuple[Array, Array]:
    """Chebyshev points of the first kind on [−1, 1] (n,), and the matrix (n, n) from values there to coefficients."""
    angle = np.pi * (np.arange(n) + 0.5) / n
    matrix = np.cos(np.arange(n)[:, None] * angle) * 2 / n
    matrix[0] /= 2
    return np.cos(angle), matrix


def basis(t: Array, n: int) -> Array:
    """Chebyshev polynomials T_0 … T_{n−1} at t: (*t.shape, n)."""
    out = np.empty((n, *np.shape(t)))
    out[0] = 1.0
    if n > 1:
        out[1] = t
    twice = 2 * t
    for k in range(2, n):
        np.multiply(twice, out[k - 1], out=out[k])
        out[k] -= out[k - 2]
    return np.moveaxis(out, 0, -1)


@dataclass
class LogTable:
    """Several functions of q > 0 at once: ``function`` maps q (B,) to (B, K). A cache, filled piece by piece.

    A function that is not finite on all of a piece is infinite on that piece.
    """

    function: Callable[[Array], Array]
    _coefficients: dict[int, Array] = field(default_factory=dict)  # piece -> (N, K)
    _errors: dict[int, Array] = field(default_factory=dict)  # piece -> (K,)

    def fill(self, first: int, last: int) -> None:
        """Lays the pieces first … last (piece k covers ln q from k to k + 1)."""
        missing = [k for k in range(first, last + 1) if k not in self._coefficients]
        if not missing:
            return
        nodes, to_coefficients = chebyshev(N_NODES)
        local = np.concatenate([nodes, _CHECKS])
        t = np.asarray(missing, dtype=np.float64)[:, None] + (local + 1) / 2  # (pieces, N + checks)
        values = self.function(np.exp(t).ravel()).reshape(*t.shape, -1)
        with np.errstate(invalid="ignore", over="ignore"):
            coefficients = np.einsum("ij,pjk->pik", to_coefficients, values[:, :N_NODES])
            predicted = np.einsum("ci,pik->pck", basis(_CHECKS, N_NODES), coefficients)
            error = np.abs(predicted - values[:, N_NODES:]).max(axis=1)
            error += (8 + np.abs(np.asarray(missing)))[:, None] * EPS * np.abs(values).max(axis=1)  # ln q is rounded
        overflown = ~np.isfinite(coefficients).all(axis=1, keepdims=True)
        coefficients = np.where(overflown, np.where(np.arange(N_NODES)[:, None] == 0, np.inf, 0.0), coefficients)
        for k, c, e in zip(missing, coefficients, error, strict=True):
            self._coefficients[k], self._errors[k] = c, np.where(np.isfinite(e), e, np.inf)

    def __call__(self, q: Array) -> Array:
        """The K functions at q (B,): (B, K)."""
        return self._evaluate(q)[0]

    def with_error(self, q: Array) -> tuple[Array, Array]:
        """The K functions at q (B,) and bounds on their errors: two arrays (B, K)."""
        values, pieces, inverse = self._evaluate(q)
        return values, np.stack([self._errors[int(k)] for k in pieces])[inverse]

    def _evaluate(self, q: Array) -> tuple[Array, Pieces, Pieces]:
        t = np.log(q)
        piece = np.floor(t)
        pieces: Pieces
        inverse: Pieces
        if piece.size == 1:
            pieces, inverse = piece.astype(np.int64), np.zeros(1, dtype=np.int64)
        else:
            pieces, inverse = np.unique(piece.astype(np.int64), return_inverse=True)
        self.fill(int(pieces.min()), int(pieces.max()))
        coefficients = np.stack([self._coefficients[int(k)] for k in pieces])  # (pieces, N, K)
        polynomials = basis(2 * (t - piece) - 1, N_NODES)  # (B, N)
        if len(pieces) == 1:
            with np.errstate(invalid="ignore"):
                return _infinite(polynomials @ coefficients[0]), pieces, inverse
        return np.asarray(_gathered(polynomials, coefficients, inverse)), pieces, inverse


def _gathered(polynomials: Array, coefficients: Array, inverse: Pieces) -> Array:
    """Row b of polynomials times the coefficients of its own piece: (B, K)."""
    if len(polynomials) <= _FEW:
        with np.errstate(invalid="ignore"):
            return _infinite((polynomials[:, None, :] @ coefficients[inverse])[:, 0])
    order = np.argsort(inverse, kind="stable")
    bounds = np.searchsorted(inverse[order], np.arange(len(coefficients) + 1))
    out = np.empty((len(polynomials), coefficients.shape[2]))
    for k in range(len(coefficients)):
        rows = order[bounds[k] : bounds[k + 1]]
        with np.errstate(invalid="ignore"):
            out[rows] = polynomials[rows] @ coefficients[k]
    return _infinite(out)


def _infinite(values: Array) -> Array:
    """nan, which infinite coefficients make of themselves, back to inf."""
    return np.asarray(np.where(np.isnan(values), np.inf, values))
