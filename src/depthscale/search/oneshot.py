"""Search by gradient: Liu, Simonyan & Yang 2019, "DARTS: differentiable architecture search", on the cells of
NAS-Bench-201.

A supernet holds every operation of every edge, each a small network built from our ops; an edge's output is the sum of
its operations' outputs, weighed by a softmax over the architecture's parameters alpha of shape (6 edges, 5 operations).
Weights w are trained on one half of the training rows, alpha on the other:

    first order:   alpha follows −∇_alpha L_val(w, alpha)
    second order:  −∇_alpha L_val(w − ξ ∇_w L_train(w, alpha), alpha), the mixed derivative by central differences
                   with ε = 0.01/‖∇_w' L_val‖ (equations 7 and 8)
    fair:          sigmoids instead of the softmax, and a loss that drives them to 0 or 1 (Chu et al. 2020,
                   "Fair DARTS", equations 6 and 8): operations do not compete, so that skips cannot crowd out the rest

At the end every edge keeps its heaviest operation but "none" (section 2.4).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from depthscale.build import build
from depthscale.errors import SearchError
from depthscale.graph import Builder, Graph, Node, Wire, blocks, laws, ops
from depthscale.zoo.images import image
from depthscale.zoo.nasbench201 import EDGES, OPS, STYLE, operation, reduction, write

if TYPE_CHECKING:
    from depthscale.data import Dataset

Say = Callable[[str], None]


@dataclass(frozen=True)
class Darts:
    """How the supernet is trained. width, cells: of the supernet (the benchmark's own are 16 and 5).

    epochs: passes over half of the training rows; seconds: stop earlier, where the time is over.
    """

    order: int = 1
    fair: bool = False
    epochs: float = 10
    seconds: float | None = None
    width: int = 8
    cells: int = 1
    batch: int = 64
    rate: float = 0.025
    alpha_rate: float = 3e-3
    decay: float = 3e-4
    zero_one: float = 10.0  # weight of the fair loss

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise SearchError(f"expected DARTS of order 1 or 2, got {self.order}")
        if not self.epochs > 0 or self.batch < 1:
            raise SearchError(f"expected more than 0 epochs and a batch of at least 1, got {self.epochs}, {self.batch}")


@dataclass(frozen=True)
class Moment:
    """The supernet after some steps: weights of the operations, shape (6, 5), and losses since the last moment."""

    epoch: float
    weights: tuple[tuple[float, ...], ...]
    train_loss: float
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True)
class Found:
    """The cell that a supernet ended in, and how it got there."""

    cell: str
    moments: tuple[Moment, ...]
    seconds: float
    steps: int

    @property
    def decisions(self) -> dict[str, str]:
        """The cell as decisions of the space nasbench201."""
        from depthscale.zoo.nasbench201 import parse

        return {f"edge{s}{n}": op for (n, s), op in zip(EDGES, parse(self.cell), strict=True)}


class Supernet(nn.Module):
    """All cells at once; ``forward`` takes the weights of the operations, shape (6, 5)."""

    def __init__(self, input_shape: Sequence[int], outputs: int, config: Darts, seed: int) -> None:
        super().__init__()
        channels, *size = input_shape
        width = config.width
        self.stem = _part(
            (channels, *size), lambda x: blocks.norm(blocks.conv(x, width, weight=STYLE.weight), "batch"), seed
        )
        stages, reductions = [], []
        shape: tuple[int, ...] = (width, *size)
        for i in range(3):
            if i:
                part = _part(shape, lambda x: reduction(x, 2 * x.channels, STYLE), seed + i)
                reductions.append(part)
                shape = tuple(part.graph.shapes()[part.graph.outputs[0]][1:])
            stages.append(nn.ModuleList([_Cell(shape, seed + 10 * i + 100 * j) for j in range(config.cells)]))
        self.stages, self.reductions = nn.ModuleList(stages), nn.ModuleList(reductions)
        self.head = _part(
            shape,
            lambda x: blocks.classifier(blocks.norm_act(x, STYLE), outputs, weight=laws.TORCH_DEFAULT),
            seed + 5,
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Logits (B, outputs)."""
        x = self.stem(x)
        for i, stage in enumerate(self.stages):
            if i:
                x = self.reductions[i - 1](x)
            for cell in cast(nn.ModuleList, stage):
                x = cell(x, weights)
        out: Tensor = self.head(x)
        return out


class _Cell(nn.Module):
    """Six edges, each with the three operations that have something to compute; skip and none need nothing."""

    def __init__(self, shape: tuple[int, ...], seed: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            [
                nn.ModuleDict({op: _part(shape, partial(operation, op=op, style=STYLE), seed + i) for op in COMPUTED})
                for i in range(len(EDGES))
            ]
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        values = [x]
        for node in (1, 2, 3):
            total: Any = 0.0
            for i, (target, source) in enumerate(EDGES):
                if target != node:
                    continue
                h, edge = values[source], self.edges[i]
                total = total + weights[i, SKIP] * h
                for op in COMPUTED:
                    total = total + weights[i, OPS.index(op)] * edge[op](h)  # type: ignore[index]
            values.append(total)
        return values[-1]


SKIP, NONE = OPS.index("skip_connect"), OPS.index("none")
COMPUTED = tuple(op for op in OPS if op not in ("none", "skip_connect"))


def _part(shape: Sequence[int], write_it: Callable[[Wire], Wire], seed: int) -> Any:
    """A built network of one input of this shape; batch norms neither scale nor shift, lest they undo the weights."""
    net = Builder()
    x = image(net, shape[0], tuple(shape[1:]))
    graph = net.graph(write_it(x))

    def plain(node: Node) -> Node:
        return (
            replace(node, op=replace(node.op, weight=None, bias=None)) if isinstance(node.op, ops.BatchNorm) else node
        )

    return build(Graph(tuple(plain(n) for n in graph.nodes), graph.outputs, graph.inputs), seed).train()


def mixed(alpha: Tensor, *, fair: bool) -> Tensor:
    """Weights of the operations, shape (6, 5): softmax over each edge's, or sigmoids."""
    return torch.sigmoid(alpha) if fair else torch.softmax(alpha, dim=1)


def discretised(weights: "np.ndarray | Sequence[Sequence[float]]") -> str:
    """The cell of the heaviest operation but "none" on every edge."""
    w = np.array(weights, dtype=float)
    w[:, NONE] = -np.inf
    return write(tuple(OPS[int(i)] for i in w.argmax(1)))


def darts(dataset: "Dataset", config: Darts = Darts(), *, seed: int = 0, say: Say = lambda words: None) -> Found:
    """Train a supernet on a data set's training rows and read the cell off it.

    The data set's validation and test splits are not looked at. Raises SearchError for data that are no classes of
    images.
    """
    if len(dataset.input_shape) != 3 or dataset.task != "classification":
        raise SearchError(
            f"expected classes of images for DARTS, got {dataset.task} on rows of shape {tuple(dataset.input_shape)}"
        )
    return _Run(dataset, config, seed).run(say)


class _Run:
    def __init__(self, dataset: "Dataset", config: Darts, seed: int) -> None:
        self.config = config
        self.nudge = 0.01  # length of the step of the central difference
        self.generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(dataset.train.y), generator=self.generator)
        self.half = len(order) // 2
        if self.half < config.batch:
            raise SearchError(f"expected at least {2 * config.batch} training rows for DARTS, got {len(order)}")
        self.x, self.y = torch.from_numpy(dataset.train.x)[order], torch.from_numpy(dataset.train.y)[order]
        self.net = Supernet(dataset.input_shape, dataset.outputs, config, seed)
        self.own = list(self.net.parameters())
        self.alpha = (1e-3 * torch.randn(len(EDGES), len(OPS), generator=self.generator)).requires_grad_()
        self.climber = torch.optim.Adam([self.alpha], config.alpha_rate, betas=(0.5, 0.999), weight_decay=1e-3)
        self.optimiser = torch.optim.SGD(self.own, config.rate, momentum=0.9, weight_decay=config.decay)

    def run(self, say: Say) -> Found:
        c, start = self.config, time.monotonic()
        per_epoch = max(self.half // c.batch, 1)
        total = max(1, round(c.epochs * per_epoch))
        every = max(1, total // 40)
        moments, sums = [self._moment(0.0, [])], []
        step = 0
        while step < total and (c.seconds is None or time.monotonic() - start < c.seconds):
            share = step / total if c.seconds is None else max(step / total, (time.monotonic() - start) / c.seconds)
            rate = 1e-3 + 0.5 * (c.rate - 1e-3) * (1 + math.cos(math.pi * min(share, 1.0)))
            self.optimiser.param_groups[0]["lr"] = rate
            sums.append(self._step(self._batch(0), self._batch(self.half), rate))
            step += 1
            if step % every == 0 or step == total:
                moments.append(self._moment(step / per_epoch, sums))
                sums = []
                say(f"supernet: epoch {step / per_epoch:.2f}, accuracy {moments[-1].val_accuracy:.3f}")
        if sums:
            moments.append(self._moment(step / per_epoch, sums))
        return Found(discretised(moments[-1].weights), tuple(moments), time.monotonic() - start, step)

    def _batch(self, start: int) -> tuple[Tensor, Tensor]:
        rows = start + torch.randint(self.half, (self.config.batch,), generator=self.generator)
        return self.x[rows], self.y[rows]

    def _loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        y = self.net(batch[0], mixed(self.alpha, fair=self.config.fair))
        return functional.cross_entropy(y, batch[1]), y

    def _step(
        self, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], rate: float
    ) -> tuple[float, float, float]:
        if self.config.order == 1:
            val_loss, y = self._loss(val)
            (gradient,) = torch.autograd.grad(val_loss, [self.alpha])
        else:
            gradient, val_loss, y = self.unrolled(train, val, rate)
        if self.config.fair:
            gate = torch.sigmoid(self.alpha)
            (pull,) = torch.autograd.grad(-self.config.zero_one * ((gate - 0.5) ** 2).mean(), [self.alpha])
            gradient = gradient + pull
        self.alpha.grad = gradient
        self.climber.step()
        loss, _ = self._loss(train)
        self.optimiser.zero_grad()
        for p, g in zip(self.own, torch.autograd.grad(loss, self.own), strict=True):
            p.grad = g
        nn.utils.clip_grad_norm_(self.own, 5.0)
        self.optimiser.step()
        loss, val_loss = loss.detach(), val_loss.detach()
        if not math.isfinite(float(loss)):
            raise SearchError("the supernet diverged; try another seed or a smaller learning rate")
        return float(loss), float(val_loss), float((y.argmax(1) == val[1]).float().mean())

    def unrolled(
        self, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], rate: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The second-order gradient of alpha, the validation loss after the step, and its logits."""
        loss, _ = self._loss(train)
        first = torch.autograd.grad(loss, self.own)
        with torch.no_grad():
            before = [p.clone() for p in self.own]
            for p, g in zip(self.own, first, strict=True):
                p.sub_(rate * g)
        val_loss, y = self._loss(val)
        direct, *ahead = torch.autograd.grad(val_loss, [self.alpha, *self.own])
        norm = math.sqrt(sum(float((g**2).sum()) for g in ahead))
        epsilon = self.nudge / max(norm, 1e-12)
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                for p, q, g in zip(self.own, before, ahead, strict=True):
                    p.copy_(q + sign * epsilon * g)
            sides.append(torch.autograd.grad(self._loss(train)[0], [self.alpha])[0])
        with torch.no_grad():
            for p, q in zip(self.own, before, strict=True):
                p.copy_(q)
        return direct - rate * (sides[0] - sides[1]) / (2 * epsilon), val_loss.detach(), y.detach()

    def _moment(self, epoch: float, sums: Sequence[tuple[float, float, float]]) -> Moment:
        weights = mixed(self.alpha.detach(), fair=self.config.fair).tolist()
        means = np.mean(sums, axis=0).tolist() if sums else [math.nan] * 3
        return Moment(epoch, tuple(tuple(row) for row in weights), *means)
