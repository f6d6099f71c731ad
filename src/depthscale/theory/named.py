"""The named activations: function, derivative, kinks and closed forms, under the names torch.nn uses, in snake case.

Each entry is a function of the activation's parameters (with torch's defaults) that returns a ``Formula``. Functions
are written to keep their relative accuracy near zero, where tiny variances look, and not to overflow far out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from depthscale.errors import TheoryError
from depthscale.numerics.estimate import Array
from depthscale.theory import closed_forms as cf
from depthscale.theory.piecewise import Line, piecewise_linear

Elementwise = Callable[[Array], Any]
_ROOT_2PI = float(np.sqrt(2 * np.pi))
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@dataclass(frozen=True)
class Formula:
    """φ, φ' almost everywhere, the places where φ is not smooth, and closed Gaussian averages where they exist."""

    f: Elementwise
    df: Elementwise
    kinks: tuple[float, ...] = ()
    closed: cf.ClosedForms | None = None


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise TheoryError(f"Parameter {name} must be positive, but got {value}.")
    return value


def identity() -> Formula:
    """φ(x) = x."""
    return Formula(lambda x: x, np.ones_like, closed=cf.linear())


def relu() -> Formula:
    """φ(x) = max(x, 0)."""
    return Formula(lambda x: np.maximum(x, 0.0), lambda x: (x > 0) * 1.0, (0.0,), cf.ramp(0.0))


def leaky_relu(negative_slope: float = 0.01) -> Formula:
    """φ(x) = x above zero, negative_slope · x below."""
    a = negative_slope
    return Formula(lambda x: np.where(x > 0, x, a * x), lambda x: np.where(x > 0, 1.0, a), (0.0,), cf.ramp(a))


def prelu(weight: float = 0.25) -> Formula:
    """The parametric ReLU at its initial weight."""
    return leaky_relu(weight)


def rrelu(lower: float = 1 / 8, upper: float = 1 / 3) -> Formula:
    """The randomised ReLU as it is in evaluation: the mean slope below zero."""
    return leaky_relu((lower + upper) / 2)


def absolute() -> Formula:
    """φ(x) = |x|."""
    return Formula(np.abs, np.sign, (0.0,), cf.ramp(-1.0))


def relu_squared() -> Formula:
    """φ(x) = max(x, 0)² (So et al. 2021, 'Primer')."""
    return Formula(lambda x: np.maximum(x, 0.0) ** 2, lambda x: 2 * np.maximum(x, 0.0), (0.0,))


def relu6() -> Formula:
    """φ(x) = min(max(x, 0), 6)."""
    return hardtanh(0.0, 6.0)


def hardtanh(min_val: float = -1.0, max_val: float = 1.0) -> Formula:
    """φ(x) = x clipped to [min_val, max_val]."""
    lo, hi = min_val, max_val
    if not lo < hi:
        raise TheoryError(f"hardtanh needs min_val < max_val, but got {lo} and {hi}.")
    closed = piecewise_linear((lo, hi), (Line(0.0, lo), Line(1.0, 0.0), Line(0.0, hi)))
    return Formula(lambda x: np.clip(x, lo, hi), lambda x: ((x > lo) & (x < hi)) * 1.0, (lo, hi), closed)


def hardsigmoid() -> Formula:
    """φ(x) = clip(x/6 + 1/2, 0, 1)."""
    closed = piecewise_linear((-3.0, 3.0), (Line(0.0, 0.0), Line(1 / 6, 0.5), Line(0.0, 1.0)))
    return Formula(lambda x: np.clip(x / 6 + 0.5, 0.0, 1.0), lambda x: (np.abs(x) < 3) / 6.0, (-3.0, 3.0), closed)


def hardswish() -> Formula:
    """φ(x) = x · clip(x/6 + 1/2, 0, 1)."""

    def df(x: Array) -> Array:
        return np.where(np.abs(x) < 3, x / 3 + 0.5, (x > 0) * 1.0)

    return Formula(lambda x: x * np.clip(x / 6 + 0.5, 0.0, 1.0), df, (-3.0, 3.0))


def hardshrink(lambd: float = 0.5) -> Formula:
    """φ(x) = x outside [−lambd, lambd], 0 inside: it jumps."""
    closed = piecewise_linear((-lambd, lambd), (Line(1.0, 0.0), Line(0.0, 0.0), Line(1.0, 0.0)))
    return Formula(
        lambda x: np.where(np.abs(x) > lambd, x, 0.0), lambda x: (np.abs(x) > lambd) * 1.0, (-lambd, lambd), closed
    )


def softshrink(lambd: float = 0.5) -> Formula:
    """φ(x) = x drawn towards zero by lambd."""
    return Formula(
        lambda x: np.sign(x) * np.maximum(np.abs(x) - lambd, 0.0),
        lambda x: (np.abs(x) > lambd) * 1.0,
        (-lambd, lambd),
    )


def threshold(threshold: float, value: float) -> Formula:
    """φ(x) = x above the threshold, the constant value elsewhere."""
    closed = piecewise_linear((threshold,), (Line(0.0, value), Line(1.0, 0.0)))
    return Formula(lambda x: np.where(x > threshold, x, value), lambda x: (x > threshold) * 1.0, (threshold,), closed)


def elu(alpha: float = 1.0) -> Formula:
    """φ(x) = x above zero, alpha (eˣ − 1) below."""
    return celu_like(alpha, 1.0, 1.0)


def celu(alpha: float = 1.0) -> Formula:
    """φ(x) = x above zero, alpha (exp(x/alpha) − 1) below."""
    return celu_like(alpha, 1.0, 1.0 / _positive("alpha", alpha))


def selu() -> Formula:
    """The self-normalising unit (Klambauer et al. 2017)."""
    return celu_like(_SELU_ALPHA, _SELU_SCALE, 1.0)


def celu_like(alpha: float, scale: float, rate: float) -> Formula:
    """φ(x) = scale · x above zero, scale · alpha (exp(rate x) − 1) below."""

    def f(x: Array) -> Array:
        return scale * np.where(x > 0, x, alpha * np.expm1(rate * np.minimum(x, 0.0)))

    def df(x: Array) -> Array:
        return scale * np.where(x > 0, 1.0, alpha * rate * np.exp(rate * np.minimum(x, 0.0)))

    return Formula(f, df, (0.0,))


def tanh() -> Formula:
    """φ = tanh."""
    return Formula(np.tanh, _sech2)


def _sech2(x: Array) -> Array:
    """1 − tanh², without cancellation."""
    decay = np.exp(-2 * np.abs(x))
    return np.asarray(4 * decay / (1 + decay) ** 2)


def tanhshrink() -> Formula:
    """φ(x) = x − tanh x."""

    def f(x: Array) -> Array:
        y = x * x
        series = x * y * (1 / 3 - y * (2 / 15 - y * (17 / 315 - y * (62 / 2835 - y * 1382 / 155925))))
        return np.where(np.abs(x) < 0.05, series, x - np.tanh(x))

    return Formula(f, lambda x: np.tanh(x) ** 2)


def erf() -> Formula:
    """φ = erf."""
    return Formula(special.erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x), closed=cf.erf())


def sigmoid() -> Formula:
    """φ(x) = 1/(1 + e⁻ˣ)."""
    return Formula(special.expit, lambda x: special.expit(x) * special.expit(-x))


def logsigmoid() -> Formula:
    """φ(x) = −ln(1 + e⁻ˣ)."""
    return Formula(lambda x: -np.logaddexp(0.0, -x), lambda x: special.expit(-x))


def softplus(beta: float = 1.0) -> Formula:
    """φ(x) = ln(1 + exp(beta x))/beta (torch's shortcut above beta x = 20 differs by less than 3e-9)."""
    _positive("beta", beta)
    return Formula(lambda x: np.logaddexp(0.0, beta * x) / beta, lambda x: special.expit(beta * x))


def softsign() -> Formula:
    """φ(x) = x/(1 + |x|)."""
    return Formula(lambda x: x / (1 + np.abs(x)), lambda x: (1 + np.abs(x)) ** -2.0, (0.0,))


def swish(beta: float = 1.0) -> Formula:
    """φ(x) = x σ(beta x); SiLU for beta = 1."""

    def df(x: Array) -> Array:
        s = special.expit(beta * x)
        return np.asarray(s + beta * x * s * special.expit(-beta * x))

    return Formula(lambda x: x * special.expit(beta * x), df)


def silu() -> Formula:
    """φ(x) = x σ(x)."""
    return swish(1.0)


def quick_gelu() -> Formula:
    """φ(x) = x σ(1.702 x)."""
    return swish(1.702)


def mish() -> Formula:
    """φ(x) = x tanh(softplus(x))."""

    def df(x: Array) -> Array:
        s = np.logaddexp(0.0, x)
        return np.asarray(np.tanh(s) + x * _sech2(s) * special.expit(x))

    def f(x: Array) -> Array:
        e = np.exp(np.minimum(x, 40.0))  # tanh(ln(1 + e)) = e (e + 2)/(e (e + 2) + 2)
        top = e * (e + 2)
        return np.asarray(x * (top / (top + 2)))

    return Formula(f, df)


def gelu(approximate: str = "none") -> Formula:
    """φ(x) = x Φ(x), or its tanh form."""
    if approximate == "none":
        return Formula(
            lambda x: x * special.ndtr(x),
            lambda x: special.ndtr(x) + x * np.exp(-0.5 * x * x) / _ROOT_2PI,
            closed=cf.gelu(),
        )
    if approximate == "tanh":
        k = float(np.sqrt(2 / np.pi))

        # (1 + tanh y)/2 = σ(2 y), which does not lose the left tail
        def f(x: Array) -> Array:
            return np.asarray(x * special.expit(2 * k * x * (1 + 0.044715 * x * x)))

        def df(x: Array) -> Array:
            y = 2 * k * x * (1 + 0.044715 * x * x)
            dy = 2 * k * (1 + 3 * 0.044715 * x * x)
            return np.asarray(special.expit(y) + x * dy * special.expit(y) * special.expit(-y))

        return Formula(f, df)
    raise TheoryError(f"gelu's approximate must be 'none' or 'tanh', but got {approximate!r}.")


def sin() -> Formula:
    """φ = sin."""
    return Formula(np.sin, np.cos, closed=cf.sine())


def cos() -> Formula:
    """φ = cos."""
    return Formula(np.cos, lambda x: -np.sin(x), closed=cf.sine(np.pi / 2))


def exp() -> Formula:
    """φ = exp."""
    return Formula(np.exp, np.exp, closed=cf.exponential())


def square() -> Formula:
    """φ(x) = x²."""
    return Formula(np.square, lambda x: 2 * x, closed=cf.square())


def step() -> Formula:
    """φ(x) = 1 for x > 0, else 0."""
    return Formula(lambda x: (x > 0) * 1.0, np.zeros_like, (0.0,), cf.step(0.0, 1.0))


def sign() -> Formula:
    """φ(x) = sign x."""
    return Formula(np.sign, np.zeros_like, (0.0,), cf.step(-1.0, 1.0))


NAMED: dict[str, Callable[..., Formula]] = {
    "identity": identity, "linear": identity, "relu": relu, "leaky_relu": leaky_relu, "prelu": prelu, "rrelu": rrelu,
    "abs": absolute, "relu_squared": relu_squared, "relu6": relu6, "hardtanh": hardtanh, "hardsigmoid": hardsigmoid,
    "hardswish": hardswish, "hardshrink": hardshrink, "softshrink": softshrink, "threshold": threshold, "elu": elu,
    "celu": celu, "selu": selu, "tanh": tanh, "tanhshrink": tanhshrink, "erf": erf, "sigmoid": sigmoid,
    "logsigmoid": logsigmoid, "softplus": softplus, "softsign": softsign, "silu": silu, "swish": swish,
    "quick_gelu": quick_gelu, "mish": mish, "gelu": gelu, "sin": sin, "cos": cos, "exp": exp, "square": square,
    "quadratic": square, "step": step, "heaviside": step, "sign": sign,
}  # fmt: skip
