"""The shape rule of every op: output shape from input shapes, batch as axis 0.

``infer(op, *shapes)`` raises GraphError with what the op expected and the shapes that arrived; the fold puts the
node's name in front.
"""

import math
from collections.abc import Sequence

from depthscale.errors import GraphError
from depthscale.graph import ops
from depthscale.graph.graph import Shape
from depthscale.graph.op import Op
from depthscale.graph.rules import Rule

infer: Rule[Shape] = Rule("shape", "graph/shapes.py")


def need(op: Op, ok: bool, expected: str, *shapes: Sequence[int]) -> None:
    """Raise GraphError unless ``ok``: op, what it expected, what arrived."""
    if not ok:
        got = " and ".join(str(tuple(s)) for s in shapes)
        raise GraphError(f"{type(op).__name__}: expected {expected}, got {got}")


def axis_of(op: Op, axis: int, shape: Shape) -> int:
    """The axis counted from the front, checked against the shape."""
    need(op, -len(shape) <= axis < len(shape), f"a tensor that has axis {axis}", shape)
    return axis % len(shape)


def input_shape(op: ops.Input, batch: int) -> Shape:
    """The shape of an Input for a batch."""
    return (batch, *op.shape) if op.batched else op.shape


@infer.register(ops.Parameter, ops.Constant)
def _(op: ops.Parameter | ops.Constant) -> Shape:
    return op.shape


@infer.register(ops.Linear)
def _(op: ops.Linear, x: Shape, weight: Shape | None = None) -> Shape:
    need(op, len(x) >= 1, "a tensor with a last axis of features", x)
    if weight is not None:
        wanted = (op.out_features, x[-1])
        need(op, weight == wanted, f"a weight of shape {wanted} for input {x}", weight)
    return (*x[:-1], op.out_features)


def windows(op: Op, sizes: Shape, dilation: Shape, ceil: bool, x: Shape) -> Shape:
    """Output sizes of a sliding window over the trailing axes."""
    kernel, stride, padding = op.kernel, op.stride, op.padding  # type: ignore[attr-defined]
    out = []
    for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True):
        span = n + 2 * p - d * (k - 1) - 1
        need(op, span >= 0, f"an input of at least {d * (k - 1) + 1 - 2 * p} along each axis of kernel {kernel}", x)
        count = (span + s - 1) // s + 1 if ceil else span // s + 1
        if ceil and (count - 1) * s >= n + p:  # torch: the last window must start inside the input
            count -= 1
        out.append(count)
    return tuple(out)


@infer.register(ops.Conv)
def _(op: ops.Conv, x: Shape, weight: Shape | None = None) -> Shape:
    dims = len(op.kernel)
    need(op, len(x) == dims + 2, f"a tensor of {dims + 2} axes (batch, channels, {dims} spatial)", x)
    need(op, x[1] % op.groups == 0, f"channels divisible by groups={op.groups}", x)
    if weight is not None:
        wanted = (op.out_channels, x[1] // op.groups, *op.kernel)
        need(op, weight == wanted, f"a weight of shape {wanted} for input {x}", weight)
    return (x[0], op.out_channels, *windows(op, x[2:], op.dilation, False, x))


@infer.register(ops.ConvTranspose)
def _(op: ops.ConvTranspose, x: Shape) -> Shape:
    dims = len(op.kernel)
    need(op, len(x) == dims + 2, f"a tensor of {dims + 2} axes (batch, channels, {dims} spatial)", x)
    need(op, x[1] % op.groups == 0, f"channels divisible by groups={op.groups}", x)
    sizes = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, k, s, p, d, o in zip(
            x[2:], op.kernel, op.stride, op.padding, op.dilation, op.output_padding, strict=True
        )
    )
    need(op, min(sizes) >= 1, "an output of at least 1 along every axis (less padding, or a larger input)", x)
    return (x[0], op.out_channels, *sizes)


@infer.register(ops.MatMul)
def _(op: ops.MatMul, a: Shape, b: Shape) -> Shape:
    need(op, len(a) >= 2 and len(b) >= 2 and a[-1] == b[-2], "shapes (…, n, k) and (…, k, m)", a, b)
    return (*broadcast(op, a[:-2], b[:-2]), a[-2], b[-1])


@infer.register(ops.Attention)
def _(op: ops.Attention, q: Shape, k: Shape, v: Shape, mask: Shape | None = None) -> Shape:
    fits = len(q) == len(k) == len(v) >= 3 and q[:-2] == k[:-2] == v[:-2] and q[-1] == k[-1] and k[-2] == v[-2]
    need(op, fits, "q (B, heads, T, width), k (B, heads, S, width) and v (B, heads, S, out)", q, k, v)
    if mask is not None:
        broadcast(op, mask, (*q[:-1], k[-2]))
    return (*q[:-1], v[-1])


@infer.register(ops.Embedding)
def _(op: ops.Embedding, x: Shape) -> Shape:
    return (*x, op.width)


@infer.register(ops.BatchNorm, ops.PReLU, ops.InstanceNorm, ops.GroupNorm)
def _(op: Op, x: Shape) -> Shape:
    need(op, len(x) >= 2, "a tensor with channels as axis 1", x)
    if isinstance(op, ops.GroupNorm):
        need(op, x[1] % op.groups == 0, f"channels divisible by groups={op.groups}", x)
    if isinstance(op, ops.InstanceNorm):
        need(op, len(x) >= 3, "a tensor with positions behind the channels", x)
    return x


@infer.register(ops.LayerNorm, ops.RMSNorm)
def _(op: ops.LayerNorm | ops.RMSNorm, x: Shape) -> Shape:
    need(op, len(x) >= op.axes, f"a tensor of at least {op.axes} axes", x)
    return x


@infer.register(ops.Activation, ops.Dropout, ops.DropPath)
def _(op: Op, x: Shape) -> Shape:
    return x


@infer.register(ops.Softmax, ops.Scale)
def _(op: ops.Softmax | ops.Scale, x: Shape) -> Shape:
    if op.axis is not None:
        axis_of(op, op.axis, x)
    return x


def broadcast(op: Op, *shapes: Shape) -> Shape:
    """The common shape of tensors under NumPy's broadcasting."""
    out: list[int] = [1] * max(len(s) for s in shapes)
    for shape in shapes:
        for i, n in enumerate(shape, start=len(out) - len(shape)):
            need(op, n == out[i] or 1 in (n, out[i]), "shapes that broadcast", *shapes)
            out[i] = max(out[i], n)
    return tuple(out)


@infer.register(ops.Add, ops.Multiply, ops.Subtract, ops.Divide)
def _(op: Op, *xs: Shape) -> Shape:
    return broadcast(op, *xs)


@infer.register(ops.MaxPool, ops.AvgPool)
def _(op: ops.MaxPool | ops.AvgPool, x: Shape) -> Shape:
    dims = len(op.kernel)
    need(op, len(x) == dims + 2, f"a tensor of {dims + 2} axes (batch, channels, {dims} spatial)", x)
    half = all(2 * p <= k for p, k in zip(op.padding, op.kernel, strict=True))
    need(op, half, "a padding of at most half the kernel", op.padding, op.kernel)
    return (*x[:2], *windows(op, x[2:], (1,) * dims, op.ceil, x))


@infer.register(ops.AdaptivePool)
def _(op: ops.AdaptivePool, x: Shape) -> Shape:
    need(op, len(x) == len(op.size) + 2, f"a tensor of {len(op.size) + 2} axes", x)
    return (*x[:2], *op.size)


@infer.register(ops.Reduce)
def _(op: ops.Reduce, x: Shape) -> Shape:
    axes = {axis_of(op, a, x) for a in op.axes}
    return tuple(1 if i in axes else n for i, n in enumerate(x) if op.keep or i not in axes)


@infer.register(ops.Flatten)
def _(op: ops.Flatten, x: Shape) -> Shape:
    start, stop = axis_of(op, op.start, x), axis_of(op, op.stop, x)
    need(op, start <= stop, f"axis {op.start} not behind axis {op.stop}", x)
    return (*x[:start], math.prod(x[start : stop + 1]), *x[stop + 1 :])


def _resolve(op: Op, sizes: Shape, total: int, x: Shape) -> Shape:
    """Sizes with −1 replaced by what is left of ``total`` elements."""
    known = math.prod(s for s in sizes if s != -1)
    if -1 in sizes:
        need(op, total % known == 0, f"a number of elements divisible by {known} for {sizes}", x)
        return tuple(total // known if s == -1 else s for s in sizes)
    need(op, known == total, f"{known} elements for {sizes}", x)
    return sizes


@infer.register(ops.Unflatten)
def _(op: ops.Unflatten, x: Shape) -> Shape:
    axis = axis_of(op, op.axis, x)
    return (*x[:axis], *_resolve(op, op.sizes, x[axis], x), *x[axis + 1 :])


@infer.register(ops.Reshape)
def _(op: ops.Reshape, x: Shape) -> Shape:
    return _resolve(op, op.shape, math.prod(x), x)


@infer.register(ops.Permute)
def _(op: ops.Permute, x: Shape) -> Shape:
    axes = [axis_of(op, a, x) for a in op.axes]
    need(op, sorted(axes) == list(range(len(x))), f"{len(op.axes)} axes, each once in {op.axes}", x)
    return tuple(x[a] for a in axes)


@infer.register(ops.Squeeze)
def _(op: ops.Squeeze, x: Shape) -> Shape:
    axis = axis_of(op, op.axis, x)
    need(op, x[axis] == 1, f"axis {op.axis} of size 1", x)
    return (*x[:axis], *x[axis + 1 :])


@infer.register(ops.Unsqueeze)
def _(op: ops.Unsqueeze, x: Shape) -> Shape:
    axis = axis_of(op, op.axis, (*x, 1))
    return (*x[:axis], 1, *x[axis:])


@infer.register(ops.Expand)
def _(op: ops.Expand, x: Shape) -> Shape:
    new = len(op.shape) - len(x)
    need(op, new >= 0 and -1 not in op.shape[: max(new, 0)], f"a tensor that expands to {op.shape}", x)
    out = (*op.shape[:new], *(n if s == -1 else s for n, s in zip(x, op.shape[new:], strict=True)))
    need(op, all(n in (1, o) for n, o in zip(x, out[new:], strict=True)), f"a tensor that expands to {op.shape}", x)
    return out


@infer.register(ops.Slice)
def _(op: ops.Slice, x: Shape) -> Shape:
    axis = axis_of(op, op.axis, x)
    count = len(range(*slice(op.start, op.stop, op.step).indices(x[axis])))
    need(op, count >= 1, f"entries {op.start}:{op.stop} of axis {op.axis} to exist", x)
    return (*x[:axis], count, *x[axis + 1 :])


@infer.register(ops.Select)
def _(op: ops.Select, x: Shape) -> Shape:
    axis = axis_of(op, op.axis, x)
    need(op, -x[axis] <= op.index < x[axis], f"an entry {op.index} along axis {op.axis}", x)
    return (*x[:axis], *x[axis + 1 :])


@infer.register(ops.Take)
def _(op: ops.Take, x: Shape) -> Shape:
    axis = axis_of(op, op.axis, x)
    need(op, max(op.index) < x[axis], f"entries up to {max(op.index)} along axis {op.axis}", x)
    return (*x[:axis], len(op.index), *x[axis + 1 :])


@infer.register(ops.Pad)
def _(op: ops.Pad, x: Shape) -> Shape:
    out = list(x)
    need(op, len(op.pads) <= 2 * len(x), f"at least {len(op.pads) // 2} axes to pad", x)
    for i in range(len(op.pads) // 2):
        out[-1 - i] += op.pads[2 * i] + op.pads[2 * i + 1]
    need(op, min(out) >= 1, f"an axis longer than what pads {op.pads} cut off", x)
    return tuple(out)


@infer.register(ops.Roll)
def _(op: ops.Roll, x: Shape) -> Shape:
    for axis in op.axes:
        axis_of(op, axis, x)
    return x


@infer.register(ops.Upsample)
def _(op: ops.Upsample, x: Shape) -> Shape:
    need(op, len(x) == len(op.factors) + 2, f"a tensor of {len(op.factors) + 2} axes", x)
    return (*x[:2], *(n * f for n, f in zip(x[2:], op.factors, strict=True)))


@infer.register(ops.Resize)
def _(op: ops.Resize, x: Shape) -> Shape:
    need(op, len(x) == len(op.size) + 2, f"a tensor of {len(op.size) + 2} axes", x)
    need(op, op.mode != "bicubic" or len(op.size) == 2, "two spatial axes for bicubic", x)
    return (*x[:2], *op.size)


@infer.register(ops.Concat)
def _(op: ops.Concat, *xs: Shape) -> Shape:
    axis = axis_of(op, op.axis, xs[0])
    same = all(len(x) == len(xs[0]) and x[:axis] == xs[0][:axis] and x[axis + 1 :] == xs[0][axis + 1 :] for x in xs)
    need(op, same, f"shapes equal but for axis {op.axis}", *xs)
    return (*xs[0][:axis], sum(x[axis] for x in xs), *xs[0][axis + 1 :])


@infer.register(ops.Stack)
def _(op: ops.Stack, *xs: Shape) -> Shape:
    need(op, all(x == xs[0] for x in xs), "equal shapes", *xs)
    axis = axis_of(op, op.axis, (*xs[0], 1))
    return (*xs[0][:axis], len(xs), *xs[0][axis:])
