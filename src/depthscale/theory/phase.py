"""Where a random network stands between order and chaos, and how deep a signal then reaches.

At the fixed point q* of the length map: *ordered* if chi1 < 1 (all inputs become one), *chaotic* if chi1 > 1 (nearby
inputs become strangers, c* < 1), *critical* if chi1 = 1. Depth scales (Schoenholz et al. 2017)

    xi_q = 1/|ln |chi_q||     xi_c = 1/|ln slope of the c map at c*|     xi_grad = 1/|ln chi1|

count the layers over which a length, a correlation and a squared gradient change by a factor e. That networks train up
to about 6 xi_c layers is an empirical rule of that paper, no theorem.

E[φ²] and E[φ'²] depend on q alone, so every level of q* is a straight line in the (sw2, sb2) plane, and one table in q
(and one of secants in q and θ, for c*) serves a whole diagram.
"""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from depthscale.errors import TheoryError
from depthscale.numerics.estimate import EPS, Array, Estimate, estimate
from depthscale.numerics.gaussian import number, numbers
from depthscale.numerics.roots import refine
from depthscale.numerics.safe import log_decay
from depthscale.theory.activations import Activation
from depthscale.theory.maps import Q_GRID, FixedPoint, LayerMap, layer_map
from depthscale.theory.resolve import activation as resolve
from depthscale.theory.secant import SecantTable

ORDERED, CRITICAL, CHAOTIC, NO_FIXED_POINT = range(4)
PHASES = ("ordered", "critical", "chaotic", "no fixed point")
TRAINABLE = 6.0  # layers per xi_c, the empirical rule of Schoenholz et al. 2017
_NEAR = 1e3  # where the first search for lengths ends
_CRITICAL = 1e-10  # |chi1 − 1| below this is the edge itself

_SECANTS: "WeakKeyDictionary[Activation, SecantTable]" = WeakKeyDictionary()


@dataclass(frozen=True)
class PhasePoint:
    """One point of the phase diagram.

    q, c, chi1, slope (of the c map at c*), xi_c, xi_grad, xi_q: Estimates at the length that inputs of unit variance
    reach. phase: one of PHASES. fixed_points: all lengths that reproduce themselves. trainable_depth: 6 xi_c, an
    empirical rule. note: what one should know besides.
    """

    map: LayerMap
    phase: str
    q: Estimate
    c: Estimate
    chi1: Estimate
    chi_q: Estimate
    slope: Estimate
    xi_q: Estimate
    xi_c: Estimate
    xi_grad: Estimate
    fixed_points: tuple[FixedPoint, ...]
    note: str

    @property
    def trainable_depth(self) -> float:
        """6 xi_c: the number of layers up to which plain networks were seen to train (Schoenholz et al. 2017)."""
        return TRAINABLE * float(self.xi_c)

    def __str__(self) -> str:
        m = self.map
        head = f"{m.activation} at sw2 = {m.sw2:g}, sb2 = {m.sb2:g}: {self.phase}"
        if not np.isfinite(float(self.q)):
            return f"{head} ({self.note})"
        tail = f"; {self.note}" if self.note else ""
        return (
            f"{head}, q* = {float(self.q):.6g}, c* = {float(self.c):.6g}, chi1 = {float(self.chi1):.6g}, "
            f"xi_c = {float(self.xi_c):.4g} layers{tail}"
        )


@dataclass(frozen=True)
class PhaseDiagram:
    """A grid of phase points: rows follow sb2, columns sw2; every array has shape (len(sb2), len(sw2)).

    q, c, chi1, chi_q, slope, xi_q, xi_c, xi_grad: floats (q = inf and the rest nan without a fixed point; xi = inf at
    the edge). phase: integers into PHASES.
    """

    activation: str
    sw2: Array
    sb2: Array
    q: Array
    c: Array
    chi1: Array
    chi_q: Array
    slope: Array
    xi_q: Array
    xi_c: Array
    xi_grad: Array
    phase: NDArray[np.int8]


def phase_diagram(
    activation: Any,
    *,
    sw2: Any = None,
    sb2: Any = None,
    q0: float = 1.0,
    dropout: float = 0.0,
    skip: float = 0.0,
    branch: float = 1.0,
) -> PhaseDiagram:
    """q*, c*, chi1, depth scales and phase for each pair of a grid of sw2 and a grid of sb2 (both 1-D, ≥ 0).

    Default grids: sw2 0.5 … 3, sb2 0 … 0.25, 100 each. q* is the fixed point next to q0 in the direction in which a
    length q0 moves: where it goes, if the length map rises there. Accurate to about 1e-8 of each cell, the cells beside
    the critical line included. Poole et al. 2016, fig. 1; Schoenholz et al. 2017, fig. 1.
    """
    act = resolve(activation)
    widths = np.linspace(0.5, 3.0, 100) if sw2 is None else _grid("sw2", sw2)
    biases = np.linspace(0.0, 0.25, 100) if sb2 is None else _grid("sb2", sb2)
    sample = layer_map(act, 1.0, 0.0, dropout=dropout, skip=skip, branch=branch)
    q0 = _start(q0)
    w, b = np.meshgrid(widths, biases)
    cells = solve_cells(sample, w.ravel(), b.ravel(), q0)
    shaped = {k: v.reshape(w.shape) for k, v in cells.items()}
    phase = shaped.pop("phase").astype(np.int8)
    return PhaseDiagram(str(act), widths, biases, phase=phase, **shaped)


def phase_point(
    activation: Any,
    sw2: float,
    sb2: float = 0.0,
    *,
    q0: float = 1.0,
    dropout: float = 0.0,
    skip: float = 0.0,
    branch: float = 1.0,
) -> PhasePoint:
    """Phase, fixed points and depth scales of one network; arguments as in ``layer_map`` and ``phase_diagram``."""
    one = layer_map(activation, sw2, sb2, dropout=dropout, skip=skip, branch=branch)
    cells = solve_cells(one, np.array([one.sw2]), np.array([one.sb2]), _start(q0))
    value = {k: float(v[0]) for k, v in cells.items()}
    points = one.fixed_points()
    phase = PHASES[int(value["phase"])]
    error = _errors(one, value)
    numbers = {
        k: estimate(value[k], error[k], "tables in q and θ")
        for k in ("q", "c", "chi1", "chi_q", "slope", "xi_q", "xi_c", "xi_grad")
    }
    return PhasePoint(map=one, phase=phase, fixed_points=points, note=_note(one, value, points), **numbers)


def depth_scale(activation: Any, sw2: float, sb2: float = 0.0, **options: Any) -> PhasePoint:
    """xi_q, xi_c, xi_grad and the trainable depth of a network; the same as ``phase_point``."""
    return phase_point(activation, sw2, sb2, **options)


def _start(q0: Any) -> float:
    q0 = number("q0", q0)
    if not (np.isfinite(q0) and q0 > 0):
        raise TheoryError(f"q0 must be a positive, finite variance, but got {q0}.")
    return float(q0)


def _grid(name: str, values: Any) -> Array:
    grid = numbers(name, values)
    if grid.size == 0:
        raise TheoryError(f"Expected at least one value of {name}, got an empty grid; give a 1-D array.")
    if grid.ndim > 1:
        raise TheoryError(f"{name} must be a 1-D grid, but got shape {grid.shape}; the diagram crosses the two grids.")
    if not (np.isfinite(grid) & (grid >= 0)).all():
        bad = grid.ravel()[~(np.isfinite(grid) & (grid >= 0)).ravel()][0]
        raise TheoryError(f"{name} must be finite variances of at least 0, but got {bad}.")
    return np.atleast_1d(grid).astype(np.float64)


def secant_table(act: Activation) -> SecantTable:
    """The activation's table of secants, shared by everybody who asks."""
    if act not in _SECANTS:
        _SECANTS[act] = SecantTable(act)
    return _SECANTS[act]


# --- a batch of cells ---------------------------------------------------------------------------------------------


def solve_cells(sample: LayerMap, sw2: Array, sb2: Array, q0: float) -> dict[str, Array]:
    """All quantities of a diagram for flat batches of sw2 and sb2 (B,); the rest of the layer is that of ``sample``."""
    act, kappa = sample.activation, sample.kappa
    alpha = sample.branch**2 * sw2
    alpha_q = alpha / (1 - sample.dropout)
    beta = sample.branch**2 * sb2
    q = _lengths(act, kappa, alpha_q, beta, q0)
    fixed = np.isfinite(q)
    safe = np.where(fixed & (q > 0), q, 1.0)
    d2, growth, m2 = _averages_at(act, safe, q)
    chi1 = kappa + alpha * d2
    chi_gradient = kappa + alpha_q * d2
    chi_q = kappa + alpha_q * growth
    if act.tears:
        chi1 = np.where(alpha > 0, np.inf, chi1)
    # with dropout, c = 1 is left behind: offset is the gap that one layer opens
    lost = sample.dropout / (1 - sample.dropout)
    offset = np.where(q > 0, alpha * lost * m2 / safe, 0.0) if lost else np.zeros_like(q)
    c, slope = np.ones_like(q), chi1.copy()
    search = fixed & (q > 0) & ((chi1 > 1 + _CRITICAL) | (offset > 0)) & (1 - kappa > 0)
    if search.any():
        inside = np.clip(safe[search], Q_GRID[0], Q_GRID[-1])
        keep = 1 - kappa
        theta, part = secant_table(act).roots(inside, alpha[search] / keep, offset[search] / keep)
        c[search] = np.cos(theta)
        slope[search] = kappa + part * keep
    out = {
        "q": q, "c": c, "chi1": chi1, "chi_q": chi_q, "slope": slope,
        "xi_q": log_decay(chi_q), "xi_c": log_decay(slope), "xi_grad": log_decay(chi_gradient),
    }  # fmt: skip
    near = np.abs(chi1 - 1) <= _CRITICAL
    phase = np.where(near, CRITICAL, np.where(chi1 < 1, ORDERED, CHAOTIC))
    for key in ("xi_c", "xi_grad"):
        out[key] = np.where(near & (offset == 0), np.inf, out[key])
    keep_chi = ("q", "chi1", "chi_q") if act.homogeneous else ("q",)
    for key in out:
        if key not in keep_chi:
            out[key] = np.where(fixed, out[key], np.nan)
    out["phase"] = np.where(fixed, phase, NO_FIXED_POINT)
    return out


def _averages_at(act: Activation, safe: Array, q: Array) -> tuple[Array, Array, Array]:
    """E φ'², d E φ²/dq and E φ² at q (B,), with the limits at q = 0."""
    inside = np.clip(safe, Q_GRID[0], Q_GRID[-1])
    averages = act.averages(inside)
    d2, growth, m2 = averages[:, 2], averages[:, 3], averages[:, 1]
    zero = q == 0
    if zero.any():
        d2 = np.where(zero, float(act.derivative_second_moment(0.0)), d2)
        growth = np.where(zero, float(act.second_moment_slope(0.0)), growth)
    return d2, growth, m2


def _lengths(act: Activation, kappa: float, alpha: Array, beta: Array, q0: float) -> Array:
    """The fixed point next to q0 in the direction in which q0 moves, per (alpha, beta); inf where there is none."""
    if act.homogeneous:
        return _homogeneous_lengths(kappa, alpha * float(act.second_moment(1.0)), beta, q0)
    # first without the far end of the table, which costs most (fast oscillations) and is seldom asked for
    near = Q_GRID[: max(int(np.searchsorted(Q_GRID, max(_NEAR, 4 * q0))), 2)]
    out = _lengths_on(act, kappa, alpha, beta, q0, near)
    far = np.isinf(out) & (alpha > 0)
    if far.any() and len(near) < len(Q_GRID):
        out[far] = _lengths_on(act, kappa, alpha[far], beta[far], q0, Q_GRID)
    return out


def _lengths_on(act: Activation, kappa: float, alpha: Array, beta: Array, q0: float, q_grid: Array) -> Array:
    """The same on one grid of q; inf where the fixed point lies beyond it."""
    grid = np.unique(np.append(q_grid, q0))
    start = int(np.searchsorted(grid, q0))
    with np.errstate(over="ignore", invalid="ignore"):
        m2 = act.averages(grid)[:, 1]
    lower, kind = np.empty(len(alpha), dtype=np.intp), np.empty(len(alpha), dtype=np.int8)
    for value in np.unique(alpha):
        rows = np.flatnonzero(alpha == value)
        with np.errstate(over="ignore", invalid="ignore"):
            need = (1 - kappa) * grid - value * m2  # the beta for which each q of the grid is fixed
        lower[rows], kind[rows] = _brackets(need, grid, start, beta[rows])
    out = np.full(len(alpha), np.inf)
    out[kind == _AT_START] = q0
    down = kind == _BELOW
    if down.any():
        out[down] = _below_grid(act, kappa, alpha[down], beta[down])
    rows = np.flatnonzero(kind == _INSIDE)
    if len(rows):
        out[rows] = _polish(act, kappa, alpha[rows], beta[rows], grid[lower[rows]], grid[lower[rows] + 1])
    return out


_INSIDE, _AT_START, _BELOW, _NEVER = range(4)


def _brackets(need: Array, grid: Array, start: int, beta: Array) -> tuple[NDArray[np.intp], NDArray[np.int8]]:
    """For each beta the grid interval that holds the fixed point next to the start, and how it ended."""
    slack = 8 * EPS * grid
    # upwards: the first q whose need is at least beta; running maxima make that a binary search
    up = np.maximum.accumulate(np.where(np.isnan(need[start:]), -np.inf, need[start:]))
    above = start + np.searchsorted(up, beta)
    # downwards: the first q, going down, whose need is at most beta
    down = np.minimum.accumulate((need + slack)[: start + 1][::-1])
    below = start - np.searchsorted(-down, -beta)
    kind = np.full(len(beta), _INSIDE, dtype=np.int8)
    rises = beta > need[start] + slack[start]
    falls = beta < need[start] - slack[start]
    lower = np.where(rises, above - 1, below)
    kind[rises & (above >= len(grid))] = _NEVER
    kind[falls & (below < 0)] = _BELOW
    kind[~rises & ~falls] = _AT_START
    return np.clip(lower, 0, len(grid) - 2).astype(np.intp), kind


def _below_grid(act: Activation, kappa: float, alpha: Array, beta: Array) -> Array:
    """Fixed points below the table, where E φ² is linear in q: 0 without a bias."""
    rate = float(act.averages(Q_GRID[:1])[0, 1]) / Q_GRID[0]
    left = 1 - kappa - alpha * rate
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(beta == 0, 0.0, np.clip(beta / left, 0.0, Q_GRID[0])))


def _homogeneous_lengths(kappa: float, alpha: Array, beta: Array, q0: float) -> Array:
    """Fixed points of the linear map q' = (κ + α) q + β."""
    left = 1 - (kappa + alpha)
    left = np.where(np.abs(left) <= 8 * EPS, 0.0, left)
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.where(left > 0, beta / left, np.inf)
    return np.asarray(np.where((left == 0) & (beta == 0), q0, q))


def _polish(act: Activation, kappa: float, alpha: Array, beta: Array, lo: Array, hi: Array) -> Array:
    """Newton in ln q inside [lo, hi]; what has not converged is bracketed by Chandrupatla's method."""
    left, right = lo.copy(), hi.copy()
    q = np.sqrt(lo * hi)
    active = np.arange(len(q))
    for _ in range(8):
        now = q[active]
        averages = act.averages(now)
        f = (1 - kappa) * now - alpha[active] * averages[:, 1] - beta[active]
        df = (1 - kappa) - alpha[active] * averages[:, 3]
        left[active] = np.where(f <= 0, now, left[active])
        right[active] = np.where(f >= 0, now, right[active])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            step = now * np.exp(np.clip(-f / (df * now), -1.0, 1.0))
        good = (step >= lo[active]) & (step <= hi[active])
        new = np.where(good, step, np.sqrt(left[active] * right[active]))
        q[active] = new
        active = active[np.abs(new - now) > 8 * EPS * now]
        if not len(active):
            return q

    def gap(x: Array) -> Array:
        return np.asarray((1 - kappa) * x - alpha[active] * act.averages(x)[:, 1] - beta[active])

    ends = gap(lo[active]), gap(hi[active])
    crossing = ends[0] * ends[1] <= 0
    if crossing.all():
        q[active] = refine(gap, lo[active], hi[active], *ends)
    return q


# --- words and errors ---------------------------------------------------------------------------------------------


def _errors(one: LayerMap, value: dict[str, float]) -> dict[str, float]:
    """Error bounds of one cell, by propagating those of the tables through the implicit equations."""
    act, q = one.activation, value["q"]
    keys = ("q", "c", "chi1", "chi_q", "slope", "xi_q", "xi_c", "xi_grad")
    if not np.isfinite(q):
        return dict.fromkeys(keys, float("inf"))
    inside = float(np.clip(q if q > 0 else 1.0, Q_GRID[0] * 1.01, Q_GRID[-1] / 1.01))
    around = inside * np.array([1 - 1e-4, 1.0, 1 + 1e-4])
    table, wrong = act.averages_with_error(around)
    with np.errstate(invalid="ignore"):  # at a cusp E φ'² is infinite at every q
        change = np.nan_to_num(np.abs(table[2] - table[0]) / (2e-4 * inside))  # per unit of q
    unsure = one.alpha_q * wrong[1, 1] + 4 * EPS * q
    q_error = 0.0 if q == 0 else unsure / max(abs(1 - value["chi_q"]), np.sqrt(unsure / q), 1e-15)
    chi_error = one.alpha * (wrong[1, 2] + change[2] * q_error) + 4 * EPS
    chiq_error = one.alpha_q * (wrong[1, 3] + change[3] * q_error) + 4 * EPS
    if value["c"] < 1:  # from S(q, θ): its relative error is 3e-11 or so; dc/dS is 1/(level ∂S/∂c)
        steep = abs(value["slope"] - 1) / max(1 - value["c"], 1e-12)
        s_error = 1e-10 + (chi_error if np.isfinite(chi_error) else 0.0)
        c_error = s_error / max(steep, 1e-12)
        slope_error = 20 * s_error
    else:
        c_error, slope_error = 0.0, chi_error

    def xi_error(xi: float, wrong_slope: float) -> float:
        if not np.isfinite(xi):
            return float("inf")
        return float(xi * xi * wrong_slope * 2 + 4 * EPS * xi) if xi else 0.0

    errors = {
        "q": q_error, "c": c_error, "chi1": chi_error, "chi_q": chiq_error, "slope": slope_error,
        "xi_q": xi_error(value["xi_q"], chiq_error), "xi_c": xi_error(value["xi_c"], slope_error),
        "xi_grad": xi_error(value["xi_grad"], chi_error / (1 - one.dropout)),
    }  # fmt: skip
    return {k: float(v) for k, v in errors.items()}


def _note(one: LayerMap, value: dict[str, float], points: tuple[FixedPoint, ...]) -> str:
    """What one should know about a cell besides its numbers."""
    if not np.isfinite(value["q"]):
        return "the length grows without end: no fixed point up to 1e6"
    notes: list[str] = []
    if points and points[0].through == "every q":
        notes.append("scale-invariant: every q is a fixed point")
    elif value["q"] == 0:
        notes.append("signals die out: q* = 0, and c* is the limit for a vanishing bias")
    if one.activation.jumps:
        notes.append("the activation jumps: chi1 is infinite, while gradients see only the slope between the jumps")
    if one.activation.steep:
        at = one.activation.steep[0].x
        notes.append(f"the activation's slope is infinite at x = {at:g}, and so are E φ'², chi1 and gradients")
    if abs(value["chi_q"]) > 1 + 1e-9:
        notes.append("the length map is not stable at q*")
    if one.dropout > 0:
        notes.append("dropout: c = 1 is no fixed point, so there is no critical point")
    stable = [p for p in points if p.stable]
    if len(stable) > 1:
        notes.append(f"{len(stable)} stable lengths: " + ", ".join(f"{float(p.q):.4g}" for p in stable))
    return "; ".join(notes)
