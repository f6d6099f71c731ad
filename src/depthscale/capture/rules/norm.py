"""Normalisations."""

from typing import Any

from torch.fx import Node as FxNode

from depthscale.capture.mapper import Mapper, rule
from depthscale.capture.values import Value
from depthscale.graph import ops


@rule("batch_norm", "_native_batch_norm_legit", "native_batch_norm", "cudnn_batch_norm")
def _batch_norm(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["input"])
    weight, ws = m.vector(a["weight"])
    bias, bs = m.vector(a["bias"])
    momentum = float(a["momentum"] or 0.0)
    op = ops.BatchNorm(float(a["eps"]), momentum, weight, bias)
    return m.emit(op, x, leaf="norm", weight=ws, bias=bs)


@rule("layer_norm")
def _layer_norm(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["input"])
    weight, ws = m.vector(a["weight"])
    bias, bs = m.vector(a["bias"])
    op = ops.LayerNorm(len(a["normalized_shape"]), float(a["eps"]), weight, bias)
    return m.emit(op, x, leaf="norm", weight=ws, bias=bs)


@rule("rms_norm")
def _rms_norm(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["input"])
    weight, ws = m.vector(a["weight"])
    eps = 1.1920929e-07 if a["eps"] is None else float(a["eps"])  # torch: the dtype's epsilon
    return m.emit(ops.RMSNorm(len(a["normalized_shape"]), eps, weight), x, leaf="norm", weight=ws)


@rule("group_norm")
def _group_norm(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["input"])
    weight, ws = m.vector(a["weight"])
    bias, bs = m.vector(a["bias"])
    op = ops.GroupNorm(int(a["num_groups"]), float(a["eps"]), weight, bias)
    return m.emit(op, x, leaf="norm", weight=ws, bias=bs)


@rule("instance_norm")
def _instance_norm(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["input"])
    weight, ws = m.vector(a["weight"])
    bias, bs = m.vector(a["bias"])
    return m.emit(ops.InstanceNorm(float(a["eps"]), weight, bias), x, leaf="norm", weight=ws, bias=bs)
