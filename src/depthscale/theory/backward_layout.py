"""Backward rules of operations that only rearrange: the inverse index algebra; what was cut off gets nothing."""

import numpy as np

from depthscale.graph import ops
from depthscale.graph.op import Op
from depthscale.theory.align import coarse, projected, unbroadcast, without_parts
from depthscale.theory.axes import REACH, Axis, mapped, part_pairs
from depthscale.theory.forward_layout import pads_of, resize_args, slice_range
from depthscale.theory.index_algebra import cut, drop_one, permute, reshape, split_one
from depthscale.theory.moments import State
from depthscale.theory.rules import Pulled, Setting, backward, gradient
from depthscale.theory.windows import backward_map, linear_sums


@backward.register(ops.Flatten, ops.Unflatten, ops.Reshape)
def _(op: Op, setting: Setting, g: State, y: State, x: State) -> Pulled:
    return Pulled((reshape(g, x.shape),), {})


@backward.register(ops.Permute)
def _(op: ops.Permute, setting: Setting, g: State, y: State, x: State) -> Pulled:
    order = [a % len(x.axes) for a in op.axes]
    return Pulled((permute(g, tuple(int(i) for i in np.argsort(order))),), {})


@backward.register(ops.Squeeze)
def _(op: ops.Squeeze, setting: Setting, g: State, y: State, x: State) -> Pulled:
    return Pulled((split_one(g, op.axis % len(x.axes)),), {})


@backward.register(ops.Unsqueeze)
def _(op: ops.Unsqueeze, setting: Setting, g: State, y: State, x: State) -> Pulled:
    return Pulled((drop_one(g, op.axis % len(g.axes)),), {})


@backward.register(ops.Expand)
def _(op: ops.Expand, setting: Setting, g: State, y: State, x: State) -> Pulled:
    return Pulled((unbroadcast(g, x.axes),), {})


def placed(g: State, i: int, axis: Axis, kept: range) -> State:
    """The gradient of a tensor of which only the entries ``kept`` of axis i were used."""
    if len(kept) == axis.n:
        return g
    if axis.reach > 1 or kept.step != 1:
        wide, narrow = Axis(axis.n, axis.reach), Axis(g.axes[i].n, g.axes[i].reach)
        g = projected(g, i, narrow)
        q = mapped(g.q, i, backward_map(linear_sums("slice", (kept.start, kept.step), narrow, wide), wide))
        return gradient((*g.axes[:i], wide, *g.axes[i + 1 :]), q)
    g = coarse(without_parts(g), i)
    sizes = (kept.start, len(kept), axis.n - kept.stop)
    parts = tuple(s for s in sizes if s)
    where = 1 if kept.start else 0
    blank = np.zeros_like(np.take(g.q, 0, axis=i))
    rows = [np.take(g.q, 0, axis=i) if s == where else blank for s in range(len(parts))]
    other = np.take(g.q, min(1, g.q.shape[i] - 1), axis=i)
    rows += [other if s == t == where else blank for s, t, *_ in part_pairs(parts)]
    return gradient((*g.axes[:i], Axis(axis.n, parts=parts), *g.axes[i + 1 :]), np.stack(rows, axis=i))


@backward.register(ops.Slice)
def _(op: ops.Slice, setting: Setting, g: State, y: State, x: State) -> Pulled:
    axis, kept = slice_range(op, x.shape)
    return Pulled((placed(g, axis, x.axes[axis], kept),), {})


@backward.register(ops.Select)
def _(op: ops.Select, setting: Setting, g: State, y: State, x: State) -> Pulled:
    axis, kept = slice_range(op, x.shape)
    return Pulled((placed(split_one(g, axis), axis, x.axes[axis], kept),), {})


@backward.register(ops.Take)
def _(op: ops.Take, setting: Setting, g: State, y: State, x: State) -> Pulled:
    i = op.axis % len(g.axes)
    g = coarse(g, i)
    n = x.axes[i].n
    times = np.bincount(op.index, minlength=n).astype(float)
    same, other = np.take(g.q, 0, axis=i), np.take(g.q, g.q.shape[i] - 1, axis=i)
    own = times.mean() * same + (times * (times - 1)).mean() * other
    far = (times.sum() ** 2 - (times**2).sum()) / max(n * (n - 1), 1) * other
    axes = (*g.axes[:i], Axis(n), *g.axes[i + 1 :])
    return Pulled((gradient(axes, np.stack([own, far][: axes[i].classes], axis=i)),), {})


@backward.register(ops.Roll)
def _(op: ops.Roll, setting: Setting, g: State, y: State, x: State) -> Pulled:
    return Pulled((g,), {})


@backward.register(ops.Pad)
def _(op: ops.Pad, setting: Setting, g: State, y: State, x: State) -> Pulled:
    for i, before, behind in pads_of(op, len(x.axes)):
        first, count = max(before, 0), g.axes[i].n - max(before, 0) - max(behind, 0)
        g = cut(g, i, first, count)
        if before < 0 or behind < 0:
            start = max(-before, 0)
            g = placed(g, i, x.axes[i], range(start, start + count))
    return Pulled((g,), {})


@backward.register(ops.Upsample)
def _(op: ops.Upsample, setting: Setting, g: State, y: State, x: State) -> Pulled:
    kind = "nearest" if op.mode == "nearest" else "linear"
    for k, factor in enumerate(op.factors):
        g = along_back(g, k + 2, kind, (factor,), x.axes[k + 2])
    return Pulled((g,), {})


@backward.register(ops.Resize)
def _(op: ops.Resize, setting: Setting, g: State, y: State, x: State) -> Pulled:
    for k in range(len(op.size)):
        g = along_back(g, k + 2, "resize", resize_args(op), x.axes[k + 2])
    return Pulled((g,), {})


def along_back(g: State, i: int, kind: str, args: tuple[int, ...], axis: Axis) -> State:
    """The adjoint of ``forward_layout.along``."""
    g = coarse(g, i) if g.axes[i].parts else g
    axis = Axis(axis.n, REACH if g.axes[i].n > 2 else g.axes[i].reach, edge=axis.edge or g.axes[i].edge)
    q = mapped(g.q, i, backward_map(linear_sums(kind, args, g.axes[i], axis), axis))
    return gradient((*g.axes[:i], axis, *g.axes[i + 1 :]), q)


@backward.register(ops.Concat)
def _(op: ops.Concat, setting: Setting, g: State, y: State, *xs: State) -> Pulled:
    axis = op.axis % len(g.axes)
    out, start = [], 0
    for x in xs:
        out.append(cut(g, axis, start, x.axes[axis].n))
        start += x.axes[axis].n
    return Pulled(tuple(out), {})


@backward.register(ops.Stack)
def _(op: ops.Stack, setting: Setting, g: State, y: State, *xs: State) -> Pulled:
    axis = op.axis % len(g.axes)
    return Pulled(tuple(drop_one(cut(g, axis, k, 1), axis) for k in range(len(xs))), {})
