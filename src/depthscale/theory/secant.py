"""The correlation map, tabulated through its secant.

With θ = arccos c and u1, u2 ~ N(0, q) of correlation c, let

    S(q, θ) = E[(φ(u1) − φ(u2))²] / (2 q (1 − c)),    so that    E[φ(u1) φ(u2)] = E[φ²] − q (1 − c) S.

One layer takes 1 − c to sw2 S (1 − c), so a fixed point c* < 1 solves sw2 S = 1: the root c = 1 has been divided out,
and nothing cancels beside the critical line. S(q, 0) = E[φ'²], and the slope of the map is sw2 (S + tan(θ/2) ∂S/∂θ).
For c in [0, 1], S = Σ a_n² (1 + c + … + cⁿ⁻¹)/q falls as θ grows, so there is at most one such root.

In θ, S is analytic at 0 even for kinked φ (whose averages have powers of √(1 − c)); a jump makes it 1/θ there, so θ S
is stored instead. The table is Chebyshev in ln q on unit pieces, and in θ on panels that shrink towards 0 as q grows.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from depthscale.numerics.estimate import EPS, Array
from depthscale.numerics.gaussian import cloud, reach_of
from depthscale.numerics.table import basis, chebyshev
from depthscale.theory.activations import Activation, fixed_hermite

_NT = 20
_ORDER = 400
_FINEST = 6  # panels of θ at the start, at most
_SPLITS, _TAIL = 3, 3e-11  # how often, and above what relative remainder, panels are split


def theta_panels(log_q: float) -> Array:
    """Edges of the θ panels on [0, π/2] for the piece of the table that begins at ln q: φ bends at θ ~ 1/√q."""
    count = int(np.clip(np.ceil((log_q + 1) / (2 * np.log(4.0))), 0, _FINEST))
    return np.asarray(np.concatenate([[0.0], np.pi / 2 * 4.0 ** np.arange(-count, 1.0)]))


def secant(act: Activation, q: Array, theta: Array) -> Array:
    """S at every pair of q (B,) and θ (T,) in (0, π/2]: (B, T).

    By Hermite series where its remainder is at rounding level, else by closed forms away from θ = 0, else by panels.
    """
    c = np.cos(theta)
    gap = 2 * np.sin(theta / 2) ** 2  # 1 − c
    squares, rest, total = _squares(act, q)
    order = squares.shape[1]
    n = np.arange(order)[:, None]
    # (1 − cⁿ)/(1 − c), with cⁿ − 1 = expm1(n ln c) exact for small θ
    with np.errstate(divide="ignore"):
        log_c = np.log1p(-gap)
    with np.errstate(invalid="ignore"):
        power = np.where(n == 0, 0.0, -np.expm1(n * log_c[None, :]))  # 1 − cⁿ
    out = (squares @ power + rest[:, None] * (1 - c**order)) / (q[:, None] * gap)
    # what the series leaves out is at most rest · c^N, in the numerator
    hard = rest[:, None] * c[None, :] ** order > 4 * EPS * total[:, None] * gap[None, :]
    if act.closed is not None:
        far = hard & (theta[None, :] > 0.02)
        qq, cc = np.broadcast_arrays(q[:, None], c[None, :])
        with np.errstate(over="ignore", invalid="ignore"):
            closed = (act.second_moment(qq) - act.correlation(qq, cc)) / (qq * gap)
        out = np.where(far, closed, out)
        hard &= ~far
    if hard.any():
        row, column = np.nonzero(hard)
        out[row, column] = act.secant(q[row], c[column], n=8)
    return np.asarray(out)


def _squares(act: Activation, q: Array) -> tuple[Array, Array, Array]:
    """Squared Hermite coefficients (B, N), what they leave of E φ² (B,), and E φ² (B,)."""
    total = act.second_moment(q)
    if act.resolved(float(q.max())):
        z, matrix = fixed_hermite()
        squares = (act.f((np.sqrt(q)[:, None] * z).ravel()).reshape(len(q), -1) @ matrix.T) ** 2
    else:
        squares = _many_coefficients(act, q, _ORDER) ** 2
    rest = total - squares.sum(axis=1)
    return squares, np.where(rest > 16 * EPS * total, rest, 0.0), total


def _many_coefficients(act: Activation, q: Array, order: int) -> Array:
    """Hermite coefficients for many q at once: (B, order); nodes are cut at the kinks and doubled."""
    m = np.zeros_like(q)
    nodes = cloud(q, m, act.mesh.cuts(reach_of(q, m)), halved=True)
    values = act.f(nodes.x.ravel()).reshape(nodes.x.shape) * nodes.w
    z = nodes.z
    out = np.empty((len(q), order))
    before, now = np.zeros_like(z), values
    for n in range(order):
        out[:, n] = nodes.panels.total(now)
        before, now = now, (z * now - np.sqrt(n) * before) / np.sqrt(n + 1)
    return out


@dataclass(eq=False)
class _Piece:
    """The table on one unit piece of ln q: edges of the θ panels (E + 1,), Chebyshev coefficients in ln q of S θʲ at
    the right edge of each (E, n_q), and those in both variables for the panels that were needed, by their edges.
    """

    edges: Array
    at_edges: Array
    fits: dict[tuple[float, float], Array] = field(default_factory=dict)


@dataclass(eq=False)
class SecantTable:
    """S(q, θ) θʲ (j = 1 where φ jumps, else 0) of one activation; a cache that fills where it is asked."""

    act: Activation
    _pieces: dict[int, _Piece] = field(default_factory=dict)

    @cached_property
    def power(self) -> int:
        """j: how S is scaled near θ = 0."""
        return 1 if self.act.jumps else 0

    @cached_property
    def n_q(self) -> int:
        """Nodes in ln q on a piece: kinked functions pay for each with quadrature, smooth ones hardly."""
        return 11 if self.act.breaks() else 16

    def _values(self, k: int, theta: Array) -> Array:
        """Chebyshev coefficients in ln q of S θʲ at θ (T,): (n_q, T)."""
        nodes_q, to_q = chebyshev(self.n_q)
        q = np.exp(k + (nodes_q + 1) / 2)
        return np.asarray(to_q @ (secant(self.act, q, theta) * theta**self.power))

    def _piece(self, k: int) -> _Piece:
        if k not in self._pieces:
            edges = theta_panels(float(k))
            self._pieces[k] = _Piece(edges, self._values(k, edges[1:]).T)
        return self._pieces[k]

    def _fit(self, k: int, lo: float, hi: float) -> Array:
        """Chebyshev coefficients in ln q and θ on one panel: (n_q, n_t)."""
        nodes_t, to_t = chebyshev(_NT)
        return np.asarray(self._values(k, lo + (hi - lo) * (nodes_t + 1) / 2) @ to_t.T)

    def _split(self, k: int, lo: float, hi: float) -> None:
        """Cuts a panel on which the fit has not converged, nearer to its left end."""
        piece = self._pieces[k]
        edge = lo + (hi - lo) / 3
        place = int(np.searchsorted(piece.edges, edge))
        piece.edges = np.insert(piece.edges, place, edge)
        piece.at_edges = np.insert(piece.at_edges, place - 1, self._values(k, np.array([edge]))[:, 0], axis=0)

    def _panels(self, k: int, in_q: Array, level: Array, offset: Array) -> NDArray[np.intp]:
        """The θ panel that holds the root of each cell, after fitting (and splitting) the panels that are needed."""
        piece = self._piece(k)
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
                fit = piece.fits[lo, hi] = self._fit(k, lo, hi)
                if np.abs(fit[:, -2:]).sum() > _TAIL * np.abs(fit).sum():
                    coarse.append((lo, hi))
            if not coarse or attempt == _SPLITS:
                break
            for lo, hi in coarse:
                self._split(k, lo, hi)
        return panel

    def roots(self, q: Array, level: Array, offset: Array) -> tuple[Array, Array]:
        """For each cell the θ in [0, π/2] where 1 − level · S − offset/(1 − c) = 0, and level · (S + tan(θ/2) S_θ).

        q, level, offset: (B,). Both answers (B,). The left side must fall from θ = 0 (or −∞) to θ = π/2 in sign, which
        holds for chi1 > 1 or offset > 0; where rounding has it otherwise, the end of the range is returned.
        """
        theta, slope = np.empty_like(q), np.empty_like(q)
        piece = np.floor(np.log(q)).astype(np.int64)
        for k in np.unique(piece):
            rows = np.flatnonzero(piece == k)
            theta[rows], slope[rows] = self._solve(int(k), q[rows], level[rows], offset[rows])
        return theta, slope

    def _solve(self, k: int, q: Array, level: Array, offset: Array) -> tuple[Array, Array]:
        in_q = basis(2 * (np.log(q) - k) - 1, self.n_q)  # (B, n_q)
        panel = self._panels(k, in_q, level, offset)
        edges, fits = self._pieces[k].edges, self._pieces[k].fits
        theta, slope = np.empty_like(q), np.empty_like(q)
        for p in np.unique(panel):
            rows = np.flatnonzero(panel == p)
            lo, hi = float(edges[p]), float(edges[p + 1])
            coefficients = in_q[rows] @ fits[lo, hi]  # (rows, n_t)
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
            moved = np.abs(new - t) > 4 * EPS * np.maximum(t, 1e-9)
            theta[active] = new
            active = active[moved & (right[active] - left[active] > 4 * EPS)]
            if not len(active):
                break
        return theta
