"""Where a function bends: a mesh on which it is smooth, and the kinks and jumps found on the way.

A panel is *resolved* when the Legendre series of the function on it has died out (the last three of 16 coefficients
below 1e-13 of the function's size there). Panels that are not are halved. What never resolves is a singularity: the
halving closes in on it to the last bits, and it becomes a cut. Singularities that happen to lie on a cut are found by
comparing the two sides. The mesh is laid octave by octave, as far out as somebody needs it.

Stated limits: structure narrower than about 3e-2 that no sample point meets is not seen; a function with more than
``_MAX_PANELS`` panels (noise, or very fast oscillation) is reported as unresolved.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from depthscale.numerics.estimate import EPS, Array
from depthscale.numerics.panels import legendre

_N = 16
_TOL = 2e-13
_FLOOR = 1e-4  # of the size of f near 0: what is smaller counts as nothing
_ROUNDING = 4 * EPS  # of that size: what is smaller, and stays when halved, is rounding
_MAX_PANELS = 40_000
_FIRST = np.array([-8.0, -4.0, -2.0, 0.0, 2.0, 4.0, 8.0])
# where each panel is compared with its series, besides the Gauss points: its very ends, where a kink could hide, and
# points in between that no lattice meets twice
_PROBES = np.concatenate([[1e-12, 1.0 - 1e-12], np.sort((np.arange(1, 39) * 0.6180339887498949) % 1.0)])

Function = Callable[[Array], Array]


@lru_cache(maxsize=1)
def _to_legendre() -> Array:
    """The matrix (N, N) from values at the Gauss points of [0, 1] to Legendre coefficients."""
    x, w = legendre(_N)
    basis = np.polynomial.legendre.legvander(2 * x - 1, _N - 1)  # (node, degree)
    return np.asarray((basis * w[:, None]).T * (2 * np.arange(_N) + 1)[:, None])


@lru_cache(maxsize=1)
def _at_probes() -> Array:
    """Legendre polynomials at the probes: (probes, N)."""
    return np.asarray(np.polynomial.legendre.legvander(2 * _PROBES - 1, _N - 1))


@lru_cache(maxsize=1)
def _ends() -> tuple[Array, Array]:
    """Legendre series at the ends: value and first three derivatives at −1 and at +1; each (4, N)."""
    eye = np.eye(_N)
    series = [np.polynomial.legendre.legder(eye, k) if k else eye for k in range(4)]
    at = [np.stack([np.polynomial.legendre.legval(e, s) for s in series]) for e in (-1.0, 1.0)]
    return at[0], at[1]


@dataclass(frozen=True)
class Break:
    """A point where a function is not smooth. ``order`` 0: it jumps, 1: its slope does, 2: its curvature does …

    power: at a cusp, such as that of √|x|, the p < 1 of |x|ᵖ (then order 1 and an infinite size, unless f jumps too).
    """

    x: float
    order: int
    size: float  # of the jump in that derivative
    power: float = math.inf


@dataclass(eq=False)
class Mesh:
    """The cuts of a function, extended on demand (a cache: what it answers does not depend on the calls before).

    ``known``: places to cut in any case (kinks one knows of).
    """

    f: Function
    known: tuple[float, ...] = ()
    _cuts: dict[int, Array] = field(default_factory=dict)
    _breaks: dict[int, tuple[Break, ...]] = field(default_factory=dict)
    _unresolved: float = 0.0

    def cuts(self, reach: float) -> Array:
        """Ascending cuts that cover [−reach, reach], and more."""
        return self._cuts[self._extend(reach)]

    def breaks(self, reach: float) -> tuple[Break, ...]:
        """The kinks and jumps in about [−reach, reach], ascending."""
        return self._breaks[self._extend(reach)]

    @property
    def unresolved(self) -> float:
        """The relative size of what the mesh could not resolve; 0 for a function that is smooth between cuts."""
        return self._unresolved

    def octave(self, reach: float) -> int:
        """The smallest k with 8·4^k ≥ reach: the mesh that serves this reach."""
        return max(0, math.ceil(math.log2(max(reach, 1.0) / 8.0) / 2.0))

    def _extend(self, reach: float) -> int:
        octave = self.octave(reach)
        if octave not in self._cuts:
            limit = 8.0 * 4.0**octave
            outer = 8.0 * 2.0 ** np.arange(1, 2 * octave + 1)
            inside = [k for k in self.known if abs(k) < limit]
            first = np.unique(np.concatenate([-outer, _FIRST, outer, np.asarray(inside, dtype=np.float64)]))
            self._cuts[octave], self._breaks[octave], unresolved = _lay_mesh(self.f, first)
            self._unresolved = max(self._unresolved, unresolved)
        return octave


def _coefficients(f: Function, left: Array, width: Array) -> tuple[Array, Array]:
    """Legendre coefficients of f on each panel (P, N), and how far the series misses f at the probes (P,)."""
    x = np.concatenate([legendre(_N)[0], _PROBES])
    with np.errstate(all="ignore"):
        values = f((left[:, None] + width[:, None] * x).ravel()).reshape(-1, len(x))
        series = np.asarray(values[:, :_N] @ _to_legendre().T)
        missed = np.abs(values[:, _N:] - series @ _at_probes().T).max(axis=1)
    return series, np.asarray(missed)


def _rounded_inside(rounding: float, left: Array, width: Array) -> Array:
    """The rounding of what cancels inside f, as in 1 + tanh x or x + √(x² + 4): terms that may grow as x does."""
    return np.asarray(rounding * np.maximum(1.0, (np.abs(left) + width) / 8.0))


def _refine(f: Function, first: Array) -> tuple[Array, Array, Array, float, float]:
    """Halves until resolved. Returns left, width (P,), coefficients (P, N) ascending, what stayed unresolved, and
    the largest size of the function near 0.
    """
    left, width = first[:-1], np.diff(first)
    near, floor, rounding = 0.0, 0.0, 0.0
    before = np.full(len(left), np.inf)  # the tail of the panel that each is half of
    done: list[tuple[Array, Array, Array]] = []
    unresolved, count = 0.0, 0
    for level in range(64):
        coefficients, missed = _coefficients(f, left, width)
        scale = np.abs(coefficients).sum(axis=1)
        if level == 0:
            finite = scale[np.isfinite(scale) & (np.abs(left) < 8.0)]
            near = float(finite.max(initial=0.0))
            floor, rounding = _FLOOR * near, _ROUNDING * near
        tail = np.maximum(np.abs(coefficients[:, -3:]).max(axis=1), missed / 16)
        tiny = width <= 4 * np.spacing(np.maximum(np.abs(left), 1e-300)) + 1e-17
        # a point x is only known to rounding, and so is f there: its slope times that of x
        noise = 8 * EPS * (np.abs(left) + width) * np.abs(coefficients[:, 1]) * 2 / width
        good = (tail <= _TOL * np.maximum(scale, floor) + noise) | ~np.isfinite(scale) | tiny
        # far out, what halving leaves as it is, and so small, is rounding of larger terms inside f
        good |= (tail <= _rounded_inside(rounding, left, width)) & (2 * tail >= before)
        if count + len(left) > _MAX_PANELS:
            relative = tail[~good] / np.maximum(scale, floor)[~good]
            unresolved = max(unresolved, float(relative.max(initial=0.0)))
            good[:] = True
        done.append((left[good], width[good], coefficients[good]))
        count += int(good.sum())
        if good.all():
            break
        half, before = width[~good] / 2, np.repeat(tail[~good], 2)
        left = np.stack([left[~good], left[~good] + half], axis=1).ravel()
        width = np.repeat(half, 2)
    order = np.argsort(np.concatenate([d[0] for d in done]), kind="stable")
    lefts, widths, series = (np.concatenate([d[k] for d in done])[order] for k in range(3))
    return lefts, widths, series, unresolved, near


def _lay_mesh(f: Function, first: Array) -> tuple[Array, tuple[Break, ...], float]:
    """Refines, closes in on singularities, cuts there and refines again, so that cascades of tiny panels vanish."""
    left, width, series, unresolved, near = _refine(f, first)
    singular = _clusters(left, width, first)
    if len(singular):
        first = np.unique(np.concatenate([first, singular]))
        left, width, series, unresolved, near = _refine(f, first)
    cuts = np.append(left, left[-1] + width[-1])
    return cuts, _cusps_told(f, _breaks_at_cuts(left, width, series, near)), unresolved


def _clusters(left: Array, width: Array, first: Array) -> Array:
    """The points on which the halving closed in: centres of runs of panels much smaller than where they began."""
    small = np.flatnonzero(width < 1e-5 * np.maximum(1.0, np.abs(left)))
    if not len(small):
        return np.zeros(0)
    points: list[float] = []
    for run in np.split(small, np.flatnonzero(np.diff(small) > 1) + 1):
        best = run[np.argmin(width[run])]
        smallest = width[best]
        core = run[width[run] <= 2.5 * smallest]
        lo, hi = float(left[core[0]]), float(left[core[-1]] + width[core[-1]])
        points.append(_snap(lo, hi))
    return np.asarray(points)


def _snap(lo: float, hi: float) -> float:
    """The shortest decimal in [lo, hi], else the middle: people put kinks at 0.3, not at 0.2999999999999998."""
    for digits in range(12):
        candidate = round((lo + hi) / 2, digits)
        if lo <= candidate <= hi:
            return candidate
    return (lo + hi) / 2


def _breaks_at_cuts(left: Array, width: Array, series: Array, near: float) -> tuple[Break, ...]:
    """Compares both sides of each inner cut: value and three derivatives."""
    at_left, at_right = _ends()
    scale = (2.0 / width)[:, None] ** np.arange(4)
    with np.errstate(all="ignore"):
        before = (series @ at_right.T * scale)[:-1]
        after = (series @ at_left.T * scale)[1:]
        size = np.maximum(np.abs(series).sum(axis=1), _FLOOR * near)
        inside = _rounded_inside(_ROUNDING * near, left, width)
        unit = np.minimum(width[:-1], width[1:])[:, None] ** np.arange(4)
        noise = np.maximum(size[:-1], size[1:])[:, None] * np.array([1e-11, 1e-9, 1e-6, 1e-4])
        # what a series makes of rounding: its k-th derivative at an end by up to N^(2k) / (2k − 1)!!
        noise += np.maximum(inside[:-1], inside[1:])[:, None] * np.array([16.0, 1e4, 1e6, 1e8])
        differs = np.abs(after - before) * unit > noise
    found: list[Break] = []
    for k in np.flatnonzero(differs.any(axis=1)):
        order = int(np.argmax(differs[k]))
        found.append(Break(float(left[k + 1]), order, float(after[k, order] - before[k, order])))
    return tuple(found)


_TOGETHER = 1e-4  # breaks this near to each other, relative to max(1, |x|), may be of one cusp


def _cusps_told(f: Function, found: tuple[Break, ...]) -> tuple[Break, ...]:
    """Breaks with those at one cusp, which the halving scatters around it and takes for jumps, made one."""
    groups: list[list[Break]] = []
    for b in found:
        if groups and b.x - groups[-1][-1].x <= _TOGETHER * max(1.0, abs(b.x)):
            groups[-1].append(b)
        else:
            groups.append([b])
    return tuple(told for group in groups for told in _told(f, group))


def _told(f: Function, group: list[Break]) -> list[Break]:
    """A cusp in place of the breaks around it; other breaks as they are."""
    if min(b.order for b in group) > 1:
        return group
    x = np.array([b.x for b in group])
    h = 1e-8 * np.maximum(1.0, np.abs(x))
    with np.errstate(all="ignore"):
        middle, before, after = f(np.concatenate([x, x - h, x + h])).reshape(3, -1)
    steepest = int(np.argmax(np.abs(before - middle) + np.abs(after - middle)))
    step, at = float(h[steepest]), float(x[steepest])
    at = _snap(at - step / 100, at + step / 100) + 0.0  # no -0
    steps = step * np.array([256.0, 16.0, 1.0])
    with np.errstate(all="ignore"):
        values = f(np.concatenate([at - steps, at + steps])).reshape(2, 3)
        change = np.abs(np.diff(values, axis=1))  # on either side, of the wider step and of the finer one
        steep = change[:, 1] > 256 * EPS * np.abs(values).max()
        powers = np.where(steep, np.log(change[:, 0] / change[:, 1]) / math.log(16.0), np.inf)
    power = float(powers.min())
    gap, wider = (float(values[1, k] - values[0, k]) for k in (2, 1))
    if not 1e-3 < power < 0.9:
        # x ln |x| has no jump: the difference across it shrinks with the step
        real = group[0].order > 0 or len(group) > 1 or abs(gap) <= 4 * abs(group[0].size)
        return group if real else [Break(at, 1, math.inf, power)]
    rest = (16.0**power * gap - wider) / (16.0**power - 1)  # gap = rest + A hᵖ
    if abs(rest) > 0.1 * float(change[:, 1].max()):
        return [Break(at, 0, rest, power)]
    return [Break(at, 1, math.inf, power)]


def series_derivative(f: Function, cuts: Array) -> Callable[[Array], Array]:
    """The derivative of f from its Legendre series on each panel of a mesh; accurate to about 1e-11 of f's size."""
    left, width = cuts[:-1], np.diff(cuts)
    coefficients = np.polynomial.legendre.legder(_coefficients(f, left, width)[0].T) * (2.0 / width)  # (N−1, P)

    def derivative(x: Array) -> Array:
        x = np.asarray(x, dtype=np.float64)
        panel: NDArray[np.intp] = np.clip(np.searchsorted(cuts, x, side="right") - 1, 0, len(left) - 1)
        t = 2.0 * (x - left[panel]) / width[panel] - 1.0
        c = coefficients[:, panel]
        return np.asarray(np.polynomial.legendre.legval(t, c, tensor=False))

    return derivative
