"""How much a function varies within a Gaussian window: what its correlation map loses in one step.

For u1, u2 ~ N(0, q) of correlation c in [0, 1] let w, z1, z2 be independent standard Gaussians, so that

    u1 = √(q c) w + √(q (1 − c)) z1,   u2 = √(q c) w + √(q (1 − c)) z2,   E[(f(u1) − f(u2))²]/2 = E_w Var_z f(u).

Nothing cancels as c → 1, f is evaluated at one point a node instead of two, and kinks count one by one, not in pairs:
the variance as a function of w is analytic and bends only within a few windows of each. Windows in which f is smooth
are integrated by fixed rules, those that hold a break or fine structure by panels cut there.
"""

from functools import lru_cache

import numpy as np

from depthscale.numerics.estimate import Array
from depthscale.numerics.gaussian import reach_of
from depthscale.numerics.mesh import Function, Mesh
from depthscale.numerics.panels import lay

# Cuts of the standard Gaussian, and Gauss points a panel: z² is integrated to 2e-13, resolved functions to about 1e-11
_CUTS, _N = np.array([-8.2, -4.7, -2.2, 0.0, 2.2, 4.7, 8.2]), 9
# where the variance bends around a break, in deviations of the window
_GRADES = np.array([-8.0, -4.4, -2.0, 0.0, 2.0, 4.4, 8.0])
# rules without cuts and the width of f's panels, in deviations of the window, from which they are exact to 1e-10: Gauss
# and Hermite's with 15 points, the trapezoidal rule with 33 and with 65. Odd: the middle of the window is a node
_RULES = ((3.0, 15), (1.0, 33), (0.5, 65))
_FELT = 6.0  # how far out panels must be that wide
_CHUNK = 100_000  # nodes at a time: what fits a processor's cache
_ROOT_2PI = float(np.sqrt(2 * np.pi))
_TINY = 1e-300


@lru_cache(maxsize=8)
def _rule(points: int) -> tuple[Array, Array]:
    """Nodes and weights for the standard Gaussian: both (points,)."""
    if points == _RULES[0][1]:
        z, w = np.polynomial.hermite_e.hermegauss(points)
    else:
        z = np.linspace(float(_CUTS[0]), float(_CUTS[-1]), points)
        w = np.exp(-0.5 * z * z)
    return z, w / w.sum()


def mean_variance(f: Function, q: Array, gap: Array, mesh: Mesh) -> Array:
    """E_w Var_z f(√(q c) w + √(q (1 − c)) z), to about 1e-11 of itself: (B,).

    q > 0 and gap = 1 − c in [0, 1], both (B,); ``mesh`` is that of f.
    """
    reach = reach_of(q, np.zeros_like(q))
    cuts = mesh.cuts(reach)
    breaks = np.array([b.x for b in mesh.breaks(reach)])
    scale = np.maximum(np.sqrt(q * (1 - gap)), _TINY)[:, None]
    window = np.sqrt(q * gap)
    # cuts closer than the window are not felt one by one: the first in each window's length will do
    bucket = np.floor(cuts / np.maximum(window[:, None], _TINY))
    first = np.diff(bucket, axis=1, prepend=-np.inf) > 0
    spaced = np.where(first, cuts, np.inf) / scale
    graded = (breaks[:, None] + window[:, None, None] * _GRADES).reshape(len(q), -1)
    grid = [np.broadcast_to(_CUTS, (len(q), len(_CUTS))), spaced, graded / scale]
    panels = lay(np.concatenate(grid, axis=1), float(_CUTS[0]), float(_CUTS[-1]))
    z, w = panels.nodes(_N)
    centre = (scale[panels.owner] * z).ravel()
    inner = _variances(f, centre, np.repeat(window[panels.owner], _N), cuts, breaks)
    return panels.total(inner.reshape(z.shape) * w * np.exp(-0.5 * z * z)) / _ROOT_2PI


def _variances(f: Function, centre: Array, window: Array, cuts: Array, breaks: Array) -> Array:
    """Var f(centre + window · z), z standard Gaussian; centre, window: (R,)."""
    out = np.empty_like(centre)
    width = _widths(centre, window, cuts, breaks)
    left = np.ones(len(centre), dtype=bool)
    for wide, points in (*_RULES, (0.0, 0)):
        rows = np.flatnonzero(left & (width >= wide * window))
        left[rows] = False
        step = max(1, _CHUNK // (points or _N * (len(_CUTS) + 4)))
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            if points:
                out[some] = _by_rule(f, centre[some], window[some], points)
            else:
                out[some] = _by_panels(f, centre[some], window[some], cuts)
    return out


def _widths(centre: Array, window: Array, cuts: Array, breaks: Array) -> Array:
    """The width of the narrowest panel of f in each window, 0 where a break lies in it: (R,)."""
    width = np.diff(cuts)
    first = np.clip(np.searchsorted(cuts, centre - _FELT * window, side="right") - 1, 0, len(width) - 1)
    last = np.clip(np.searchsorted(cuts, centre + _FELT * window), first + 1, len(width))
    # every other segment of reduceat is a range
    bounds = np.stack([first, last], axis=1).ravel()
    narrowest = np.minimum.reduceat(np.append(width, np.inf), bounds)[::2]
    far = _CUTS[-1] * window
    clear = np.searchsorted(breaks, centre - far) == np.searchsorted(breaks, centre + far, side="right")
    return np.where(clear, narrowest, 0.0)


def _by_rule(f: Function, centre: Array, window: Array, points: int) -> Array:
    z, w = _rule(points)
    values = f((centre[:, None] + window[:, None] * z).ravel()).reshape(len(centre), -1)
    values = values - values[:, points // 2, None]  # small numbers: nothing cancels
    return np.asarray((values * values) @ w - (values @ w) ** 2)


def _by_panels(f: Function, centre: Array, window: Array, cuts: Array) -> Array:
    reach = _CUTS[-1] * window
    lo, hi = np.searchsorted(cuts, [np.min(centre - reach), np.max(centre + reach)])
    near = (cuts[max(lo - 1, 0) : hi + 1] - centre[:, None]) / np.maximum(window, _TINY)[:, None]
    grid = np.concatenate([np.broadcast_to(_CUTS, (len(centre), len(_CUTS))), near], axis=1)
    panels = lay(grid, float(_CUTS[0]), float(_CUTS[-1]))
    z, w = panels.nodes(_N)
    x = centre[panels.owner, None] + window[panels.owner, None] * z
    values = f(x.ravel()).reshape(x.shape) - f(centre)[panels.owner, None]
    weighted = values * w
    z *= z
    z *= -0.5
    weighted *= np.exp(z, out=z)
    return np.asarray(panels.total(values * weighted) / _ROOT_2PI - (panels.total(weighted) / _ROOT_2PI) ** 2)
