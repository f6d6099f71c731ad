"""Forward rules of operations that only rearrange: index algebra on the classes of pairs."""

import numpy as np

from depthscale.graph import ops
from depthscale.graph.shapes import infer
from depthscale.theory.align import coarse
from depthscale.theory.axes import REACH, Axis, mapped
from depthscale.theory.forward_elementwise import affine
from depthscale.theory.index_algebra import cut, drop_one, join, merge, permute, reshape, split_one
from depthscale.theory.moments import Shape, State, parts_shape, state
from depthscale.theory.rules import Setting, forward
from depthscale.theory.windows import forward_map, linear_sums, matrix


@forward.register(ops.Flatten)
def _(op: ops.Flatten, setting: Setting, x: State) -> State:
    n = len(x.axes)
    return merge(x, op.start % n, op.stop % n)


@forward.register(ops.Unflatten, ops.Reshape)
def _(op: ops.Unflatten | ops.Reshape, setting: Setting, x: State) -> State:
    return reshape(x, infer(op, x.shape))


@forward.register(ops.Permute)
def _(op: ops.Permute, setting: Setting, x: State) -> State:
    return permute(x, tuple(a % len(x.axes) for a in op.axes))


@forward.register(ops.Squeeze)
def _(op: ops.Squeeze, setting: Setting, x: State) -> State:
    return drop_one(x, op.axis % len(x.axes))


@forward.register(ops.Unsqueeze)
def _(op: ops.Unsqueeze, setting: Setting, x: State) -> State:
    return split_one(x, op.axis % (len(x.axes) + 1))


@forward.register(ops.Expand)
def _(op: ops.Expand, setting: Setting, x: State) -> State:
    shape = infer(op, x.shape)
    for _ in range(len(shape) - len(x.axes)):
        x = split_one(x, 0)
    axes = tuple(a if a.n == n else Axis(n) for a, n in zip(x.axes, shape, strict=True))
    return state(axes, x.q, x.mean, x.spread)


def slice_range(op: ops.Slice | ops.Select, shape: Shape) -> tuple[int, range]:
    """The axis that is cut and the entries that are kept."""
    axis = op.axis % len(shape)
    if isinstance(op, ops.Select):
        index = op.index % shape[axis]
        return axis, range(index, index + 1)
    return axis, range(*slice(op.start, op.stop, op.step).indices(shape[axis]))


@forward.register(ops.Slice)
def _(op: ops.Slice, setting: Setting, x: State) -> State:
    axis, kept = slice_range(op, x.shape)
    return cut(x, axis, kept.start, len(kept), kept.step)


@forward.register(ops.Select)
def _(op: ops.Select, setting: Setting, x: State) -> State:
    axis, kept = slice_range(op, x.shape)
    return drop_one(cut(x, axis, kept.start, 1), axis)


@forward.register(ops.Take)
def _(op: ops.Take, setting: Setting, x: State) -> State:
    i = op.axis % len(x.axes)
    x = coarse(x, i)
    n = len(op.index)
    again = float((np.bincount(op.index) ** 2).sum() - n) / max(n * (n - 1), 1)  # pairs of places of one entry
    same, other = np.take(x.q, 0, axis=i), np.take(x.q, x.q.shape[i] - 1, axis=i)
    rows = [same, again * same + (1 - again) * other]
    axes = (*x.axes[:i], Axis(n), *x.axes[i + 1 :])
    return state(axes, np.stack(rows[: axes[i].classes], axis=i), x.mean, x.spread)


@forward.register(ops.Roll)
def _(op: ops.Roll, setting: Setting, x: State) -> State:
    return x


def pads_of(op: ops.Pad, ndim: int) -> list[tuple[int, int, int]]:
    """(axis, entries in front, entries behind) for every axis that changes."""
    rows = [(ndim - 1 - k, op.pads[2 * k], op.pads[2 * k + 1]) for k in range(len(op.pads) // 2)]
    return [row for row in rows if row[1] or row[2]]


@forward.register(ops.Pad)
def _(op: ops.Pad, setting: Setting, x: State) -> State:
    x = affine(x, 1.0, -op.value) if op.value else x  # pad with 0, put back
    for i, before, behind in pads_of(op, len(x.axes)):
        x = _padded(x, i, before, behind)
    return affine(x, 1.0, op.value) if op.value else x


def _padded(x: State, i: int, before: int, behind: int) -> State:
    """Zeros in front of and behind axis i; entries are cut off where the numbers are negative."""
    axis = x.axes[i]
    if min(before, behind) < 0:
        start = max(-before, 0)
        x = cut(x, i, start, axis.n - start - max(-behind, 0))
    if axis.reach == 1:  # zeros are parts of their own
        blanks = [Axis(n) for n in (before, behind)]
        front, back = (_zeros(x, i, a) if a.n > 0 else None for a in blanks)
        return join([piece for piece in (front, x, back) if piece is not None], i)
    before, behind, axis = max(before, 0), max(behind, 0), x.axes[i]
    out = Axis(axis.n + before + behind, axis.reach, edge=True)
    if out == axis:
        return x
    q = mapped(x.q, i, forward_map(linear_sums("shift", (before,), out, axis), out))
    axes = (*x.axes[:i], out, *x.axes[i + 1 :])
    return state(axes, q, x.mean * axis.n / out.n, x.spread)


def _zeros(x: State, i: int, axis: Axis) -> State:
    axes = (*x.axes[:i], axis, *x.axes[i + 1 :])
    return state(axes, np.zeros((1,) * len(axes)), np.zeros(parts_shape(axes)))


@forward.register(ops.Upsample)
def _(op: ops.Upsample, setting: Setting, x: State) -> State:
    kind = "nearest" if op.mode == "nearest" else "linear"
    for k, factor in enumerate(op.factors):
        x = along(x, k + 2, kind, (factor,), x.axes[k + 2].n * factor)
    return x


@forward.register(ops.Resize)
def _(op: ops.Resize, setting: Setting, x: State) -> State:
    for k, n in enumerate(op.size):
        x = along(x, k + 2, "resize", resize_args(op), n)
    return x


def resize_args(op: ops.Resize) -> tuple[int, int]:
    """What ``windows.matrix`` is told."""
    return ("nearest", "bilinear", "bicubic").index(op.mode), int(op.corners)


def along(x: State, i: int, kind: str, args: tuple[int, ...], n: int) -> State:
    """A fixed linear map along axis i (see ``windows.matrix``) that makes n entries of it."""
    x = coarse(x, i) if x.axes[i].parts else x
    axis = x.axes[i]
    out = Axis(n, REACH if axis.n > 2 else axis.reach, edge=axis.edge or kind == "average")
    q = mapped(x.q, i, forward_map(linear_sums(kind, args, out, x.axes[i]), out))
    rows = float(matrix(kind, args, n, x.axes[i].n).sum()) / n  # below 1 where zeros of a padding are averaged in
    axes = (*x.axes[:i], out, *x.axes[i + 1 :])
    return state(axes, q, x.mean * rows, x.spread)


@forward.register(ops.Concat)
def _(op: ops.Concat, setting: Setting, *xs: State) -> State:
    return xs[0] if len(xs) == 1 else join(xs, op.axis % len(xs[0].axes))


@forward.register(ops.Stack)
def _(op: ops.Stack, setting: Setting, *xs: State) -> State:
    axis = op.axis % (len(xs[0].axes) + 1)
    new = [split_one(x, axis) for x in xs]
    return new[0] if len(new) == 1 else join(new, axis)
