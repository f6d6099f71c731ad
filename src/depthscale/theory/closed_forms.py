"""Gaussian averages of activations that have closed forms.

For u, u1, u2 ~ N(m, q) with correlation c, and φ' the derivative almost everywhere (what back-propagation computes):

    mean          E[φ(u)]                second         E[φ(u)²]              slope_second   E[φ'(u)²]
    pair          E[φ(u1) φ(u2)]         slope_pair     E[φ'(u1) φ'(u2)]       growth         d E[φ(u)²]/dq

Sources: arc-cosine kernels, Cho & Saul 2009; erf, Williams 1997; GELU, Tsuchida et al. 2021 (here by Stein's lemma);
orthants with a mean by Owen's T function, Owen 1956. ``with_mean`` says whether the forms hold for m ≠ 0.
Everything is vectorised: q, c and m broadcast.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from depthscale.numerics.estimate import Array
from depthscale.numerics.safe import arccos

OneForm = Callable[[Array, Array], Array]
TwoForm = Callable[[Array, Array, Array], Array]
_ROOT_2PI = float(np.sqrt(2 * np.pi))


@dataclass(frozen=True)
class ClosedForms:
    """The six averages as functions of (q, m) or (q, c, m), whether they hold away from m = 0, and up to which q the
    pair forms keep their digits.
    """

    mean: OneForm
    second: OneForm
    slope_second: OneForm
    growth: OneForm
    pair: TwoForm
    slope_pair: TwoForm
    with_mean: bool = True
    pairs_up_to: float = np.inf
    costly: bool = False  # many at once are better read from a table


def _over(m: Array, value: Array) -> Array:
    """A value that does not depend on m, in the shape that it has with m."""
    return np.asarray(value + 0 * m if m.ndim else value)


def _density(z: Array) -> Array:
    return np.asarray(np.exp(-0.5 * z * z) / _ROOT_2PI)


def _standardised(q: Array, m: Array) -> Array:
    """m/√q, with the limit ±inf at q = 0 (and 0 for 0/0)."""
    if not m.any():
        return np.asarray(0 * q + m)
    with np.errstate(divide="ignore", invalid="ignore"):
        h = m / np.sqrt(q)
    return np.asarray(np.where((m == 0) | np.isnan(h), 0.0, np.clip(h, -1e150, 1e150)))


def linear(gain: float = 1.0) -> ClosedForms:
    """φ(x) = gain · x."""
    g2 = gain * gain
    return ClosedForms(
        mean=lambda q, m: gain * m + 0 * q,
        second=lambda q, m: g2 * (q + m * m),
        slope_second=lambda q, m: g2 + 0 * (q + m),
        growth=lambda q, m: g2 + 0 * (q + m),
        pair=lambda q, c, m: g2 * (q * c + m * m),
        slope_pair=lambda q, c, m: g2 + 0 * (q + c + m),
    )


def orthant(h: Array, c: Array) -> Array:
    """P(z1 > −h, z2 > −h) for standard Gaussians with correlation c, by Owen's T; 1/2 − arccos(c)/2π at h = 0."""
    if not h.any():
        with np.errstate(divide="ignore"):
            return _over(h, 0.5 - np.arctan(np.sqrt((1 - c) / (1 + c))) / np.pi)
    with np.errstate(divide="ignore"):
        ratio = np.sqrt((1 - c) / (1 + c))
    tail = np.where(h == 0, np.arctan(ratio) / (2 * np.pi), special.owens_t(h, ratio))
    return np.asarray(np.clip(special.ndtr(h) - 2 * tail, 0.0, 1.0))


def _ramp_pair(q: Array, c: Array, m: Array) -> Array:
    """E[relu(u1) relu(u2)]."""
    theta = arccos(c)
    sine = np.sqrt((1 - c) * (1 + c))
    centred = (sine + (np.pi - theta) * c) / (2 * np.pi)
    if not m.any():
        return _over(m, q * centred)
    h = _standardised(q, m)
    # E (z1+h)₊(z2+h)₊ = (h² + c) P + 2 h φ(h) Φ(h √((1−c)/(1+c))) + √(1−c²)/2π · exp(−h²/(1+c))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.sqrt((1 - c) / (1 + c))
        shifted = h * ratio
        shifted = np.where(np.isnan(shifted), 0.0, shifted)
        corner = np.where(c > -1, np.exp(-h * h / np.maximum(1 + c, 1e-300)), 0.0)
        general = (
            (h * h + c) * orthant(h, c) + 2 * h * _density(h) * special.ndtr(shifted) + sine / (2 * np.pi) * corner
        )
    return np.asarray(q * np.where(h == 0, centred, np.maximum(general, 0.0)))


def _ramp_second(q: Array, m: Array) -> Array:
    """E[relu(u)²]."""
    s, h = np.sqrt(q), _standardised(q, m)
    return np.asarray(np.maximum((m * m + q) * special.ndtr(h) + m * s * _density(h), 0.0))


def _ramp_mean(q: Array, m: Array) -> Array:
    """E[relu(u)]."""
    s, h = np.sqrt(q), _standardised(q, m)
    return np.asarray(np.maximum(m * special.ndtr(h) + s * _density(h), 0.0))


def ramp(negative: float, positive: float = 1.0) -> ClosedForms:
    """φ(x) = positive · x for x > 0 and negative · x below: ReLU, leaky ReLU, PReLU and the absolute value.

    By mirror symmetry and relu(x) relu(−x) = 0: φ = a relu(x) − b relu(−x); the cross terms of a pair follow from
    relu(u1) relu(−u2) = relu(u1) (relu(u2) − u2).
    """
    a, b = positive, negative

    def pair(q: Array, c: Array, m: Array) -> Array:
        if b == 0:
            return np.asarray(a * a * _ramp_pair(q, c, m))
        same = a * a * _ramp_pair(q, c, m) + b * b * _ramp_pair(q, c, -m)
        if a == 0:
            return np.asarray(same)
        # at correlation −c the mirrored second input has mean −m
        return np.asarray(same - 2 * a * b * _mixed(q, c, m))

    def slope_pair(q: Array, c: Array, m: Array) -> Array:
        h = _standardised(q, m)
        up = orthant(h, c)
        if b == 0:
            return np.asarray(a * a * up)
        down = orthant(-h, c)
        return np.asarray(a * a * up + b * b * down + a * b * np.maximum(1 - up - down, 0.0))

    def slope_second(q: Array, m: Array) -> Array:
        h = _standardised(q, m)
        return np.asarray(a * a * special.ndtr(h) + (b * b * special.ndtr(-h) if b else 0.0))

    return ClosedForms(
        mean=lambda q, m: a * _ramp_mean(q, m) - (b * _ramp_mean(q, -m) if b else 0.0),
        second=lambda q, m: a * a * _ramp_second(q, m) + (b * b * _ramp_second(q, -m) if b else 0.0),
        slope_second=slope_second,
        growth=slope_second,  # φ φ'' = 0
        pair=pair,
        slope_pair=slope_pair,
    )


def _mixed(q: Array, c: Array, m: Array) -> Array:
    """E[relu(u1) relu(−u2)] ≥ 0."""
    h = _standardised(q, m)
    theta, sine = arccos(-c), np.sqrt((1 - c) * (1 + c))
    centred = q * (sine + (np.pi - theta) * -c) / (2 * np.pi)
    if not h.any():
        return np.asarray(centred)
    # u1 relu(u1)-moments minus the same-sign part: E[relu(u1) u2] = m E relu(u1) + q c Φ(h)
    general = _ramp_pair(q, c, m) - (m * _ramp_mean(q, m) + q * c * special.ndtr(h))
    return np.asarray(np.where(h == 0, centred, np.maximum(general, 0.0)))


def step(low: float, high: float) -> ClosedForms:
    """φ(x) = high for x > 0, low for x < 0: step and sign. The derivative is 0 almost everywhere."""

    def pair(q: Array, c: Array, m: Array) -> Array:
        h = _standardised(q, m)
        up, down = orthant(h, c), orthant(-h, c)
        if low == -high:  # one arcsine, without the cancellation between like and unlike signs
            arcsine = np.where(h == 0, 2 / np.pi * np.arcsin(c), 2 * (up + down) - 1)
            return np.asarray(high * high * arcsine + 0 * q)
        return np.asarray(high**2 * up + low**2 * down + low * high * np.maximum(1 - up - down, 0.0) + 0 * q)

    return ClosedForms(
        mean=lambda q, m: low + (high - low) * special.ndtr(_standardised(q, m)) + 0 * q,
        second=lambda q, m: high**2 * special.ndtr(_standardised(q, m)) + low**2 * special.ndtr(-_standardised(q, m)),
        slope_second=lambda q, m: 0 * (q + m),
        growth=lambda q, m: -(high**2 - low**2) * _standardised(q, m) * _density(_standardised(q, m)) / (2 * q),
        pair=pair,
        slope_pair=lambda q, c, m: 0 * (q + c + m),
    )


def erf() -> ClosedForms:
    """φ = erf (Williams 1997); m = 0."""

    def pair(q: Array, c: Array, m: Array) -> Array:
        # arcsin(x/d) as arctan2(x, √((d−x)(d+x))): the difference d − x is exact, arcsin near 1 is not
        x, d = 2 * q * c, 1 + 2 * q
        rest = (1 + 2 * q * (1 - c)) * (1 + 2 * q * (1 + c))
        return np.asarray(2 / np.pi * np.arctan2(x, np.sqrt(rest)) + 0 * (d + m))

    return ClosedForms(
        mean=lambda q, m: special.erf(m / np.sqrt(1 + 2 * q)),
        second=lambda q, m: pair(q, np.ones_like(q), m),
        slope_second=lambda q, m: 4 / np.pi / np.sqrt(1 + 4 * q) + 0 * m,
        growth=lambda q, m: 4 / np.pi / ((1 + 2 * q) * np.sqrt(1 + 4 * q)) + 0 * m,
        pair=pair,
        slope_pair=lambda q, c, m: 4 / np.pi / np.sqrt((1 + 2 * q * (1 - c)) * (1 + 2 * q * (1 + c))) + 0 * m,
        with_mean=False,
    )


def gelu() -> ClosedForms:
    """φ(x) = x Φ(x); m = 0.

    With k = q c, D = (1+q)² − k², A = E[Φ1 Φ2] = 1/4 + arctan2(k, √D)/2π and G = E[φ1 φ2] = 1/(2π √D) (φ the density),
    Stein's lemma gives E[u1 u2 Φ1 Φ2] = k A + G (q² + (k² − q k²)/(1+q)); the slopes follow from Φ + x φ alike.
    """

    def parts(q: Array, c: Array) -> tuple[Array, Array, Array]:
        k = q * c
        det = (1 + q * (1 - c)) * (1 + q * (1 + c))
        return k, det, 0.25 + np.arctan2(k, np.sqrt(det)) / (2 * np.pi)

    def pair(q: Array, c: Array, m: Array) -> Array:
        k, det, a = parts(q, c)
        root = np.sqrt(det)
        # q²(1+q) − q k² without the cancellation at c = ±1
        extra = (q * q * (1 + q * (1 - c) * (1 + c)) + k * k) / ((1 + q) * root)
        return np.asarray(k * a + extra / (2 * np.pi) + 0 * m)

    def slope_pair(q: Array, c: Array, m: Array) -> Array:
        k, det, a = parts(q, c)
        root = np.sqrt(det)
        cross = 2 * k / ((1 + q) * root)
        both = k / (det * root)
        return np.asarray(a + (cross + both) / (2 * np.pi) + 0 * m)

    def mean(q: Array, m: Array) -> Array:
        scale = np.sqrt(1 + q)
        return np.asarray(m * special.ndtr(m / scale) + q / scale * _density(m / scale))

    def growth(q: Array, m: Array) -> Array:
        root = (1 + q) * np.sqrt(1 + 2 * q)
        rational = q * (2 - q / (1 + q) - q / (1 + 2 * q)) / root  # of q²/root
        return np.asarray(parts(q, np.ones_like(q))[2] + q / (2 * np.pi * root) + rational / np.pi + 0 * m)

    one = np.ones_like
    return ClosedForms(
        mean=mean,
        second=lambda q, m: pair(q, one(q), m),
        slope_second=lambda q, m: slope_pair(q, one(q), m),
        growth=growth,
        pair=pair,
        slope_pair=slope_pair,
        with_mean=False,
    )


def sine(phase: float = 0.0) -> ClosedForms:
    """φ(x) = sin(x + phase); the cosine is phase π/2."""

    def pair(shift: float) -> TwoForm:
        """E[sin sin] = (near − far)/2 + far sin²(m + shift), whose first part by expm1 keeps small q c exact."""

        def form(q: Array, c: Array, m: Array) -> Array:
            gap = -np.sign(c) * np.exp(-q * (1 - np.abs(c))) * np.expm1(-2 * q * np.abs(c)) / 2
            return np.asarray(gap + np.exp(-q * (1 + c)) * np.sin(m + shift) ** 2)

        return form

    def second(shift: float) -> OneForm:
        return lambda q, m: -np.expm1(-2 * q) / 2 + np.exp(-2 * q) * np.sin(m + shift) ** 2

    slope = phase + np.pi / 2
    return ClosedForms(
        mean=lambda q, m: np.exp(-q / 2) * np.sin(m + phase),
        second=second(phase),
        slope_second=second(slope),
        growth=lambda q, m: np.exp(-2 * q) * np.cos(2 * (m + phase)),
        pair=pair(phase),
        slope_pair=pair(slope),
    )


def exponential() -> ClosedForms:
    """φ = exp; inf where it overflows."""

    def second(q: Array, m: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(2 * m + 2 * q))

    def pair(q: Array, c: Array, m: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(2 * m + q * (1 + c)))

    def mean(q: Array, m: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(m + q / 2))

    return ClosedForms(mean, second, second, lambda q, m: 2 * second(q, m), pair, pair)


def square() -> ClosedForms:
    """φ(x) = x²."""
    return ClosedForms(
        mean=lambda q, m: q + m * m,
        second=lambda q, m: 3 * q * q + 6 * m * m * q + m**4,
        slope_second=lambda q, m: 4 * (q + m * m),
        growth=lambda q, m: 6 * (q + m * m),
        pair=lambda q, c, m: (q + m * m) ** 2 + 2 * q * c * (q * c + 2 * m * m),
        slope_pair=lambda q, c, m: 4 * (q * c + m * m),
    )
