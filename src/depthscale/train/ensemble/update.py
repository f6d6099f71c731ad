"""How parameters move: SGD with momentum, fused into the gradient's own product where it can be; AdamW; clipping.

Torch's SGD is v ← μ v + g, w ← w − η v. With a constant η the rate can be multiplied into the loss's gradient, which
is small, and so into every gradient behind it: v ← μ v − η g is then one ``baddbmm`` that accumulates into v, and
w ← w + v the only other pass over the weights. Rates, momenta and decays are vectors over the members (E,).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from depthscale.errors import TrainingError
from depthscale.train.config import TrainConfig
from depthscale.train.ensemble.member import Member

Stack = dict[str, Tensor]


class Update:
    """The members' optimiser: its numbers, and what it does when it has the gradients."""

    def __init__(
        self, config: TrainConfig, members: Sequence[Member], decayed: frozenset[str], dtype: torch.dtype, device: Any
    ) -> None:
        if config.ema is not None:
            raise TrainingError("expected no running average of weights in an ensemble; leave ema at None")
        self.config, self.decayed = config, decayed
        self.state: dict[str, Stack] = {}
        self.step = 0

        def vector(name: str) -> Tensor:
            given = [getattr(m, name) for m in members]
            base = getattr(config, name)
            return torch.tensor([base if v is None else v for v in given], dtype=dtype, device=device)

        self.lr, self.momentum, self.decay = vector("lr"), vector("momentum"), vector("weight_decay")

    @property
    def fused(self) -> bool:
        """Whether the update is part of the backward pass."""
        c = self.config
        steady = c.schedule == "constant" and c.warmup == 0
        return c.optimiser == "sgd" and steady and c.clip is None and not self._nesterov

    @property
    def _nesterov(self) -> bool:
        return self.config.nesterov and bool((self.momentum > 0).any())

    @property
    def common_momentum(self) -> float | None:
        """The members' momentum where they have one in common."""
        first = float(self.momentum[0])
        return first if bool((self.momentum == first).all()) else None

    @property
    def decays(self) -> bool:
        """Whether any member's weights decay."""
        return bool((self.decay > 0).any())

    def factor(self) -> Tensor:
        """What the loss's gradient is multiplied by (E, 1, 1)."""
        return (self.lr if self.fused else torch.ones_like(self.lr)).view(-1, 1, 1)

    def memory(self, kind: str, name: str, like: Tensor) -> Tensor:
        """The state ``kind`` of a parameter, zero at first."""
        kept = self.state.setdefault(kind, {})
        if name not in kept:
            kept[name] = torch.zeros_like(like, memory_format=torch.contiguous_format)
        return kept[name]

    def select(self, keep: Tensor) -> None:
        """Go on with these members only."""
        self.lr, self.momentum, self.decay = (v[keep] for v in (self.lr, self.momentum, self.decay))
        self.state = {kind: {k: v[keep] for k, v in kept.items()} for kind, kept in self.state.items()}

    def apply(self, parameters: Stack, gradients: Stack, factor: float) -> None:
        """Move the parameters by their gradients (which are used up) at ``factor`` of the members' rates."""
        self.step += 1
        if self.config.clip is not None:
            self._clip(gradients, self.config.clip)
        move = self._sgd if self.config.optimiser == "sgd" else self._adamw
        for name, w in parameters.items():
            move(name, w, gradients[name], factor)

    def _clip(self, gradients: Stack, limit: float) -> None:
        """Scale every member's gradients to a joint norm of at most ``limit``."""
        norms = [g.flatten(1).norm(dim=1) for g in gradients.values()]
        scale = (limit / (torch.stack(norms).norm(dim=0) + 1e-6)).clamp_(max=1.0)
        for g in gradients.values():
            g.mul_(over(scale, g))

    def _sgd(self, name: str, w: Tensor, g: Tensor, factor: float) -> None:
        if name in self.decayed and self.decays:
            g.addcmul_(w, over(self.decay, w))
        if bool((self.momentum > 0).any()):
            mu = over(self.momentum, w)
            v = self.memory("momentum", name, w).mul_(mu).add_(g)
            g = g.addcmul_(v, mu) if self._nesterov else v
        w.addcmul_(g, over(self.lr, w), value=-factor)

    def _adamw(self, name: str, w: Tensor, g: Tensor, factor: float) -> None:
        b1, b2 = self.config.betas
        if name in self.decayed and self.decays:
            w.mul_(1 - factor * over(self.lr * self.decay, w))
        m = self.memory("mean", name, w).lerp_(g, 1 - b1)
        v = self.memory("square", name, w).mul_(b2).addcmul_(g, g, value=1 - b2)
        root = v.sqrt().div_((1 - b2**self.step) ** 0.5).add_(1e-8)
        w.addcdiv_(m * over(self.lr, w), root, value=-factor / (1 - b1**self.step))


def over(values: Tensor, like: Tensor) -> Tensor:
    """A vector over members, shaped to multiply a stacked tensor."""
    return values.view(-1, *(1,) * (like.dim() - 1))
