"""A sweep from grid to table: estimated, budgeted, grouped, recorded group by group, resumed where it was."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from depthscale.build.memory import available_bytes
from depthscale.errors import TrainingError
from depthscale.record import Record, read
from depthscale.train.batches import fingerprint
from depthscale.train.config import Budget, TrainConfig
from depthscale.train.devices import pick_device
from depthscale.train.ensemble import Member, train_ensemble
from depthscale.train.ensemble.memory import SHARE, parse_bytes
from depthscale.train.sweep import estimate, places
from depthscale.train.sweep.grid import Grid, network
from depthscale.train.sweep.group import Row, Task
from depthscale.train.sweep.result import SweepResult, in_order

FILE = "run.jsonl"
STEPS = 500
SCORE_ROWS = 2000
_SPARE = 0.85  # of a budget that is planned for: the rest is for starting, scoring and what the estimate misses
_CROWDED = 1.4  # how much longer a step takes where workers share caches (two cores, MNIST, width 100, depth 5 to 200)

CONFIG = TrainConfig(
    budget=Budget(steps=STEPS),
    batch=32,
    optimiser="sgd",
    lr=0.01,
    momentum=0.0,
    nesterov=False,
    weight_decay=0.0,
    schedule="constant",
    warmup=0.0,
)


@dataclass(frozen=True)
class Progress:
    """How far a sweep is: groups done, the share of all work done, and seconds since it began."""

    groups: int
    of: int
    share: float
    seconds: float
    words: str = ""


Watch = Callable[[Progress], None]


def run_sweep(
    grid: Grid,
    data: Any,
    *,
    config: TrainConfig = CONFIG,
    load: dict[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    budget: float | None = None,
    workers: int | None = None,
    on: str = "local",
    memory: str | float | None = None,
    score_rows: int | None = SCORE_ROWS,
    watch: Watch | None = None,
) -> SweepResult:
    """Train every network of a grid and return the table of what became of them.

    ``data``: a name or path for ``depthscale.data.load`` (with the options ``load``), or a data set. ``config``: how
    all are trained; its budget in steps or epochs, unless ``budget`` gives the seconds that the sweep may take: a few
    steps are then timed, and the number of steps chosen and written down. ``out``: a folder whose run.jsonl gets every
    group as it is finished; with ``resume`` the groups found there are not run again. ``workers``: processes, by
    default one for each core or GPU. ``on``: local or ray. ``memory``: for all workers together, by default three
    quarters of what is free. ``score_rows``: rows of each split that networks are scored on.

    Raises TrainingError for what cannot be done, with the memory and the time that it would take.
    """
    from depthscale.data import load as load_data

    if on not in places.PLACES:
        raise TrainingError(f"expected a sweep on {' or '.join(places.PLACES)}, got {on!r}")
    options = tuple(sorted((load or {}).items()))
    dataset = load_data(data, **dict(options)) if isinstance(data, str) else data
    device = pick_device(config.device)
    groups = grid.groups()
    count = _workers(workers, device, groups)
    room = parse_bytes(memory) or SHARE * available_bytes(device)
    planned = config.budget.total_steps(math.ceil(len(dataset.train.y) / config.batch)) if budget is None else 1
    inputs = math.prod(dataset.train.x.shape[1:])
    estimate.check(grid, planned or 1, config.batch, inputs, count, room / count)
    path = None if out is None else Path(out) / FILE
    asked: dict[str, Any] = {
        "grid": grid.to_dict(),
        "config": {**config.to_dict(), "device": device.type},
        "data": fingerprint(dataset),
        "score_rows": score_rows,
        "budget_seconds": budget,
    }
    known, header = _found(path, asked, resume)
    steps = int(header["steps"]) if header else _steps(grid, dataset, config, budget, count, score_rows, planned)
    share = float(header["memory"]) if header else room / count
    config = replace(config, budget=Budget(steps=steps))
    if watch is not None:
        watch(Progress(len(known), len(groups), 0.0, 0.0, f"{len(grid):,} networks, {steps:,} steps each"))
    sent = data if isinstance(data, str) else dataset
    tasks = [
        Task(k, cells, sent, options, config, share, score_rows, str(device))
        for k, cells in enumerate(groups)
        if k not in known
    ]
    start = time.perf_counter()
    about = {**asked, "steps": steps, "memory": share, "data_name": _name(data)}
    with nullcontext() if path is None else closing(Record(path, seed=config.seed, **about)) as record:
        teller = _Teller(watch, [sum(c.depth * c.width**2 for c in g) for g in groups], known, start)
        for number, rows in _where(tasks, count, on, device, teller) if tasks else ():
            known[number] = rows
            if record is not None:
                record.write("group", number=number, seconds=time.perf_counter() - start, rows=rows)
            teller.finished()
    earlier = float(header.get("spent", 0.0)) if header else 0.0
    return _result(grid, known, dataset, _name(data), steps, earlier + time.perf_counter() - start)


def _result(
    grid: Grid, known: dict[int, list[Row]], dataset: Any, name: str, steps: int, seconds: float
) -> SweepResult:
    """The table in the grid's order, with what is needed of the data to read it."""
    table = in_order(grid, [row for k in sorted(known) for row in known[k]])
    classes = len(getattr(dataset, "classes", ())) or (
        int(np.max(dataset.train.y)) + 1 if dataset.task == "classification" else 0
    )
    square = float(np.mean(np.square(np.asarray(dataset.train.x, dtype=np.float64))))
    return SweepResult(grid, table, name, classes, square, steps, seconds)


def _name(data: Any) -> str:
    return data if isinstance(data, str) else str(getattr(data, "name", type(data).__name__))


def _workers(wanted: int | None, device: torch.device, groups: Sequence[Any]) -> int:
    if wanted is not None and wanted < 1:
        raise TrainingError(f"expected at least one worker, got {wanted}")
    if wanted is None and device.type == "cuda":
        return max(1, min(torch.cuda.device_count(), len(groups)))
    most = estimate.default_workers(groups)
    return most if wanted is None else min(wanted, len(groups))


def _found(path: Path | None, asked: dict[str, Any], resume: bool) -> tuple[dict[int, list[Row]], dict[str, Any]]:
    """The groups that an earlier run has finished, and its header."""
    if path is None or not path.exists() or path.stat().st_size == 0:
        return {}, {}
    if not resume:
        raise TrainingError(f"expected {path.parent} to hold no sweep yet; say --resume, or choose another folder")
    reading = read(path)
    for name, value in asked.items():
        if name == "budget_seconds":
            continue
        before = reading.header.get(name)
        if _comparable(before) != _comparable(value):
            what = (
                next((k for k in value if before is None or _comparable(before.get(k)) != _comparable(value[k])), "")
                if isinstance(value, dict)
                else ""
            )
            raise TrainingError(
                f"expected to resume the sweep in {path.parent} with the {name} that it began with, got another"
                f"{f' {what}' if what else ''}; keep it, or choose another folder"
            )
    events = reading.of("group")
    spent = max((float(e["seconds"]) for e in events), default=0.0)
    return {int(e["number"]): list(e["rows"]) for e in events}, {**reading.header, "spent": spent}


def _comparable(value: Any) -> Any:
    """Tuples and lists alike; a budget of steps does not count: the header's own does."""
    if isinstance(value, dict):
        return {k: _comparable(v) for k, v in value.items() if k != "budget"}
    return [_comparable(v) for v in value] if isinstance(value, list | tuple) else value


def _steps(
    grid: Grid,
    dataset: Any,
    config: TrainConfig,
    budget: float | None,
    workers: int,
    score_rows: int | None,
    planned: int | None,
) -> int:
    """The steps that a budget allows, by timing a few steps of some members of the widest networks."""
    if budget is None:
        assert planned is not None
        return planned
    inputs = math.prod(dataset.train.x.shape[1:])
    cells = list(grid.cells())
    middle = sorted({c.depth for c in cells})[len({c.depth for c in cells}) // 2]
    sample = [c for c in cells if c.depth == middle and c.width == max(grid.width)]
    sample = [c for c in sample if c.group == sample[0].group][:8]
    graphs = [network(c, dataset.input_shape, dataset.outputs) for c in sample]
    members = [Member(seed=c.seed, lr=c.lr, graph=g) for c, g in zip(sample, graphs, strict=True)]

    def seconds(steps: int) -> float:
        found = train_ensemble(
            graphs[0], dataset, members, config=replace(config, budget=Budget(steps=steps)), score_rows=1
        )
        return found.seconds

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        short, long = 5, 25
        each = max((seconds(long) - seconds(short)) / (long - short) / len(sample), 1e-7)
    finally:
        torch.set_num_threads(before)
    guess = estimate.step_seconds(sample[0], config.batch, inputs)
    per_step = each / guess * sum(estimate.step_seconds(c, config.batch, inputs) for c in cells) / workers
    per_step *= _CROWDED if workers > 1 else 1.0
    scored = sum(min(score_rows or len(s.y), len(s.y)) for s in (dataset.train, dataset.val)) / (3 * config.batch)
    steps = int(_SPARE * budget / per_step - scored)
    if steps < 1:
        raise TrainingError(
            f"expected a budget of at least {estimate.duration((1 + scored) * per_step / _SPARE)} for {len(grid):,} "
            f"networks, got {estimate.duration(budget)}; raise it, or make the grid smaller"
        )
    return steps


def _where(
    tasks: list[Task], count: int, on: str, device: torch.device, teller: "_Teller"
) -> Iterator[tuple[int, list[Row]]]:
    if on == "ray":
        return places.ray(tasks, str(device))
    if count == 1:
        return places.here(tasks, teller.within)
    if device.type == "cuda":
        names = [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    else:
        names = [str(device)]
    return places.processes(tasks, count, names)


class _Teller:
    """Turns finished groups and shares of running ones into progress."""

    def __init__(
        self, watch: Watch | None, weights: Sequence[float], known: dict[int, list[Row]], start: float
    ) -> None:
        self.watch, self.weights, self.known, self.start = watch, weights, known, start

    def finished(self) -> None:
        """A group is done."""
        self._say(0.0)

    def within(self, share: float) -> None:
        """So much of the running group is done; groups run in order here."""
        running = next((k for k in range(len(self.weights)) if k not in self.known), None)
        if running is not None and share < 1:
            self._say(share * self.weights[running])

    def _say(self, more: float) -> None:
        if self.watch is not None:
            done = sum(self.weights[k] for k in self.known) + more
            share = done / sum(self.weights)
            self.watch(Progress(len(self.known), len(self.weights), share, time.perf_counter() - self.start))
