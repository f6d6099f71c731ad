"""Expectations under one Gaussian and under two correlated ones, for any function whose mesh is known.

One Gaussian: E f(u) with u = m + √q z, panels cut both where the Gaussian and where f changes.

Two Gaussians of the same law with correlation c are rotated into sum and difference, which are independent:

    u1 = a + d,  u2 = a − d,   a ~ N(m, q (1 + c)/2),   d ~ N(0, q (1 − c)/2).

The inner integral over d is cut where a + d or a − d meets a cut of f or g; as a function of a it is smooth but for the
midpoints of two kinks, and it varies there on the scale of d, so the outer one is cut and graded at the midpoints.
This stays exact at c = ±1, where one of the two variances vanishes, and for kinks and jumps at any c.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthscale.errors import TheoryError
from depthscale.numerics.estimate import EPS, Array, Estimate, estimate
from depthscale.numerics.mesh import Function, Mesh
from depthscale.numerics.panels import Panels, gaussian_cuts, lay

_N = 10
_ROOT_2PI = float(np.sqrt(2 * np.pi))
# grading around a kink of the inner integral, in deviations of the difference d
_GRADES = np.array([0.0, 1.2, 2.6, 4.3, 6.5, 9.0])
_CHUNK = 400_000  # inner nodes at a time: what fits a processor's cache
_MAX_MIDPOINTS = 200
_TINY = 1e-300


@dataclass(frozen=True)
class Cloud:
    """Quadrature nodes of a batch of one-dimensional Gaussians: points ``x``, standardised ``z`` and weights ``w``
    (with the Gaussian density), all (P, n), and the panels that say which integral each row belongs to.
    """

    x: Array
    z: Array
    w: Array
    panels: Panels

    def mean(self, values: Array) -> Array:
        """E of values (P, n) for each integral: (B,)."""
        return self.panels.total(values * self.w)


def cloud(q: Array, m: Array, cuts: Array, far: bool = False, n: int = _N, halved: bool = False) -> Cloud:
    """Nodes for the laws N(m, q). q, m: (B,); cuts: (E,) on the x axis."""
    s = np.sqrt(q)
    z_cuts = gaussian_cuts(far)
    inner = (cuts - m[:, None]) / np.maximum(s, _TINY)[:, None]  # (B, E)
    every = np.concatenate([np.broadcast_to(z_cuts, (len(q), len(z_cuts))), inner], axis=1)
    panels = lay(every, float(z_cuts[0]), float(z_cuts[-1]))
    if halved:
        panels = panels.halved()
    z, w = panels.nodes(n)
    x = m[panels.owner, None] + s[panels.owner, None] * z
    return Cloud(x, z, w * np.exp(-0.5 * z * z) / _ROOT_2PI, panels)


def reach_of(q: Array, m: Array, far: bool = False) -> float:
    """How far out on the x axis the laws N(m, q) are felt."""
    return float(np.max(np.abs(m) + np.sqrt(q) * gaussian_cuts(far)[-1], initial=1.0))


def numbers(name: str, value: Any) -> Array:
    """value as an array of real floats; ``name`` is what the error calls it."""
    try:
        if value is None or np.iscomplexobj(value):
            raise TypeError
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise TheoryError(f"{name} must be a number or an array of numbers, but got {value!r}.") from None


def number(name: str, value: Any) -> float:
    """value as one float; ``name`` is what the error calls it."""
    array = numbers(name, value)
    if array.size != 1:
        raise TheoryError(f"{name} must be one number, but got an array of shape {array.shape}.")
    return float(array.reshape(()))


def check_variance(q: Any) -> Array:
    """q as an array of finite, nonnegative floats."""
    array = numbers("A variance q", q)
    if array.size == 0:
        raise TheoryError("Expected at least one variance q, got an empty array; give a number or a non-empty grid.")
    if not np.all(np.isfinite(array)) or np.any(array < 0):
        bad = array[~(np.isfinite(array) & (array >= 0))].flat[0]
        raise TheoryError(f"A variance q must be finite and at least 0, but got {bad}; check how it was computed.")
    return array


def check_correlation(c: Any) -> Array:
    """c as an array of floats in [−1, 1] (a rounding error outside is clipped)."""
    array = numbers("A correlation c", c)
    if array.size == 0:
        raise TheoryError("Expected at least one correlation c, got an empty array; give a number or a grid.")
    if not np.all(np.abs(array) <= 1 + 1e-9):
        bad = array[~(np.abs(array) <= 1 + 1e-9)].flat[0]
        raise TheoryError(f"A correlation c must lie in [-1, 1], but got {bad}; divide covariances by the variance.")
    return np.clip(array, -1.0, 1.0)


def gaussian_mean(
    f: Function, q: Any, mean: Any = 0.0, known: tuple[float, ...] = (), mesh: Mesh | None = None
) -> Estimate:
    """E[f(u)] for u ~ N(mean, q), with an error bound; inf where the integral overflows or diverges.

    f: vectorised over a flat array; q ≥ 0 and mean broadcast. ``known`` are kinks the caller knows of; others are
    found. ``mesh`` may be that of a function f is made from. The error is the change when every panel is halved
    (that of the coarser rule, so a generous bound for the finer one that is returned) plus rounding.
    """
    mesh = mesh or Mesh(f, known)
    variance, centre = np.broadcast_arrays(check_variance(q), np.asarray(mean, dtype=np.float64))
    flat, m = variance.ravel(), centre.ravel()
    value, error, how = _gaussian_mean(f, flat, m, mesh, far=False)
    heavy = ~np.isfinite(value) | (error > 1e-13 * np.abs(value)) | _heavy_tail(f, flat, m)
    if heavy.any():
        value[heavy], error[heavy], how = _gaussian_mean(f, flat[heavy], m[heavy], mesh, far=True)
    return estimate(value.reshape(variance.shape), error.reshape(variance.shape), how)


def _heavy_tail(f: Function, q: Array, m: Array) -> NDArray[np.bool_]:
    """Whether f at the edge of the near range still outweighs the Gaussian there."""
    edge = gaussian_cuts()[-1]
    s = np.sqrt(q)
    with np.errstate(all="ignore"):
        inner = np.maximum(np.abs(f(m + s)), np.abs(f(m - s)))
        outer = np.maximum(np.abs(f(m + edge * s)), np.abs(f(m - edge * s)))
        return np.asarray(~(outer * np.exp(-0.5 * edge**2) <= 1e-17 * inner) & (outer > 0))


def _gaussian_mean(f: Function, q: Array, m: Array, mesh: Mesh, far: bool) -> tuple[Array, Array, str]:
    """Value and error for flat batches, with panels and with halved panels."""
    cuts = mesh.cuts(reach_of(q, m, far))
    with np.errstate(all="ignore"):
        coarse_nodes = cloud(q, m, cuts, far)
        coarse = coarse_nodes.mean(_call(f, coarse_nodes.x))
        fine_nodes = cloud(q, m, cuts, far, halved=True)
        values = _call(f, fine_nodes.x)
        fine = fine_nodes.mean(values)
        size = fine_nodes.mean(np.abs(values))
        error = np.abs(fine - coarse) + (8 * EPS + mesh.unresolved) * size
        last = np.abs(values * fine_nodes.w) * (np.abs(fine_nodes.z) > 0.97 * fine_nodes.z.max())
        diverges = ~np.isfinite(fine) | (fine_nodes.panels.total(last) > 1e-12 * size)
    fine = np.where(diverges, np.inf, fine)
    error = np.where(diverges, np.inf, error)
    how = "Gauss panels" if not diverges.any() else "overflows or diverges"
    return fine, error, how


def _call(f: Function, x: Array) -> Array:
    return np.asarray(f(x.ravel())).reshape(x.shape)


PairFunction = Callable[[Array, Array], Array]


def pair_mean(
    function: PairFunction,
    q: Array,
    c: Array,
    m: Array,
    mesh: Mesh,
    other: Mesh | None = None,
    n: int = _N,
    halved: bool = False,
) -> Array:
    """E[F(u1, u2)] for two Gaussians of mean m, variance q and correlation c; all (B,), result (B,).

    F is cut along the cuts of ``mesh`` in u1 and of ``other`` in u2. Without ``other`` F must be symmetric, and the
    integral runs over d ≥ 0 only. n: Gauss points a panel.
    """
    reach = reach_of(q, m)
    cuts = mesh.cuts(reach)
    cuts2 = None if other is None else other.cuts(reach)
    sigma_a = np.sqrt(q * np.maximum(1 + c, 0) / 2)
    sigma_d = np.sqrt(q * np.maximum(1 - c, 0) / 2)
    z_cuts = gaussian_cuts()
    grid = _outer_cuts(z_cuts, cuts, cuts2, _midpoints(mesh, other, reach), sigma_a, sigma_d, m)
    panels = lay(grid, float(z_cuts[0]), float(z_cuts[-1]))
    if halved:
        panels = panels.halved()
    z, w = panels.nodes(n)
    a = (m[panels.owner, None] + sigma_a[panels.owner, None] * z).ravel()
    d = np.repeat(sigma_d[panels.owner], n)
    inner = _inner(function, a, d, cuts, cuts2, n, halved)
    return panels.total(inner.reshape(z.shape) * w * np.exp(-0.5 * z * z)) / _ROOT_2PI


def _midpoints(mesh: Mesh, other: Mesh | None, reach: float) -> Array:
    """Where the inner integral may bend: midpoints of all pairs of breaks, one in u1 and one in u2, with the distance
    d at which the two meet: (2, K). Single breaks have distance 0.
    """
    first = np.array([b.x for b in mesh.breaks(reach)])
    second = first if other is None else np.array([b.x for b in other.breaks(reach)])
    singles = np.unique(np.concatenate([first, second]))
    middle = ((first[:, None] + second[None, :]) / 2).ravel()
    apart = np.abs(first[:, None] - second[None, :]).ravel() / 2
    pairs = np.stack([np.concatenate([singles, middle]), np.concatenate([0 * singles, apart])])
    pairs = np.unique(pairs, axis=1)
    if pairs.shape[1] > _MAX_MIDPOINTS:  # dense kinks: those in the middle matter most
        pairs = pairs[:, np.argsort(np.abs(pairs[0]), kind="stable")[:_MAX_MIDPOINTS]]
    return pairs


def _outer_cuts(
    z_cuts: Array, cuts: Array, cuts2: Array | None, kinks: Array, sigma_a: Array, sigma_d: Array, m: Array
) -> Array:
    """Candidate cuts of the outer variable, standardised: (B, E)."""
    scale = np.maximum(sigma_a, _TINY)[:, None]
    parts = [np.broadcast_to(z_cuts, (len(m), len(z_cuts))), (cuts - m[:, None]) / scale]
    if cuts2 is not None:
        parts.append((cuts2 - m[:, None]) / scale)
    if kinks.shape[1]:
        grades = np.concatenate([-_GRADES[:0:-1], _GRADES])
        graded = kinks[0, None, :, None] + sigma_d[:, None, None] * grades  # (B, K, G)
        felt = kinks[1] <= gaussian_cuts()[-1] * sigma_d[:, None]  # (B, K): the two breaks can meet
        graded = np.where(felt[:, :, None], graded, np.inf)
        parts.append(((graded - m[:, None, None]) / scale[:, :, None]).reshape(len(m), -1))
    return np.concatenate(parts, axis=1)


def _inner(
    function: PairFunction, a: Array, sigma: Array, cuts: Array, cuts2: Array | None, n: int, halved: bool
) -> Array:
    """E over d ~ N(0, sigma²) of F(a + d, a − d) for flat a, sigma (R,), in chunks."""
    half = cuts2 is None
    z_cuts = gaussian_cuts(half=half)
    out = np.empty_like(a)
    rows = max(1, _CHUNK // (n * (len(z_cuts) + 8) * (2 if halved else 1)))
    rows = max(1, min(rows, 4_000_000 // (len(cuts) + len(z_cuts))))
    for start in range(0, len(a), rows):
        part = slice(start, start + rows)
        centre, scale = a[part], np.maximum(sigma[part], _TINY)
        near = _near(cuts, centre, scale)
        candidates = [np.broadcast_to(z_cuts, (len(centre), len(z_cuts)))]
        if cuts2 is None:
            candidates.append(np.abs(near - centre[:, None]) / scale[:, None])
        else:
            candidates.append((near - centre[:, None]) / scale[:, None])
            candidates.append((centre[:, None] - _near(cuts2, centre, scale)) / scale[:, None])
        panels = lay(np.concatenate(candidates, axis=1), float(z_cuts[0]), float(z_cuts[-1]))
        if halved:
            panels = panels.halved()
        z, w = panels.nodes(n)
        d = sigma[part][panels.owner, None] * z
        middle = centre[panels.owner, None]
        values = function((middle + d).ravel(), (middle - d).ravel()).reshape(z.shape)
        total = panels.total(values * w * np.exp(-0.5 * z * z)) / _ROOT_2PI
        out[part] = 2 * total if half else total
    return out


def _near(cuts: Array, centre: Array, scale: Array) -> Array:
    """Those cuts that some row of the chunk can feel."""
    reach = gaussian_cuts()[-1] * scale
    lo, hi = np.searchsorted(cuts, [np.min(centre - reach), np.max(centre + reach)])
    return cuts[max(lo - 1, 0) : hi + 1]


def gaussian_pair(
    f: Function,
    g: Function | None,
    q: Any,
    c: Any,
    mean: Any = 0.0,
    known: tuple[float, ...] = (),
    mesh: Mesh | None = None,
) -> Estimate:
    """E[f(u1) g(u2)] for Gaussians of one mean and variance q with correlation c, with an error bound.

    ``g=None`` means g = f. q ≥ 0, c in [−1, 1] and mean broadcast; kinks and jumps of both are found. The error is the
    change when every panel is halved in both directions plus rounding.
    """
    mesh = mesh or Mesh(f, known)
    other = None if g is None else Mesh(g, known)
    arrays = np.broadcast_arrays(check_variance(q), check_correlation(c), np.asarray(mean, dtype=np.float64))
    shape = arrays[0].shape
    flat_q, flat_c, m = (a.ravel() for a in arrays)
    second = f if g is None else g

    def product(u1: Array, u2: Array) -> Array:
        return np.asarray(f(u1) * second(u2))

    with np.errstate(all="ignore"):
        coarse = pair_mean(product, flat_q, flat_c, m, mesh, other)
        fine = pair_mean(product, flat_q, flat_c, m, mesh, other, halved=True)
    size = np.sqrt(
        np.asarray(gaussian_mean(lambda x: f(x) ** 2, flat_q, m, mesh=mesh).value)
        * np.asarray(gaussian_mean(lambda x: second(x) ** 2, flat_q, m, mesh=other or mesh).value)
    )
    unresolved = max(mesh.unresolved, other.unresolved if other else 0.0)
    error = np.abs(fine - coarse) + (8 * EPS + unresolved) * size
    broken = ~np.isfinite(fine)
    value, error = np.where(broken, np.inf, fine), np.where(broken, np.inf, error)
    how = "overflows or diverges" if broken.any() else "Gauss panels over sum and difference"
    return estimate(value.reshape(shape), error.reshape(shape), how)
