"""Training under a budget of floating-point operations, of a network whose structure changes.

What is counted: a training step is three forward passes (one forward, two backward), a multiply-add is two operations,
and multiply-adds are those of ``graph.cost`` (contractions). Connections that a mask leaves out are not counted, as in
the papers on sparse training, though dense hardware computes them. What decisions look at is counted like training, and
is a tenth of it at most; validation is not counted.

A connection that is not there has no gradient: neither the clipping nor the optimiser sees one. A decision that wants
to know it (which of them to make?) reads it off the batch of the last training step (Evci et al. 2020, RigL, section
3), and pays for the part of that step which a sparse network would not have computed.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from depthscale.build import build
from depthscale.errors import TrainingError
from depthscale.graph import Graph
from depthscale.graph.cost import multiply_adds
from depthscale.grow.live import Edit, Live, Step
from depthscale.train import schedule
from depthscale.train.batches import DatasetLike
from depthscale.train.config import TrainConfig
from depthscale.train.engine import Engine
from depthscale.train.evaluate import Metrics, rank_of
from depthscale.train.seeds import mix

FORWARD, STEP = 2.0, 6.0  # operations per multiply-add: of a forward pass, of a training step
PROBE = 4  # batches that a decision looks at, at most
DECIDING, AHEAD = 0.1, 0.05  # of what is spent, decisions cost at most; share of the budget that counts as spent before
LEAST = 8  # rows below which a decision looks at none
_SMOOTH = 0.95  # of the running training loss
_DECISION = 7  # the stream that rows for decisions are drawn from


@dataclass
class Point:
    """Where training stood: share of the budget, step, running loss, validation metrics, size."""

    used: float
    step: int
    loss: float
    val: dict[str, float]
    parameters: int
    multiply_adds: float
    stage: str


@dataclass
class Training:
    """A network in training, its budget of operations, and what has happened so far."""

    engine: Engine
    live: Live
    budget: float
    seed: int = 0
    spent: float = 0.0
    decided: float = 0.0  # of what is spent: by decisions
    cycle: tuple[float, float] = (0.0, 1.0)  # shares of the budget between which the learning rate makes one cycle
    loss: float = math.nan
    losses: list[float] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    since: dict[str, Tensor] = field(default_factory=dict)  # weights when the stage began
    memory: dict[str, Tensor] = field(default_factory=dict)  # what a schedule wants to find again
    decisions: int = 0
    ids: dict[str, list[int]] = field(default_factory=dict)  # who the units of a layer are, where edits moved them
    born: int = 0  # ids given so far, beyond those that layers began with
    wishes: dict[str, Tensor] = field(default_factory=dict)  # gradients of the last step, of absent connections as well
    _work: float | None = None
    _hooks: list[Any] = field(default_factory=list, repr=False)
    _stepping: bool = False

    @staticmethod
    def begin(graph: Graph, dataset: DatasetLike, config: TrainConfig, budget: float, seed: int = 0) -> "Training":
        """A fresh network on a data set. Raises TrainingError for a budget that is not positive."""
        if not (math.isfinite(budget) and budget > 0):
            raise TrainingError(f"expected a budget of more than 0 training FLOPs, got {budget:g}; say --flops 1e12")
        engine = Engine(build(graph, seed), dataset, config.with_(channels_last=False))
        training = Training(engine, Live(engine.model, engine.optimiser), budget, seed)  # type: ignore[arg-type]
        row = training.row_work * STEP
        if budget < row:
            raise TrainingError(
                f"expected a budget that pays for at least one row of training ({row:.3g} FLOPs), got {budget:.3g}"
            )
        return training

    @property
    def graph(self) -> Graph:
        """The network as it is now."""
        return self.live.graph

    @property
    def used(self) -> float:
        """Share of the budget that is spent."""
        return self.spent / self.budget

    @property
    def row_work(self) -> float:
        """Multiply-adds of a forward pass of one row, connections that masks leave out not counted."""
        if self._work is None:
            self._work = work(self.graph, self.live.masks)
        return self._work

    def charge(self, rows: float) -> None:
        """Pay for training on so many rows."""
        self.spent += rows * STEP * self.row_work

    # --- what decisions cost ---

    @property
    def purse(self) -> float:
        """Operations that decisions may still spend: a tenth of all that has been spent, a little of it in advance."""
        return DECIDING * (self.spent + AHEAD * self.budget) - self.decided

    def afford(self, price: float, rows: int | None = None) -> int:
        """How many rows a decision may look at for ``price`` operations each, from half of the purse.

        At most ``rows`` (four batches) and those there are; 0 where it would be too few: decide without looking, then.
        """
        most = min(PROBE * self.engine.config.batch if rows is None else rows, self.engine.batches.rows)
        found = min(most, int(max(self.purse, 0.0) / 2 / max(price, 1.0)))
        return found if found >= min(LEAST, most) else 0

    def pay(self, operations: float) -> None:
        """Pay for a decision."""
        self.spent += operations
        self.decided += operations

    # --- training ---

    def train(self, until: float, told: Callable[["Training"], bool] | None = None) -> None:
        """Steps until this share of the budget is spent, or ``told`` (called after every step) says stop.

        Raises FloatingPointError where the loss is no longer finite.
        """
        self.engine.model.train()
        while self.used < until - 1e-12:
            rows = self.engine.batches.size(self.engine.step)
            self._stepping = True
            loss = float(self.engine.advance(self.factor()))
            self._stepping = False
            if self.live.masks:
                self.live.enforce()
            self.charge(rows)
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss became {loss} at step {self.engine.step}")
            self.loss = loss if math.isnan(self.loss) else _SMOOTH * self.loss + (1 - _SMOOTH) * loss
            self.losses.append(loss)
            if told is not None and told(self):
                return

    def factor(self) -> float:
        """The share of the largest learning rate, by the budget spent within the cycle."""
        c, (begin, end) = self.engine.config, self.cycle
        at = min(max((self.used - begin) / max(end - begin, 1e-12), 0.0), 1.0)
        return schedule.factor(c.schedule, at, c.warmup, c.final_lr)

    def edit(self, change: Edit) -> None:
        """Change the structure; the optimiser and the learning rate go on."""
        self._rename(change)
        self.live = self.live.apply(change, seed=mix(self.seed, _DECISION, len(self.live.lineage)) % 2**31)
        self.engine.adopt(self.live.module)
        self._work = None
        self.listen()

    def who(self, layer: str, size: int) -> list[int]:
        """The ids of a layer's units; a unit keeps its own through all edits."""
        return self.ids.get(layer, list(range(size)))

    def _rename(self, change: Edit) -> None:
        named = dict(self.live.module.named_parameters())
        for name, source in change.sources.items():
            layer, _, leaf = name.rpartition(".")
            take = next((t for t in source.takes if t.dim == 0), None)
            if leaf != "weight" or take is None or name not in named or named[name].dim() < 2:
                continue
            old, seen, new = self.who(layer, len(named[name])), set[int](), list[int]()
            for i in take.index.tolist():
                if i < 0 or i in seen:  # a copy is somebody new
                    self.born += 1
                    new.append(10_000 + self.born)
                else:
                    seen.add(i)
                    new.append(old[i])
            self.ids[layer] = new

    def masked(self, live: Live, kind: str) -> None:
        """Take over a network whose single connections changed; the lineage says how many there are now."""
        before = self.live.parameters
        where = f"connections: {before:,} → {live.parameters:,} parameters"
        step = Step(kind, where, live.graph.key, live.graph.key, live.parameters, round(work(live.graph, live.masks)))
        self.live, self._work = replace(live, lineage=(*live.lineage, step)), None
        self.listen()

    def listen(self) -> None:
        """Take what is absent out of every gradient on its way to the optimiser, and remember it."""
        for hook in self._hooks:
            hook.remove()
        named = dict(self.live.module.named_parameters())
        trained = [n for n in self.live.masks if named[n].requires_grad]
        self._hooks = [named[n].register_hook(self._heard(n)) for n in trained]  # type: ignore[no-untyped-call]
        self.wishes = {n: g for n, g in self.wishes.items() if n in self.live.masks and g.shape == named[n].shape}

    def _heard(self, name: str) -> Callable[[Tensor], Tensor]:
        def hear(gradient: Tensor) -> Tensor:
            if self._stepping:
                self.wishes[name] = gradient
            return gradient * self.live.masks[name]

        return hear

    # --- looking ---

    def validate(self, stage: str) -> Point:
        """The validation metrics of now, kept in ``points``."""
        metrics = self.engine.validate()
        val = {} if metrics is None else metrics.summary()
        point = Point(self.used, self.engine.step, self.loss, val, self.live.parameters, self.row_work, stage)
        self.points.append(point)
        return point

    def rank(self, metrics: Metrics) -> tuple[float, ...]:
        """What networks are compared by on the validation rows."""
        return rank_of(metrics, self.engine.config.monitor)

    def probe(self, rows: int) -> tuple[Tensor, Tensor]:
        """Training rows for a decision, other ones for each, from a stream of their own; ``afford`` says how many."""
        batches = self.engine.batches
        self.decisions += 1
        generator = torch.Generator().manual_seed(mix(self.seed, _DECISION, self.decisions))
        chosen = torch.randperm(batches.rows, generator=generator)[:rows].to(batches.x.device)
        return batches.x[chosen], batches.y[chosen]

    @contextmanager
    def still(self, module: Any = None) -> Iterator[Any]:
        """A module in training mode whose running statistics and gradients are afterwards as they were."""
        module = self.live.module if module is None else module
        kept = {n: b.clone() for n, b in module.named_buffers()}
        mode = module.training
        module.train()
        module.zero_grad()
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(mix(self.seed, _DECISION, self.decisions) % 2**31)
                yield module
        finally:
            module.zero_grad()
            module.train(mode)
            with torch.no_grad():
                for n, b in module.named_buffers():
                    b.copy_(kept[n])

    def gradients(self, parts: int = 1) -> list[dict[str, Tensor]]:
        """Gradients of the training loss by parameter, on ``parts`` parts of the rows of one decision; [] where looking
        costs too much.
        """
        rows = self.afford(STEP * self.row_work)
        if not rows:
            return []
        x, y = self.probe(rows)
        found = []
        with self.still() as module:
            for xs, ys in zip(torch.chunk(x, parts), torch.chunk(y, parts), strict=True):
                module.zero_grad()
                self.engine.devices.backward(self.engine.objective(module(xs), ys))
                found.append({n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None})
        self.pay(len(x) * STEP * self.row_work)
        return found

    def absent(self) -> dict[str, Tensor] | None:
        """Gradients by masked weight, those of absent connections included, on the batch of the last training step.

        None where there was no step since the masks were made, and where it costs too much: a third of a dense step
        less a third of a sparse one.
        """
        if self.wishes.keys() != self.live.masks.keys():
            return None
        price = (work(self.graph, {}) - self.row_work) * STEP / 3
        rows = self.engine.batches.size(max(self.engine.step - 1, 0))
        if self.afford(price, rows) < rows:
            return None
        self.pay(rows * price)
        return dict(self.wishes)

    def values(self) -> dict[str, Tensor]:
        """Copies of the weights of now."""
        return {n: p.detach().clone() for n, p in self.live.module.named_parameters()}


def work(graph: Graph, masks: Mapping[str, Tensor]) -> float:
    """Multiply-adds of one row, each layer's times the density of its mask."""
    shapes = graph.shapes()
    total = 0.0
    for node in graph.nodes:
        adds = multiply_adds(node.op, shapes[node.name], *[shapes[i] for i in node.inputs])
        mask = masks.get(f"{node.name}.weight")
        total += adds if mask is None else adds * float(mask.float().mean())
    return total
