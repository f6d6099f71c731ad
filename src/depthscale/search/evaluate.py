"""What a network is worth: looked up in a table, or trained.

An evaluator is plain data that can be sent to a worker. It says in how many rungs a network is evaluated (so that a
pruner may stop it between them), and begins evaluations.
"""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from depthscale.errors import SearchError
from depthscale.search.space import TRAINING, Draw, Space
from depthscale.search.table import EPOCHS, Table, load_table

if TYPE_CHECKING:
    from depthscale.data import Dataset
    from depthscale.graph import Graph
    from depthscale.train import TrainConfig, Trainer

RUNGS = (1, 3, 9)
EMA = 0.99  # averaged weights are worth looking at before the learning rate has come down


@dataclass(frozen=True)
class Outcome:
    """What an evaluation has given so far.

    score: the selection signal, larger is better; never from test data. seconds, epochs: to be charged. report: what a
    table says of the network beyond selection (None when it is trained: the test split is opened at the end, once).
    failed: why it cannot go on (diverged …), "" where it can.
    """

    score: float
    seconds: float
    epochs: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    curve: Sequence[tuple[float, float]] = ()  # (epoch, selection signal)
    report: float | None = None
    failed: str = ""


@dataclass(frozen=True)
class Evaluation:
    """One network about to be evaluated: its size, and what runs it up to a rung (called with growing rungs)."""

    parameters: int
    run: Callable[[int], Outcome]


class Evaluator(Protocol):
    """What a search asks for the worth of networks; it must survive being pickled."""

    @property
    def rungs(self) -> tuple[int, ...]:
        """The rungs, growing; one number where nothing can be stopped early."""

    @property
    def signal(self) -> str:
        """What the score is, in words."""

    def begin(self, space: Space, draw: Draw, seed: int) -> Evaluation:
        """Begin with a network; the same network and seed must give the same answers."""


@dataclass(frozen=True)
class TableEvaluator:
    """Looks networks up; ``select`` and ``report`` are columns of the table (val12, test200 …)."""

    path: str
    dataset: str = "cifar10"
    select: str = "val12"
    report: str = "test200"
    kind: str = "auto"

    def __post_init__(self) -> None:
        if self.select.startswith("test"):
            raise SearchError(f"expected selection by a validation column (val12, val200), got {self.select!r}")

    @property
    def table(self) -> Table:
        """The table, read once a process."""
        key = (self.path, self.dataset)
        if key not in _TABLES:
            _TABLES[key] = load_table(self.path, self.dataset)
        return _TABLES[key]

    @property
    def rungs(self) -> tuple[int, ...]:
        """Recorded curves have one point."""
        return (1,)

    @property
    def signal(self) -> str:
        """The column."""
        return f"{self.dataset} {self.select}, % (table)"

    def begin(self, space: Space, draw: Draw, seed: int) -> Evaluation:
        """The row of a cell; SearchError where the table lacks it."""
        table = self.table
        if not isinstance(draw.architecture, str):
            raise SearchError(
                f"expected cells of {table.name} to look up in {self.path}, got {type(draw.architecture).__name__} "
                f"from space {space.name}; search the space nasbench201, or give data to train on"
            )
        row = table.row(draw.architecture)
        epochs = int(self.select.removeprefix("val"))

        def run(rung: int) -> Outcome:
            score, worth = float(getattr(table, self.select)[row]), float(getattr(table, self.report)[row])
            return Outcome(score, float(table.seconds[row]) * epochs / EPOCHS, epochs, {self.select: score}, (), worth)

        return Evaluation(round(1e6 * float(table.size[row])), run)


_TABLES: dict[tuple[str, str], Table] = {}


@dataclass(frozen=True)
class Source:
    """Where data come from, so that every worker reads them itself; ``data`` as ``depthscale.load_data`` takes it."""

    data: Any
    target: str | None = None
    task: str | None = None
    seed: int = 0
    skip_bad: bool = False
    limit: int | None = None

    def load(self, progress: Callable[[int, int], None] | None = None) -> "Dataset":
        """The data, read once a process."""
        from depthscale.data import Dataset, load

        if isinstance(self.data, Dataset):
            return self.data
        given = self.data if isinstance(self.data, str | Path) else id(self.data)
        key = (str(given), self.target, self.task, self.seed, self.skip_bad, self.limit)
        if key not in _DATASETS:
            _DATASETS[key] = load(
                self.data,
                target=self.target,
                task=self.task,
                seed=self.seed,
                skip_bad=self.skip_bad,
                limit=self.limit,
                progress=progress,
            )
        return _DATASETS[key]


_DATASETS: dict[tuple[Any, ...], "Dataset"] = {}


@dataclass(frozen=True)
class TrainingEvaluator:
    """Trains networks: up to ``seconds`` or ``epochs`` each, in ``rungs``; scored on the validation split.

    Classification is scored by accuracy (loss breaks ties), regression by minus the root mean square error. With
    several ``draws`` a network is trained from so many draws of its weights, all as one tensor program, and scored by
    their mean: less of the score is the luck of a seed. Such a network has one rung, and a length in epochs.
    """

    source: Source
    seconds: float | None = None
    epochs: float | None = None
    rungs: tuple[int, ...] = RUNGS
    device: str = "auto"
    draws: int = 1

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise SearchError(f"expected at least 1 draw of a network's weights, got {self.draws}")
        if self.draws > 1 and (self.epochs is None or len(self.rungs) > 1):
            raise SearchError(
                f"expected networks that are trained for a number of epochs where their weights are drawn {self.draws} "
                "times, got a limit in seconds; give trials or epochs as the budget, or one draw"
            )
        if (self.seconds is None) == (self.epochs is None):
            raise SearchError("expected how long a network is trained in seconds or in epochs, got both or neither")

    @property
    def signal(self) -> str:
        """Accuracy or minus the error."""
        words = f"validation {'accuracy' if self.source.load().task == 'classification' else '−rmse'}"
        return words if self.draws == 1 else f"{words}, mean of {self.draws} draws"

    def begin(self, space: Space, draw: Draw, seed: int) -> Evaluation:
        """A trainer of the network, its weights drawn by seed and network."""
        from depthscale.build import build
        from depthscale.train import Budget, Trainer
        from depthscale.train.threads import threads

        graph = space.graph(draw.architecture)
        dataset = self.source.load()
        own = seed_of(seed, space, draw)
        config = settings(draw.decisions, dataset, own, self.device).with_(budget=self._budget(Budget, self.rungs[-1]))
        if self.draws > 1:
            return Evaluation(graph.cost().parameters, lambda _: mean_outcome(graph, dataset, config, self.draws))
        trainer = Trainer(build(graph, own), dataset, config, progress=False)

        def run(rung: int) -> Outcome:
            with threads(graph, config.batch):
                trainer.run(self._budget(Budget, rung))
            return outcome_of(trainer, dataset.task)

        return Evaluation(graph.cost().parameters, run)

    def _budget(self, kind: Any, rung: int) -> Any:
        share = rung / self.rungs[-1]
        return kind(seconds=share * self.seconds) if self.seconds is not None else kind(epochs=share * self.epochs)  # type: ignore[operator]


def seed_of(seed: int, space: Space, draw: Draw) -> int:
    """The seed that a network trains with: of the search and the network, whoever proposed it."""
    made = {k: v for k, v in draw.decisions.items() if k.startswith(TRAINING)}
    return (seed * 1_000_003 + zlib.crc32(repr((space.key(draw.architecture), made)).encode())) % 2**31


def settings(decisions: Mapping[str, Any], dataset: "Dataset", seed: int, device: str) -> "TrainConfig":
    """How a candidate is trained: a constant rate and averaged weights, so that any moment is a good one to look.

    Decisions that begin with train/ are followed: optimiser, learning_rate (or learning_rate_adamw …), batch,
    weight_decay.
    """
    from depthscale.train import TrainConfig

    made = {k.removeprefix(TRAINING): v for k, v in decisions.items() if k.startswith(TRAINING)}
    optimiser = str(made.get("optimiser", "adamw"))
    rows = len(dataset.train.y)
    usual = 32 if rows < 5_000 else 64 if rows < 20_000 else 128
    rate = made.get("learning_rate", made.get(f"learning_rate_{optimiser}", 3e-3 if optimiser == "adamw" else 0.05))
    return TrainConfig(
        batch=max(1, min(int(made.get("batch", usual)), rows // 4)),
        optimiser=optimiser,
        lr=float(rate),
        weight_decay=float(made.get("weight_decay", 1e-2 if optimiser == "adamw" else 5e-4)),
        schedule="constant",
        warmup=0.05,
        clip=1.0,
        ema=EMA,
        seed=seed,
        device=device,
    )


def annealed(config: "TrainConfig", **changes: Any) -> "TrainConfig":
    """The same for a last training: one cycle of the learning rate over the budget."""
    return replace(config, schedule="onecycle", warmup=0.2, keep_best=False, **changes)


def mean_outcome(graph: "Graph", dataset: "Dataset", config: "TrainConfig", draws: int) -> Outcome:
    """Several draws of a network's weights trained as one ensemble; all their epochs are charged.

    Their length is known, so that the rate comes down at its end. A network of which a draw diverges has failed.
    """
    from depthscale.train import train_ensemble

    found = train_ensemble(graph, dataset, draws, config=annealed(config, ema=None))
    if any(m.status == "interrupted" for m in found):
        raise KeyboardInterrupt
    epochs = draws * (config.budget.epochs or 0.0)
    broken = sum(m.diverged for m in found)
    if broken:
        return Outcome(-math.inf, found.seconds, epochs, failed=f"{broken} of {draws} draws diverged")
    vals = [dict(m.val) if "accuracy" in m.val else {**m.val, "rmse": math.sqrt(m.val["loss"])} for m in found]
    metrics = {name: sum(v[name] for v in vals) / draws for name in vals[0]}
    return Outcome(sum(score_of(v, dataset.task) for v in vals) / draws, found.seconds, epochs, metrics)


def outcome_of(trainer: "Trainer", task: str) -> Outcome:
    """Where a trainer stands."""
    result = trainer.result()
    if result.status == "interrupted":
        raise KeyboardInterrupt
    points = [r for r in result.history if r.val]
    if result.last is not None and result.last.val and (not points or result.last.step != points[-1].step):
        points.append(result.last)
    curve = tuple((result.epochs * r.step / max(result.steps, 1), score_of(r.val, task)) for r in points)
    if result.status == "diverged" or not result.val:
        return Outcome(-math.inf, result.seconds, result.epochs, {}, curve, None, str(result.divergence or "diverged"))
    return Outcome(score_of(result.val, task), result.seconds, result.epochs, dict(result.val), curve)


def score_of(val: Mapping[str, float], task: str) -> float:
    """What a search maximises, from validation metrics."""
    return val["accuracy"] - 1e-4 * min(val["loss"], 10.0) if task == "classification" else -val["rmse"]
