"""What a search may spend, and how that is shared out: studies, workers, a network's training, a network's size."""

import os
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale.errors import GraphError, SearchError
from depthscale.search.budget import Limits, seconds as parse_seconds

if TYPE_CHECKING:
    from depthscale.data import Dataset
    from depthscale.graph import Graph
    from depthscale.search.space import Space

SEARCHING, FINISHING = 0.42, 0.48  # shares of a time budget; the rest is for reading, testing and writing
LATEST = 0.46  # of a time budget: by then no candidate is begun
END = 0.94  # of a time budget: by then training is over, for testing and writing take time too
LEAST = 0.1  # of a time budget: what training the winners is given at least
FULL = 12  # networks trained to the end that a study's time would suffice for
TOGETHER = 60.0  # seconds of budget from which processes are worth starting
MOST_WORKERS = 8  # that are started unasked: every one holds the data
PASSES = 1.0  # times that a network trained to the end should see the training rows
DRAWS, CHEAPEST = 40, 0.25  # draws that show what a space's networks cost, and the share of them that is always let in
PROBE_ROWS, PROBE_STEPS = 1024, 12


@dataclass(frozen=True)
class Spending:
    """What was asked for: seconds for everything, or networks or epochs for every strategy and seed."""

    seconds: float | None
    trials: int | None
    epochs: float | None

    @staticmethod
    def of(budget: str | float | None, trials: int | None, epochs: float | None) -> "Spending":
        """The spending; five minutes where nothing was said.

        Raises DepthscaleError for a budget that is none.
        """
        if budget is None and trials is None and epochs is None:
            budget = 300
        return Spending(None if budget is None else parse_seconds(budget), trials, epochs)

    def limits(self, studies: int, workers: int, table: bool) -> Limits:
        """What every study may spend. A table's seconds are simulated, and need not be shared."""
        each = self.seconds
        if each is not None and not table:
            each = SEARCHING * each * workers / studies
        return Limits(self.trials, each, self.epochs)

    @property
    def words(self) -> str:
        """As it is said in a report."""
        parts = [] if self.seconds is None else [f"{self.seconds:g} s"]
        parts += [] if self.trials is None else [f"{self.trials:,} networks"]
        parts += [] if self.epochs is None else [f"{self.epochs:g} epochs"]
        return " or ".join(parts)


def workers_for(asked: int | None, spending: Spending, *, table: bool, shared: bool, device: str) -> int:
    """How many workers: as asked; else one for every core, where time is the budget and one worker cannot use them all.

    shared: whether there is a storage that several can use.
    """
    if asked is not None:
        if asked < 1:
            raise SearchError(f"expected at least 1 worker, got {asked}")
        return asked
    if table or not shared or spending.seconds is None or spending.seconds < TOGETHER:
        return 1
    import torch

    if device != "cpu" and (device != "auto" or torch.cuda.is_available()):
        return 1
    return max(1, min(len(os.sched_getaffinity(0)), MOST_WORKERS))


def length(limits: Limits, epochs: float | None, rows: int) -> tuple[float | None, float | None]:
    """How long a network is trained at most: (seconds, epochs), one of them."""
    if epochs is not None:
        if not epochs > 0:
            raise SearchError(f"expected a network to be trained for more than 0 epochs, got {epochs:g}")
        return None, epochs
    if limits.seconds is not None:
        return limits.seconds / FULL, None
    return None, 1.0 if rows >= 20_000 else 3.0 if rows >= 5_000 else 9.0


def affordable(space: "Space", dataset: "Dataset", seconds: float, device: str, seed: int) -> int:
    """Multiply-adds of one row that a network may have, to see all training rows in so many seconds of training.

    The machine's speed is measured on a small network of the same inputs. The cheapest quarter of the space's networks
    is let in however slow the machine.
    """
    most = speed(dataset, device) * seconds / (PASSES * len(dataset.train.y))
    rng = np.random.default_rng((seed, 5))
    costs = []
    for _ in range(DRAWS):
        try:
            costs.append(space.graph(space.sample(rng).architecture).cost().multiply_adds)
        except GraphError:
            continue
    return round(max(most, float(np.quantile(costs, CHEAPEST)) if costs else 0.0))


def speed(dataset: "Dataset", device: str) -> float:
    """Multiply-adds of the forward pass for which training takes a second, all told, on a small network."""
    from depthscale.build import build
    from depthscale.search.evaluate import settings
    from depthscale.train import Budget, Trainer
    from depthscale.train.threads import threads

    graph = _probe(dataset)
    rows = SimpleNamespace(x=dataset.train.x[:PROBE_ROWS], y=dataset.train.y[:PROBE_ROWS])
    none = SimpleNamespace(x=rows.x[:0], y=rows.y[:0])
    few = SimpleNamespace(task=dataset.task, train=rows, val=none, fingerprint="probe")
    config = settings({}, dataset, 0, device).with_(ema=None, budget=Budget(steps=3 * PROBE_STEPS))
    trainer = Trainer(build(graph, 0), few, config, progress=False)
    best = float("inf")
    with threads(graph, config.batch):
        for i in (1, 2, 3):  # the first warms up; of the others the faster, for the machine may be busy
            start = time.perf_counter()
            trainer.run(Budget(steps=i * PROBE_STEPS))
            best = min(best, time.perf_counter() - start)
    trainer.close()
    return graph.cost().multiply_adds * PROBE_STEPS * config.batch / best


def _probe(dataset: "Dataset") -> "Graph":
    """A convolutional network for images, an MLP for everything else."""
    from depthscale import zoo
    from depthscale.graph import Builder, blocks
    from depthscale.search.spaces.parts import batch_normed
    from depthscale.zoo.images import image

    shape: Any = tuple(dataset.input_shape)
    if len(shape) != 3:
        return zoo.mlp((int(np.prod(shape)), 128, 128, dataset.outputs), input_shape=shape)
    net, style = Builder(), batch_normed("relu")
    x = image(net, shape[0], shape[1:])
    for width in (16, 32):
        x = blocks.conv_norm_act(x, width, 3, style=style)
        x = blocks.max_pool(x, 2, 2) if min(x.shape[2:]) >= 4 else x
    return net.graph(blocks.classifier(x, dataset.outputs))
