"""Attention and softmax, and the masks in front of them."""

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node as FxNode

from depthscale.capture.mapper import Mapper, rule
from depthscale.capture.values import Data, Hidden, Static, Value
from depthscale.graph import ops


def seen(allowed: Tensor) -> Hidden | None:
    """What a mask (True: may look) leaves of each row: None for everything."""
    if bool(allowed.all()):
        return None
    if allowed.ndim >= 2:
        rows, columns = allowed.shape[-2:]
        past = torch.ones(rows, columns, dtype=torch.bool).tril(columns - rows)
        if rows > 1 and bool((allowed == past).all()):
            return Hidden(causal=True)
    share = float(allowed.float().mean())
    return Hidden(visible=max(round(share * allowed.shape[-1]), 1))


def hide(m: Mapper, x: Data, allowed: Tensor) -> Data:
    """Logits of which only these entries will count."""
    new, old = seen(allowed), x.hidden
    if new is None or old is None:
        return x.hiding(new)
    if new.causal and old.causal:
        return x
    length = x.shape[-1]
    return x.hiding(Hidden(visible=min(h.visible or (length + 1) // 2 for h in (new, old))))


@rule("softmax", "_softmax")
def _softmax(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    axis = int(a["dim"])
    hidden = x.hidden or Hidden()
    causal = hidden.causal and axis % len(x.shape) == len(x.shape) - 1
    return m.emit(ops.Softmax(axis, causal, hidden.visible), x, leaf="softmax")


@rule("log_softmax")
def _log_softmax(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    from depthscale.capture.rules.elementwise import function

    return function(m, _softmax(m, a, node), "log")


@rule("scaled_dot_product_attention")
def _attention(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    q, k, v = m.full(a["query"]), m.full(a["key"]), m.full(a["value"])
    if k.shape[1] != q.shape[1]:  # queries that share keys: as many groups, or all of them
        k, v = (_repeated(m, x, q.shape[1] // x.shape[1]) for x in (k, v))
    causal, visible, bias = bool(a["is_causal"]), 0, None
    mask = a["attn_mask"]
    if isinstance(mask, Data):
        bias = mask
    elif isinstance(mask, Static):
        value = m.evaluate(mask)
        hidden = seen(value if value.dtype == torch.bool else value > -50)
        causal, visible = (hidden.causal or causal, hidden.visible) if hidden else (causal, 0)
        finite = value.dtype != torch.bool and (hidden is None) and bool((value != 0).any())
        bias = m.lift(mask) if finite else None
    scale = float(a["scale"] or 0.0)
    op = ops.Attention(causal, scale, float(a["dropout_p"]), visible)
    return m.emit(op, q, k, v, *([bias] if bias is not None else []), leaf="attention")


def _repeated(m: Mapper, x: Data, times: int) -> Data:
    """Heads that several queries share, as many times."""
    from depthscale.capture.rules.layout import expand, reshape

    b, h, t, d = x.shape
    y = m.emit(ops.Unsqueeze(2), x, leaf="unsqueeze")
    return reshape(m, expand(m, y, (b, h, times, t, d)), (b, h * times, t, d))
