"""Linear layers, convolutions, matrix products, embeddings."""

import math
from typing import Any

from torch.fx import Node as FxNode

from depthscale.capture.mapper import Mapper, rule, special
from depthscale.capture.rules.einsum import einsum
from depthscale.capture.values import Data, Static, Value
from depthscale.graph import ops


@rule("linear")
def _linear(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    return linear(m, a["input"], a["weight"], a["bias"])


def linear(m: Mapper, x: Value, weight: Value, bias: Value, turn: bool = False) -> Data:
    """x Wᵀ + b; ``turn``: the weight comes as (in, out)."""
    x = m.data(x)
    out, into = (weight.shape[::-1] if turn else weight.shape) if len(weight.shape) == 2 else (1, weight.shape[0])
    law, source = m.weight(weight, (out, into), turn)
    data_bias = bias if isinstance(bias, Data) else None
    bias_law, bias_source = m.vector(None if data_bias is not None else bias)
    if law is not None:
        y = m.emit(ops.Linear(out, law, bias_law), x, leaf="linear", weight=source, bias=bias_source)
    else:
        fed = m.data(weight)
        if fed.shape != ((into, out) if turn else (out, into)):  # a computed weight whose rows are alike
            fed = m.emit(ops.Expand((into, out) if turn else (out, into)), fed)
        if turn:
            fed = m.emit(ops.Permute((1, 0)), fed)
        y = m.emit(ops.Linear(out, None, bias_law), x, fed, leaf="linear", bias=bias_source)
    return y if data_bias is None else m.emit(ops.Add(), y, data_bias, leaf="add")


@rule("addmm")
def _addmm(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    weight = a["mat2"]
    if isinstance(weight, Data) or a["beta"] != 1 or a["alpha"] != 1:
        y = m.emit(ops.MatMul(), m.data(a["mat1"]), m.data(weight), leaf="matmul")
        return m.emit(ops.Add(), y, m.data(a["self"]), leaf="add")
    return linear(m, a["mat1"], weight, a["self"], turn=True)


@rule("matmul", "mm", "bmm")
def _matmul(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x, y = a["self"], a.get("other", a.get("mat2"))
    if isinstance(y, Static) and len(y.shape) == 2 and len(x.shape) >= 2:
        return linear(m, x, y, None, turn=True)
    return product(m, m.full(x), m.full(y))


@rule("baddbmm")
def _baddbmm(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    y = scaled(m, product(m, m.data(a["batch1"]), m.data(a["batch2"])), float(a["alpha"]))
    if a["beta"] == 0:
        return y
    return m.emit(ops.Add(), y, scaled(m, m.data(a["self"]), float(a["beta"])), leaf="add")


def scaled(m: Mapper, x: Data, factor: float) -> Data:
    """x times a number; x itself for 1."""
    if factor == 1:
        return x
    return m.emit(ops.Activation("affine", (("scale", factor),)), x, leaf="scale").hiding(x.hidden)


def product(m: Mapper, x: Data, y: Data) -> Data:
    """The matrix product with torch's rules for vectors."""
    row, column = len(x.shape) == 1, len(y.shape) == 1
    if row:
        x = m.emit(ops.Unsqueeze(0), x)
    if column:
        y = m.emit(ops.Unsqueeze(1), y)
    out = m.emit(ops.MatMul(), x, y, leaf="matmul")
    if column:
        out = m.emit(ops.Squeeze(-1), out)
    return m.emit(ops.Squeeze(-1 if column else -2), out) if row else out


@rule("einsum")
def _einsum(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    return einsum(m, str(a["equation"]), [m.full(x) for x in a["tensors"]])


@rule("conv1d", "conv2d", "conv3d")
def _conv(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x, weight = m.data(a["input"]), a["weight"]
    dims = len(weight.shape) - 2
    kernel = weight.shape[2:]
    bare = len(x.shape) == dims + 1  # an image without a batch
    if bare:
        x = m.emit(ops.Unsqueeze(0), x)
    stride, dilation = per_axis(a["stride"], dims), per_axis(a["dilation"], dims)
    x, padding = padded(m, x, a["padding"], kernel, dilation)
    law, source = m.weight(weight, weight.shape)
    bias_law, bias_source = m.vector(a["bias"])
    op = ops.Conv(weight.shape[0], kernel, stride, padding, dilation, int(a["groups"]), law, bias_law)
    if law is not None:
        y = m.emit(op, x, leaf="conv", weight=source, bias=bias_source)
    else:
        fed = m.data(weight)
        if fed.shape != weight.shape:
            fed = m.emit(ops.Expand(weight.shape), fed)
        y = m.emit(op, x, fed, leaf="conv", bias=bias_source)
    return m.emit(ops.Squeeze(0), y) if bare else y


def per_axis(value: Any, dims: int) -> tuple[int, ...]:
    """One number per spatial axis."""
    values = tuple(int(v) for v in value) if isinstance(value, list | tuple) else (int(value),)
    return values * dims if len(values) == 1 else values


def padded(m: Mapper, x: Data, padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[Data, Any]:
    """The padding of a convolution as numbers; what it cannot say becomes a Pad in front."""
    dims = len(kernel)
    if not isinstance(padding, str):
        return x, per_axis(padding, dims)
    if padding == "valid":
        return x, (0,) * dims
    whole = tuple(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
    if all(w % 2 == 0 for w in whole):
        return x, tuple(w // 2 for w in whole)
    pads: list[int] = []
    for w in reversed(whole):
        pads += [w // 2, w - w // 2]
    return m.emit(ops.Pad(tuple(pads)), x, leaf="pad"), (0,) * dims


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x, weight = m.data(a["input"]), a["weight"]
    dims = len(weight.shape) - 2
    law, source = m.weight(weight, weight.shape)
    if law is None:
        raise m.fail("expected a transposed convolution to have a weight of its own, got a computed one")
    bias_law, bias_source = m.vector(a["bias"])
    groups = int(a["groups"])
    op = ops.ConvTranspose(
        weight.shape[1] * groups,
        weight.shape[2:],
        per_axis(a["stride"], dims),
        per_axis(a["padding"], dims),
        per_axis(a["output_padding"], dims),
        per_axis(a["dilation"], dims),
        groups,
        law,
        bias_law,
    )
    return m.emit(op, x, leaf="conv", weight=source, bias=bias_source)


@special("embedding")
def _embedding(m: Mapper, a: dict[str, Any], node: FxNode) -> Value | None:
    weight, index = a["weight"], a["indices"]
    if not isinstance(weight, Static) or not isinstance(index, Static) or not varies(m, index):
        return None
    wire = tokens(m, index)
    entries, width = weight.shape
    law, source = m.weight(weight, weight.shape)
    if law is None:
        law, source, _ = m.describe(weight)
    return m.emit(ops.Embedding(entries, width, law), wire, leaf="embedding", weight=source)


def varies(m: Mapper, index: Static) -> bool:
    """Whether indices depend on the data: they differ between the examples of the batch."""
    if not any(n.name in m.program.inputs for n in ancestors(index.fx)):
        return False
    value = m.evaluate(index)
    # positions and token types are made from the data's shape, or are the same for every example
    return bool((value != value[:1]).any()) if len(value) > 1 else index.fx.op == "placeholder"


def ancestors(node: FxNode) -> list[FxNode]:
    """A node and everything it is made from."""
    seen: dict[FxNode, None] = {}
    stack = [node]
    while stack:
        top = stack.pop()
        if top not in seen:
            seen[top] = None
            stack.extend(top.all_input_nodes)
    return list(seen)


def tokens(m: Mapper, index: Static) -> Data:
    """The Input of whole numbers that indices come from, in the indices' shape."""
    sources = [n for n in ancestors(index.fx) if n.name in m.program.inputs]
    size = math.prod(index.shape)
    for source in sources:
        wire = m.input(source)
        if math.prod(wire.shape) == size:
            return wire if wire.shape == index.shape else m.emit(ops.Reshape(index.shape), wire, leaf="reshape")
    raise m.fail(f"expected indices that are the data's own, got ones of shape {index.shape} computed from them")
