"""AdamW over all parameters of a small network as one vector: a step costs a few calls, not a few per parameter."""

import math

import torch
from torch import nn

from depthscale.errors import TrainingError
from depthscale.train.optimise import penalised_parameters

_EPS = 1e-8


class FlatAdamW:
    """AdamW (Loshchilov & Hutter 2019, alg. 2), with the norm of the gradient cut to ``clip``.

    The module's parameters become views of one vector and their gradients views of another. The steps are those of
    ``clip_grad_norm_`` and ``torch.optim.AdamW`` but for rounding. Raises TrainingError where nothing can be trained.
    """

    def __init__(
        self, module: nn.Module, weight_decay: float, betas: tuple[float, float], clip: float | None = None
    ) -> None:
        decayed, spared = penalised_parameters(module)
        parameters = [*decayed, *spared]
        if not parameters:
            raise TrainingError("expected a network with parameters that require gradients, got none")
        self.weight_decay, self.betas, self.clip, self.steps = weight_decay, betas, clip, 0
        self.values = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.gradients = torch.zeros_like(self.values)
        self.first, self.second = torch.zeros_like(self.values), torch.zeros_like(self.values)
        self._decayed = self.values[: sum(p.numel() for p in decayed)]
        at = 0
        for p in parameters:
            end = at + p.numel()
            p.data = self.values[at:end].view(p.shape)
            p.grad = self.gradients[at:end].view(p.shape)
            at = end

    def zero_grad(self) -> None:
        """Before a backward pass, which adds to the gradients."""
        self.gradients.zero_()

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One step with this learning rate."""
        self.steps += 1
        g, (b1, b2) = self.gradients, self.betas
        if self.clip is not None:
            norm = float(torch.linalg.vector_norm(g))
            if norm > self.clip:
                g.mul_(self.clip / (norm + 1e-6))
        if self.weight_decay:
            self._decayed.mul_(1 - lr * self.weight_decay)
        self.first.lerp_(g, 1 - b1)
        self.second.mul_(b2).addcmul_(g, g, value=1 - b2)
        root = self.second.sqrt().mul_(1 / math.sqrt(1 - b2**self.steps)).add_(_EPS)
        self.values.addcdiv_(self.first, root, value=-lr / (1 - b1**self.steps))
