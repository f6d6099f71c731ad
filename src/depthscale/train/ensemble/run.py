"""Training an ensemble: chunks that fit, steps in lockstep, members that break or finish leave and free their place."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depthscale.errors import TrainingError
from depthscale.graph import Graph
from depthscale.train import schedule, seeds
from depthscale.train.batches import Batches, DatasetLike, tensors
from depthscale.train.config import TrainConfig
from depthscale.train.devices import pick_device
from depthscale.train.ensemble.engines import ENGINES, Engine, choose, make_engine, quiet_arithmetic
from depthscale.train.ensemble.loss import Score
from depthscale.train.ensemble.member import ORDERS, EnsembleResult, Member, MemberResult
from depthscale.train.ensemble.memory import chunk_size, parse_bytes
from depthscale.train.ensemble.stack import check_same
from depthscale.train.ensemble.update import Stack
from depthscale.train.interrupt import graceful_interrupt

WATCH = 25  # steps between looks at the losses


def train_ensemble(
    graph: Graph,
    dataset: DatasetLike,
    members: Sequence[Member] | int,
    *,
    config: TrainConfig,
    order: str = "shared",
    engine: str = "auto",
    memory: str | float | None = None,
    chunk: int | None = None,
    dtype: torch.dtype = torch.float32,
    score_rows: int | None = None,
    validate_every: int | None = None,
    weights: bool = False,
    progress: Callable[[float], None] | None = None,
) -> EnsembleResult:
    """Train many networks of one graph at once; what becomes of each is what would become of it alone.

    ``members``: their seeds, rates and laws (a number stands for so many seeds, from the configuration's). ``config``:
    the rest, as for ``fit``: optimiser sgd or adamw, schedule, clip (per member), batch, a budget in steps or epochs.
    ``order``: all members see the same rows in the same order (that of ``config.seed``), or each those of its own
    seed. ``engine``: dense (fully connected networks, no autograd), general (``torch.func.vmap``, any graph), turns
    (any graph, members in turn), or auto. ``memory``: how much may be used, such as "4GB" (default: three quarters of
    what is free); members beyond it wait for the next chunk. ``score_rows`` limits the rows of each split that
    members are scored on; ``validate_every`` scores them on the way, too, every so many steps. ``progress`` is
    called with the share that is done. Ctrl-C ends it with what there is.

    Raises TrainingError for members that are not one network, a configuration that an ensemble has not (time budgets,
    augmentation, running averages), and for a network of which not even one fits in the memory.
    """
    members = _members(members, config)
    _check(members, config, order, engine)
    device = pick_device(config.device)
    for member in members:
        check_same(graph, member.graph or graph)
    data = _Data(graph, dataset, config, order, dtype, device, score_rows)
    which = choose(graph, engine, device)
    size = chunk or chunk_size(graph, config, members, which, order, dtype, device, parse_bytes(memory))
    run = _Run(graph, data, config, which, validate_every, weights)
    start = time.perf_counter()
    results: list[MemberResult] = []
    kept: list[Stack] = []
    total = len(members)
    with graceful_interrupt() as request, quiet_arithmetic(), seeds.borrowed_generators(device):
        for begin in range(0, total, size):
            part = members[begin : begin + size]

            def tell(share: float, begin: int = begin, count: int = len(part)) -> None:
                if progress is not None:
                    progress((begin + share * count) / total)

            found, stack = run.chunk(part, request, tell)
            results += found
            kept.append(stack)
    flops = 6.0 * graph.cost(1).multiply_adds * data.batches[0].rows / data.batches[0].steps
    return EnsembleResult(
        tuple(results),
        which,
        min(size, total),
        time.perf_counter() - start,
        flops * sum(r.steps for r in results),
        {k: torch.cat([s[k] for s in kept]) for k in kept[0]} if weights else {},
    )


def _members(members: Sequence[Member] | int, config: TrainConfig) -> tuple[Member, ...]:
    if isinstance(members, int):
        members = [Member(seed=config.seed + k) for k in range(members)]
    if not members:
        raise TrainingError("expected at least one member to train, got none")
    return tuple(members)


def _check(members: Sequence[Member], config: TrainConfig, order: str, engine: str) -> None:
    for name, value, allowed in (("order", order, ORDERS), ("engine", engine, ENGINES)):
        if value not in allowed:
            raise TrainingError(f"expected {name} to be {' or '.join(allowed)}, got {value!r}")
    if config.budget.seconds is not None:
        raise TrainingError("expected an ensemble's budget in steps or epochs, got seconds; say Budget(steps=1000)")
    if config.augment is not None:
        raise TrainingError("expected no augmentation in an ensemble; leave augment at None")
    if config.precision != "float32":
        raise TrainingError(f"expected an ensemble's precision to be float32, got {config.precision!r}")


class _Data:
    """The rows on the device, the batch of every step, and how members are scored."""

    def __init__(
        self,
        graph: Graph,
        dataset: DatasetLike,
        config: TrainConfig,
        order: str,
        dtype: torch.dtype,
        device: torch.device,
        score_rows: int | None,
    ) -> None:
        like = torch.empty(0, dtype=dtype)
        self.task, self.shared, self.batch, self.dtype = dataset.task, order == "shared", config.batch, dtype
        x, y = tensors(dataset.train, dataset.task, like)
        wanted = graph.shapes()[graph.inputs[0]][1:]
        if tuple(x.shape[1:]) != tuple(wanted):
            raise TrainingError(f"expected rows of shape {tuple(wanted)} for this network, got {tuple(x.shape[1:])}")
        outputs = graph.shapes()[graph.outputs[0]]
        needed = int(y.max()) + 1 if self.task == "classification" else y.shape[1]
        if len(outputs) != 2 or outputs[1] < needed or (self.task != "classification" and outputs[1] != needed):
            raise TrainingError(f"expected a network with {needed} outputs for these targets, got {outputs[1:]}")
        self.x, self.y = x.to(device), y.to(device)
        self.seed = config.seed
        self.batches = [Batches(self.x, self.y, config.batch, config.seed)]
        self.splits = {"train": (self.x[:score_rows], self.y[:score_rows])}
        if len(dataset.val.y):
            xv, yv = tensors(dataset.val, dataset.task, like)
            self.splits["val"] = (xv[:score_rows].to(device), yv[:score_rows].to(device))

    def begin(self, members: Sequence[Member]) -> None:
        """Make ready for a chunk of members."""
        if not self.shared:
            self.batches = [Batches(self.x, self.y, self.batch, m.seed) for m in members]

    def select(self, keep: Sequence[int]) -> None:
        """Go on with these members only."""
        if not self.shared:
            self.batches = [self.batches[k] for k in keep]

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step: (B, …) where it is shared, else (E, B, …)."""
        if self.shared:
            return self.batches[0](step)
        rows = torch.stack([b.rows_of(step) for b in self.batches])  # (E, B)
        return self.x[rows], self.y[rows]


class _Run:
    """Trains one chunk after another."""

    def __init__(
        self, graph: Graph, data: _Data, config: TrainConfig, which: str, validate_every: int | None, weights: bool
    ) -> None:
        self.graph, self.data, self.config, self.which = graph, data, config, which
        self.validate_every, self.weights = validate_every, weights
        self.steps = config.budget.total_steps(data.batches[0].steps)
        assert self.steps is not None

    def chunk(
        self, members: Sequence[Member], request: Any, tell: Callable[[float], None]
    ) -> tuple[list[MemberResult], Stack]:
        """The results of some members, and their weights where wanted."""
        engine = make_engine(
            self.which, self.graph, members, self.config, self.data.task,
            shared=self.data.shared, dtype=self.data.dtype, device=self.data.x.device,
        )  # fmt: skip
        self.data.begin(members)
        book = _Book(members, self.steps or 1, self.config.explode)
        stack = {k: torch.zeros_like(v) for k, v in engine.stack().items()} if self.weights else {}
        step = 0
        while book.alive:
            stop = book.next_stop(step, self.validate_every)
            losses = []
            while step < stop and not request.made:
                x, y = self.data(step)
                losses.append(engine.step(x, y, self._factor(step)))
                step += 1
            book.note(losses, step)
            if self.validate_every and step % self.validate_every == 0:
                book.validated(self.scores(engine), step)
            ended = book.ended(step, interrupted=request.made)
            if ended:
                scores = self.scores(engine)
                places = [book.alive[k] for k in ended]
                for name in stack:
                    stack[name][places] = engine.stack()[name][ended]
                keep = [k for k in range(len(book.alive)) if k not in set(ended)]
                book.close(ended, scores, step, interrupted=request.made)
                if keep:
                    engine.select(torch.tensor(keep, device=self.data.x.device))
                    self.data.select(keep)
            tell(step / book.longest)
        return book.results(), stack

    def _factor(self, step: int) -> float:
        c, total = self.config, self.steps or 1
        return schedule.factor(c.schedule, step / total, c.warmup, c.final_lr)

    def scores(self, engine: Engine) -> dict[str, dict[str, list[float]]]:
        """Every metric of every member on every split."""
        found = {}
        for split, (x, y) in self.data.splits.items():
            score = Score(y, self.data.task)
            for rows in torch.split(torch.arange(len(x), device=x.device), self.config.batch * 4):
                score.add(engine.outputs(x[rows]), rows)
            found[split] = score.result()
        return found


class _Book:
    """Who is still training, and what has become of the others."""

    def __init__(self, members: Sequence[Member], steps: int, explode: float) -> None:
        self.ends = [min(m.steps or steps, steps) for m in members]
        self.longest, self.explode = max(self.ends), explode
        self.alive = list(range(len(members)))  # engine's place -> member
        self.first = [math.nan] * len(members)
        self.last = [math.nan] * len(members)
        self.broke: dict[int, int] = {}  # member -> step (from 0) at which its loss broke
        self.curves: list[list[tuple[int, dict[str, float]]]] = [[] for _ in members]
        self._losses: list[list[Any]] = [[] for _ in members]
        self._results: dict[int, MemberResult] = {}

    def next_stop(self, step: int, every: int | None) -> int:
        """The step at which to look next."""
        stops = [step + WATCH, *(self.ends[m] for m in self.alive)]
        if every:
            stops.append((step // every + 1) * every)
        return min(stops)

    def note(self, losses: list[Tensor], step: int) -> None:
        """The losses of the latest steps, each (alive members,)."""
        if not losses:
            return
        table = torch.stack(losses).double().cpu().numpy()  # (steps, members)
        begin = step - len(losses)
        for k, member in enumerate(self.alive):
            if begin == 0:
                self.first[member] = float(table[0, k])
            limit = self.explode * max(self.first[member], 1.0)
            self._losses[member].append(table[:, k].astype(np.float32))
            bad = np.flatnonzero(~(table[:, k] <= limit))
            if len(bad):
                self.broke[member] = begin + int(bad[0])
                self.last[member] = float(table[bad[0], k])
            else:
                self.last[member] = float(table[-1, k])

    def ended(self, step: int, *, interrupted: bool) -> list[int]:
        """The engine's places of members that leave now."""
        return [k for k, m in enumerate(self.alive) if interrupted or m in self.broke or self.ends[m] <= step]

    def validated(self, scores: dict[str, dict[str, list[float]]], step: int) -> None:
        """Scores on the way."""
        for k, m in enumerate(self.alive):
            row = {f"{split} {name}": values[k] for split, s in scores.items() for name, values in s.items()}
            self.curves[m].append((step, row))

    def close(
        self, ended: list[int], scores: dict[str, dict[str, list[float]]], step: int, *, interrupted: bool
    ) -> None:
        """Take down what has become of members, and go on without them."""
        for k in ended:
            m = self.alive[k]
            broken = m in self.broke
            split = {
                name: {key: math.nan if broken else values[k] for key, values in s.items()}
                for name, s in scores.items()
            }
            status = "diverged" if broken else "interrupted" if interrupted and step < self.ends[m] else "finished"
            steps = self.broke[m] + 1 if broken else step
            self._results[m] = MemberResult(
                status=status,
                steps=steps,
                first_loss=self.first[m],
                last_loss=self.last[m],
                train=split["train"],
                val=split.get("val", {}),
                curve=tuple(self.curves[m]),
                losses=np.concatenate(self._losses[m])[:steps] if self._losses[m] else np.zeros(0, np.float32),
            )
        gone = set(ended)
        self.alive = [m for k, m in enumerate(self.alive) if k not in gone]

    def results(self) -> list[MemberResult]:
        """All members' results, in order."""
        return [self._results[m] for m in sorted(self._results)]
