"""Linear separation as a convex problem, answered either way with a proof.

Rows a_i = s_i φ(x_i) hold the sign s_i = ±1 of a point and its features. Exactly one of two things exists
(Gordan 1873; Farkas 1902):

    w with A w > 0                                   a separating surface
    y ≥ 0, y ≠ 0 with Aᵀ y = 0                       a point that lies in the convex hulls of both classes' features

Both are found by one linear program and its dual: maximise t under A w ≥ t, −1 ≤ w ≤ 1. If t* > 0, w separates with
margin t*; if t* = 0, the dual variables are the y. As few rows decide, rows are added while they are violated.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from depthscale.errors import DepthscaleError

Array = NDArray[np.float64]
_TOLERANCES = {"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9}
_ROUNDING = 1e-9  # margins below this, relative to what is summed, are not told from zero
_RANK = 1e-13  # singular values below this share of the largest are taken for zero
_MANY = 150  # columns beyond which any w that separates will do: the best one takes minutes
_BATCH = 4  # times as many rows as columns are added at once


@dataclass(frozen=True)
class Certificate:
    """Why no w can separate: Σ weights φ(x) over ``positive`` rows equals the same over ``negative`` ones.

    Weights sum to 1 on each side, so one point lies in both convex hulls. ``residual`` is the largest difference of the
    two sums in any feature (each between −1 and 1), found by adding them up again.
    """

    positive: NDArray[np.intp]  # (p,) rows
    negative: NDArray[np.intp]  # (n,)
    positive_weights: Array
    negative_weights: Array
    residual: float
    any_degree: bool = False  # it is about equal points, whatever the features

    def __str__(self) -> str:
        if self.any_degree:
            return (
                f"rows {self.positive[0]} and {self.negative[0]} are equal points of different classes, at any degree"
            )
        if len(self.positive) == len(self.negative) == 1:
            return f"rows {self.positive[0]} and {self.negative[0]} have the same features and opposite labels"
        return (
            f"{_mixture(len(self.positive))} of one class equals {_mixture(len(self.negative))} of the other in every "
            f"feature (to {self.residual:.1g})"
        )


def _mixture(rows: int) -> str:
    return "a row" if rows == 1 else f"a mixture of {rows} rows"


def separate(features: Array, signs: Array) -> tuple[Array, float] | Certificate:
    """(w, margin) with signs · (features @ w) ≥ margin > 0, or why there is no such w.

    f = features @ w has mean square 1, so that margins compare. The margin is the largest for a w bounded by 1 in each
    orthonormal coordinate; with more than 150 of them, that of least squares where this separates.

    features (rows, Q), each about within [−1, 1]; signs (rows,) of ±1. Raises DepthscaleError where HiGHS gives up.
    """
    basis, back = _orthonormal(features)
    a = basis * signs[:, None]
    step = _BATCH * a.shape[1]
    if a.shape[1] > _MANY:
        w = a.mean(axis=0)  # least squares, as the columns are orthonormal
        if (a @ w).min() > _ROUNDING:
            return _scaled(features, signs, back @ w)
    active = _both(signs, step)
    while True:
        w, y, margin = _largest_margin(a[active])
        if margin <= _ROUNDING * max(float(np.linalg.norm(w)), 1e-300):
            return _certificate(features, basis, signs, active, y)
        reached = a @ w
        missing = np.flatnonzero(reached < margin * (1 - 1e-6))
        missing = np.setdiff1d(missing, active)
        if len(missing) == 0:
            return _scaled(features, signs, back @ w)
        worst = missing[np.argsort(reached[missing])[:step]]
        active = np.union1d(active, worst)


def least_violation(features: Array, signs: Array) -> Array:
    """w that minimises Σ max(0, 1 − s_i w·φ(x_i)), the total violation of a unit margin; shapes as in ``separate``.

    Solved as its dual: maximise Σ y under Aᵀ y = 0, 0 ≤ y ≤ 1; w are the multipliers of the equations.
    """
    basis, back = _orthonormal(features)
    a = basis * signs[:, None]
    active = _both(signs, _BATCH * a.shape[1])
    while True:
        some = a[active]
        w = -_solve(-np.ones(len(some)), some.T, np.zeros(a.shape[1]), (0.0, 1.0))[1]
        missing = np.setdiff1d(np.flatnonzero(a @ w < 1 - 1e-7), active)
        if len(missing) == 0:  # rows beyond the margin cost nothing, so this is the optimum over all
            found: Array = back @ w
            return found
        active = np.union1d(active, missing)


def _orthonormal(features: Array) -> tuple[Array, Array]:
    """Columns that span the same functions, with mean square 1 and no correlation, (rows, R); and the way back (Q, R).

    Without it, HiGHS goes in circles on monomials of a high degree. What floats cannot tell from zero is left out.
    """
    u, s, vt = np.linalg.svd(features, full_matrices=False)
    rank = int((s > s[0] * _RANK).sum())
    root = np.sqrt(len(features))
    return u[:, :rank] * root, vt[:rank].T / s[:rank] * root


def _scaled(features: Array, signs: Array, w: Array) -> tuple[Array, float]:
    """w for a function of mean square 1, and its margin."""
    f = features @ w
    size = np.sqrt(np.mean(f**2))
    return w / size, float((signs * f).min() / size)


def _both(signs: Array, count: int) -> NDArray[np.intp]:
    """About ``count`` rows, half of each sign, evenly spread."""
    return np.unique(np.concatenate([_spread(np.flatnonzero(signs == s), count // 2) for s in (-1.0, 1.0)]))


def _spread(rows: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.intp))]


def _largest_margin(a: Array) -> tuple[Array, Array, float]:
    """w, the dual variables y, and the margin: minimise ‖Aᵀ y‖₁ under Σ y = 1, y ≥ 0."""
    rows, q = a.shape
    cost = np.concatenate([np.zeros(rows), np.ones(2 * q)])
    equations = np.block([[a.T, -np.eye(q), np.eye(q)], [np.ones((1, rows)), np.zeros((1, 2 * q))]])
    target = np.concatenate([np.zeros(q), [1.0]])
    x, multipliers = _solve(cost, equations, target, (0.0, None))
    w = np.clip(-multipliers[:q], -1, 1)
    return w, x[:rows], float((a @ w).min())


def _solve(cost: Array, equations: Array, target: Array, bounds: tuple[float, float | None]) -> tuple[Array, Array]:
    found: Any
    for method in ("highs-ds", "highs-ipm"):
        options: Any = {"method": method, "options": _TOLERANCES}
        found = linprog(cost, A_eq=equations, b_eq=target, bounds=bounds, **options)
        if found.status == 0:
            return np.asarray(found.x), np.asarray(found.eqlin.marginals)
    raise DepthscaleError(
        f"HiGHS could not solve the linear program of {equations.shape[1]} rows and {equations.shape[0]} coefficients "
        f"({found.message.strip()}); try a lower degree"
    )


def _certificate(features: Array, basis: Array, signs: Array, active: NDArray[np.intp], y: Array) -> Certificate:
    """The certificate that dual variables give, their rounding taken out by one step of least squares."""
    used = active[y > 1e-9 * y.max()]
    up, down = used[signs[used] > 0], used[signs[used] < 0]
    rows = np.concatenate([up, down])
    sums = np.zeros((2, len(rows)))
    sums[0, : len(up)], sums[1, len(up) :] = 1, 1
    equations = np.vstack([(basis[rows] * signs[rows, None]).T, sums])
    weights = y[np.searchsorted(active, rows)]
    weights = weights / np.where(signs[rows] > 0, weights[: len(up)].sum(), weights[len(up) :].sum())
    off = equations @ weights - np.concatenate([np.zeros(basis.shape[1]), [1.0, 1.0]])
    weights = np.maximum(weights - np.linalg.lstsq(equations, off, rcond=None)[0], 0)
    first, second = weights[: len(up)] / weights[: len(up)].sum(), weights[len(up) :] / weights[len(up) :].sum()
    residual = float(np.abs(first @ features[up] - second @ features[down]).max())
    return Certificate(up[first > 0], down[second > 0], first[first > 0], second[second > 0], residual)
