"""Training for the network estimators: the room ``train``'s optimiser, order and schedule, with a weight on each row.

Tables of a few thousand rows need none of what the long loop there is for (checkpoints, devices, budgets in seconds),
and scikit-learn asks for weights.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from depthscale.errors import TrainingError
from depthscale.train.batches import Batches
from depthscale.train.config import TrainConfig
from depthscale.train.optimise import make_optimiser
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
    kept, and the losses are theirs. Raises TrainingError when the loss is no number any more.
    """
    device = torch.device(config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    classify = y.ndim == 1
    module.to(device).train()
    inputs, weights = torch.from_numpy(x).to(device), torch.from_numpy(weight.astype(np.float32)).to(device)
    targets = torch.from_numpy(np.ascontiguousarray(y)).to(device)
    seen_rows = len(inputs) - held
    batches = Batches(inputs[:seen_rows], targets[:seen_rows], config.batch, config.seed)
    best, kept = math.inf, dict[str, Tensor]()
    optimiser = make_optimiser(module, config)
    total, losses = epochs * batches.steps, []
    with borrowed_generators(device):
        for epoch in range(epochs):
            seen = torch.zeros((), device=device)
            for step in range(epoch * batches.steps, (epoch + 1) * batches.steps):
                rows = batches.rows_of(step)
                seed_noise(mix(config.seed, NOISE, step), device)
                loss = _loss(module(inputs[rows]), targets[rows], weights[rows], config, classify=classify)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                if config.clip is not None:
                    nn.utils.clip_grad_norm_(module.parameters(), config.clip, foreach=True)
                for group in optimiser.param_groups:
                    group["lr"] = config.lr * factor(config.schedule, step / total, config.warmup, config.final_lr)
                optimiser.step()
                seen += loss.detach()
            losses.append(float(seen) / batches.steps)
            if held:
                losses[-1] = _held_out(module, inputs[-held:], targets[-held:], weights[-held:], config)
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


def _held_out(module: nn.Module, x: Tensor, y: Tensor, weight: Tensor, config: TrainConfig) -> float:
    module.eval()
    with torch.no_grad():
        loss = float(_loss(module(x), y, weight, config, classify=y.dim() == 1))
    module.train()
    return loss


def _loss(out: Tensor, y: Tensor, weight: Tensor, config: TrainConfig, *, classify: bool) -> Tensor:
    """Weighted sum over the rows of a batch, divided by their number: weights are 1 on average over the data."""
    if classify:
        each = F.cross_entropy(out, y, reduction="none", label_smoothing=config.label_smoothing)
    else:
        each = F.mse_loss(out, y, reduction="none").mean(dim=1)
    return (each * weight).mean()
