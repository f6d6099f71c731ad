"""Windows taken out of a tensor and put back: unfold, im2col, col2im."""

import math
from typing import Any

from torch.fx import Node as FxNode

from depthscale.capture.mapper import Mapper, rule
from depthscale.capture.program import shape_of
from depthscale.capture.rules.layout import pick, reshape
from depthscale.capture.values import Data, Value
from depthscale.graph import ops


@rule("unfold")
def _unfold(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    """Windows of one axis, each a last axis of its own."""
    x = m.data(a["self"])
    axis, size, step = int(a["dimension"]) % len(x.shape), int(a["size"]), int(a["step"])
    count = (x.shape[axis] - size) // step + 1
    y = pick(m, x, axis, [o * step + k for o in range(count) for k in range(size)])
    y = reshape(m, y, (*x.shape[:axis], count, size, *x.shape[axis + 1 :]))
    order = [i for i in range(len(y.shape)) if i != axis + 1]
    return y if order[-1] == axis else m.emit(ops.Permute((*order, axis + 1)), y, leaf="permute")


@rule("im2col")
def _im2col(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    """(B, C, H, W) → (B, C·kh·kw, positions): what a convolution reads."""
    x = m.data(a["self"])
    kernel, dilation, padding, stride = _windows(a)
    if any(padding):
        x = m.emit(ops.Pad((padding[1], padding[1], padding[0], padding[0])), x, leaf="pad")
    b, c, *sides = x.shape
    counts = [_count(n, k, d, 0, s) for n, k, d, s in zip(sides, kernel, dilation, stride, strict=True)]
    for i in (0, 1):
        taps = [t * dilation[i] + o * stride[i] for t in range(kernel[i]) for o in range(counts[i])]
        x = pick(m, x, 2 + i, taps)
    y = reshape(m, x, (b, c, kernel[0], counts[0], kernel[1], counts[1]))
    y = m.emit(ops.Permute((0, 1, 2, 4, 3, 5)), y, leaf="permute")
    return reshape(m, y, shape_of(node))


@rule("col2im")
def _col2im(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    """(B, C·kh·kw, positions) → (B, C, H, W): every tap is spread over the image, and all are added."""
    x = m.data(a["self"])
    kernel, dilation, padding, stride = _windows(a)
    b, c, *sides = shape_of(node)
    rows = zip(sides, kernel, dilation, padding, stride, strict=True)
    counts = [_count(*row) for row in rows]
    x = reshape(m, x, (b, c, math.prod(kernel), *counts))
    terms = []
    for tap in range(math.prod(kernel)):
        y = m.emit(ops.Select(2, tap), x, leaf="select")
        pads: list[int] = []
        for i in (1, 0):
            y = _spread(m, y, 2 + i, stride[i])
            before = (tap // kernel[1] if i == 0 else tap % kernel[1]) * dilation[i] - padding[i]
            pads += [before, sides[i] - before - y.shape[2 + i]]
        terms.append(m.emit(ops.Pad(tuple(pads)), y, leaf="pad") if any(pads) else y)
    return terms[0] if len(terms) == 1 else m.emit(ops.Add(), *terms, leaf="add")


def _spread(m: Mapper, x: Data, axis: int, stride: int) -> Data:
    """The axis with stride − 1 zeros behind every entry."""
    if stride == 1:
        return x
    y = m.emit(ops.Unsqueeze(axis + 1), x, leaf="unsqueeze")
    pads = (0, 0) * (len(y.shape) - axis - 2) + (0, stride - 1)
    y = m.emit(ops.Pad(pads), y, leaf="pad")
    return reshape(m, y, (*x.shape[:axis], x.shape[axis] * stride, *x.shape[axis + 1 :]))


def _windows(a: dict[str, Any]) -> list[tuple[int, int]]:
    return [(int(a[k][0]), int(a[k][-1])) for k in ("kernel_size", "dilation", "padding", "stride")]


def _count(n: int, kernel: int, dilation: int, padding: int, stride: int) -> int:
    """How many windows fit."""
    return (n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
