"""Normalisations."""

from collections.abc import Callable
from typing import Any

from torch.fx import Node as FxNode

from depthscale.capture.mapper import Mapper, rule
from depthscale.capture.values import Value
from depthscale.graph import Law, Op, ops

_SINGLE = 1.1920929e-07  # what torch adds where none is given: the epsilon of single precision


def _emit(m: Mapper, a: dict[str, Any], make: Callable[[Law | None, Law | None], Op]) -> Value:
    """The normalisation that ``make`` makes of the laws of gain and bias."""
    x = m.data(a["input"])
    weight, ws = m.vector(a["weight"])
    bias, bs = m.vector(a.get("bias"))
    return m.emit(make(weight, bias), x, leaf="norm", weight=ws, bias=bs)


@rule("batch_norm", "_native_batch_norm_legit", "native_batch_norm", "cudnn_batch_norm")
def _batch_norm(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    return _emit(m, a, lambda w, b: ops.BatchNorm(float(a["eps"]), float(a["momentum"] or 0.0), w, b))


@rule("layer_norm")
def _layer_norm(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    return _emit(m, a, lambda w, b: ops.LayerNorm(len(a["normalized_shape"]), float(a["eps"]), w, b))


@rule("rms_norm")
def _rms_norm(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    eps = _SINGLE if a["eps"] is None else float(a["eps"])
    return _emit(m, a, lambda w, _: ops.RMSNorm(len(a["normalized_shape"]), eps, w))


@rule("group_norm")
def _group_norm(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    return _emit(m, a, lambda w, b: ops.GroupNorm(int(a["num_groups"]), float(a["eps"]), w, b))


@rule("instance_norm")
def _instance_norm(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    return _emit(m, a, lambda w, b: ops.InstanceNorm(float(a["eps"]), w, b))
