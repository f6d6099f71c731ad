"""Backward rules of linear layers, convolutions and matrix products: the same sums over the other index."""

import math

import numpy as np

from depthscale.graph import ops
from depthscale.graph.op import Op
from depthscale.numerics.estimate import Array
from depthscale.theory.backward import Pulled, backward, gradient, ones_like, summed_pairs
from depthscale.theory.forward import Setting, specs_of
from depthscale.theory.forward_contraction import (
    channel_pairs,
    contract,
    conv_windows,
    convolve,
    expand_same,
    transposed_windows,
    weight_classes,
)
from depthscale.theory.moments import Axis, State, coarse, same_average, unbroadcast
from depthscale.theory.windows import Counts, apply_map, backward_map, forward_map, window_counts


def _leading(x: State) -> State:
    """One feature of x: its last axis agrees and disappears."""
    return State(x.axes[:-1], np.asarray(x.average), same_average(x.q, x.axes, len(x.axes) - 1))


def _bias(op: Op, xs: tuple[State, ...], g: State, channel: int) -> dict[str, float]:
    if "bias" not in specs_of(op, *xs):
        return {}
    return {"bias": summed_pairs(g, ones_like(g), (channel,))}


@backward.register(ops.Linear)
def _(op: ops.Linear, setting: Setting, g: State, y: State, *xs: State) -> Pulled:
    x = xs[0]
    out = g.axes[-1]
    w = expand_same(expand_same(weight_classes(op, xs), out, 0), x.axes[-1], 1)  # (out, in)
    q = np.tensordot(g.q, w * out.pairs[:, None], ([g.q.ndim - 1], [0]))
    gx = gradient((*g.axes[:-1], x.axes[-1]), q) if not _two_parts((*g.axes[:-1], x.axes[-1])) else None
    if gx is None:  # parts both along the features and elsewhere: the features' go
        x = coarse(x, len(x.axes) - 1)
        q = np.tensordot(g.q, expand_same(weight_classes(op, xs), out, 0) * out.pairs[:, None], ([g.q.ndim - 1], [0]))
        gx = gradient((*g.axes[:-1], x.axes[-1]), q)
    if len(xs) > 1:
        return Pulled((gx, _fed_linear(g, x, xs[1])), _bias(op, xs, g, len(g.axes) - 1))
    square = summed_pairs(_leading(g), _leading(x))
    return Pulled((gx,), {"weight": square, **_bias(op, xs, g, len(g.axes) - 1)})


def _two_parts(axes: tuple[Axis, ...]) -> bool:
    return sum(bool(a.parts) for a in axes) > 1


def _fed_linear(g: State, x: State, weight: State) -> State:
    """The gradient of a weight that is computed: Σ over positions of g_o x_i, by class of (o, i)."""
    a, b = coarse(g), coarse(x)
    rows = []
    for i in range(a.q.shape[-1]):
        row = []
        for j in range(b.q.shape[-1]):
            q = a.q[..., i] * b.q[..., j]
            for axis in reversed(a.axes[:-1]):
                q = np.tensordot(q, axis.pairs, ([q.ndim - 1], [0]))
            row.append(float(q))
        rows.append(row)
    return gradient((Axis(a.axes[-1].n), Axis(b.axes[-1].n)), np.array(rows))


def _counts(op: ops.Conv, x: State, g: State) -> list[Counts]:
    windows = conv_windows(op, x, g.shape)
    return [window_counts(w, o, i) for w, o, i in zip(windows, g.axes[2:], x.axes[2:], strict=True)]


@backward.register(ops.Conv)
def _(op: ops.Conv, setting: Setting, g: State, y: State, *xs: State) -> Pulled:
    g = coarse(g) if any(a.parts for a in g.axes) else g
    x = coarse(xs[0]) if any(a.parts for a in xs[0].axes) else xs[0]
    counts = _counts(op, x, g)
    maps = [
        (backward_map(c.same, axis), backward_map(c.every - c.same, axis))
        for c, axis in zip(counts, x.axes[2:], strict=True)
    ]
    w = np.swapaxes(expand_same(weight_classes(op, xs), g.axes[1], 0), 0, 1)
    q = convolve(g.q, w, channel_pairs(x.axes[1], g.axes[1], op.groups), maps, x.axes[1])
    gx = gradient(x.axes, q)
    if len(xs) > 1:
        return Pulled((gx, _fed_conv(op, g, x, xs[1], counts)), _bias(op, xs, g, 1))
    square = _tap_sums(g.q[:, 0], x.q[:, 0], g.axes[0].pairs, [c.same for c in counts]) / math.prod(op.kernel)
    return Pulled((gx,), {"weight": square, **_bias(op, xs, g, 1)})


def _tap_sums(g: Array, x: Array, batch: Array, counts: list[Array]) -> float:
    """Σ over pairs of examples and of positions that meet through taps of E[g g'] E[x x']; g, x: (batch, *spatial)."""
    for i, c in enumerate(counts, start=1):
        x = apply_map(x, i, c)
    total = g * x
    return float(np.tensordot(total.reshape(len(total), -1).sum(axis=1), batch, 1))


def _fed_conv(op: ops.Conv, g: State, x: State, weight: State, counts: list[Counts]) -> State:
    """The gradient of a kernel that is computed, by class of (out, in, *taps)."""
    axes = tuple(Axis(n) for n in weight.shape)
    q = np.zeros(tuple(a.classes for a in axes))
    for index in np.ndindex(*q.shape):
        o, i, *agree = index
        used, pairs = [], 1.0
        for c, t, k in zip(counts, agree, op.kernel, strict=True):
            used.append(c.every - c.same if t else c.same)
            pairs *= k * (k - 1) if t else k
        q[index] = _tap_sums(g.q[:, o], x.q[:, i], g.axes[0].pairs, used) / pairs
    return gradient(axes, q)


@backward.register(ops.ConvTranspose)
def _(op: ops.ConvTranspose, setting: Setting, g: State, y: State, x: State) -> Pulled:
    g = coarse(g) if any(a.parts for a in g.axes) else g
    x = coarse(x) if any(a.parts for a in x.axes) else x
    windows = transposed_windows(op, x, g.shape)
    counts = [window_counts(w, i, o) for w, i, o in zip(windows, x.axes[2:], g.axes[2:], strict=True)]
    maps = [
        (forward_map(c.same, axis), forward_map(c.every - c.same, axis))
        for c, axis in zip(counts, x.axes[2:], strict=True)
    ]
    w = expand_same(weight_classes(op, (x,)), g.axes[1], 1)
    q = convolve(g.q, w, channel_pairs(x.axes[1], g.axes[1], op.groups), maps, x.axes[1])
    square = _tap_sums(x.q[:, 0], g.q[:, 0], g.axes[0].pairs, [c.same for c in counts]) / math.prod(op.kernel)
    return Pulled((gradient(x.axes, q),), {"weight": square, **_bias(op, (x,), g, 1)})


@backward.register(ops.MatMul)
def _(op: ops.MatMul, setting: Setting, g: State, y: State, a: State, b: State) -> Pulled:
    ga = contract(g, b, -1, -1)  # Σ_m g_nm b_km
    gb = contract(a, g, -2, -2)  # Σ_n a_nk g_nm
    return Pulled((unbroadcast(_centred(ga), a.axes), unbroadcast(_centred(gb), b.axes)), {})


def _centred(g: State) -> State:
    return gradient(g.axes, g.q)
