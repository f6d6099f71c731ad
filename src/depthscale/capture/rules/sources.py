"""Randomness that a forward pass makes for itself: stochastic depth written with ``bernoulli_``."""

from typing import Any

from torch.fx import Node as FxNode

from depthscale.capture.mapper import Mapper, special
from depthscale.capture.program import shape_of
from depthscale.capture.values import Noise, Static, Value


@special("bernoulli")
def _bernoulli(m: Mapper, a: dict[str, Any], node: FxNode) -> Value | None:
    p = a.get("p")
    if isinstance(p, int | float) and isinstance(a["self"], Static):
        return Noise(float(p), shape_of(node))
    return None
