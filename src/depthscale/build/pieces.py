"""The little that networks need beyond ``torch.nn``: used by built modules, and copied into generated sources as is.

Nothing here may use a name from outside this file but ``torch``, ``nn`` and ``F``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Tensors(nn.Module):
    """Learned tensors that the network reads by name."""

    def __init__(self, device=None, dtype=None, **shapes):  # type: ignore[no-untyped-def]
        super().__init__()
        for name, shape in shapes.items():
            values = torch.zeros(shape, device=device, dtype=dtype)
            self.register_parameter(name, nn.Parameter(values))


class Fixed(nn.Module):
    """Fixed tensors that the network reads by name."""

    def __init__(self, device=None, dtype=None, **shapes):  # type: ignore[no-untyped-def]
        super().__init__()
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, device=device, dtype=dtype))


def without(module: nn.Module, *names: str) -> nn.Module:
    """The module with these of its parameters taken away."""
    for name in names:
        module.register_parameter(name, None)
    return module


def drop_path(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero whole examples with probability p in training and scale the rest by 1/(1 - p)."""
    if not training or p == 0:
        return x
    keep = torch.rand(x.shape[:1] + (1,) * (x.dim() - 1), dtype=torch.float32, device=x.device) >= p
    return x * (keep.to(x.dtype) / (1 - p))


def causal(mask: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """An attention mask that also hides later tokens."""
    past = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    return mask & past if mask.dtype == torch.bool else mask.masked_fill(~past, float("-inf"))


def causal_logits(x: Tensor) -> Tensor:
    """Logits of which row i keeps the entries up to i."""
    past = torch.ones(x.shape[-2:], dtype=torch.bool, device=x.device).tril()
    return x.masked_fill(~past, float("-inf"))


__all__ = ["F", "Fixed", "Tensors", "causal", "causal_logits", "drop_path", "without"]
