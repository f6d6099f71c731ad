"""Backward rules of elementwise functions, sums and products."""

from functools import lru_cache

import numpy as np

from depthscale.graph import ops
from depthscale.numerics.estimate import Array
from depthscale.theory import copula
from depthscale.theory.activations import Activation
from depthscale.theory.align import aligned, common_axes, unbroadcast
from depthscale.theory.fluctuation import at_unit, slope_fourth_of
from depthscale.theory.forward_elementwise import (
    averages_of,
    drop,
    elementwise,
    inverse_moments,
    law_factor,
    prelu,
    standard,
)
from depthscale.theory.moments import State
from depthscale.theory.resolve import activation
from depthscale.theory.rules import Pulled, Setting, backward, gradient, specs_of, summed_pairs


@lru_cache(maxsize=1024)  # by identity: a tensor may feed several of one function
def slope_classes(act: Activation, x: State) -> Array:
    """E[φ'(x_i) φ'(x_j)] by class."""
    if x.law is not None and x.kappa is not None:
        values = act.derivative(x.law)
        q = copula.pair(values, x.kappa, x.kappa_powers)
        q[x.kappa >= 1.0] = copula.average(values * values)
        return q
    if x.part_axis is None:
        m, v, rho = standard(x)
        if v == 0:
            return np.full(x.q.shape, float(act.derivative(np.array([m]))[0]) ** 2)
        q = act.pairs_of_law(True, v, rho, m)
        unit = at_unit(act) if m == 0 else None
        q[rho == 1.0] = unit.slope if unit else float(act.derivative_second_moment(v, m))
        return q
    i = x.part_axis
    variances = np.maximum(x.part_variances(), 1e-30)
    first, second = x.axes[i].ends
    q = np.empty_like(x.q)
    root = [np.sqrt(float(act.derivative_second_moment(v, m))) for v, m in zip(variances, x.mean, strict=True)]
    for k, (s, t) in enumerate(zip(first, second, strict=True)):
        at = tuple(slice(None) if j != i else k for j in range(q.ndim))
        # across parts: the geometric mean of what each part's law would give
        cov = (x.q[at] - x.mean[s] * x.mean[t]) / np.sqrt(variances[s] * variances[t])
        rho = np.clip(cov, -1.0, 1.0)
        one = np.array(act.derivative_correlation(variances[s], rho, x.mean[s]), dtype=np.float64)
        one[rho == 1.0] = root[s] ** 2
        if s != t:
            other = np.array(act.derivative_correlation(variances[t], rho, x.mean[t]), dtype=np.float64)
            other[rho == 1.0] = root[t] ** 2
            one = np.sign(one) * np.sqrt(np.abs(one * other))
        q[at] = one
    return q


@lru_cache(maxsize=256)
def slope_times(act: Activation) -> Activation:
    """x φ'(x): φ itself where φ is scale-invariant."""
    if act.homogeneous:
        return act
    return Activation(f"x {act.name}'(x)", (), lambda x: x * act.derivative(x), None, act.kinks)


def slope_times_classes(act: Activation, x: State) -> Array:
    """E[φ'(x_i) x_i φ'(x_j) x_j] by class."""
    return elementwise(slope_times(act), x).q


def through(g: State, x: State, factor: Array) -> State:
    """g times a factor given by class of x."""
    if g.axes == x.axes:
        return gradient(g.axes, g.q * factor)
    a, b = aligned(g, State(x.axes, x.mean, factor))
    return gradient(a.axes, a.q * b.q)


def through_function(g: State, x: State, act: Activation) -> State:
    """The gradient at the input x of φ, with the fluctuations of a mean of φ'² g² over finitely many units."""
    gx = through(g, x, slope_classes(act, x))
    own = g.gaussian_spread
    grown = max(3 * slope_fourth_of(act, x) - 1, 0.0)
    return gx.filled(spread=max(g.spread - own, 0.0) + own / 2 * grown)


@backward.register(ops.Activation)
def _(op: ops.Activation, setting: Setting, g: State, y: State, x: State) -> Pulled:
    if op.function == "identity":
        return Pulled((g,), {})
    if op.function in ("affine", "neg"):
        scale = float(dict(op.parameters).get("scale", -1.0))
        return Pulled((g.with_q(g.q * scale**2),), {})
    return Pulled((through_function(g, x, averages_of(op)),), {})


@backward.register(ops.PReLU)
def _(op: ops.PReLU, setting: Setting, g: State, y: State, x: State) -> Pulled:
    slope = specs_of(op, x)["weight"].moments.mean
    below = elementwise(activation("relu"), x.with_q(x.q, -x.mean))
    square = summed_pairs(g, below, (1,) if op.per_channel else ())
    return Pulled((through_function(g, x, prelu(slope)),), {"weight": square})


@backward.register(ops.Scale)
def _(op: ops.Scale, setting: Setting, g: State, y: State, x: State) -> Pulled:
    own = () if op.axis is None else (op.axis % len(x.axes),)
    mean, square = specs_of(op, x)["weight"].moments
    gx = g.with_q(g.q * law_factor(square, mean * mean, g, own))
    return Pulled((gx,), {"weight": summed_pairs(g, x, own)})


@backward.register(ops.Add, ops.Subtract)
def _(op: ops.Add | ops.Subtract, setting: Setting, g: State, y: State, *xs: State) -> Pulled:
    return Pulled(tuple(unbroadcast(g, x.axes) for x in xs), {})


@backward.register(ops.Multiply)
def _(op: ops.Multiply, setting: Setting, g: State, y: State, *xs: State) -> Pulled:
    out = []
    for k, x in enumerate(xs):
        q: State = g
        for j, other in enumerate(xs):
            if j != k:
                a, b = aligned(q, other)
                q = gradient(common_axes((a, b)), a.q * b.q)
        out.append(unbroadcast(q, x.axes))
    return Pulled(tuple(out), {})


@backward.register(ops.Divide)
def _(op: ops.Divide, setting: Setting, g: State, y: State, x: State, divisor: State) -> Pulled:

    a, b, c = aligned(g, divisor, x)
    inverse = inverse_moments(b)
    upper = gradient(a.axes, a.q * inverse)
    # the derivative by the divisor is −x/divisor²
    lower = gradient(a.axes, a.q * c.q * inverse / divisor.average**2)
    return Pulled((unbroadcast(upper, x.axes), unbroadcast(lower, divisor.axes)), {})


@backward.register(ops.Dropout)
def _(op: ops.Dropout, setting: Setting, g: State, y: State, x: State) -> Pulled:
    return Pulled((drop(g, op.p, (0, 1) if op.channels else tuple(range(len(g.axes))), setting),), {})


@backward.register(ops.DropPath)
def _(op: ops.DropPath, setting: Setting, g: State, y: State, x: State) -> Pulled:
    return Pulled((drop(g, op.p, (0,), setting),), {})
