"""An activation as the theory sees it: its averages under one Gaussian, and under two correlated ones.

For u, u1, u2 ~ N(m, q) with correlation c:

    mean                      E[φ(u)]
    second_moment             E[φ(u)²]              correlation               E[φ(u1) φ(u2)]
    derivative_second_moment  E[φ'(u)²]             derivative_correlation    E[φ'(u1) φ'(u2)]
    second_moment_slope       d E[φ(u)²] / dq = E[φ'² + φ φ'']

φ' is the derivative almost everywhere, as back-propagation computes it: at a jump it knows nothing of the jump (the
slope of the correlation map there is infinite; ``secant`` and the maps know it).

Where the numbers come from: closed forms where they exist; for m = 0 a table in ln q, filled where it is asked;
otherwise Gauss panels cut at the kinks. Pairs: closed forms; the Hermite series Σ a_n² cⁿ, whose remainder after N
terms is at most (E[φ²] − Σ a_n²)|c|ᴺ, wherever that bound is at rounding level; else panels over sum and difference.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from depthscale.errors import TheoryError
from depthscale.numerics.estimate import EPS, Array, Estimate, estimate
from depthscale.numerics.gaussian import (
    check_correlation,
    check_variance,
    cloud,
    gaussian_mean,
    gaussian_pair,
    pair_mean,
    reach_of,
)
from depthscale.numerics.mesh import Break, Mesh, series_derivative
from depthscale.numerics.panels import gaussian_cuts, lay
from depthscale.numerics.table import LogTable
from depthscale.theory.asymptotes import ramp_far_out
from depthscale.theory.closed_forms import ClosedForms
from depthscale.theory.named import Elementwise

# the range of variances that tables cover: e⁻²⁸ = 7e-13 to e¹⁴ = 1.2e6
LOG_Q_MIN, LOG_Q_MAX = -28, 14
_Q_MIN, _Q_MAX = float(np.exp(LOG_Q_MIN)), float(np.exp(LOG_Q_MAX)) * (1 - 1e-12)
_ORDER = 320  # Hermite coefficients that series use
_CACHE = 256
_TINY = 1e-30
_STEEP = 0.505  # the power of a cusp is measured: 1/2 and what that may be off


@dataclass(frozen=True, eq=False)
class Activation:
    """An elementwise function with its Gaussian averages; made by ``activation``.

    name, params: how it was asked for. f: vectorised function. df: its derivative, or None (then taken from f's
    Legendre series). closed: closed forms. Immutable; what it caches never changes an answer.
    """

    name: str
    params: tuple[tuple[str, float | str], ...]
    f: Elementwise
    df: Elementwise | None = None
    kinks: tuple[float, ...] = ()
    closed: ClosedForms | None = None
    _series: "OrderedDict[tuple[float, float, bool], tuple[Array, float]]" = field(default_factory=OrderedDict)

    def __str__(self) -> str:
        inside = ", ".join(f"{k}={v}" for k, v in self.params)
        return f"{self.name}({inside})" if inside else self.name

    def __repr__(self) -> str:
        return f"Activation({self})"

    def __call__(self, x: Any) -> Array:
        """φ(x), elementwise."""
        return np.asarray(self.f(np.asarray(x, dtype=np.float64)))

    def derivative(self, x: Any) -> Array:
        """φ'(x) almost everywhere, elementwise; where φ is given without φ', accurate to about 1e-11 of φ's size."""
        x = np.asarray(x, dtype=np.float64)
        if self.df is not None:
            return np.asarray(self.df(x))
        reach = float(np.max(np.abs(x), initial=1.0))
        return np.asarray(_series_derivative(self.mesh, self.mesh.octave(reach))(x))

    @cached_property
    def mesh(self) -> Mesh:
        """The mesh on which φ is smooth."""
        return Mesh(self.f, self.kinks)

    def breaks(self, reach: float = 100.0) -> tuple[Break, ...]:
        """Kinks and jumps within about ±reach: where, in which derivative, and how large."""
        return self.mesh.breaks(reach)

    @cached_property
    def jumps(self) -> tuple[Break, ...]:
        """The jumps of φ itself within about ±100."""
        return tuple(b for b in self.mesh.breaks(100.0) if b.order == 0)

    @cached_property
    def steep(self) -> tuple[Break, ...]:
        """The cusps within about ±100 at which φ rises so fast that E φ'² is infinite: as |x|ᵖ with p ≤ 1/2."""
        return tuple(b for b in self.mesh.breaks(100.0) if b.power <= _STEEP)

    @property
    def tears(self) -> bool:
        """Whether two inputs that are alike are torn apart, so that chi1 is infinite."""
        return bool(self.jumps or self.steep)

    @cached_property
    def homogeneous(self) -> bool:
        """Whether φ(k x) = k φ(x) for k > 0: a scale-invariant activation, such as ReLU."""
        x = np.array([-1.0, -0.37, 0.41, 1.0])
        k = np.array([1e-3, 0.3, 7.0, 1e3])[:, None]
        with np.errstate(all="ignore"):
            return bool(np.all(np.abs(self.f((k * x).ravel()).reshape(4, 4) - k * self.f(x)) <= 4 * EPS * k))

    # --- one Gaussian ---------------------------------------------------------------------------------------------

    def mean(self, q: Any, m: Any = 0.0) -> Array:
        """E[φ(u)] for u ~ N(m, q); q ≥ 0 and m broadcast."""
        return self._single(0, q, m)

    def second_moment(self, q: Any, m: Any = 0.0) -> Array:
        """E[φ(u)²] for u ~ N(m, q); q ≥ 0 and m broadcast."""
        return self._single(1, q, m)

    def derivative_second_moment(self, q: Any, m: Any = 0.0) -> Array:
        """E[φ'(u)²] for u ~ N(m, q); q ≥ 0 and m broadcast; at q = 0 the limit q → 0."""
        return self._single(2, q, m)

    def second_moment_slope(self, q: Any, m: Any = 0.0) -> Array:
        """d E[φ(u)²]/dq for u ~ N(m, q), with what jumps contribute; at q = 0 the limit q → 0."""
        return self._single(3, q, m)

    def _single(self, which: int, q: Any, m: Any) -> Array:
        variance, centre = check_variance(q), np.asarray(m, dtype=np.float64)
        if which >= 2:  # a slope at q = 0 is the limit, not the value at a kink
            variance = np.maximum(variance, _TINY * (1 + centre * centre))
        if self.closed is not None and self._holds(centre):
            form = (self.closed.mean, self.closed.second, self.closed.slope_second, self.closed.growth)[which]
            return np.asarray(form(variance, centre))
        shape = np.broadcast_shapes(variance.shape, centre.shape)
        flat_q, flat_m = (np.broadcast_to(a, shape).ravel() for a in (variance, centre))
        if not self.far and not flat_m.any() and flat_q.min() >= _Q_MIN and flat_q.max() <= _Q_MAX:
            return np.asarray(self.table(flat_q)[:, which].reshape(shape))
        return np.asarray(self._direct(flat_q, flat_m)[:, which].reshape(shape))

    def _holds(self, m: Array, q: Array | None = None) -> bool:
        """Whether there are closed forms at these means and, for pairs, variances."""
        if self.closed is None or not (self.closed.with_mean or not np.any(m)):
            return False
        return q is None or bool(np.all(q <= self.closed.pairs_up_to))

    @cached_property
    def table(self) -> LogTable:
        """E φ, E φ², E φ'² and d E φ²/dq as functions of q at m = 0."""
        return LogTable(lambda q: self._direct(q, np.zeros_like(q)))

    def averages(self, q: Array) -> Array:
        """E φ, E φ², E φ'² and d E φ²/dq at m = 0, for q (B,) within the table's range: (B, 4)."""
        if self.closed is None and self.far:  # e^(2q) and the like: no table resolves what grows so fast
            return self._direct(q, np.zeros_like(q))
        if self.closed is None or self.closed.costly:
            return self.table(q)
        zero = np.zeros_like(q)
        forms = (self.closed.mean, self.closed.second, self.closed.slope_second, self.closed.growth)
        return np.stack([form(q, zero) for form in forms], axis=1)

    def averages_with_error(self, q: Array) -> tuple[Array, Array]:
        """``averages`` and bounds on their errors: two arrays (B, 4)."""
        if (self.closed is None and not self.far) or (self.closed is not None and self.closed.costly):
            return self.table.with_error(q)
        values = self.averages(q)
        return values, 16 * EPS * np.abs(values)

    @cached_property
    def far(self) -> bool:
        """Whether φ grows so fast that Gaussians must be followed further out than 9.6 deviations."""
        with np.errstate(all="ignore"):
            near, out = np.abs(self.f(np.array([-8.0, 8.0]))), np.abs(self.f(np.array([-64.0, 64.0])))
        return not bool(np.all(out <= 8.0**4 * (near + 1)))

    def _direct(self, q: Array, m: Array) -> Array:
        """The four averages by panels, (B, 4), in chunks."""
        out = np.empty((len(q), 4))
        step = max(1, 300_000 // (10 * (len(self.mesh.cuts(reach_of(q, m, self.far))) + 13)))
        for start in range(0, len(q), step):
            part = slice(start, start + step)
            out[part] = self._panels(q[part], m[part])
        return out

    def _panels(self, q: Array, m: Array) -> Array:
        reach = reach_of(q, m, self.far)
        s = np.sqrt(q)
        with np.errstate(all="ignore"):
            nodes = cloud(q, m, self.mesh.cuts(reach), self.far)
            f = self.f(nodes.x.ravel()).reshape(nodes.x.shape)
            df = self.derivative(nodes.x.ravel()).reshape(nodes.x.shape)
            second = nodes.mean(f * f)
            slope = nodes.mean(nodes.z * f * df) / s
            for b in self.mesh.breaks(reach):
                if b.order == 0:  # the delta in (φ²)' = 2 φ φ' + Σ Δ(φ²) δ(x − b)
                    z = (b.x - m) / s
                    after, before = self.f(np.array([b.x + 1e-9 * max(1.0, abs(b.x))])), 0.0
                    before = float(after[0]) - b.size
                    slope = slope + (float(after[0]) ** 2 - before**2) * z * np.exp(-0.5 * z * z) / (
                        2 * q * np.sqrt(2 * np.pi)
                    )
            d2 = nodes.mean(df * df)
            for b in self.steep:
                d2 = np.where(np.abs(b.x - m) < gaussian_cuts(self.far)[-1] * s, np.inf, d2)
            out = np.stack([nodes.mean(f), second, d2, slope], axis=1)
        if self.far:
            out[~np.isfinite(out).all(axis=1)] = np.inf
        return np.asarray(out)

    # --- two Gaussians --------------------------------------------------------------------------------------------

    def correlation(self, q: Any, c: Any, m: Any = 0.0) -> Array:
        """E[φ(u1) φ(u2)] (not divided by anything); q ≥ 0, c in [−1, 1] and m broadcast."""
        return self._pair(False, q, c, m)

    def derivative_correlation(self, q: Any, c: Any, m: Any = 0.0) -> Array:
        """E[φ'(u1) φ'(u2)] with φ' almost everywhere; q ≥ 0, c in [−1, 1] and m broadcast."""
        return self._pair(True, q, c, m)

    def pairs_of_law(self, slope: bool, q: float, c: Array, m: float) -> Array:
        """``correlation`` (or with ``slope`` ``derivative_correlation``) at one law, its arguments taken as right."""
        if slope:
            q = max(q, _TINY * (1 + m * m))
        if self.closed is not None and (self.closed.with_mean or m == 0):
            form = self.closed.slope_pair if slope else self.closed.pair
            return np.asarray(form(np.asarray(q), c, np.asarray(m)))
        return self._pair_at(slope, q, c.ravel(), m).reshape(c.shape)

    def _pair(self, slope: bool, q: Any, c: Any, m: Any) -> Array:
        variance, rho, centre = check_variance(q), check_correlation(c), np.asarray(m, dtype=np.float64)
        if slope:
            variance = np.maximum(variance, _TINY * (1 + centre * centre))
        if self.closed is not None and self._holds(centre, variance):
            form = self.closed.slope_pair if slope else self.closed.pair
            return np.asarray(form(variance, rho, centre))
        shape = np.broadcast_shapes(variance.shape, rho.shape, centre.shape)
        if variance.size == 1 and centre.size == 1:
            return self._pair_at(slope, float(variance.flat[0]), rho.ravel(), float(centre.flat[0])).reshape(shape)
        flat = [np.broadcast_to(a, shape).ravel() for a in (variance, rho, centre)]
        laws, inverse = np.unique(np.stack([flat[0], flat[2]], axis=1), axis=0, return_inverse=True)
        out = np.empty(flat[0].shape)
        for k, (one_q, one_m) in enumerate(laws):
            rows = inverse.ravel() == k
            out[rows] = self._pair_at(slope, float(one_q), flat[1][rows], float(one_m))
        return out.reshape(shape)

    def _pair_at(self, slope: bool, q: float, c: Array, m: float) -> Array:
        """Pair averages at one law N(m, q) for many c (B,)."""
        if (wide := ramp_far_out(self.f, q, m)) is not None:
            form = wide.slope_pair if slope else wide.pair
            return np.asarray(form(np.asarray(q), c, np.asarray(m)))
        squares, rest = self._squares(slope, q, m)
        total = float(squares.sum()) + rest
        bound = rest * np.abs(c) ** _ORDER
        powers = c[:, None] ** np.arange(len(squares))
        out = powers @ squares + np.where(c > 0, bound, 0.0)
        hard = (bound > 4 * EPS * total) & (c < 1)
        if hard.any():
            f = self.derivative if slope else self.f
            n = int(hard.sum())
            with np.errstate(all="ignore"):
                out[hard] = pair_mean(lambda u1, u2: f(u1) * f(u2), np.full(n, q), c[hard], np.full(n, m), self.mesh)
        return np.asarray(out)

    def _squares(self, slope: bool, q: float, m: float) -> tuple[Array, float]:
        """Squares of the Hermite coefficients (N,), and what is missing from E φ² (or E φ'²); cached."""
        key = (q, m, slope)
        if key in self._series:
            self._series.move_to_end(key)
            return self._series[key]
        squares = self._hermite(self.derivative if slope else self.f, q, m) ** 2
        total = float(self._single(2 if slope else 1, q, m))
        rest = total - float(squares.sum())
        last = np.flatnonzero(squares > 1e-18 * total)  # what comes after is rounding
        entry = (squares[: last[-1] + 1] if len(last) else squares[:1], rest if rest > 8 * EPS * total else 0.0)
        self._series[key] = entry
        if len(self._series) > _CACHE:
            self._series.popitem(last=False)
        return entry

    def hermite(self, q: Any, order: int = _ORDER, m: Any = 0.0) -> Array:
        """Coefficients a_0 … a_{order−1} of φ(m + √q z) in the orthonormal Hermite polynomials: (order,).

        E[φ(u1) φ(u2)] = Σ a_n² cⁿ. q and m are single numbers.
        """
        return self._hermite(self.f, float(check_variance(q)), float(m), order)

    def _hermite(self, f: Elementwise, q: float, m: float, order: int = _ORDER) -> Array:
        with np.errstate(all="ignore"):
            if order <= _ORDER and self.resolved(q, m):
                z, matrix = fixed_hermite()
                return np.asarray(matrix[:order] @ f(m + np.sqrt(q) * z))
            cuts = self.mesh.cuts(abs(m) + 9.6 * np.sqrt(q))
            nodes = cloud(np.array([q]), np.array([m]), cuts, halved=True)
            values = f(nodes.x.ravel()) * nodes.w.ravel()
            return np.asarray(hermite_functions(nodes.z.ravel(), order) @ values)

    def resolved(self, q: float, m: float = 0.0) -> bool:
        """Whether φ(m + √q z) is smooth on the fixed nodes of ``fixed_hermite``: no kinks, no finer panels."""
        s = float(np.sqrt(q))
        cuts = self.mesh.cuts(abs(m) + 9.6 * s)
        near = cuts[(cuts > m - 9.6 * s) & (cuts < m + 9.6 * s)]
        finest = float(np.diff(near).min()) if len(near) > 1 else np.inf
        return finest >= 0.34 * s and not any(abs(b.x - m) < 9.6 * s for b in self.mesh.breaks(abs(m) + 9.6 * s))

    def secant(self, q: Any, c: Any) -> Array:
        """S = E[(φ(u1) − φ(u2))²] / (2 q (1 − c)) for u ~ N(0, q); q (B,) > 0 and c (B,) < 1.

        The correlation map is 1 − c' = sw2 S (1 − c): S is chi1/sw2 for a whole step instead of an infinitesimal one,
        tends to E[φ'²] as c → 1 (to infinity where φ jumps), and is computed without cancellation.
        """
        q, c = np.broadcast_arrays(check_variance(q), check_correlation(c))
        flat_q, flat_c = q.ravel(), c.ravel()

        def squared(u1: Array, u2: Array) -> Array:
            return np.asarray((self.f(u1) - self.f(u2)) ** 2)

        with np.errstate(all="ignore"):
            total = pair_mean(squared, flat_q, flat_c, np.zeros_like(flat_q), self.mesh)
            return np.asarray((total / (2 * flat_q * (1 - flat_c))).reshape(q.shape))

    # --- with error bounds ----------------------------------------------------------------------------------------

    def estimate(self, quantity: str, q: Any, m: Any = 0.0, c: Any = None) -> Estimate:
        """One of the averages, by its method's name, with an error bound.

        Pairs need c. The bound of a closed form is rounding; that of panels, the change on halving them.
        """
        singles = ("mean", "second_moment", "derivative_second_moment", "second_moment_slope")
        pairs = ("correlation", "derivative_correlation")
        if quantity in singles and c is None:
            return self._estimate_single(singles.index(quantity), q, m)
        if quantity in pairs and c is not None:
            return self._estimate_pair(quantity == "derivative_correlation", q, c, m)
        raise TheoryError(
            f"Expected one of {', '.join(singles)} without c, or {', '.join(pairs)} with c, but got {quantity!r}"
            f" {'without' if c is None else 'with'} c."
        )

    def _estimate_single(self, which: int, q: Any, m: Any) -> Estimate:
        variance, centre = np.broadcast_arrays(check_variance(q), np.asarray(m, dtype=np.float64))
        if self.closed is not None and self._holds(centre):
            value = self._single(which, variance, centre)
            size = np.abs(value) + EPS * np.sqrt(self._single(1, variance, centre))
            tail = 1 + np.minimum(centre**2 / np.maximum(variance, _TINY), 1e4) ** 2 * (centre < 0)
            return estimate(value, np.where(np.isfinite(value), 16 * EPS * size * tail, np.inf), "closed form")
        slack = 0.0 if self.df is not None else 1e-11
        s = np.maximum(np.sqrt(variance), np.sqrt(_TINY))
        if which == 0:
            return gaussian_mean(self.f, variance, centre, mesh=self.mesh)
        if which == 1:
            return gaussian_mean(lambda x: self.f(x) ** 2, variance, centre, mesh=self.mesh)
        floor = np.maximum(variance, _TINY)
        if which == 2 and self.steep:
            infinite = self._direct(np.ravel(floor), np.ravel(centre))[:, 2].reshape(variance.shape)
            if np.isinf(infinite).any():
                return estimate(infinite, np.where(np.isinf(infinite), np.inf, 1e-2 * infinite), "infinite at a cusp")
        d2 = gaussian_mean(lambda x: self.derivative(x) ** 2, floor, centre, mesh=self.mesh)
        size = np.sqrt(np.asarray(gaussian_mean(lambda x: self.f(x) ** 2, variance, centre, mesh=self.mesh).value))
        if which == 2:
            extra = slack * np.sqrt(np.abs(d2.value)) * (1 + size)
            for b in self.mesh.breaks(100.0):  # a mild cusp: what is left out within the last bits of its place
                extra = extra + (4 * 1e-16 ** (2 * b.power - 1) * np.abs(d2.value) if _STEEP < b.power < 1 else 0.0)
            return estimate(d2.value, d2.error + extra, d2.how)
        value = self._direct(np.ravel(floor), np.ravel(centre))[:, 3].reshape(variance.shape)
        error = 64 * EPS * (np.abs(value) + size * np.sqrt(np.abs(d2.value)) / s) + slack * size / s
        return estimate(value, error, "Gauss panels")

    def _estimate_pair(self, slope: bool, q: Any, c: Any, m: Any) -> Estimate:
        if self.closed is not None and self._holds(np.asarray(m), np.asarray(q)):
            value = self._pair(slope, q, c, m)
            size = self._single(2 if slope else 1, q, m)
            return estimate(value, 64 * EPS * np.abs(size), "closed form")
        f = self.derivative if slope else self.f
        result = gaussian_pair(f, None, q, c, m, mesh=self.mesh)
        slack = 1e-11 if slope and self.df is None else 0.0
        return estimate(result.value, result.error + slack * np.abs(self._single(2, q, m)), result.how)


@lru_cache(maxsize=256)
def _series_derivative(mesh: Mesh, octave: int) -> Elementwise:
    return series_derivative(mesh.f, mesh.cuts(8.0 * 4.0**octave))


def hermite_functions(z: Array, order: int) -> Array:
    """Orthonormal Hermite polynomials (of the standard Gaussian) at z (B,): (order, B)."""
    out = np.empty((order, len(z)))
    out[0] = 1.0
    if order > 1:
        out[1] = z
    for n in range(1, order - 1):
        out[n + 1] = (z * out[n] - np.sqrt(n) * out[n - 1]) / np.sqrt(n + 1)
    return out


@lru_cache(maxsize=1)
def fixed_hermite() -> tuple[Array, Array]:
    """Nodes z (P,) and the matrix (N, P) from values there to Hermite coefficients, for functions without kinks."""
    cuts = gaussian_cuts()
    panels = lay(np.linspace(cuts[0], cuts[-1], 57)[None, :], float(cuts[0]), float(cuts[-1]))
    z, w = (a.ravel() for a in panels.nodes(10))
    return z, hermite_functions(z, _ORDER) * (w * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))
