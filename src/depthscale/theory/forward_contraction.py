"""Forward rules of linear layers, convolutions and matrix products.

Independent factors: E[Σ_i a_i b_i Σ_j a_j b_j] = Σ over classes of (pairs in the class) · A[class] · B[class].
Convolutions count the pairs of taps exactly (``windows``).
"""

import itertools
import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from depthscale.errors import TheoryError
from depthscale.graph import ops
from depthscale.graph.laws import Mirrored
from depthscale.graph.op import Op
from depthscale.graph.parameters import ParameterSpec, parameters
from depthscale.graph.shapes import infer
from depthscale.numerics.estimate import Array
from depthscale.theory.align import aligned, coarse, common_axes, without_parts
from depthscale.theory.axes import REACH, Axis, mapped
from depthscale.theory.moments import Shape, State, mean_sums, parts_shape, state
from depthscale.theory.rules import Setting, forward, law_classes, row_product, specs_of
from depthscale.theory.windows import (
    Window,
    backward_map,
    every_sums,
    forward_map,
    same_sums,
    tap_index,
)


def weight_classes(op: Op, xs: tuple[State, ...]) -> Array:
    """E[w w'] by agreement on every axis of the weight: (2,)*k with 0 for agreeing; sizes of 1 keep two classes."""
    if len(xs) > 1:  # the weight is fed
        w = coarse(xs[1])
        return np.asarray(np.broadcast_to(w.q, (2,) * w.q.ndim))
    return law_pattern(specs_of(op, *xs)["weight"])


def law_pattern(spec: ParameterSpec) -> Array:
    """E[w w'] of a parameter by agreement on every axis: (2,)*k."""
    if isinstance(spec.law, Mirrored):
        raise TheoryError(
            "weights in mirrored pairs (law Mirrored) depend on one another, which the theory has no rule for; "
            "such a network starts as an orthogonal linear map: give its layers Orthogonal weights and leave out the "
            "activations, or measure the built network"
        )
    same, other = law_classes(spec)
    out = np.full((2,) * len(spec.shape), other)
    out[0] = row_product(spec.law, other)
    out[(0,) * out.ndim] = same
    return out


def expand_same(classes: Array, axis: Axis, i: int) -> Array:
    """Classes (agree, not) along dimension i spread over the classes of ``axis``."""
    index = [0] * axis.same + [1] * (axis.classes - axis.same)
    return np.take(classes, index, axis=i)


def with_bias(op: Op, y: State, x: tuple[State, ...], channel: int) -> State:
    """Plus a bias along axis ``channel``: independent of y."""
    spec = specs_of(op, *x).get("bias")
    if spec is None:
        return y
    mean, square = spec.moments
    if square == 0:
        return y
    classes = expand_same(np.array([square, mean * mean]), y.axes[channel], 0)
    shape = [-1 if i == channel else 1 for i in range(y.q.ndim)]
    return y.with_q(y.q + classes.reshape(shape) + mean * mean_sums(y), y.mean + mean)


def as_gaussian(y: State, spread: float, grain: float | None = None) -> State:
    """The new state y with the spread of a sum of many terms whose law fluctuates by ``spread`` (and this grain)."""
    return y.filled(spread=spread + y.gaussian_spread, grain=y.grain if grain is None else grain)


@forward.register(ops.Linear)
def _(op: ops.Linear, setting: Setting, *xs: State) -> State:
    x = xs[0]
    w = expand_same(weight_classes(op, xs), x.axes[-1], 1)  # (out, in)
    if op.out_features == 1:
        w = w[:1]
    y = np.tensordot(x.q, w * x.axes[-1].pairs, ([x.q.ndim - 1], [1]))
    axes = (*x.axes[:-1], Axis(op.out_features))
    mean = _mean_weight(op, xs) * _summed_mean(x, len(x.axes) - 1)
    return as_gaussian(with_bias(op, state(axes, y, mean), xs, len(axes) - 1), x.spread, 1.0 / x.axes[-1].n)


def _mean_weight(op: Op, xs: tuple[State, ...]) -> float:
    return xs[1].average if len(xs) > 1 else specs_of(op, *xs)["weight"].moments.mean


def _summed_mean(x: State, i: int) -> Array:
    """Σ over axis i of E[x], per part of another axis."""
    if x.axes[i].parts:
        return np.asarray(x.mean @ np.array(x.axes[i].parts, dtype=float))
    return np.asarray(x.mean * x.axes[i].n)


def conv_windows(op: ops.Conv, x: tuple[Axis, ...], out: tuple[int, ...]) -> list[Window]:
    """The window of every spatial axis of an input with these axes."""
    rows = zip((a.n for a in x[2:]), out[2:], op.kernel, op.stride, op.padding, op.dilation, strict=True)
    return [Window(*row) for row in rows]


def is_delta(op: Op) -> bool:
    """Whether all of a kernel's own weight is drawn at its centre (delta-orthogonal: Xiao et al. 2018)."""
    return bool(getattr(getattr(op, "weight", None), "delta", False))


def carrying(windows: list[Window]) -> list[Window]:
    """The windows of the centre taps alone."""
    return [w._replace(kernel=1, padding=w.padding - w.dilation * (w.kernel // 2), dilation=1) for w in windows]


def channel_pairs(own: Axis, other: Axis, groups: int) -> Array:
    """Ordered pairs of ``other``'s channels that meet a pair of ``own``'s: (classes of own: 2, classes of other).

    A channel meets those of its own group only.
    """
    if groups == 1:
        return np.stack([other.pairs, other.pairs])
    n, mine = other.n // groups, own.n // groups
    near = np.array([n, n * (n - 1.0)])
    far = np.array([0.0, float(n * n)])
    together = (mine - 1) / max(own.n - 1, 1)  # two channels of one group
    return np.stack([near, together * near + (1 - together) * far])[:, : other.classes]


Maps = list[Callable[[int], Array]]
# weights by channel class, and a map per spatial axis (None: it changes nothing)
Terms = tuple[tuple[Array, tuple[Array | None, ...]], ...]


def terms_of(weights: Array, pairs: Array, maps: Maps, out: Axis) -> Terms:
    """What a convolution sums: one term per agreement of taps.

    weights: (own 2, other's classes, *taps (same, different)); pairs as in ``channel_pairs``; maps: per spatial axis
    the coefficients of pairs of the same tap (0) and of different taps (1). Terms whose weights vanish are left out.
    """
    found = []
    for agreement in itertools.product((0, 1), repeat=len(maps)):
        index: tuple[slice | int, ...] = (slice(None), slice(None), *agreement)
        w = weights[index] * pairs
        if w.any() or not any(agreement):
            found.append((w[: out.classes], tuple(_unless_one(maps[i](which)) for i, which in enumerate(agreement))))
    return tuple(found)


def _unless_one(m: Array) -> Array | None:
    """The map, or None for the identity (kernels of one tap)."""
    return None if m.shape[0] == m.shape[1] and np.array_equal(m, np.eye(len(m))) else m


def convolve(q: Array, terms: Terms) -> Array:
    """Sums of q (batch, channels, *spatial) over taps and channels."""
    total: Array | None = None
    for w, maps in terms:
        z = q
        if len(maps) == 2:  # what ``mapped`` does, without its turning of axes
            first, second = maps
            z = z if first is None else first @ z
            z = z if second is None else z @ second.T
        else:
            for i, m in enumerate(maps):
                z = z if m is None else mapped(z, i + 2, m)
        z = (w @ z.reshape(*z.shape[:2], -1)).reshape(len(z), len(w), *z.shape[2:])
        total = z if total is None else total + z
    assert total is not None  # there is always the term of equal taps
    return total


def forward_taps(window: Window, out: Axis, axis: Axis) -> Callable[[int], Array]:
    """Coefficients (D, E) of same (0) and of different taps (1)."""

    def coefficients(which: int) -> Array:
        same = same_sums(window, out, axis)
        return forward_map(every_sums(window, out, axis) - same if which else same, out)

    return coefficients


def backward_taps(window: Window, out: Axis, axis: Axis) -> Callable[[int], Array]:
    """Coefficients (E, D) of the adjoint."""

    def coefficients(which: int) -> Array:
        same = same_sums(window, out, axis)
        return backward_map(every_sums(window, out, axis) - same if which else same, axis)

    return coefficients


def spatial(n: int, axis: Axis, padding: int) -> Axis:
    """The axis of n entries that a window makes of ``axis``: ordered, its edges told apart if they read padding."""
    return Axis(n, REACH, edge=axis.edge or padding > 0)


class ConvPlan(NamedTuple):
    """What a convolution does to states with these axes: output axes, sums, E[y] over Σ E[x], bias, grain."""

    axes: tuple[Axis, ...]
    terms: Terms
    mean: float
    bias: tuple[Array, float] | None  # E[b b'] in the shape of q, and E[b]
    grain: float


def _conv_plan(op: ops.Conv, x: tuple[Axis, ...], weights: Array, mean: float, fed: tuple[Shape, ...]) -> ConvPlan:
    shape = infer(op, tuple(a.n for a in x), *fed)
    windows, w = conv_windows(op, x, shape), expand_same(weights, x[1], 1)
    if not fed and is_delta(op):
        windows, w = carrying(windows), w * math.prod(op.kernel)
    inner = [spatial(n, a, k.padding) for n, a, k in zip(shape[2:], x[2:], windows, strict=True)]
    axes = (x[0], Axis(shape[1]), *inner)
    maps: Maps = []
    share = 1.0
    for i, window in enumerate(windows, start=2):
        maps.append(forward_taps(window, axes[i], x[i]))
        share *= float((tap_index(window) < window.n).sum()) / window.out  # taps that lie inside, on average
    spec = parameters(op, tuple(a.n for a in x), *fed).get("bias")
    bias = None
    if spec is not None and spec.moments.mean_square > 0:
        square, other = law_classes(spec)
        bias = (expand_same(np.array([square, other]), axes[1], 0).reshape(1, -1, *[1] * len(inner)), spec.moments.mean)
    terms = terms_of(w, channel_pairs(axes[1], x[1], op.groups), maps, axes[1])
    return ConvPlan(axes, terms, mean / op.groups * share, bias, op.groups / (x[1].n * share))


@lru_cache(maxsize=4096)
def _own_conv_plan(op: ops.Conv, x: tuple[Axis, ...]) -> ConvPlan:
    """The plan of a convolution with its own weights."""
    spec = parameters(op, tuple(a.n for a in x))["weight"]
    return _conv_plan(op, x, law_pattern(spec), spec.moments.mean, ())


@forward.register(ops.Conv)
def _(op: ops.Conv, setting: Setting, *xs: State) -> State:
    x = coarse(xs[0], 1) if op.groups > 1 else xs[0]
    x = without_parts(x, 2)
    if len(xs) > 1:
        plan = _conv_plan(op, x.axes, weight_classes(op, xs), xs[1].average, (xs[1].shape,))
    else:
        plan = _own_conv_plan(op, x.axes)
    y, mean = convolve(x.q, plan.terms), np.asarray(plan.mean * _summed_mean(x, 1))
    if plan.bias is not None:
        classes, shift = plan.bias
        y, mean = y + classes + 2 * shift * mean, mean + shift
    return as_gaussian(state(plan.axes, y, mean), x.spread, plan.grain)


def transposed_windows(op: ops.ConvTranspose, x: State, out: tuple[int, ...]) -> list[Window]:
    """The windows of the convolution that this is the adjoint of: they slide over the output."""
    rows = zip(out[2:], x.shape[2:], op.kernel, op.stride, op.padding, op.dilation, strict=True)
    return [Window(*row) for row in rows]


@forward.register(ops.ConvTranspose)
def _(op: ops.ConvTranspose, setting: Setting, x: State) -> State:
    x = coarse(x, 1) if op.groups > 1 else x
    x = without_parts(x, 2)
    shape = infer(op, x.shape)
    axes = (x.axes[0], Axis(shape[1]), *[Axis(n, REACH, edge=True) for n in shape[2:]])
    w = expand_same(np.swapaxes(weight_classes(op, (x,)), 0, 1), x.axes[1], 1)
    maps: Maps = []
    share = 1.0
    for i, window in enumerate(transposed_windows(op, x, shape), start=2):
        maps.append(backward_taps(window, x.axes[i], axes[i]))
        share *= float((tap_index(window) < window.n).sum()) / window.n
    y = convolve(x.q, terms_of(w, channel_pairs(axes[1], x.axes[1], op.groups), maps, axes[1]))
    mean = _mean_weight(op, (x,)) * _summed_mean(x, 1) / op.groups * share
    grain = op.groups / (x.axes[1].n * share)
    return as_gaussian(with_bias(op, state(axes, y, mean), (x,), 1), x.spread, grain)


def product(a: State, b: State, i: int, j: int) -> tuple[State, State, int]:
    """Two factors of a matrix product with the contracted axes i of a and j of b moved to a common last axis.

    a (…, n, k) becomes (…, n, 1, k) and b (…, k, m) becomes (…, 1, m, k).
    """
    qa = np.expand_dims(np.moveaxis(a.q, i, -1), -2)
    qb = np.expand_dims(np.moveaxis(b.q, j, -1), -3)
    axes_a = [x for k, x in enumerate(a.axes) if k != i % len(a.axes)]
    axes_b = [x for k, x in enumerate(b.axes) if k != j % len(b.axes)]
    one = Axis(1)
    left = State((*axes_a, one, a.axes[i]), a.mean, qa, a.spread)
    right = State((*axes_b[:-1], one, axes_b[-1], b.axes[j]), b.mean, qb, b.spread)
    out = aligned(left, right)
    return out[0], out[1], len(out[0].axes) - 1


def contract(a: State, b: State, i: int, j: int) -> State:
    """Σ_k a[…, k at i] b[…, k at j] for independent factors, batched over the axes in front."""
    left, right, last = product(a, b, i, j)
    axes = common_axes((left, right))
    y = np.tensordot(left.q * right.q, axes[last].pairs, ([last], [0]))
    both, cut = left.mean * right.mean, axes[last].parts  # one per part of the axis that has parts
    mean = np.asarray(both @ np.array(cut, dtype=float) if cut else both * axes[last].n)
    kept = axes[:last]
    return as_gaussian(state(kept, y, np.broadcast_to(mean, parts_shape(kept))), a.spread + b.spread)


@forward.register(ops.MatMul)
def _(op: ops.MatMul, setting: Setting, a: State, b: State) -> State:
    return contract(a, b, -1, -2)
