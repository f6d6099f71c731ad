"""Buffers that are asked for by name and shape and made once: a smaller shape reuses the memory of a larger one."""

import math

import torch
from torch import Tensor


class Arena:
    """Contiguous tensors over memory that is kept from call to call; their contents are whatever was there."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self._memory: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """A tensor of this shape; the same memory for the same name."""
        size = math.prod(shape)
        held = self._memory.get(name)
        if held is None or held.numel() < size:
            held = self._memory[name] = torch.zeros(size, dtype=self.dtype, device=self.device)
        return held[:size].view(shape)
