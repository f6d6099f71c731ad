"""The correlation map, tabulated through its secant.

With θ = arccos c and u1, u2 ~ N(0, q) of correlation c, let

    S(q, θ) = E[(φ(u1) − φ(u2))²] / (2 q (1 − c)),    so that    E[φ(u1) φ(u2)] = E[φ²] − q (1 − c) S.

One layer takes 1 − c to sw2 S (1 − c), so a fixed point c* < 1 solves sw2 S = 1: the root c = 1 has been divided out,
and nothing cancels beside the critical line. S(q, 0) = E[φ'²], and the slope of the map is sw2 (S + tan(θ/2) ∂S/∂θ).
For c in [0, 1], S = Σ a_n² (1 + c + … + cⁿ⁻¹)/q falls as θ grows, so there is at most one such root.

In θ, S is analytic at 0 even for kinked φ (whose averages have powers of √(1 − c)); a jump makes it 1/θ there, so θ S
is stored instead. The table is Chebyshev in ln q on pieces that are halved until they resolve S, and in θ on panels
that shrink towards 0 as q grows.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from depthscale.numerics.estimate import EPS, Array
from depthscale.numerics.gaussian import cloud, reach_of
from depthscale.numerics.smoothing import mean_variance
from depthscale.numerics.table import basis, chebyshev
from depthscale.theory.activations import Activation, fixed_hermite

_NQ, _NQ_BROKEN, _NT = 12, 16, 16  # Chebyshev nodes in ln q (with several breaks) and in θ
_ORDER = 400
_RELATIVE = 3e-12  # of S: what a series may leave out
_NEAR_ZERO = 0.02  # the θ below which E φ² − E φφ' has lost too many digits
_LONGEST, _SHORTEST = 2.0, 0.125  # length of pieces in ln q
# the relative remainder in ln q above which a piece is cut in two: with kinks each piece is dear
_TAIL_Q, _TAIL_KINKED = 1e-10, 3e-10
_FINEST = 6  # panels of θ at the start, at most
_SPLITS, _TAIL = 3, 3e-10  # how often, and above what relative remainder, panels are split


def theta_panels(log_q: float) -> Array:
    """Edges of the θ panels on [0, π/2] for a piece of the table that ends at ln q: φ bends at θ ~ 1/√q."""
    count = int(np.clip(np.ceil(log_q / (2 * np.log(4.0))), 0, _FINEST))
    return np.asarray(np.concatenate([[0.0], np.pi / 2 * 4.0 ** np.arange(-count, 1.0)]))


class _Series(NamedTuple):
    """Squared Hermite coefficients (B, N), what they leave of E φ² (B,), and E φ² (B,), at q (B,)."""

    q: Array
    squares: Array
    rest: Array
    total: Array

    def at(self, rows: slice) -> "_Series":
        """Some of the q."""
        return _Series(*(values[rows] for values in self))


def series_of(act: Activation, q: Array) -> _Series:
    """The Hermite series at q (B,); empty where closed forms do without it."""
    total = act.second_moment(q)
    if act.resolved(float(q.max())):
        z, matrix = fixed_hermite()
        squares = (act.f((np.sqrt(q)[:, None] * z).ravel()).reshape(len(q), -1) @ matrix.T) ** 2
    elif act.closed is not None and float(q.max()) <= act.closed.pairs_up_to:
        squares = np.zeros((len(q), 1))
    else:
        squares = _many_coefficients(act, q, _ORDER) ** 2
    rest = total - squares.sum(axis=1)
    return _Series(q, squares, np.where(rest > 16 * EPS * total, rest, 0.0), total)


def secant(act: Activation, series: _Series, theta: Array) -> Array:
    """S at every pair of the series' q (B,) and θ (T,) in (0, π/2]: (B, T).

    By Hermite series where its remainder is at rounding level, else by closed forms away from θ = 0, else by panels.
    """
    q, squares, rest, total = series
    c = np.cos(theta)
    gap = 2 * np.sin(theta / 2) ** 2  # 1 − c
    order = squares.shape[1]
    n = np.arange(order)[:, None]
    # (1 − cⁿ)/(1 − c), with cⁿ − 1 = expm1(n ln c) exact for small θ
    with np.errstate(divide="ignore"):
        log_c = np.log1p(-gap)
    with np.errstate(invalid="ignore"):
        power = np.where(n == 0, 0.0, -np.expm1(n * log_c[None, :]))  # 1 − cⁿ
    out = (squares @ power + rest[:, None] * (1 - c**order)) / (q[:, None] * gap)
    # what the series leaves out is at most rest · c^N, in the numerator
    hard = rest[:, None] * c[None, :] ** order > _RELATIVE * np.abs(out) * q[:, None] * gap[None, :]
    far = theta[None, :] > _NEAR_ZERO
    if act.closed is not None and float(q.max()) <= act.closed.pairs_up_to and (hard & far).any():
        row, column = np.nonzero(hard & far)
        with np.errstate(over="ignore", invalid="ignore"):
            pairs = act.correlation(q[row], c[column])
            out[row, column] = (total[row] - pairs) / (q[row] * gap[column])
        hard &= ~far
    if hard.any():
        row, column = np.nonzero(hard)
        with np.errstate(all="ignore"):
            out[row, column] = mean_variance(act.f, q[row], gap[column], act.mesh) / (q[row] * gap[column])
    return np.asarray(out)


def _many_coefficients(act: Activation, q: Array, order: int) -> Array:
    """Hermite coefficients for many q at once: (B, order); nodes are cut at the kinks and doubled."""
    m = np.zeros_like(q)
    nodes = cloud(q, m, act.mesh.cuts(reach_of(q, m)), halved=True)
    values = act.f(nodes.x.ravel()).reshape(nodes.x.shape) * nodes.w
    z = nodes.z
    out = np.empty((len(q), order))
    flat, starts = z.ravel(), nodes.panels.starts * z.shape[1]
    before, now = np.zeros_like(flat), values.ravel()
    for n in range(order):
        out[:, n] = np.add.reduceat(now, starts)
        before *= -np.sqrt(n)
        before += flat * now
        before /= np.sqrt(n + 1)
        before, now = now, before
    return out


@dataclass(eq=False)
class _Piece:
    """The table on ln q from ``lo`` to ``lo + length``: edges of the θ panels (E + 1,), Chebyshev coefficients in ln q
    of S θʲ at the right edge of each (E, n_q), those in both variables for the panels that were needed, by their edges,
    and the Hermite series at the nodes of ln q, and whether the piece has turned out too long.
    """

    lo: float
    length: float
    edges: Array
    at_edges: Array
    series: _Series
    fits: dict[tuple[float, float], Array] = field(default_factory=dict)
    too_long: bool = False


def _unresolved(coefficients: Array, axis: int) -> float:
    """The share of the last two coefficients along an axis."""
    size = np.abs(coefficients)
    last = np.take(size, [-2, -1], axis=axis).sum()
    return float(last / max(float(size.sum()), 1e-300))


@dataclass(eq=False)
class SecantTable:
    """S(q, θ) θʲ (j = 1 where φ tears inputs apart, else 0) of one activation; a cache that fills where it is asked."""

    act: Activation
    _pieces: dict[tuple[float, float], _Piece] = field(default_factory=dict)

    @cached_property
    def power(self) -> int:
        """j: how S is scaled near θ = 0."""
        return 1 if self.act.tears else 0

    @cached_property
    def tail(self) -> float:
        """What pieces may leave out in ln q."""
        return _TAIL_KINKED if self.act.breaks() else _TAIL_Q

    @cached_property
    def nodes(self) -> int:
        """Chebyshev nodes in ln q: two breaks that are felt together take more."""
        return _NQ_BROKEN if len(self.act.breaks()) > 1 else _NQ

    @cached_property
    def longest(self) -> float:
        """The length of pieces in ln q: long where they are dear and one will do."""
        return _LONGEST if len(self.act.breaks()) == 1 else _LONGEST / 2

    def _scaled(self, series: _Series, theta: Array) -> Array:
        """S θʲ at the series' q and θ (T,): (B, T)."""
        return secant(self.act, series, theta) * theta**self.power

    def _values(self, series: _Series, theta: Array) -> Array:
        """Chebyshev coefficients in ln q of S θʲ at θ (T,): (n_q, T)."""
        return np.asarray(chebyshev(self.nodes)[1] @ self._scaled(series, theta))

    def _piece(self, lo: float, length: float) -> _Piece:
        if (lo, length) not in self._pieces:
            edges = theta_panels(lo + length)
            series = series_of(self.act, np.exp(lo + length * (chebyshev(self.nodes)[0] + 1) / 2))
            piece = _Piece(lo, length, edges, self._values(series, edges[1:]).T, series)
            piece.too_long = max(_unresolved(row, 0) for row in piece.at_edges) > self.tail
            self._pieces[lo, length] = piece
        return self._pieces[lo, length]

    def _fit(self, piece: _Piece, lo: float, hi: float, final: bool) -> Array | None:
        """Chebyshev coefficients in ln q and θ on one panel: (n_q, n_t); None (unless ``final``) where they do not
        resolve θ, which the middle q tells before the others are paid for.
        """
        nodes_t, to_t = chebyshev(_NT)
        theta = lo + (hi - lo) * (nodes_t + 1) / 2
        middle = self.nodes // 2
        row = self._scaled(piece.series.at(slice(middle, middle + 1)), theta)
        if _unresolved(row @ to_t.T, 1) > _TAIL and not final:
            return None
        before, after = (
            self._scaled(piece.series.at(part), theta) for part in (slice(middle), slice(middle + 1, None))
        )
        fit = np.asarray(chebyshev(self.nodes)[1] @ np.concatenate([before, row, after]) @ to_t.T)
        return fit if final or _unresolved(fit, 1) <= _TAIL else None

    def _split(self, piece: _Piece, lo: float, hi: float) -> None:
        """Cuts a panel on which the fit has not converged, nearer to its left end."""
        edge = lo + (hi - lo) / 3
        place = int(np.searchsorted(piece.edges, edge))
        piece.edges = np.insert(piece.edges, place, edge)
        at_edge = self._values(piece.series, np.array([edge]))[:, 0]
        piece.at_edges = np.insert(piece.at_edges, place - 1, at_edge, axis=0)

    def _panels(self, piece: _Piece, in_q: Array, level: Array, offset: Array) -> NDArray[np.intp]:
        """The θ panel that holds the root of each cell, after fitting (and splitting) the panels that are needed."""
        for attempt in range(_SPLITS + 1):
            right = piece.edges[1:]
            gap = 2 * np.sin(right / 2) ** 2
            sign = 1 - level[:, None] * (in_q @ piece.at_edges.T) / right**self.power - offset[:, None] / gap
            panel: NDArray[np.intp] = np.argmax(sign >= 0, axis=1)
            panel[~(sign >= 0).any(axis=1)] = len(right) - 1
            coarse = []
            for p in np.unique(panel):
                lo, hi = float(piece.edges[p]), float(right[p])
                if (lo, hi) in piece.fits:
                    continue
                fit = self._fit(piece, lo, hi, attempt == _SPLITS)
                if fit is None:
                    coarse.append((lo, hi))
                    continue
                piece.fits[lo, hi] = fit
                if _unresolved(fit, 0) > self.tail and piece.length > _SHORTEST:
                    piece.too_long = True
                    return panel
            if not coarse:
                break
            for lo, hi in coarse:
                self._split(piece, lo, hi)
        return panel

    def roots(self, q: Array, level: Array, offset: Array) -> tuple[Array, Array]:
        """For each cell the θ in [0, π/2] where 1 − level · S − offset/(1 − c) = 0, and level · (S + tan(θ/2) S_θ).

        q, level, offset: (B,). Both answers (B,). The left side must fall from θ = 0 (or −∞) to θ = π/2 in sign, which
        holds for chi1 > 1 or offset > 0; where rounding has it otherwise, the end of the range is returned.
        """
        return self._by_pieces(q, level, offset, self.longest)

    def _by_pieces(self, q: Array, level: Array, offset: Array, length: float) -> tuple[Array, Array]:
        """The same, on pieces of this length, or of half of it where one is too long."""
        theta, slope = np.empty_like(q), np.empty_like(q)
        starts = np.floor(np.log(q) / length) * length
        for lo in np.unique(starts):
            rows = np.flatnonzero(starts == lo)
            some = q[rows], level[rows], offset[rows]
            piece = self._piece(float(lo), length)
            found = None if piece.too_long and length > _SHORTEST else self._solve(piece, *some)
            theta[rows], slope[rows] = self._by_pieces(*some, length / 2) if found is None else found
        return theta, slope

    def _solve(self, piece: _Piece, q: Array, level: Array, offset: Array) -> tuple[Array, Array] | None:
        """Roots on one piece; None if it turns out too long."""
        in_q = basis(2 * (np.log(q) - piece.lo) / piece.length - 1, self.nodes)  # (B, n_q)
        panel = self._panels(piece, in_q, level, offset)
        if piece.too_long and piece.length > _SHORTEST:
            return None
        theta, slope = np.empty_like(q), np.empty_like(q)
        for p in np.unique(panel):
            rows = np.flatnonzero(panel == p)
            lo, hi = float(piece.edges[p]), float(piece.edges[p + 1])
            coefficients = in_q[rows] @ piece.fits[lo, hi]  # (rows, n_t)
            theta[rows] = t = self._newton(coefficients, lo, hi, level[rows], offset[rows])
            value, steep = self._evaluate(coefficients, lo, hi, t)
            slope[rows] = level[rows] * (value + np.tan(t / 2) * steep)
        return theta, slope

    def _evaluate(self, coefficients: Array, lo: float, hi: float, theta: Array) -> tuple[Array, Array]:
        """S and ∂S/∂θ for each row of coefficients (B, n_t), by Clenshaw's recurrence and its derivative."""
        t = 2 * (theta - lo) / (hi - lo) - 1
        b1, b2, d1, d2 = (np.zeros_like(t) for _ in range(4))
        for column in coefficients.T[:0:-1]:
            d1, d2 = 2 * (b1 + t * d1) - d2, d1
            b1, b2 = column + 2 * t * b1 - b2, b1
        value = coefficients[:, 0] + t * b1 - b2
        slope = (b1 + t * d1 - d2) * 2 / (hi - lo)
        if self.power:
            safe = np.maximum(theta, 1e-300)
            return value / safe, (slope - value / safe) / safe
        return value, slope

    def _newton(self, coefficients: Array, lo: float, hi: float, level: Array, offset: Array) -> Array:
        """Bracketed Newton in θ on F = (1 − level S)(1 − c) − offset, divided by (1 − c)."""
        left, right = np.full_like(level, lo), np.full_like(level, hi)
        theta = (left + right) / 2
        active = np.arange(len(theta))
        for _ in range(60):
            t = theta[active]
            value, slope = self._evaluate(coefficients[active], lo, hi, t)
            gap = 2 * np.sin(t / 2) ** 2
            f = 1 - level[active] * value - offset[active] / gap
            df = -level[active] * slope + offset[active] * np.sin(t) / gap**2
            below = f < 0
            left[active] = np.where(below, t, left[active])
            right[active] = np.where(below, right[active], t)
            with np.errstate(divide="ignore", invalid="ignore"):
                step = t - f / df
            inside = (step > left[active]) & (step < right[active])
            new = np.where(inside, step, (left[active] + right[active]) / 2)
            # beside the critical line F is flat, and below its rounding error no step is better than none
            rounding = EPS * (1 + level[active] * np.abs(value) + offset[active] / gap)
            new = np.where(np.abs(f) > rounding, new, t)
            moved = np.abs(new - t) > 4 * EPS * np.maximum(t, 1e-9)
            theta[active] = new
            active = active[moved & (right[active] - left[active] > 4 * EPS)]
            if not len(active):
                break
        return theta
