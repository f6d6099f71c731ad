"""Streams: data that change in stages, a network that goes on through them, and what it forgets.

Kinds: ``permuted`` (every stage has an order of the inputs of its own; Goodfellow et al. 2014), ``rotated`` (images
turned by a further angle), ``classes`` (new classes arrive, a small share of the old rows stays), ``drift`` (the
columns of a table move and mix). Forgetting is what a stage's test accuracy has lost at the end against its best
(Chaudhry et al. 2018, eq. 3).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from depthscale.errors import DepthscaleError
from depthscale.grow.course import follow
from depthscale.grow.experiment import Array, Rows, Setting
from depthscale.grow.schedules import schedule
from depthscale.grow.schedules.schedule import Stage
from depthscale.grow.training import Training
from depthscale.train.evaluate import evaluate

KINDS = ("permuted", "rotated", "classes", "drift")
_ANGLE = 30.0  # degrees between two stages
_KEPT = 0.1  # of the rows of old classes, kept where new classes arrive


@dataclass(frozen=True)
class Forgetting:
    """after[k][j]: accuracy on stage j's test rows when stage k is over (nan for stages to come)."""

    after: tuple[tuple[float, ...], ...]

    @property
    def final(self) -> float:
        """Mean accuracy over all stages at the end."""
        return float(np.mean(self.after[-1]))

    @property
    def learned(self) -> float:
        """Mean accuracy of each stage right behind it: how well it could still learn."""
        return float(np.mean([row[k] for k, row in enumerate(self.after)]))

    @property
    def forgotten(self) -> float:
        """Mean over all stages but the last of the best accuracy less that at the end."""
        table = np.asarray(self.after)
        if len(table) < 2:
            return 0.0
        best = np.nanmax(table[:-1, :-1], axis=0)
        return float(np.mean(best - table[-1, :-1]))


def stream(kind: str, rows: Rows, stages: int, seed: int) -> list[Rows]:
    """The rows as they are in each stage; the first is as given (for classes: the first classes).

    Raises DepthscaleError for a kind that is unknown, images asked of a table, or more stages than classes.
    """
    if kind not in KINDS:
        raise DepthscaleError(f"expected a stream of {', '.join(KINDS)}, got {kind!r}")
    rng = np.random.default_rng([seed, 5])
    if kind == "classes":
        return _classes(rows, stages, rng)
    change = {"permuted": _permuted, "rotated": _rotated, "drift": _drifted}[kind]
    return [replace(rows, x=f(rows.x), x_test=f(rows.x_test)) for f in change(rows, stages, rng)]


Change = Callable[[Array], Array]


def _permuted(rows: Rows, stages: int, rng: np.random.Generator) -> list[Change]:
    size = math.prod(rows.x.shape[1:])
    orders = [np.arange(size), *(rng.permutation(size) for _ in range(stages - 1))]
    return [lambda x, o=o: x.reshape(len(x), -1)[:, o].reshape(x.shape) for o in orders]  # type: ignore[misc]


def _rotated(rows: Rows, stages: int, rng: np.random.Generator) -> list[Change]:
    if rows.x.ndim != 4:
        raise DepthscaleError(f"expected images to rotate, got rows of shape {rows.x.shape[1:]}; try permuted or drift")
    from scipy.ndimage import rotate

    def turned(angle: float) -> Change:
        def turn(x: Array) -> Array:
            return np.asarray(rotate(x, angle, axes=(2, 3), reshape=False, order=1, mode="nearest"), np.float32)

        return turn

    return [turned(_ANGLE * k) for k in range(stages)]


def _drifted(rows: Rows, stages: int, rng: np.random.Generator) -> list[Change]:
    """Columns shift and mix with each other more and more: x ↦ x (1 − t) + t x Q + t s, Q orthogonal."""
    n = math.prod(rows.x.shape[1:])
    mixing, _ = np.linalg.qr(rng.normal(size=(n, n)))
    shift = rng.normal(size=n)

    def moved(t: float) -> Change:
        def move(x: Array) -> Array:
            flat = x.reshape(len(x), -1)
            return np.asarray((1 - t) * flat + t * (flat @ mixing) + t * shift, np.float32).reshape(x.shape)

        return move

    return [moved(k / max(stages - 1, 1)) for k in range(stages)]


def _classes(rows: Rows, stages: int, rng: np.random.Generator) -> list[Rows]:
    if stages > rows.classes:
        raise DepthscaleError(f"expected at most {rows.classes} stages, one new class each at least, got {stages}")
    parts = np.array_split(rng.permutation(rows.classes), stages)
    found = []
    for k, new in enumerate(parts):
        own = np.isin(rows.y, new)
        old = np.isin(rows.y, np.concatenate(parts[:k])) if k else np.zeros(len(rows.y), bool)
        chosen = own | (old & (rng.random(len(rows.y)) < _KEPT))
        test = np.isin(rows.y_test, new)
        found.append(Rows(rows.x[chosen], rows.y[chosen], rows.x_test[test], rows.y_test[test], rows.classes))
    return found


def run_stream(setting: Setting, kind: str, name: str, seed: int, stages: int = 4) -> dict[str, Any]:
    """One schedule through one stream: accuracies after every stage, forgetting, size and operations."""
    made, plan = schedule(name), setting.plan()
    tasks = stream(kind, setting.rows(seed), stages, seed)
    began = time.process_time()
    training = Training.begin(made.begins(plan, seed), tasks[0].training(), setting.config(seed), setting.flops, seed)
    after: list[tuple[float, ...]] = []
    for k, rows in enumerate(tasks):
        begin, end = k / stages, (k + 1) / stages
        training.engine.show(rows.training())
        training.cycle = (begin, end)
        follow(training, [_within(s, begin, end) for s in made.task(plan, k, stages)])
        seen = [
            evaluate(training.live.module, _test(t), "classification").summary()["accuracy"] for t in tasks[: k + 1]
        ]
        after.append((*seen, *(math.nan,) * (stages - k - 1)))
    found = Forgetting(tuple(after))
    return {
        "setting": f"{setting.name} {kind}",
        "schedule": name,
        "seed": seed,
        "share": 1.0,
        "accuracy": found.final,
        "forgotten": found.forgotten,
        "learned": found.learned,
        "after": [[None if math.isnan(v) else v for v in row] for row in after],
        "parameters": training.live.parameters,
        "multiply_adds": training.row_work,
        "flops": training.spent,
        "steps": training.engine.step,
        "cpu_seconds": time.process_time() - began,
        "largest": max(p.parameters for p in training.points),
    }


def _within(stage: Stage, begin: float, end: float) -> Stage:
    return replace(stage, until=begin + (end - begin) * stage.until)


def _test(rows: Rows) -> SimpleNamespace:
    return SimpleNamespace(x=rows.x_test, y=rows.y_test)
