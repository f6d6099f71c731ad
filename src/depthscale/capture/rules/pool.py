"""Pooling, reductions, resampling."""

import math
from typing import Any

from torch.fx import Node as FxNode

from depthscale.capture.mapper import Mapper, axes_of, rule
from depthscale.capture.program import aten, shape_of
from depthscale.capture.rules.contraction import per_axis
from depthscale.capture.values import Data, Value
from depthscale.errors import GraphError
from depthscale.graph import ops
from depthscale.graph.shapes import infer


@rule("max_pool1d", "max_pool2d", "max_pool3d")
def _max_pool(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    dims = len(x.shape) - 2
    kernel = per_axis(a["kernel_size"], dims)
    stride = per_axis(a["stride"], dims) if a["stride"] else kernel
    if any(d != 1 for d in per_axis(a["dilation"], dims)):
        raise m.fail(f"expected a max pool without dilation, got {a['dilation']}")
    padding = per_axis(a["padding"], dims)
    made = m.op(x)
    if isinstance(made, ops.Pad) and made.value == -math.inf and not any(padding):
        return _padded_pool(m, x, made, kernel, stride, shape_of(node))
    return m.emit(ops.MaxPool(kernel, stride, padding, bool(a["ceil_mode"])), x, leaf="pool")


def _padded_pool(
    m: Mapper, x: Data, pad: ops.Pad, kernel: tuple[int, ...], stride: tuple[int, ...], shape: tuple[int, ...]
) -> Data:
    """A maximum behind a padding of −∞ ("same" padding): a padding of its own, and windows that hang over the end."""
    front = tuple(pad.pads[2 * k] for k in reversed(range(len(kernel))))
    inner = m.drafts[m.inner(x)]
    before, other = m.sizes[m.inner(x)]
    fed = Data(m.inner(x), before, other)
    for ceil in (False, True):
        op = ops.MaxPool(kernel, stride, front, ceil)
        try:
            fits = infer(op, before) == shape
        except GraphError:
            fits = False
        if fits:
            return m.emit(op, fed, leaf="pool")
    raise m.fail(f"expected a maximum whose padding its windows can say, got {pad} behind {inner.op}")


@rule("max_pool2d_with_indices", "max_pool3d_with_indices")
def _max_pool_indices(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    return (_max_pool(m, a, node), None)


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    dims = len(x.shape) - 2
    kernel = per_axis(a["kernel_size"], dims)
    stride = per_axis(a["stride"], dims) if a["stride"] else kernel
    padding = per_axis(a["padding"], dims)
    counted = bool(a.get("count_include_pad", True))
    y = m.emit(ops.AvgPool(kernel, stride, padding, bool(a["ceil_mode"]), counted), x, leaf="pool")
    if divisor := a.get("divisor_override"):
        scale = math.prod(kernel) / float(divisor)
        y = m.emit(ops.Activation("affine", (("scale", scale),)), y, leaf="scale")
    return y


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def _adaptive_avg(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    return _adaptive(m, m.data(a["self"]), "avg", node)


@rule("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive_max(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    return (_adaptive(m, m.data(a["self"]), "max", node), None)


def _adaptive(m: Mapper, x: Data, kind: str, node: FxNode) -> Data:
    made = node.meta["val"]
    size = tuple(int(n) for n in (made[0] if isinstance(made, tuple | list) else made).shape[2:])
    if size == x.shape[2:]:
        return x
    if all(n == 1 for n in size):
        axes = tuple(range(2, len(x.shape)))
        return m.emit(ops.Reduce("mean" if kind == "avg" else "max", axes, True), x, leaf="pool")
    return m.emit(ops.AdaptivePool(size, kind), x, leaf="pool")


@rule("mean", "sum", "amax", "nansum")
def _reduce(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    kind = {"mean": "mean", "amax": "max"}.get(aten(node), "sum")
    return m.emit(ops.Reduce(kind, axes_of(a.get("dim"), len(x.shape)), bool(a.get("keepdim"))), x, leaf=kind)


@rule("max")
def _max(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    if "other" in a:
        raise m.fail("expected a maximum along an axis; the larger of two tensors has no rule")
    y = m.emit(ops.Reduce("max", axes_of(a.get("dim"), len(x.shape)), bool(a.get("keepdim"))), x, leaf="max")
    return (y, None) if "dim" in a else y


@rule("var", "std", "var_mean", "std_mean")
def _variance(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    axes = axes_of(a.get("dim"), len(x.shape))
    keep = bool(a.get("keepdim"))
    correction = a.get("correction")
    correction = 1 if correction is None and a.get("unbiased", True) else int(correction or 0)
    mean = m.emit(ops.Reduce("mean", axes, True), x, leaf="mean")
    square = m.emit(ops.Activation("square"), m.emit(ops.Subtract(), x, mean, leaf="centred"), leaf="square")
    y = m.emit(ops.Reduce("mean", axes, keep), square, leaf="var")
    n = math.prod(x.shape[i] for i in axes)
    if correction and n > correction:
        y = m.emit(ops.Activation("affine", (("scale", n / (n - correction)),)), y, leaf="scale")
    name = aten(node)
    if name.startswith("std"):
        y = m.emit(ops.Activation("sqrt"), y, leaf="std")
    if not name.endswith("mean"):
        return y
    return y, mean if keep else m.emit(ops.Reduce("mean", axes, False), x, leaf="mean")


@rule("linalg_vector_norm", "norm", "frobenius_norm")
def _norm(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    order = a.get("ord", a.get("p"))
    if order not in (None, 2, 2.0):
        raise m.fail(f"expected the Euclidean norm, got order {order}")
    axes = axes_of(a.get("dim"), len(x.shape))
    square = m.emit(ops.Activation("square"), x, leaf="square")
    total = m.emit(ops.Reduce("sum", axes, bool(a.get("keepdim"))), square, leaf="sum")
    return m.emit(ops.Activation("sqrt"), total, leaf="norm")


@rule(
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact2d",
    "upsample_bilinear2d", "upsample_linear1d", "upsample_bicubic2d", "_upsample_bilinear2d_aa",
)  # fmt: skip
def _upsample(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a.get("self", a.get("input")))
    size = shape_of(node)[2:]
    if size == x.shape[2:]:
        return x
    factors = tuple(o // n for n, o in zip(x.shape[2:], size, strict=True))
    mode = next((k for k in ("nearest", "bicubic") if k in aten(node)), "bilinear")
    if aten(node).endswith("_aa"):
        raise m.fail("expected resampling without antialiasing")
    corners = bool(a.get("align_corners"))
    whole = all(f * n == o for f, n, o in zip(factors, x.shape[2:], size, strict=True))
    if corners or mode == "bicubic" or not whole:
        return m.emit(ops.Resize(size, mode, corners), x, leaf="resize")
    nearest = mode == "nearest"
    return m.emit(ops.Upsample(factors, "nearest" if nearest else "bilinear"), x, leaf="upsample")
