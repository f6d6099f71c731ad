"""What mean-field theory leaves out: networks of finite width fluctuate.

Of a vector v carried through one layer, ‖D W v‖² is a mean over n units; with Gaussian weights its relative variance is

    forward, ‖φ(W h)‖²:   (E[φ⁴]/E[φ²]² − 1)/n        back, ‖D W v‖²:   (3 E[φ'⁴]/E[φ'²]² − 1)/n,

5/n for ReLU and 2/n for a linear layer, either way. Layers multiply, so ln ‖J v‖² has variance L·5/n and, because the
mean of ‖J v‖² is 1, mean −L·5/(2n): deep and narrow networks are far from their average (Hanin & Nica 2020). Haar
orthogonal weights keep ‖W v‖ as it is, which takes the weights' own 2/n away.

The spectrum of the Jacobian J = ∏ D W of a critical network (χ = 1; Pennington, Schoenholz & Ganguli 2017, 2018): JJᵀ
has mean eigenvalue 1 and variance L (μ2/μ1² − 1 − s1), μ_k = E[φ'^2k], s1 = −1 for Gaussian and 0 for orthogonal
weights.
"""

import math
from typing import Any, NamedTuple

from depthscale.errors import TheoryError
from depthscale.numerics.gaussian import gaussian_mean, number
from depthscale.theory.resolve import activation as resolve


class LogNorm(NamedTuple):
    """Mean and variance of ln ‖J v‖² over networks, for a critical network."""

    mean: float
    variance: float


def _need(depth: float, width: float) -> None:
    depth, width = number("depth", depth), number("width", width)
    if not (depth >= 0 and width >= 1):
        raise TheoryError(f"expected a depth of at least 0 and a width of at least 1, got {depth} and {width}")


def _moments(activation: Any, q: float, derivative: bool) -> tuple[float, float]:
    """E[f²] and E[f⁴] of φ or φ' at length q."""
    act = resolve(activation)
    q = number("q", q)
    if not (q >= 0 and math.isfinite(q)):
        raise TheoryError(f"expected a length q that is finite and not negative, got {q}")
    f = act.derivative if derivative else act.f
    second = gaussian_mean(lambda x: f(x) ** 2, q, mesh=act.mesh)
    fourth = gaussian_mean(lambda x: f(x) ** 4, q, mesh=act.mesh)
    return float(second), float(fourth)


def layer_fluctuation(
    activation: Any, width: float, *, q: float = 1.0, backward: bool = False, orthogonal: bool = False
) -> float:
    """The relative variance that one layer adds to a squared norm.

    activation: name or callable; q: length of the pre-activations. Raises TheoryError for an impossible width or q.
    """
    _need(0, width)
    second, fourth = _moments(activation, q, backward)
    if second == 0:
        return math.inf
    kurtosis = (3.0 if backward else 1.0) * fourth / second**2
    own = 2.0 if orthogonal and backward else 0.0
    return max(kurtosis - 1.0 - own, 0.0) / width


def log_norm(
    depth: int, width: float, activation: Any = "relu", *, q: float = 1.0, orthogonal: bool = False
) -> LogNorm:
    """Mean and variance of ln ‖J v‖² of a critical network: −5L/(2n) and 5L/n for ReLU (Hanin & Nica 2020)."""
    _need(depth, width)
    variance = depth * layer_fluctuation(activation, width, q=q, backward=True, orthogonal=orthogonal)
    return LogNorm(-variance / 2, variance)


def born_dead(depth: int, width: int, inactive: float = 0.5) -> float:
    """Probability that some layer has no active unit at all, for one input: 1 − (1 − pⁿ)^L (Lu et al. 2020).

    inactive: p, the probability that one unit is inactive. Raises TheoryError outside [0, 1].
    """
    _need(depth, width)
    if not 0 <= inactive <= 1:
        raise TheoryError(f"expected a probability between 0 and 1 that a unit is inactive, got {inactive}")
    layer = inactive**width
    return 1.0 if layer >= 1 and depth > 0 else -math.expm1(depth * math.log1p(-layer)) if layer < 1 else 0.0


class Spectrum(NamedTuple):
    """First moments of the eigenvalues of JJᵀ: mean, mean square, variance relative to the mean squared."""

    mean: float
    second: float
    variance: float


def jacobian_spectrum(
    depth: int, activation: Any = "linear", *, q: float = 1.0, sw2: float | None = None, orthogonal: bool = False
) -> Spectrum:
    """Moments of the squared singular values of the input–output Jacobian of a wide square network.

    sw2: weight variance (default: critical, 1/E[φ'²]). For a linear Gaussian network E tr((JJᵀ)²)/N = L + 1.
    Pennington, Schoenholz & Ganguli 2018, eq. 18.
    """
    _need(depth, 1)
    first, second = _moments(activation, q, True)
    if first == 0:
        raise TheoryError(f"{resolve(activation)} has slope 0 almost everywhere: its Jacobian is zero")
    chi = 1.0 if sw2 is None else sw2 * first
    variance = depth * (second / first**2 - (1.0 if orthogonal else 0.0))
    mean = chi**depth
    return Spectrum(mean, mean * mean * (1 + variance), variance)


def largest_singular_value_squared(depth: int) -> float:
    """The edge of the spectrum of a product of L square Gaussian matrices of unit gain: (L + 1)^(L + 1)/L^L."""
    _need(depth, 1)
    return (depth + 1.0) ** (depth + 1) / depth**depth if depth else 1.0
