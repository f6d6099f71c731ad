"""The edge of chaos: where signals neither forget their differences nor blow them up.

At variance q the edge is at (Poole et al. 2016; Schoenholz et al. 2017)

    sw2(q) = 1 / E[φ'(√q z)²],      sb2(q) = q − sw2(q) E[φ(√q z)²]

for every q with sb2(q) ≥ 0: E[φ²] and E[φ'²] depend on q alone, so one table in q holds the whole line. Where also
chi_q = sw2 d E[φ²]/dq = 1, variances are as patient as angles (double criticality; Roberts, Yaida & Hanin 2022).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from depthscale.errors import TheoryError
from depthscale.numerics.estimate import EPS, Array, Estimate, estimate
from depthscale.numerics.gaussian import check_variance, number
from depthscale.numerics.roots import BatchFunction, all_roots, refine
from depthscale.theory.activations import LOG_Q_MAX, LOG_Q_MIN, Activation
from depthscale.theory.resolve import activation as resolve

_GRID = np.exp(np.linspace(LOG_Q_MIN + 1e-9, LOG_Q_MAX - 1e-9, 841))
_ZERO = 1e-9  # below this, relative to q, a bias variance is rounding


@dataclass(frozen=True)
class CriticalPoint:
    """A point on the edge of chaos: chi1 = 1 at the fixed point q of the length map.

    sw2, sb2, q and chi_q are Estimates. kind: "point"; "double" (chi_q = 1 too); "half-line" (scale-invariant: sb2 = 0
    and every q is a fixed point; q is the one asked for, or 1); "origin" (q* → 0). note: what one should know of it.
    """

    activation: str
    sw2: Estimate
    sb2: Estimate
    q: Estimate
    chi_q: Estimate
    kind: str
    note: str

    def __str__(self) -> str:
        numbers = f"sw2 = {float(self.sw2):.9g}, sb2 = {float(self.sb2):.9g}, q* = {float(self.q):.9g}"
        return f"{self.activation}: critical at {numbers}" + (f" ({self.note})" if self.note else "")


@dataclass(frozen=True)
class CriticalLine:
    """The edge of chaos as arrays over q: sw2, sb2, chi_q, all of q's shape, as Estimates. q is an array."""

    activation: str
    q: Array
    sw2: Estimate
    sb2: Estimate
    chi_q: Estimate


def critical_point(
    activation: Any, *, sb2: float | None = None, q: float | None = None, double: bool = False, dropout: float = 0.0
) -> CriticalPoint:
    """The critical sw2 and sb2 of an activation: at a bias variance, at a length q, or doubly critical.

    activation: name or callable. sb2 ≥ 0 or q > 0, not both. With neither, the doubly critical point if there is one
    away from the origin, else sb2 = 0 (for scale-invariant activations, the half-line at q = 1). Where several q are
    critical at one sb2, the smallest whose length map is stable is returned. Raises TheoryError where no such point
    exists, and says why. Poole et al. 2016, Schoenholz et al. 2017; Roberts, Yaida & Hanin 2022 for double criticality.
    """
    act = resolve(activation)
    sb2, q = None if sb2 is None else number("sb2", sb2), None if q is None else number("q", q)
    _check_existence(act, sb2, q, number("dropout", dropout))
    if double and (sb2 is not None or q is not None):
        raise TheoryError("A doubly critical point has its own sb2 and q; give double=True alone.")
    if act.homogeneous:
        return _half_line(act, sb2, q)
    if q is not None:
        return _at(act, float(q), "point")
    if sb2 is not None:
        return _at_bias(act, float(sb2))
    roots = _double_roots(act)
    if len(roots):
        return _at(act, float(roots[0]), "double")
    origin = _origin(act)
    if double:
        if origin is not None and abs(float(origin.chi_q) - 1) < 1e-6:
            return origin
        raise TheoryError(f"{act} has no doubly critical point: nowhere are chi1 = chi_q = 1 with sb2 >= 0.")
    return _at_bias(act, 0.0)


def critical_line(activation: Any, *, q: Any = None, sb2: Any = None, dropout: float = 0.0) -> CriticalLine:
    """The critical line at a grid of q (1-D, default 50 points), or at a grid of sb2.

    Points of a q grid where sb2 would be negative are not on the line: their sb2 and sw2 are nan. For a grid of sb2,
    the branch is ``critical_point``'s. Raises TheoryError where there is no line.
    """
    act = resolve(activation)
    _check_existence(act, None, None, number("dropout", dropout))
    if act.homogeneous:
        raise TheoryError(
            f"{act} is scale-invariant: its critical set is not a line but the half-line sb2 = 0, "
            f"sw2 = {1 / float(act.derivative_second_moment(1.0)):.9g}, any q; use critical_point."
        )
    if q is not None and sb2 is not None:
        raise TheoryError("Give a grid of q or a grid of sb2, not both.")
    if sb2 is not None:
        biases = np.atleast_1d(check_variance(sb2)).astype(np.float64)
        grid = _q_of_bias(act, biases)
    else:
        grid = np.geomspace(1e-2, 10.0, 50) if q is None else np.atleast_1d(check_variance(q)).astype(np.float64)
    sw2, bias, chi_q, error = _line(act, grid)
    off = bias < -_ZERO * grid
    values = [np.where(off, np.nan, v) for v in (sw2, np.maximum(bias, 0.0), chi_q)]
    how = "table in ln q" if act.closed is None else "closed form"
    sw2_, sb2_, chi_q_ = (estimate(v, e, how) for v, e in zip(values, error, strict=True))
    return CriticalLine(str(act), grid, sw2_, sb2_, chi_q_)


# --- the line as a function of q ---------------------------------------------------------------------------------


def _line(act: Activation, q: Array) -> tuple[Array, Array, Array, list[Array]]:
    """sw2, sb2, chi_q at q (B,) on the edge of chaos, and their errors."""
    positive = np.maximum(q, _GRID[0])
    table, wrong = act.averages_with_error(np.minimum(positive, _GRID[-1]))
    m2, d2, slope = table[:, 1], table[:, 2], table[:, 3]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        sw2 = 1 / d2
        ratio = m2 / d2
        relative = wrong[:, 1:] / np.abs(table[:, 1:]) + 2 * EPS
        sw2_error = sw2 * relative[:, 1]
        sb2_error = ratio * (relative[:, 0] + relative[:, 1]) + EPS * q
        chi_error = np.abs(slope) / d2 * (relative[:, 1] + relative[:, 2])
        return sw2, q - ratio * (q > 0), slope / d2, [sw2_error, sb2_error, chi_error]


def _bias(act: Activation) -> Any:
    """sb2(q)/q on the edge, as a function of q."""

    def function(q: Array) -> Array:
        table = act.averages(np.clip(q, _GRID[0], _GRID[-1]))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.asarray(1 - table[:, 1] / (table[:, 2] * q))

    return function


@lru_cache(maxsize=64)
def _bias_on_grid(act: Activation) -> tuple[Array, Array]:
    """A grid of q, and sb2 on the edge there."""
    return _GRID, np.asarray(_bias(act)(_GRID) * _GRID)


def _q_of_bias(act: Activation, biases: Array) -> Array:
    """For each bias variance the q of its critical point (nan where there is none), all at once."""
    function = _bias(act)
    grid, on_grid = _bias_on_grid(act)
    sign = on_grid[None, :] - biases[:, None] > 0
    changes = sign[:, 1:] != sign[:, :-1]
    out = np.full(len(biases), np.nan)
    rising = changes & sign[:, 1:]
    use = np.where(rising.any(axis=1), rising.argmax(axis=1), changes.argmax(axis=1))
    rows = np.flatnonzero(changes.any(axis=1) & (biases > 0))
    k, target = use[rows], biases[rows]

    def gap(q: Array) -> Array:
        return np.asarray(function(q) * q - target)

    if len(rows):
        out[rows] = _secant_steps(gap, grid[k], grid[k + 1], on_grid[k] - target, on_grid[k + 1] - target)
    for row in np.flatnonzero(~np.isfinite(out)):
        out[row] = float(_at_bias(act, float(biases[row])).q)
    return out


def _point(act: Activation, numbers: list[Estimate], kind: str, note: str) -> CriticalPoint:
    sw2, sb2, q, chi_q = numbers
    return CriticalPoint(str(act), sw2, sb2, q, chi_q, kind, note)


def _secant_steps(gap: BatchFunction, lo: Array, hi: Array, at_lo: Array, at_hi: Array) -> Array:
    """Roots in brackets of 5 %, where the secant method needs four or five steps; else by ``refine``."""
    before, at_before, now = hi, at_hi, lo - at_lo * (hi - lo) / (at_hi - at_lo)
    for _ in range(8):
        at_now = gap(now)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = at_now * (now - before) / (at_now - at_before)
        step = np.where(np.isfinite(step), step, 0.0)
        before, at_before, now = now, at_now, now - step
        if np.all(np.abs(step) <= 1e-11 * now):  # the step after this one would be rounding
            return np.asarray(now)
        if np.any((now < lo) | (now > hi)):
            break
    return refine(gap, lo, hi, at_lo, at_hi)


# --- single points -----------------------------------------------------------------------------------------------


def _check_existence(act: Activation, sb2: float | None, q: float | None, dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise TheoryError(f"dropout is a probability in [0, 1), but got {dropout}.")
    if dropout > 0:
        raise TheoryError(
            f"With dropout {dropout:g} there is no critical point: two copies of one input get different masks, so "
            "c = 1 is no longer a fixed point of the correlation map (Schoenholz et al. 2017); use dropout=0, or "
            "depth_scale for the depth that is left."
        )
    if sb2 is not None and q is not None:
        raise TheoryError("Give sb2 or q, not both: each fixes the other on the critical line.")
    if sb2 is not None and not (np.isfinite(sb2) and sb2 >= 0):
        raise TheoryError(f"sb2 must be a finite variance of at least 0, but got {sb2}.")
    if q is not None and not (np.isfinite(q) and 0 <= q <= _GRID[-1]):
        raise TheoryError(f"q must lie between 0 and {_GRID[-1]:.3g}, but got {q}.")
    if act.jumps:
        raise TheoryError(
            f"{act} jumps (at x = {act.jumps[0].x:g}): two nearby inputs on its two sides are torn apart, chi1 "
            "is infinite, and there is no critical point."
        )
    if act.steep:
        raise TheoryError(
            f"{act} has a cusp (at x = {act.steep[0].x:g}) where its slope is infinite: so are E φ'² and chi1 at every "
            "sw2, and there is no critical point; round the cusp off."
        )
    if _flat(act):
        raise TheoryError(f"{act} has no slope, so no sw2 makes chi1 = 1; choose an activation that is not constant.")


@lru_cache(maxsize=256)
def _flat(act: Activation) -> bool:
    """Whether an activation has no slope anywhere."""
    probes = np.array([0.1, 1.0, 10.0])
    return bool(np.all(act.derivative_second_moment(probes) <= 1e-20 * act.second_moment(probes)))


def _half_line(act: Activation, sb2: float | None, q: float | None) -> CriticalPoint:
    if sb2 is not None and sb2 > 0:
        raise TheoryError(
            f"{act} is scale-invariant: it is critical on the half-line sb2 = 0 only, and with sb2 = {sb2:g} the "
            "variance would grow by that much at every layer; give sb2=0."
        )
    at = 1.0 if q is None else float(q)
    sw2 = 1 / float(act.derivative_second_moment(1.0))
    linear = bool(np.isclose(float(act(1.0)), -float(act(-1.0)), rtol=1e-15))
    note = "scale-invariant: every q is a fixed point" + ("; linear: every c, too" if linear else "")
    exact = [estimate(v, e, "closed form") for v, e in ((sw2, 4 * EPS * sw2), (0.0, 0.0), (at, 0.0), (1.0, 8 * EPS))]
    return _point(act, exact, "half-line", note)


def _at(act: Activation, q: float, kind: str) -> CriticalPoint:
    """The critical point at length q."""
    if q == 0:
        origin = _origin(act)
        if origin is None:
            raise TheoryError(f"{act} is not 0 at 0, so q = 0 is no fixed point; give a larger q.")
        return origin
    sw2, sb2, chi_q, errors = _line(act, np.array([q]))
    if sb2[0] < -(_ZERO * q + errors[1][0]):
        raise TheoryError(
            f"{act} has no critical point at q = {q:g}: it would need sb2 = {sb2[0]:.4g} < 0; {_where_possible(act)}"
        )
    how = "panels, table in ln q"
    # a root in q is known to the residual over the slope; for a given q it is exact
    q_error = 0.0 if kind == "point" else _root_error(act, q)
    note = _stability(float(chi_q[0])) if kind != "double" else "chi1 = chi_q = 1"
    value = [
        estimate(sw2[0], errors[0][0] + _drift(act, q, q_error, 0), how),
        estimate(max(sb2[0], 0.0), errors[1][0] + _drift(act, q, q_error, 1), how),
        estimate(q, q_error, "given" if kind == "point" else "root"),
        estimate(chi_q[0], errors[2][0] + _drift(act, q, q_error, 2), how),
    ]
    return _point(act, value, kind, note)


def _stability(chi_q: float) -> str:
    if abs(chi_q) <= 1 + 1e-9:
        return ""
    return f"chi_q = {chi_q:.4g} > 1: the length q is not stable here, small departures grow"


def _drift(act: Activation, q: float, q_error: float, which: int) -> float:
    """How much a quantity on the line moves when q is off by q_error."""
    if q_error == 0:
        return 0.0
    h = max(1e-6 * q, q_error)
    lo, hi = (_line(act, np.array([x]))[which][0] for x in (q - h, q + h))
    return float(abs(hi - lo) / (2 * h) * q_error)


def _root_error(act: Activation, q: float) -> float:
    """The error of a doubly critical q: that of chi_q − 1 over its slope in q."""
    h = 1e-5 * q
    _, _, chi, errors = _line(act, np.array([q - h, q, q + h]))
    slope = abs(chi[2] - chi[0]) / (2 * h)
    return float((errors[2][1] + abs(chi[1] - 1)) / slope + 4 * EPS * q) if slope else float("inf")


def _origin(act: Activation) -> CriticalPoint | None:
    """The limit q* → 0 of the critical line, which exists where φ(0) = 0 and φ has a slope at 0."""
    d0 = float(act.derivative_second_moment(0.0))
    if abs(float(act(0.0))) > 1e-14 or d0 < 1e-12:
        return None
    sw2 = 1 / d0
    chi_q = sw2 * float(act.second_moment_slope(0.0))
    exact = [estimate(v, e, "limit q → 0") for v, e in ((sw2, 8 * EPS * sw2), (0.0, 0.0), (0.0, 0.0), (chi_q, 1e-10))]
    return _point(act, exact, "origin", "q* = 0, reached only as a power of depth")


def _at_bias(act: Activation, sb2: float) -> CriticalPoint:
    """The critical point at a bias variance."""
    origin = _origin(act) if sb2 == 0 else None
    if origin is not None and _origin_is_stable(act):
        return origin
    shape = _bias(act)

    def gap(q: Array) -> Array:
        return np.asarray(shape(q) - sb2 / q)

    grid = _GRID
    if origin is not None:  # near 0 the line runs along sb2 = 0 to rounding: look only where it has left it
        grid = _GRID[_GRID > 1e-6]
    roots = all_roots(gap, grid)
    roots = roots[np.abs(gap(roots)) < 1e-9] if len(roots) else roots
    if not len(roots):
        if origin is not None:
            return origin
        raise TheoryError(f"{act} has no critical point at sb2 = {sb2:g}; {_where_possible(act)}")
    _, _, chi_q, _ = _line(act, roots)
    stable = np.abs(chi_q) <= 1 + 1e-9
    q = float(roots[stable][0] if stable.any() else roots[0])
    return _with_bias(act, q, sb2)


def _origin_is_stable(act: Activation) -> bool:
    """Whether variances near 0 shrink towards it at the critical sw2 of the origin."""
    q = np.array([1e-4, 1e-3])
    return bool(np.all(act.second_moment(q) / float(act.derivative_second_moment(0.0)) <= q * (1 + 1e-12)))


def _with_bias(act: Activation, q: float, sb2: float) -> CriticalPoint:
    """The critical point whose bias variance is given and exact, and whose q is a root."""
    sw2, bias, chi_q, errors = _line(act, np.array([q]))
    h = 1e-5 * q
    around = _line(act, np.array([q - h, q + h]))[1]
    slope = abs(float(around[1] - around[0])) / (2 * h)
    q_error = float((errors[1][0] + abs(bias[0] - sb2)) / slope + 4 * EPS * q) if slope else float("inf")
    how = "panels, table in ln q"
    value = [
        estimate(sw2[0], errors[0][0] + _drift(act, q, q_error, 0), how),
        estimate(sb2, 0.0, "given"),
        estimate(q, q_error, "root of sb2(q)"),
        estimate(chi_q[0], errors[2][0] + _drift(act, q, q_error, 2), how),
    ]
    return _point(act, value, "point", _stability(float(chi_q[0])))


def _double_roots(act: Activation) -> Array:
    """All q away from the origin where chi1 = chi_q = 1 and sb2 ≥ 0, ascending."""

    def gap(q: Array) -> Array:
        table = act.averages(np.clip(q, _GRID[0], _GRID[-1]))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.asarray(table[:, 3] / table[:, 2] - 1)

    grid = _GRID[(_GRID > 1e-4) & (_GRID < 1e5)]
    values = gap(grid)
    grid = grid[np.abs(values) > 1e-10]  # where both slopes agree to rounding, signs mean nothing
    roots = all_roots(gap, grid, touching=False)
    if not len(roots):
        return roots
    _, sb2, _, _ = _line(act, roots)
    return roots[(sb2 > -1e-9 * roots) & (np.abs(gap(roots)) < 1e-9)]


def _where_possible(act: Activation) -> str:
    """A sentence on which sb2 the critical line reaches."""
    _, sb2, _, _ = _line(act, _GRID)
    ok = (sb2 >= -_ZERO * _GRID) & np.isfinite(sb2)
    if not ok.any():
        return "no q has a critical point with sb2 >= 0, so this activation has no critical line."
    low, high = float(np.nanmin(np.maximum(sb2[ok], 0))), float(np.nanmax(sb2[ok]))
    return (
        f"its critical line has q from {_GRID[ok][0]:.3g} to {_GRID[ok][-1]:.3g} and sb2 from {low:.3g} to {high:.3g}."
    )
