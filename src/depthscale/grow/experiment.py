"""Is a structure that learns worth it? One run of a schedule in a setting, as plain numbers that can be compared.

All schedules of a setting get the same rows, the same budget of training operations, the same cap on parameters and the
same final size; learning rate, batch and optimiser are the same for all. What is compared is the test rows' accuracy.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthscale.graph import Graph
from depthscale.grow.course import trained
from depthscale.grow.resize import scaled
from depthscale.grow.schedules import Plan, schedule
from depthscale.train.config import Budget, TrainConfig
from depthscale.train.evaluate import evaluate

Array = NDArray[Any]
SCHEDULES = (
    "developmental",
    "developmental-units",
    "grow-only",
    "prune-only",
    "lottery",
    "rigl",
    "set",
    "fixed-large",
    "fixed-small",
    "random",
)


@dataclass(frozen=True)
class Rows:
    """Training and test rows of one seed."""

    x: Array
    y: Array
    x_test: Array
    y_test: Array
    classes: int

    def training(self, held: float = 0.1) -> SimpleNamespace:
        """As a data set with the last share of the training rows held out for validation."""
        n = len(self.y) - max(1, round(held * len(self.y)))
        part = [SimpleNamespace(x=self.x[a:b], y=self.y[a:b]) for a, b in ((0, n), (n, len(self.y)))]
        return SimpleNamespace(train=part[0], val=part[1], task="classification")


@dataclass(frozen=True)
class Setting:
    """Data and sizes: ``rows(seed)``, the network at any size, parameters at the start, cap and end, and the budget."""

    name: str
    rows: Callable[[int], Rows]
    net: Graph
    cap: int
    final: int
    flops: float
    batch: int = 64
    lr: float = 3e-3
    start: float = 0.5  # of the final size, for schedules that grow

    def plan(self) -> Plan:
        """What every schedule may use."""
        return Plan(scaled(self.net, round(self.start * self.final)), self.cap, self.final)

    def config(self, seed: int) -> TrainConfig:
        """How every schedule trains."""
        return TrainConfig(
            budget=Budget(epochs=1), batch=self.batch, lr=self.lr, clip=1.0, warmup=0.1, seed=seed, device="cpu"
        )


def run_one(setting: Setting, name: str, seed: int, share: float = 1.0) -> dict[str, Any]:
    """One run: test accuracy and loss, size, operations and what they were spent on, and the course of validation."""
    rows = setting.rows(seed)
    began = time.process_time()
    training = trained(
        schedule(name), setting.plan(), rows.training(), setting.config(seed), share * setting.flops, seed
    )
    seconds = time.process_time() - began
    found = evaluate(training.live.module, SimpleNamespace(x=rows.x_test, y=rows.y_test), "classification")
    return {
        "setting": setting.name,
        "schedule": name,
        "seed": seed,
        "share": share,
        "accuracy": found.summary()["accuracy"],
        "loss": found.loss,
        "n_test": len(rows.y_test),
        "parameters": training.live.parameters,
        "multiply_adds": training.row_work,
        "flops": training.spent,
        "steps": training.engine.step,
        "edits": len(training.live.lineage),
        "cpu_seconds": seconds,
        "largest": max([p.parameters for p in training.points]),
        "course": [[p.used, p.val.get("accuracy"), p.parameters] for p in training.points],
    }


def standardised(x: Array, train: Array) -> Array:
    """Images by the mean and deviation of all training pixels, table columns each by its own."""
    axes = None if x.ndim == 4 else 0
    mean, deviation = train.mean(axes), train.std(axes)
    return np.asarray((x - mean) / np.where(deviation > 1e-8, deviation, 1.0), dtype=np.float32)


def drawn(x: Array, y: Array, seed: int, train: int, test: int, fixed: tuple[Array, Array] | None = None) -> Rows:
    """Rows of one seed: a random training set, and test rows that it leaves (or those given)."""
    order = np.random.default_rng(seed).permutation(len(y))
    a, b = order[:train], order[train : train + test]
    x_test, y_test = (x[b], y[b]) if fixed is None else fixed
    own = x[a]
    return Rows(
        standardised(own, own), y[a].astype(np.int64), standardised(x_test, own), y_test.astype(np.int64),
        int(y.max()) + 1,
    )  # fmt: skip
