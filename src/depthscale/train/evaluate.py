"""What a network scores on a split: predictions in batches, then the metrics of the task, in double precision."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from depthscale.errors import TrainingError
from depthscale.train.batches import SplitLike, tensors
from depthscale.train.objective import outputs_of

EVALUATION_BATCH = 500


@dataclass(frozen=True, eq=False)
class ClassificationMetrics:
    """Scores of a classifier on ``n`` rows; ``confusion[i, j]`` counts rows of class i taken for class j."""

    n: int
    accuracy: float
    cross_entropy: float  # nats per row
    confusion: NDArray[np.int64]  # (classes, classes)

    @property
    def loss(self) -> float:
        """The cross-entropy."""
        return self.cross_entropy

    def summary(self) -> dict[str, float]:
        """The numbers that a line of a record holds."""
        return {"loss": self.cross_entropy, "accuracy": self.accuracy}


@dataclass(frozen=True, eq=False)
class RegressionMetrics:
    """Scores of a regression on ``n`` rows of (N, T) targets, in the units that the targets were given in.

    ``r2`` is 1 − Σ(y−f)²/Σ(y−ȳ)² averaged over targets; NaN for a target that is constant on these rows.
    """

    n: int
    mse: float
    mae: float
    r2: float

    @property
    def rmse(self) -> float:
        """Root of the mean square error."""
        return math.sqrt(self.mse)

    @property
    def loss(self) -> float:
        """The mean square error."""
        return self.mse

    def summary(self) -> dict[str, float]:
        """The numbers that a line of a record holds."""
        return {"loss": self.mse, "rmse": self.rmse, "mae": self.mae, "r2": self.r2}


Metrics = ClassificationMetrics | RegressionMetrics


def evaluate(model: nn.Module, split: SplitLike, task: str, *, batch: int = EVALUATION_BATCH) -> Metrics:
    """The metrics of ``model`` on a split, in evaluation mode; the model's mode is left as it was.

    Raises TrainingError for rows or outputs that do not fit the task.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), None)
    x, y = tensors(split, task, like)
    with evaluating(model):
        out = run_batched(model, x, like.device if like is not None else x.device, batch)
    return score(out, y.to(out.device), task)


def predict(model: nn.Module, x: NDArray[Any] | Tensor, *, batch: int = EVALUATION_BATCH) -> NDArray[Any]:
    """The network's main output (N, …) for rows ``x``, in evaluation mode: class scores, or predicted targets."""
    like = next((p for p in model.parameters() if p.is_floating_point()), None)
    rows = x.detach() if isinstance(x, Tensor) else torch.from_numpy(np.array(x, copy=True))
    if rows.is_floating_point() and like is not None:
        rows = rows.to(like.dtype)
    if len(rows) == 0:
        raise TrainingError("expected at least one row to predict, got none")
    with evaluating(model):
        out = run_batched(model, rows, like.device if like is not None else rows.device, batch)
    result: NDArray[Any] = out.cpu().numpy()
    return result


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; each module's own mode comes back afterwards."""
    training = [m for m in model.modules() if m.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def run_batched(forward: Callable[[Tensor], Any], x: Tensor, device: torch.device, batch: int) -> Tensor:
    """The main output for all rows, one batch after another."""
    return torch.cat([outputs_of(forward(part.to(device)))[0] for part in torch.split(x, batch)])


def score(out: Tensor, y: Tensor, task: str) -> Metrics:
    """The metrics of outputs (N, …) against targets; NaN where outputs are not finite."""
    return _classification(out, y) if task == "classification" else _regression(out, y)


def _classification(out: Tensor, y: Tensor) -> ClassificationMetrics:
    if out.dim() != 2 or out.shape[1] <= int(y.max()):
        raise TrainingError(f"expected scores of shape (N, more than {int(y.max())}), got {tuple(out.shape)}")
    classes = out.shape[1]
    predicted = out.argmax(1)
    counts = torch.bincount(y * classes + predicted, minlength=classes**2).reshape(classes, classes)
    entropy = F.cross_entropy(out.double(), y)
    accuracy = counts.diagonal().sum().item() / len(y)
    return ClassificationMetrics(len(y), accuracy, entropy.item(), counts.cpu().numpy())


def _regression(out: Tensor, y: Tensor) -> RegressionMetrics:
    if out.shape != y.shape:
        raise TrainingError(f"expected predictions of shape {tuple(y.shape)}, got {tuple(out.shape)}")
    y, error = y.double(), (out.double() - y.double())
    spread = (y - y.mean(0)).square().sum(0)
    r2 = 1 - error.square().sum(0) / torch.where(spread > 0, spread, torch.nan)
    return RegressionMetrics(len(y), error.square().mean().item(), error.abs().mean().item(), r2.mean().item())


def rank_of(metrics: Metrics, monitor: str) -> tuple[float, ...]:
    """What validations are compared by, larger is better: accuracy then loss, or the loss alone."""
    if isinstance(metrics, ClassificationMetrics) and monitor != "loss":
        return (metrics.accuracy, -metrics.loss)
    return (-metrics.loss,)
