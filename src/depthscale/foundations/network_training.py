"""Training for the network estimators: the room ``train``'s order and schedule, with a weight on each row.

Tables of a few thousand rows need none of what the long loop there is for (checkpoints, devices, budgets in seconds),
and scikit-learn asks for weights. Networks for them are small, so that a step's cost is the number of calls: the
losses' derivatives are written out, and the optimiser walks one vector.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from depthscale.errors import TrainingError
from depthscale.foundations.flat_adamw import FlatAdamW
from depthscale.train.batches import Batches
from depthscale.train.config import TrainConfig
from depthscale.train.devices import pick_device
from depthscale.train.schedule import factor
from depthscale.train.seeds import NOISE, borrowed_generators, mix, seed_noise

Told = Callable[[int, float], None]  # epoch, its mean loss


def train_weighted(
    module: nn.Module,
    x: NDArray[np.float32],
    y: NDArray[np.generic],
    weight: NDArray[np.float64],
    config: TrainConfig,
    epochs: int,
    told: Told,
    held: int = 0,
) -> list[float]:
    """Train ``module`` in place; the mean loss of each epoch. y: classes (rows,) or numbers (rows, T).

    The last ``held`` rows are not trained on; if there are any, the weights of the epoch that does best on them are
    kept, and the losses are theirs. Raises TrainingError for a device that is not there, and when the loss is no number
    any more.
    """
    device = pick_device(config.device)
    module.to(device).train()
    inputs, weights = torch.from_numpy(x).to(device), torch.from_numpy(weight.astype(np.float32)[:, None]).to(device)
    targets = torch.from_numpy(np.ascontiguousarray(y)).to(device)
    loss = square_loss
    if y.ndim == 1:
        loss, targets = cross_entropy, _smoothed(module, inputs, targets, config.label_smoothing)
    seen_rows = len(inputs) - held
    batches = Batches(inputs[:seen_rows], targets[:seen_rows], config.batch, config.seed)
    best, kept = math.inf, dict[str, Tensor]()
    optimiser = FlatAdamW(module, config.weight_decay, config.betas, config.clip)
    total, losses = epochs * batches.steps, []
    with borrowed_generators(device):
        for epoch in range(epochs):
            seen = torch.zeros((), device=device)
            for step in range(epoch * batches.steps, (epoch + 1) * batches.steps):
                rows = batches.rows_of(step)
                seed_noise(mix(config.seed, NOISE, step), device)
                out = module(inputs[rows])
                value, slope = loss(out.detach(), targets[rows], weights[rows])
                optimiser.zero_grad()
                out.backward(slope)
                optimiser.step(config.lr * factor(config.schedule, step / total, config.warmup, config.final_lr))
                seen += value
            losses.append(float(seen) / batches.steps)
            if held:
                losses[-1] = _held_out(module, loss, inputs[-held:], targets[-held:], weights[-held:])
                if losses[-1] < best:
                    best, kept = losses[-1], {k: v.detach().clone() for k, v in module.state_dict().items()}
            if not math.isfinite(losses[-1]):
                raise TrainingError(
                    f"training diverged in epoch {epoch + 1} of {epochs}; expected a finite loss, got {losses[-1]}; "
                    f"take a smaller learning_rate than {config.lr:g}"
                )
            told(epoch + 1, losses[-1])
    if kept:
        module.load_state_dict(kept)
    module.to("cpu").eval()
    return losses


Loss = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def cross_entropy(out: Tensor, wanted: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of weight times −Σ wanted log softmax(out), and its derivative by ``out``.

    out, wanted: (B, K), the rows of ``wanted`` adding up to one; weight: (B, 1), 1 on average over the data.
    """
    log = torch.log_softmax(out, 1)
    share = weight / len(out)
    return -(wanted * log * share).sum(), (log.exp() - wanted) * share


def square_loss(out: Tensor, wanted: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of weight times the squared error, and its derivative by ``out``; shapes as for ``cross_entropy``."""
    off = out - wanted
    share = weight / out.numel()
    return (off * off * share).sum(), 2 * off * share


def _smoothed(module: nn.Module, inputs: Tensor, classes: Tensor, smoothing: float) -> Tensor:
    """One-hot rows, with ``smoothing`` spread over all classes."""
    with torch.no_grad():
        module.eval()
        outputs = module(inputs[:1]).shape[1]
        module.train()
    rows = torch.full((len(classes), outputs), smoothing / outputs, device=inputs.device)
    return rows.scatter_add_(1, classes[:, None], torch.full_like(rows, 1 - smoothing))


def _held_out(module: nn.Module, loss: Loss, x: Tensor, y: Tensor, weight: Tensor) -> float:
    module.eval()
    with torch.no_grad():
        value, _ = loss(module(x), y, weight)
    module.train()
    return float(value)
