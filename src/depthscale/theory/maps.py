"""One random layer as a map of moments, and what repeating it does.

Pre-activations h of variance q, two inputs with correlation c; Var W = sw2/fan_in, Var b = sb2. One layer (Poole et al.
2016), with dropout p after φ (Schoenholz et al. 2017, section 5) and, for a residual chain h' = skip h + branch
(W φ(h) + b),

    q' = κ q + α E[φ²]/(1 − p) + β                          κ = skip², α = branch² sw2, β = branch² sb2
    c' = (κ q c + α E[φ(u1) φ(u2)] + β)/q'
    chi1 = κ + α E[φ'²]        chi_q = κ + α/(1 − p) d E[φ²]/dq

chi1 is the slope of the correlation map at c = 1 and the growth of a squared gradient per layer (times 1/(1 − p) on the
α term under dropout). A plain layer is κ = 0, branch = 1.

On [0, 1] the correlation map is a power series with nonnegative coefficients, hence convex: besides c = 1 it has at
most one fixed point there unless it is linear; on [−1, 0) it has one only for odd φ with β = 0, at c = −1, unstable.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from depthscale.errors import TheoryError
from depthscale.numerics.estimate import EPS, Array, Estimate, estimate
from depthscale.numerics.gaussian import check_correlation, check_variance, number
from depthscale.numerics.roots import all_roots
from depthscale.theory.activations import LOG_Q_MAX, LOG_Q_MIN, Activation
from depthscale.theory.resolve import activation as resolve

Q_GRID = np.exp(np.linspace(LOG_Q_MIN + 1e-9, LOG_Q_MAX - 1e-9, 841))
Q_GRID.flags.writeable = False


@dataclass(frozen=True)
class FixedPoint:
    """A fixed point of the length map: where (an Estimate), its slope there, and whether small departures die out.

    ``through``: how it was found ("root", "q = 0", "every q").
    """

    q: Estimate
    chi_q: float
    stable: bool
    through: str


@dataclass(frozen=True)
class Trajectory:
    """Moments layer by layer, from the input to ``depth``: q, c, chi1 (depth + 1,), for two inputs of equal length.

    ``gradient`` is the squared gradient at each layer, with 1 at the last; ``gradient_c`` the correlation of the two
    inputs' gradients there, if the last layer's are one (shattered gradients: Balduzzi et al. 2017; plain ReLU
    networks have the product of the κ0 of Cho & Saul 2009).
    """

    q: Array
    c: Array
    chi1: Array
    gradient: Array
    gradient_c: Array


@dataclass(frozen=True, eq=False)
class LayerMap:
    """The moment maps of one layer; made by ``layer_map``, which checks the numbers."""

    activation: Activation
    sw2: float
    sb2: float
    dropout: float = 0.0
    skip: float = 0.0
    branch: float = 1.0

    @cached_property
    def kappa(self) -> float:
        """What the skip connection carries over: skip²."""
        return self.skip**2

    @cached_property
    def alpha(self) -> float:
        """What multiplies averages over two masks: branch² sw2."""
        return self.branch**2 * self.sw2

    @cached_property
    def alpha_q(self) -> float:
        """What multiplies E[φ²]: the same over 1 − dropout."""
        return self.alpha / (1 - self.dropout)

    @cached_property
    def beta(self) -> float:
        """What is added: branch² sb2."""
        return self.branch**2 * self.sb2

    def length(self, q: Any) -> Array:
        """q' for q ≥ 0, any shape; inf where it overflows."""
        q = check_variance(q)
        if self.alpha == 0:
            return np.asarray(self.kappa * q + self.beta)
        return np.asarray(self.kappa * q + self.alpha_q * self.activation.second_moment(q) + self.beta)

    def correlation(self, c: Any, q: Any) -> Array:
        """c' for two inputs of variance q > 0 and correlation c; they broadcast."""
        q, c = check_variance(q), check_correlation(c)
        top = self.kappa * q * c + self.beta
        if self.alpha:
            top = top + self.alpha * self.activation.correlation(q, c)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.clip(top / self.length(q), -1.0, 1.0))

    def chi1(self, q: Any) -> Array:
        """κ + α E[φ'²]: infinite where φ jumps or rises like √x (two nearby inputs are torn apart)."""
        if self.activation.tears and self.alpha:
            return np.full(np.shape(q), np.inf)
        return np.asarray(self.kappa + self.alpha * self.activation.derivative_second_moment(q))

    def chi_gradient(self, q: Any) -> Array:
        """κ + α E[φ'²]/(1 − p): the growth of a squared back-propagated gradient per layer."""
        return np.asarray(self.kappa + self.alpha_q * self.activation.derivative_second_moment(q))

    def gradient_correlation(self, c: Any, q: Any) -> Array:
        """What one layer leaves of the correlation of two inputs' gradients: (κ + α E[φ'φ'])/(κ + α E[φ'²]/(1 − p)).

        c, q: correlation and length of the two inputs' pre-activations; they broadcast.
        """
        both = self.kappa + self.alpha * self.activation.derivative_correlation(q, c)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(both / self.chi_gradient(q))

    def chi_q(self, q: Any) -> Array:
        """The slope of the length map."""
        return np.asarray(self.kappa + self.alpha_q * self.activation.second_moment_slope(q))

    def fixed_points(self) -> tuple[FixedPoint, ...]:
        """Every fixed point of the length map from q = 0 to 1e6, ascending, each with its stability.

        Two that lie closer together than 1e-9 relative, or in pairs inside 5 % of q, may be missed. A scale-invariant
        map for which every q is fixed answers with q = 1 alone, through "every q".
        """
        act = self.activation
        if act.homogeneous:
            return self._homogeneous()
        found: list[FixedPoint] = []
        if self.beta == 0 and abs(float(act(0.0))) == 0.0:
            found.append(self._origin())
        grid = Q_GRID if not found else Q_GRID[Q_GRID > 1e-11]

        def gap(q: Array) -> Array:
            with np.errstate(over="ignore", invalid="ignore"):
                return np.asarray((self.kappa + (self.alpha_q * act.averages(q)[:, 1] + self.beta) / q) - 1)

        roots = all_roots(gap, grid)
        if len(roots):
            found.extend(self._root(float(q)) for q in roots[np.abs(gap(roots)) < 1e-9])
        return tuple(p for k, p in enumerate(found) if k == 0 or float(p.q) - float(found[k - 1].q) > 1e-9 * float(p.q))

    def _root(self, q: float) -> FixedPoint:
        values, wrong = self.activation.averages_with_error(np.array([q]))
        chi_q = self.kappa + self.alpha_q * float(values[0, 3])
        residual = self.kappa * q + self.alpha_q * float(values[0, 1]) + self.beta - q
        unsure = abs(residual) + self.alpha_q * float(wrong[0, 1]) + 4 * EPS * q
        # at a touching root the error goes with the square root of the residual; 1 − chi_q is then tiny, too
        error = unsure / max(abs(1 - chi_q), np.sqrt(unsure / q), 1e-15)
        return FixedPoint(estimate(q, error, "root of the length map"), chi_q, abs(chi_q) < 1 - 1e-9, "root")

    def _origin(self) -> FixedPoint:
        chi_q = float(self.chi_q(0.0))
        q = np.array([1e-5, 1e-4])
        shrinks = bool(np.all(self.length(q) < q))
        stable = chi_q < 1 - 1e-9 or (chi_q < 1 + 1e-9 and shrinks)
        return FixedPoint(estimate(0.0, 0.0, "φ(0) = 0 and no bias"), chi_q, stable, "q = 0")

    def _homogeneous(self) -> tuple[FixedPoint, ...]:
        """q' = (κ + α E[φ²]/q) q + β is linear in q."""
        ratio = self.kappa + self.alpha_q * float(self.activation.second_moment(1.0))
        exact = "linear length map"
        if self.beta == 0:
            if abs(ratio - 1) <= 8 * EPS:
                return (FixedPoint(estimate(1.0, 0.0, exact), 1.0, False, "every q"),)
            return (FixedPoint(estimate(0.0, 0.0, exact), ratio, ratio < 1, "q = 0"),)
        if ratio >= 1 - 4 * EPS:
            return ()
        q = self.beta / (1 - ratio)
        return (FixedPoint(estimate(q, 8 * EPS * q / (1 - ratio), exact), ratio, True, "root"),)

    def trajectory(self, depth: int, q0: float = 1.0, c0: float = 0.5) -> Trajectory:
        """Moments of two inputs of variance q0 and correlation c0 through ``depth`` layers.

        q0 is the variance of the first pre-activations. inf from where the length overflows.
        """
        if depth < 0:
            raise TheoryError(f"depth must be at least 0, but got {depth}.")
        q, c, chi = (np.empty(depth + 1) for _ in range(3))
        q[0], c[0] = float(check_variance(q0)), float(check_correlation(c0))
        growth, shared = np.ones(depth + 1), np.ones(depth + 1)
        for k in range(depth + 1):
            alive = np.isfinite(q[k]) and q[k] < 1e300
            chi[k] = self.chi1(q[k]) if alive else np.nan
            if k < depth:
                growth[k] = self.chi_gradient(q[k]) if alive else np.nan
                shared[k] = self.gradient_correlation(c[k], q[k]) if alive else np.nan
                q[k + 1] = self.length(q[k]) if alive else np.inf
                c[k + 1] = self.correlation(c[k], q[k]) if alive and q[k] > 0 else (c[k] if alive else np.nan)
        gradient, gradient_c = (np.append(np.cumprod(a[:-1][::-1])[::-1], 1.0) for a in (growth, shared))
        return Trajectory(q, c, chi, gradient, gradient_c)


def layer_map(
    activation: Any, sw2: float, sb2: float = 0.0, *, dropout: float = 0.0, skip: float = 0.0, branch: float = 1.0
) -> LayerMap:
    """The moment maps of a random layer (see the head of this file).

    activation: name or callable. sw2, sb2 ≥ 0: Var W · fan_in and Var b. dropout in [0, 1). skip, branch: the scales of
    the two arms of a residual chain h' = skip h + branch (W φ(h) + b); plain layers have skip = 0, branch = 1.
    """
    sw2, sb2, dropout = number("sw2", sw2), number("sb2", sb2), number("dropout", dropout)
    skip, branch = number("skip", skip), number("branch", branch)
    for name, value in (("sw2", sw2), ("sb2", sb2)):
        if not (np.isfinite(value) and value >= 0):
            raise TheoryError(f"{name} must be a finite variance of at least 0, but got {value}.")
    if not 0 <= dropout < 1:
        raise TheoryError(f"dropout is a probability in [0, 1), but got {dropout}.")
    if not (np.isfinite(skip) and np.isfinite(branch)):
        raise TheoryError(f"skip and branch must be finite numbers, but got {skip} and {branch}.")
    return LayerMap(resolve(activation), sw2, sb2, dropout, skip, branch)
