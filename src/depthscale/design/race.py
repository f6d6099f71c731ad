"""Training candidates and retraining the winner: from a screened candidate to a trainer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale.design.screen import Screened
from depthscale.design.search import RUNGS, Progress, Racer, Starter
from depthscale.train.threads import threads as threads

if TYPE_CHECKING:
    from depthscale.data import Dataset
    from depthscale.train import TrainConfig, Trainer
    from depthscale.train.augment import Augment
    from depthscale.train.result import EpochReport

SPEED = 1e10  # multiply-adds a second that a small network reaches on one core
EMA = 0.995  # averaged weights are worth looking at before the learning rate has come down
TRIAL_ROWS = 300_000  # training rows that a full trial sees when trials are counted


def augmentation(name: str, image_size: int) -> "Augment | None":
    """The image changes that a decision names, scaled to the image."""
    from depthscale.errors import DepthscaleError
    from depthscale.train.augment import Augment

    shift = max(1, round(image_size / 14))
    table = {
        "none": None,
        "shift": Augment(shift=shift),
        "affine": Augment(shift=shift, rotate=10, shear=5, scale=0.1),
        "shift+flip": Augment(shift=shift, flip=True),
    }
    if name not in table:
        raise DepthscaleError(f"expected augmentation to be one of {', '.join(table)}, got {name!r}")
    return table[name]


def config(training: Mapping[str, Any], dataset: "Dataset", seed: int, device: str, **changes: Any) -> "TrainConfig":
    """The training configuration of a candidate's decisions."""
    from depthscale.train import TrainConfig

    return TrainConfig(
        batch=min(int(training["batch_size"]), max(len(dataset.train.x) // 4, 1)),
        lr=float(training["learning_rate"]),
        weight_decay=float(training["weight_decay"]),
        clip=1.0,
        augment=augmentation(str(training["augment"]), min(dataset.input_shape[-2:])),
        device=device,
        seed=seed,
    ).with_(**changes)


def epochs_of(rung: int, rows: int) -> int:
    """Epochs up to a rung when trials are counted: at least one a rung, fewer for larger data."""
    full = max(RUNGS[-1], min(45, TRIAL_ROWS // max(rows, 1)))
    return max(1, full * rung // RUNGS[-1])


def starter(dataset: "Dataset", seed: int, device: str, unit: float | None) -> Starter:
    """How the search begins a candidate: ``unit`` is the seconds of one rung unit, None to count epochs."""
    from depthscale.build import build
    from depthscale.train import Budget, Trainer

    def budget(rung: int) -> Budget:
        if unit is None:
            return Budget(epochs=epochs_of(rung, len(dataset.train.x)))
        return Budget(seconds=unit * rung)

    def start(screened: Screened, number: int) -> Racer:
        own = seed * 100_003 + number
        settings = steady(screened.candidate.training, dataset, own, device, budget=budget(RUNGS[-1]))
        trainer = Trainer(build(screened.graph, own), dataset, settings, progress=False)

        def race(rung: int) -> Progress:
            with threads(screened.graph, settings.batch):
                trainer.run(budget(rung))
            return progress(trainer, dataset)

        return race

    return start


def progress(trainer: "Trainer", dataset: "Dataset") -> Progress:
    """Where a trainer stands, as the search sees it.

    The score is validation accuracy with the loss to break ties (accuracies of small splits tie often), or minus the
    root mean square error in units of the target's deviation. Metrics and curve are in the target's own units.
    """
    unit = _unit(dataset)
    result = trainer.result()
    if result.status == "interrupted":
        raise KeyboardInterrupt
    curve = [point(r, unit) for r in result.history]
    if result.last is not None and (not result.history or result.last.step != result.history[-1].step):
        curve.append(point(result.last, unit))
    if result.status == "diverged":
        return Progress(float("-inf"), {}, curve, failed=str(result.divergence))
    val = result.val
    return Progress(score_of(val, dataset.task), _in_units(val, unit), curve)


def score_of(val: Mapping[str, float], task: str) -> float:
    """What the search maximises, from validation metrics."""
    return val["accuracy"] - 1e-4 * min(val["loss"], 10.0) if task == "classification" else -val["rmse"]


def _unit(dataset: "Dataset") -> float:
    """The deviation that a single target was divided by; several targets stay standardised."""
    if dataset.task == "classification" or dataset.outputs != 1:
        return 1.0
    low, high = dataset.preprocessing.decode(np.array([[0.0], [1.0]])).ravel()
    return float(high - low)


def _in_units(val: Mapping[str, float], unit: float) -> dict[str, float]:
    return {k: v * unit if k in ("rmse", "mae") else v for k, v in val.items()}


def point(report: "EpochReport", unit: float = 1.0) -> dict[str, float]:
    """One point of a learning curve."""
    at = {"epoch": report.epoch, "seconds": report.seconds, "train_loss": report.train_loss}
    return at | _in_units(report.val, unit)


def annealed(training: Mapping[str, Any], dataset: "Dataset", seed: int, device: str, **changes: Any) -> "TrainConfig":
    """The configuration of a last training: the learning rate goes through one cycle over the budget."""
    return config(training, dataset, seed, device, schedule="onecycle", ema=EMA, keep_best=False, **changes)


def steady(training: Mapping[str, Any], dataset: "Dataset", seed: int, device: str, **changes: Any) -> "TrainConfig":
    """The configuration that candidates race with: a constant learning rate, weights averaged."""
    return config(training, dataset, seed, device, schedule="constant", warmup=0.05, ema=EMA, **changes)


def best_epoch(curve: Sequence[Mapping[str, float]], task: str) -> float:
    """The epoch of a learning curve at which validation was best; 1 where there was none."""
    seen = [p for p in curve if "loss" in p]
    best = max(seen, key=lambda p: score_of(p, task), default={"epoch": 1.0})
    return float(best["epoch"])
