"""What a sweep will take, before anything is made: memory and time from the numbers of the grid alone."""

import os
from collections.abc import Sequence

from depthscale.errors import TrainingError
from depthscale.train.ensemble.memory import words
from depthscale.train.sweep.grid import Cell, Grid

RATE = 3e10  # floating-point operations of batched products a second on one core
POINTWISE = 3e-9  # seconds for an activation and its derivative, per unit and row
CALL = 2e-6  # seconds that a layer's calls take, per member
LONGEST = 48 * 3600.0  # seconds that a sweep may take without being told so


def cell_bytes(cell: Cell, batch: int, inputs: int) -> float:
    """Bytes that a network needs while it trains: weights, momentum and the values kept for the way back."""
    weights = cell.depth * cell.width * (cell.width + 1) + inputs * cell.width
    return 4.0 * (2 * weights + cell.depth * cell.width * batch)


def step_seconds(cell: Cell, batch: int, inputs: int) -> float:
    """Seconds of one step of one network on one core, roughly."""
    products = 6.0 * batch * cell.width * (cell.width * (cell.depth - 1) + inputs)
    return products / RATE + cell.depth * (cell.width * batch * POINTWISE + CALL)


def sweep_seconds(grid: Grid, steps: int, batch: int, inputs: int, workers: int) -> float:
    """Wall time of a whole sweep, roughly."""
    return steps * sum(step_seconds(c, batch, inputs) for g in grid.groups() for c in g) / workers


def check(grid: Grid, steps: int, batch: int, inputs: int, workers: int, room: float) -> None:
    """Raise TrainingError, with the amounts, for a network that does not fit or a sweep that takes days."""
    worst = max((g[0] for g in grid.groups()), key=lambda c: cell_bytes(c, batch, inputs))
    needed = cell_bytes(worst, batch, inputs)
    seconds = sweep_seconds(grid, steps, batch, inputs, workers)
    amounts = f"about {words(needed)} of memory a network and {duration(seconds)} in all for {steps:,} steps"
    if needed > room:
        raise TrainingError(
            f"expected networks that fit in {words(room)} a worker, got depth {worst.depth:,} at width "
            f"{worst.width:,}, which takes {amounts}; make the grid shallower or narrower, or allow more --memory"
        )
    if seconds > LONGEST:
        raise TrainingError(
            f"expected a sweep of at most {duration(LONGEST)}, got one that takes {amounts} ({len(grid):,} networks up "
            f"to depth {max(grid.depth):,}); make the grid smaller, or give a --budget, which sets the steps"
        )


def duration(seconds: float) -> str:
    """A time in words."""
    for size, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds:.3g} seconds"


def default_workers(tasks: Sequence[object]) -> int:
    """As many processes as there are cores to run on, but no more than groups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, len(tasks)))
