"""Forward rules of elementwise functions, sums and products.

An elementwise function of a Gaussian with the state's mean and variance: every class of pairs goes through the
function's correlation map. Sums and products are of independent tensors; those that share an input and meet again
are recognised beforehand (``fusion``) or bring their cross moments with them.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from depthscale.errors import TheoryError
from depthscale.graph import ops
from depthscale.numerics.estimate import Array
from depthscale.theory import copula
from depthscale.theory.activations import Activation
from depthscale.theory.align import aligned, common_axes
from depthscale.theory.fluctuation import at_unit, fourth
from depthscale.theory.forward_contraction import expand_same
from depthscale.theory.moments import (
    State,
    along_axis,
    amplitudes,
    ends_of,
    mean_sums,
    modulated,
    parts_shape,
    standard,
    state,
    stationary,
    type_squares,
)
from depthscale.theory.resolve import activation
from depthscale.theory.rules import Setting, forward, law_classes, specs_of

_ARITHMETIC: dict[str, tuple[Callable[..., Array], Callable[..., Array]]] = {
    "affine": (lambda x, scale, shift: scale * x + shift, lambda x, scale, shift: scale + 0 * x),
    "neg": (lambda x: -x, lambda x: -np.ones_like(x)),
    "clamp": (
        lambda x, min, max: np.minimum(np.maximum(x, min), max),
        lambda x, min, max: ((x > min) & (x < max)) * 1.0,
    ),
    "threshold": (
        lambda x, threshold, value: np.asarray(np.where(x > threshold, x, value)),
        lambda x, threshold, value: (x > threshold) * 1.0,
    ),
}
_NOTHING = 1e-12  # of a length: what counts as zero
POWERS = ("pow", "sqrt", "rsqrt", "reciprocal", "log")


@lru_cache(maxsize=1024)
def averages_of(op: ops.Activation) -> Activation:
    """The Gaussian averages of the function that an Activation op names."""
    if op.function in _ARITHMETIC:
        f, df = _ARITHMETIC[op.function]
        given = dict(op.parameters)
        kinks = tuple(float(v) for k, v in given.items() if k in ("min", "max", "threshold") and np.isfinite(float(v)))
        return Activation(op.function, (), lambda x: f(x, **given), lambda x: df(x, **given), kinks)
    if op.function in POWERS:
        f, df = _power(op)
        exponent = dict(op.parameters).get("exponent", -1.0)
        entire = op.function == "pow" and float(exponent) == int(float(exponent)) and float(exponent) >= 0
        return Activation(op.function, (), f, df, () if entire else (0.0,))
    given = {k: v for k, v in op.parameters if k != "threshold"}
    return activation(op.function, **given)


def _power(op: ops.Activation) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Functions of positive numbers, held at a floor where a Gaussian tail leaves their domain."""
    exponents = {"sqrt": 0.5, "rsqrt": -0.5, "reciprocal": -1.0}
    if op.function == "log":
        return lambda x: np.log(np.maximum(x, 1e-30)), lambda x: 1 / np.maximum(x, 1e-30)
    p = exponents.get(op.function) if op.function != "pow" else float(dict(op.parameters)["exponent"])
    assert p is not None  # every name in POWERS but log and pow has an exponent
    if p == int(p) and p >= 0:
        return lambda x: x**p, lambda x: p * x ** max(p - 1, 0) if p else 0 * x
    whole = p == int(p)
    sign = -1.0 if whole and int(p) % 2 else 1.0

    def f(x: Array) -> Array:
        return np.where(x < 0, sign if whole else 0.0, 1.0) * np.maximum(np.abs(x), 1e-30) ** p

    return f, lambda x: p * f(x) / np.where(np.abs(x) < 1e-30, 1e-30, x)


def _check_finite(act: Activation, values: Array, m: float, v: float) -> None:
    if not np.isfinite(values).all():
        raise TheoryError(
            f"{act} of a Gaussian of mean {m:.3g} and variance {v:.3g} has no finite second moment; keep its input "
            "bounded or away from the singularity."
        )


def elementwise(act: Activation, x: State) -> State:
    """φ of elements with x's moments.

    Where edges are told apart, x = s x̃: φ(s x̃) is s φ(x̃) for a scale-invariant φ, else about s^γ φ(x̃) with γ the
    slope of ln E φ² in ln E x².
    """
    inner = stationary(x)
    if x.part_axis is not None:
        y = _by_parts(act, inner)
    elif inner.law is not None and inner.kappa is not None:
        y = _by_law(act, x, inner.law, inner.kappa)
    else:
        y = _uniform(act, x)
    if not x.typed:
        return y
    power = 1.0
    if not act.homogeneous:
        m, v, step = inner.average, max(inner.length - inner.average**2, 0.0), 1e-3
        second = float(act.second_moment(v, m))
        power = math.log(float(act.second_moment(v * (1 + step), m)) / second) / math.log1p(step) if second > 0 else 0.0
    return modulated(y, x, power)


def _uniform(act: Activation, x: State) -> State:
    """φ of Gaussian elements, with the size of edges divided out."""
    m, v, rho = standard(x)
    if v == 0:
        value = act(np.array([m]))
        _check_finite(act, value, m, v)
        return state(x.axes, np.full(x.q.shape, float(value[0]) ** 2), float(value[0]), 0.0)
    q = act.pairs_of_law(False, v, rho, m)
    unit = at_unit(act) if m == 0 else None
    if unit:
        mean, second = math.sqrt(v) * unit.mean, v * unit.second
    else:
        mean, second = float(act.mean(v, m)), float(act.second_moment(v, m))
    _check_finite(act, q, m, v)
    q[rho == 1.0] = second
    law = act.f(m + math.sqrt(v) * copula.nodes())
    return state(x.axes, q, mean, _spread(act, x, m, v, second)).filled(law=law, kappa=rho)


def _by_law(act: Activation, x: State, law: Array, kappa: Array) -> State:
    """φ of elements H(z): φ(H(z)) with the same z, with the size of edges divided out."""
    values = act.f(law)
    q = copula.pair(values, kappa, x.kappa_powers)
    q[kappa >= 1.0] = copula.average(values * values)
    _check_finite(act, q, float(x.mean), x.length)
    second = float(q.flat[0])
    own = x.gaussian_spread
    spread = max(x.spread - own, 0.0) + own / 2 * max(copula.average(values**4) / max(second**2, 1e-300) - 1, 0.0)
    return state(x.axes, q, copula.average(values), spread).filled(law=values, kappa=kappa)


def _spread(act: Activation, x: State, m: float, v: float, second: float) -> float:
    """Fluctuation of the law, carried through d ln E φ²/d ln v, plus that of a mean over finitely many units."""
    own = x.gaussian_spread
    law = max(x.spread - own, 0.0)
    unit = at_unit(act) if m == 0 else None
    if unit:
        return law + own / 2 * max(unit.fourth - 1.0, 0.0)
    step = 1e-3
    if law > 0:
        slope = (float(act.second_moment(v * (1 + step), m)) / max(second, 1e-300) - 1.0) / step
        law *= slope * slope
    return law + own / 2 * max(fourth(act, m, v) - 1.0, 0.0)


def _by_parts(act: Activation, x: State) -> State:
    """Each part has its own Gaussian; pairs across parts by the series Σ a_n b_n ρⁿ."""
    i = x.part_axis
    assert i is not None
    variances = x.part_variances()
    first, second = x.axes[i].ends
    q = np.empty_like(x.q)
    means = np.array([float(act.mean(v, m)) for v, m in zip(variances, x.mean, strict=True)])
    series: dict[int, Array] = {}
    for k, (s, t) in enumerate(zip(first, second, strict=True)):
        at = tuple(slice(None) if j != i else k for j in range(q.ndim))
        scale = np.sqrt(variances[s] * variances[t])
        rho = np.clip((x.q[at] - x.mean[s] * x.mean[t]) / scale, -1, 1) if scale > 0 else np.ones_like(x.q[at])
        if s == t or (variances[s] == variances[t] and x.mean[s] == x.mean[t]):
            q[at] = act.correlation(variances[s], rho, x.mean[s])
            continue
        if not np.any(rho):
            q[at] = means[s] * means[t]
            continue
        for p in (s, t):
            if p not in series:
                series[p] = act.hermite(variances[p], 64, x.mean[p])
        q[at] = np.polynomial.polynomial.polyval(rho, series[s] * series[t])
    return state(x.axes, q, means, x.spread)


@forward.register(ops.Activation)
def _(op: ops.Activation, setting: Setting, x: State) -> State:
    if op.function == "identity":
        return x
    if op.function in ("affine", "neg"):
        given = dict(op.parameters) or {"scale": -1.0, "shift": 0.0}
        return affine(x, float(given["scale"]), float(given["shift"]))
    return elementwise(averages_of(op), x)


def affine(x: State, scale: float, shift: float) -> State:
    """scale·x + shift."""
    mean = scale * x.mean
    q = scale * scale * x.q
    if shift:
        q = q + shift * scale * mean_sums(x) + shift * shift
    y = x.with_q(q, mean + shift)
    if x.law is None or (shift and x.typed):
        return y
    return y.marked(law=scale * x.law + shift, kappa=x.kappa)


@lru_cache(maxsize=64)
def prelu(slope: float) -> Activation:
    """The parametric ReLU at its mean slope."""
    return activation("prelu", weight=slope)


@forward.register(ops.PReLU)
def _(op: ops.PReLU, setting: Setting, x: State) -> State:
    return elementwise(prelu(specs_of(op, x)["weight"].moments.mean), x)


def times_law(x: State, spec: object, axes: tuple[int, ...]) -> State:
    """x times a parameter whose elements belong to the entries of ``axes``."""
    if spec is None:
        return x
    mean, square = spec.moments  # type: ignore[attr-defined]
    if mean == 1 and square == 1:
        return x
    factor = law_factor(square, mean * mean, x, axes)
    return x.with_q(x.q * factor, x.mean * mean)


def law_factor(same: float, other: float, x: State, axes: tuple[int, ...]) -> Array:
    """``same`` where all of these axes agree and ``other`` elsewhere, in a shape that broadcasts against q."""
    agree = np.ones((1,) * x.q.ndim)
    for i in axes:
        mask = expand_same(np.array([1.0, 0.0]), x.axes[i], 0)
        agree = agree * mask.reshape([-1 if k == i else 1 for k in range(x.q.ndim)])
    return other + (same - other) * agree


@forward.register(ops.Scale)
def _(op: ops.Scale, setting: Setting, x: State) -> State:
    axes = () if op.axis is None else (op.axis % len(x.axes),)
    return times_law(x, specs_of(op, x)["weight"], axes)


def total(signs: tuple[float, ...], xs: tuple[State, ...], cross: dict[tuple[int, int], Array] | None = None) -> State:
    """Σ ± x_k. ``cross`` holds E[x_k x_l] by class where the two are not independent."""
    parts = aligned(*xs)
    axes = common_axes(parts)
    q, mean = np.asarray(0.0), np.asarray(0.0)
    length = variance = 0.0
    for k, (sign, x) in enumerate(zip(signs, parts, strict=True)):
        q = x.q if k == 0 else q + x.q
        mean = mean + sign * x.mean
        variance += x.spread * x.length**2
        for j in range(k):
            pair = cross.get((j, k)) if cross else None
            if pair is not None or (parts[j].mean.any() and x.mean.any()):
                product = mean_products(parts[j], x) if pair is None else 2 * pair
                q = q + signs[j] * sign * product
    y = state(axes, q, mean if mean.shape == parts_shape(axes) else np.broadcast_to(mean, parts_shape(axes)))
    length = y.length
    y.filled(spread=variance / length**2 if length > 0 else 0.0)
    return y if cross else _with_law(y, signs, xs)


def _with_law(y: State, signs: tuple[float, ...], xs: tuple[State, ...]) -> State:
    """The law of a sum of which a term is not Gaussian; sums of many such terms are taken as Gaussian."""
    odd = [k for k, x in enumerate(xs) if x.law is not None]
    if not 1 <= len(odd) <= 2 or any(x.shape != y.shape or x.part_axis is not None for x in xs):
        return y
    inner = stationary(y)
    rest = [k for k in range(len(xs)) if k not in odd]
    mean = sum(signs[k] * stationary(xs[k]).average for k in rest)
    variance = sum(stationary(xs[k]).length - stationary(xs[k]).average ** 2 for k in rest)
    laws = [signs[k] * (x.law) for k in odd if (x := xs[k]).law is not None]
    if variance > _NOTHING * y.length:
        laws.append(mean + math.sqrt(variance) * copula.nodes())
    only = xs[odd[0]]
    if len(laws) == 1 and only.axes == y.axes:
        # beside terms that do not vary (a branch with a gain of zero) x only shifts: no rounding where it bends
        return y.marked(law=laws[0] + mean, kappa=only.kappa)
    law = laws[0]
    for other in laws[1:]:
        law = copula.sum_law(law, other)
    m, v = float(inner.mean), max(inner.length - float(inner.mean) ** 2, 0.0)
    centre = copula.average(law)
    size = copula.average((law - centre) ** 2)
    if v <= 0 or size <= 0:
        return y
    law = m + (law - centre) * math.sqrt(v / size)  # what the tails of the grid leave out
    kappa = copula.correlations(law, inner.q - m * m)
    kappa.flat[0] = 1.0
    return y.marked(law=law, kappa=kappa)


def mean_products(x: State, y: State) -> Array:
    """E[x_i] E[y_j] + E[y_i] E[x_j] by class, for aligned states."""
    (_, mean_x), (_, mean_y) = amplitudes(x), amplitudes(y)
    size = edge_products(x, y)
    i = x.part_axis if x.part_axis is not None else y.part_axis
    if i is None:
        return np.asarray(2 * x.mean * y.mean / (mean_x * mean_y) * size)
    axis = x.axes[i] if x.axes[i].parts else y.axes[i]
    first, second = axis.ends
    a, b = np.broadcast_to(x.mean, (axis.same,)) / mean_x, np.broadcast_to(y.mean, (axis.same,)) / mean_y
    return np.asarray(along_axis(a[first] * b[second] + b[first] * a[second], i, x.q.ndim) * size)


def edge_products(x: State, y: State) -> Array:
    """The size of x at the one entry times that of y at the other, by class (symmetrised)."""
    if not x.typed and not y.typed:
        return np.ones((1,) * x.q.ndim)
    axes = common_axes((x, y))
    (x1, x2), (y1, y2) = (ends_of(np.sqrt(type_squares(z) / max(z.length, 1e-300)), axes) for z in (x, y))
    return np.asarray((x1[0] * y2[0] + x2[0] * y1[0]) / 2)


@forward.register(ops.Add)
def _(op: ops.Add, setting: Setting, *xs: State) -> State:
    return total((1.0,) * len(xs), xs)


@forward.register(ops.Subtract)
def _(op: ops.Subtract, setting: Setting, *xs: State) -> State:
    return total((1.0, -1.0), xs)


@forward.register(ops.Multiply)
def _(op: ops.Multiply, setting: Setting, *xs: State) -> State:
    parts = aligned(*xs)
    axes = common_axes(parts)
    q = np.prod(np.stack(np.broadcast_arrays(*[x.q for x in parts])), axis=0)
    mean = np.prod(np.stack(np.broadcast_arrays(*[x.mean for x in parts])), axis=0)
    return state(axes, q, np.broadcast_to(mean, parts_shape(axes)), sum(x.spread for x in xs))


@forward.register(ops.Divide)
def _(op: ops.Divide, setting: Setting, x: State, y: State) -> State:
    a, b = aligned(x, y)
    axes = common_axes((a, b))
    inverse = inverse_moments(b)
    return state(axes, a.q * inverse, np.broadcast_to(a.mean / b.average, parts_shape(axes)), x.spread)


def inverse_moments(y: State) -> Array:
    """E[1/(y_i y_j)] by class, for a divisor that keeps away from zero: second order in its relative variance.

    Sums of positive terms (the divisors of linear attention) do so at larger variances than a Gaussian would.
    """
    m, v = y.average, max(y.length - y.average**2, 0.0)
    if not m * m > 2 * v:
        raise TheoryError(
            f"Divide: expected a divisor whose mean is over 1.4 standard deviations from zero, got mean {m:.3g} and "
            f"variance {v:.3g}; a quotient by numbers around zero has no second moment."
        )
    covariance = (y.q - y.means()) / (m * m)
    return np.asarray((1 + 2 * v / (m * m) + covariance) / (m * m))


@forward.register(ops.Dropout)
def _(op: ops.Dropout, setting: Setting, x: State) -> State:
    return drop(x, op.p, (0, 1) if op.channels else tuple(range(len(x.axes))), setting)


@forward.register(ops.DropPath)
def _(op: ops.DropPath, setting: Setting, x: State) -> State:
    return drop(x, op.p, (0,), setting)


def drop(x: State, p: float, axes: tuple[int, ...], setting: Setting) -> State:
    """Masks shared by elements that agree on ``axes``: their second moments grow by 1/(1 − p)."""
    if not setting.training or p == 0:
        return x
    return x.with_q(x.q * law_factor(1 / (1 - p), 1.0, x, axes))


__all__ = ["averages_of", "elementwise", "law_classes", "standard", "total"]
