"""All roots of functions of one variable on a grid, and their refinement, for a batch at a time."""

from collections.abc import Callable

import numpy as np

from depthscale.numerics.estimate import Array

BatchFunction = Callable[[Array], Array]


def refine(function: BatchFunction, lo: Array, hi: Array, at_lo: Array, at_hi: Array, iterations: int = 60) -> Array:
    """Roots of one function per row, each bracketed by [lo, hi] with opposite signs at the ends; all (B,).

    Chandrupatla's method (1997): inverse quadratic interpolation where it is safe, else bisection; it ends when every
    bracket has shrunk to rounding.
    """
    b, fb, a, fa = lo.copy(), at_lo.copy(), hi.copy(), at_hi.copy()
    c, fc = a.copy(), fa.copy()
    t = np.full_like(b, 0.5)
    best = np.where(np.abs(fa) < np.abs(fb), a, b)
    for _ in range(iterations):
        x = a + t * (b - a)
        fx = function(x)
        same = np.sign(fx) == np.sign(fa)
        c, fc = np.where(same, a, b), np.where(same, fa, fb)
        b, fb = np.where(same, b, a), np.where(same, fb, fa)
        a, fa = x, fx
        best = np.where(np.abs(fa) < np.abs(fb), a, b)
        tolerance = 2 * np.spacing(np.abs(best))
        width = np.abs(b - a)
        if np.all((width <= 2 * tolerance) | (fa == 0)):
            break
        with np.errstate(all="ignore"):
            xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
            quadratic = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
            step = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
            margin = tolerance / np.maximum(width, 1e-300)
        t = np.clip(np.where(quadratic & np.isfinite(step), step, 0.5), margin, 1 - margin)
        t = np.clip(t, 0.0, 1.0)
    return best


def all_roots(function: BatchFunction, grid: Array, touching: bool = True) -> Array:
    """Every root of one function that its values on an ascending grid betray, ascending.

    Sign changes are refined. With ``touching``, so are minima of |f| between two grid points on one side of zero where
    the function touches or nearly touches zero: two roots closer together than the grid is fine are found so.
    """
    values = function(grid)
    grid = grid[np.isfinite(values)]
    values = values[np.isfinite(values)]
    if len(grid) < 2:
        return np.zeros(0)
    if touching:
        grid, values = _add_extrema(function, grid, values)
    exact = grid[values == 0]
    k = np.flatnonzero(np.sign(values[:-1]) * np.sign(values[1:]) < 0)
    found = refine(function, grid[k], grid[k + 1], values[k], values[k + 1]) if len(k) else np.zeros(0)
    return np.unique(np.concatenate([exact, found]))


def _add_extrema(function: BatchFunction, grid: Array, values: Array) -> tuple[Array, Array]:
    """Adds to the grid the places where |f| has a local minimum away from zero, by golden section, all at once."""
    size = np.abs(values)
    inner = np.flatnonzero((size[1:-1] < size[:-2]) & (size[1:-1] < size[2:])) + 1
    inner = inner[(values[inner - 1] * values[inner] > 0) & (values[inner + 1] * values[inner] > 0)]
    if not len(inner):
        return grid, values
    lo, hi = grid[inner - 1], grid[inner + 1]
    golden = (np.sqrt(5.0) - 1) / 2
    left, right = hi - golden * (hi - lo), lo + golden * (hi - lo)
    sign = np.sign(values[inner])
    at_left, at_right = sign * function(left), sign * function(right)
    for _ in range(50):
        smaller = at_left < at_right
        lo, hi = np.where(smaller, lo, left), np.where(smaller, right, hi)
        left, right = hi - golden * (hi - lo), lo + golden * (hi - lo)
        at_left, at_right = sign * function(left), sign * function(right)
    extra = (lo + hi) / 2
    order = np.argsort(np.concatenate([grid, extra]), kind="stable")
    return np.concatenate([grid, extra])[order], np.concatenate([values, function(extra)])[order]
