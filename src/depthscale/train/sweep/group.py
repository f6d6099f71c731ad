"""Training one group of a sweep: plain data in, plain data out, so that any process on any machine can do it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from depthscale.train.config import TrainConfig
from depthscale.train.ensemble import Member, train_ensemble
from depthscale.train.sweep.grid import Cell, network


@dataclass(frozen=True)
class Task:
    """A group to train: its cells, on what, and how. ``data`` is what ``depthscale.data.load`` takes."""

    number: int
    cells: tuple[Cell, ...]
    data: Any
    options: tuple[tuple[str, Any], ...]  # of ``depthscale.data.load``
    config: TrainConfig
    memory: float | None
    score_rows: int | None
    device: str = "auto"


Row = dict[str, Any]


def train_group(task: Task, progress: Callable[[float], None] | None = None) -> list[Row]:
    """One row per cell: its axes, its status, steps, losses and accuracies."""
    dataset = _dataset(task.data, task.options)
    graphs = [network(c, dataset.input_shape, dataset.outputs) for c in task.cells]
    members = [Member(seed=c.seed, lr=c.lr, graph=g) for c, g in zip(task.cells, graphs, strict=True)]
    result = train_ensemble(
        graphs[0],
        dataset,
        members,
        config=replace(task.config, device=task.device),
        memory=task.memory,
        score_rows=task.score_rows,
        progress=progress,
    )
    rows = []
    for cell, found in zip(task.cells, result, strict=True):
        row = {**vars(cell), "status": found.status, "steps": found.steps, "first_loss": found.first_loss}
        row |= {f"{split}_{k}": v for split in ("train", "val") for k, v in getattr(found, split).items()}
        rows.append(row)
    return rows


def _dataset(data: Any, options: tuple[tuple[str, Any], ...]) -> Any:
    if not isinstance(data, str):
        return data
    return _loaded(data, options)


@lru_cache(maxsize=2)
def _loaded(data: str, options: tuple[tuple[str, Any], ...]) -> Any:
    """The data set, loaded once in each process."""
    from depthscale.data import load

    return load(data, **dict(options))
