"""The loss that is minimised: cross-entropy, mean square or Huber, over one output or several."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from depthscale.errors import TrainingError
from depthscale.train.config import TrainConfig

Loss = Callable[[Tensor, Tensor], Tensor]


def outputs_of(out: Any) -> tuple[Tensor, ...]:
    """The output tensors of a network, the main one first.

    Raises TrainingError for an output that holds no tensor.
    """
    if isinstance(out, Tensor):
        return (out,)
    if hasattr(out, "logits"):  # as transformers' models answer
        return (out.logits,)
    if isinstance(out, dict):
        out = tuple(out.values())
    if isinstance(out, tuple | list) and out and all(isinstance(o, Tensor) for o in out):
        return tuple(out)
    raise TrainingError(f"expected the network to return a tensor or a tuple of tensors, got {type(out).__name__}")


class Objective:
    """``objective(outputs, y)``: the main output's loss plus ``aux_weight`` times the others'."""

    def __init__(self, task: str, config: TrainConfig) -> None:
        kind = config.loss
        if kind == "auto":
            kind = "cross_entropy" if task == "classification" else "mse"
        if (kind == "cross_entropy") != (task == "classification"):
            raise TrainingError(f"expected a loss that fits {task}, got {config.loss!r}; leave it at auto")
        if config.label_smoothing and task != "classification":
            raise TrainingError("expected no label_smoothing for regression; leave it at 0")
        self.kind, self.task, self.aux_weight = kind, task, config.aux_weight
        smoothing = config.label_smoothing
        losses: dict[str, Loss] = {
            "cross_entropy": lambda out, y: F.cross_entropy(out, y, label_smoothing=smoothing),
            "mse": F.mse_loss,
            "huber": F.huber_loss,
        }
        self._loss = losses[kind]

    def __call__(self, out: Any, y: Tensor) -> Tensor:
        """The mean loss of a batch."""
        if isinstance(out, Tensor):
            return self._loss(out, y)
        main, *aux = outputs_of(out)
        loss = self._loss(main, y)
        for other in aux:
            loss = loss + self.aux_weight * self._loss(other, y)
        return loss

    def mixed(self, out: Any, y: Tensor, partner: Tensor, share: float) -> Tensor:
        """The loss of a mixup batch."""
        return share * self(out, y) + (1 - share) * self(out, y[partner])

    def check(self, out: Any, y: Tensor) -> None:
        """Raise TrainingError unless the outputs fit the targets ``y`` (classes: the largest index may be ahead)."""
        for o in outputs_of(out):
            if self.task == "classification":
                classes = int(y.max()) + 1
                if o.dim() != 2 or o.shape[1] < classes:
                    raise TrainingError(
                        f"expected the network to give (B, {classes} or more) scores for classes 0 to {classes - 1}, "
                        f"got an output of shape (B, {', '.join(map(str, o.shape[1:]))})"
                    )
            elif o.shape[1:] != y.shape[1:]:
                raise TrainingError(
                    f"expected the network to give (B, {y.shape[1]}) numbers, one a target, "
                    f"got an output of shape (B, {', '.join(map(str, o.shape[1:]))})"
                )
