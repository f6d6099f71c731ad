"""The losses of all members at once, and their gradients, without autograd.

Outputs come as (E, C, B): members, classes or targets, rows. Gradients are those of the mean over the batch, times a
factor per member (its learning rate, where the update is fused into the gradient).
"""

from typing import Any

import torch
from torch import Tensor

from depthscale.errors import TrainingError
from depthscale.train.config import TrainConfig


class Loss:
    """``loss(out, y, factor, into)``: each member's mean loss (E,), the gradient written to ``into`` (E, C, B).

    ``y`` is (B,) or (E, B) classes, or (B, T) or (E, B, T) numbers. ``factor`` (E, 1, 1) multiplies the gradients.
    """

    def __init__(self, task: str, config: TrainConfig) -> None:
        kind = config.loss
        if kind == "auto":
            kind = "cross_entropy" if task == "classification" else "mse"
        if (kind == "cross_entropy") != (task == "classification"):
            raise TrainingError(f"expected a loss that fits {task}, got {config.loss!r}; leave it at auto")
        self.kind, self.smoothing = kind, config.label_smoothing

    def __call__(self, out: Tensor, y: Tensor, factor: Tensor, into: Tensor) -> Tensor:
        """The losses (E,)."""
        if self.kind == "cross_entropy":
            return self._cross_entropy(out, y, factor, into)
        y = (y if y.dim() == 3 else y[None]).mT  # (1 or E, T, B)
        error = torch.sub(out, y, out=into)
        rows = error[0].numel()
        if self.kind == "mse":
            loss = error.square().mean((1, 2))
            error.mul_(factor * (2 / rows))
        else:  # Huber's, with its bend at 1
            size = error.abs()
            loss = torch.where(size < 1, 0.5 * size.square(), size - 0.5).mean((1, 2))
            error.clamp_(-1, 1).mul_(factor / rows)
        return loss

    def _cross_entropy(self, out: Tensor, y: Tensor, factor: Tensor, into: Tensor) -> Tensor:
        rows = out.shape[2]
        log_p = torch.log_softmax(out, 1)
        index = y.view(-1, 1, rows).expand(len(out), 1, rows)
        picked = log_p.gather(1, index)
        loss = picked.mean((1, 2)).neg_()
        torch.exp(log_p, out=into)
        keep = 1 - self.smoothing
        if self.smoothing:
            loss = keep * loss - self.smoothing * log_p.mean((1, 2))
            into.sub_(self.smoothing / out.shape[1])
        into.scatter_add_(1, index, self._minus(index, keep, into))
        into.mul_(factor / rows)
        return loss

    def _minus(self, index: Tensor, keep: float, like: Tensor) -> Tensor:
        return torch.full((), -keep, dtype=like.dtype, device=like.device).expand(index.shape)


class Score:
    """Every member's metrics on a split, gathered block by block, in double precision."""

    def __init__(self, y: Tensor, task: str) -> None:
        self.y, self.task = y, task
        self._sums: dict[str, Any] = {}

    def add(self, out: Tensor, rows: Tensor) -> None:
        """The outputs (E, C, N) for these rows."""
        out, y = out.double(), self.y[rows]
        if self.task == "classification":
            index = y.view(1, 1, -1).expand(len(out), 1, -1)
            self._sum("loss", -torch.log_softmax(out, 1).gather(1, index).sum((1, 2)))
            self._sum("accuracy", (out.argmax(1) == y).double().sum(1))
        else:
            self._sum("error", (out - y.double().mT).square().sum(2))  # (E, T)

    def _sum(self, name: str, values: Tensor) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + values

    def result(self) -> dict[str, list[float]]:
        """Loss and accuracy (or mean square error and r2), a list over the members each."""
        rows = len(self.y)
        if self.task == "classification":
            return {name: (total / rows).tolist() for name, total in self._sums.items()}
        y, error = self.y.double(), self._sums["error"]
        spread = (y - y.mean(0)).square().sum(0)
        r2 = 1 - error / torch.where(spread > 0, spread, torch.nan)
        return {"loss": (error.mean(1) / rows).tolist(), "r2": r2.mean(1).tolist()}
