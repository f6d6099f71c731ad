"""The programs that train a chunk of members, which of them suits a graph, and the arithmetic that they run in."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from depthscale.errors import TrainingError
from depthscale.graph import Graph
from depthscale.train.config import TrainConfig
from depthscale.train.ensemble import dense
from depthscale.train.ensemble.dense import Dense
from depthscale.train.ensemble.general import General
from depthscale.train.ensemble.loss import Loss
from depthscale.train.ensemble.member import Member
from depthscale.train.ensemble.stack import draw_stack, penalised
from depthscale.train.ensemble.update import Stack, Update
from depthscale.train.objective import Objective

ENGINES = ("auto", "dense", "general", "turns")


class Engine(Protocol):
    """What trains a chunk of members."""

    engine: str

    def __len__(self) -> int: ...
    def step(self, x: Tensor, y: Tensor, factor: float) -> Tensor: ...  # noqa: D102
    def outputs(self, x: Tensor) -> Tensor: ...  # noqa: D102
    def select(self, keep: Tensor) -> None: ...  # noqa: D102
    def stack(self) -> Stack: ...  # noqa: D102


def choose(graph: Graph, engine: str, device: torch.device) -> str:
    """The program that is fastest for a graph."""
    why = dense.refusal(graph)
    if engine == "dense" and why is not None:
        raise TrainingError(f"the dense engine cannot train this network: {why}; leave engine at auto")
    if engine != "auto":
        return engine
    if why is None:
        return "dense"
    return "turns" if device.type == "cpu" and any("Conv" in type(n.op).__name__ for n in graph.nodes) else "general"


def make_engine(
    which: str,
    graph: Graph,
    members: Sequence[Member],
    config: TrainConfig,
    task: str,
    *,
    shared: bool = True,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Engine:
    """The engine ``which`` (not auto) for these members, their parameters drawn; use it in ``quiet_arithmetic``."""
    graphs, seeds = [m.graph or graph for m in members], [m.seed for m in members]
    stack = draw_stack(graphs, seeds, dtype, torch.device(device))
    update = Update(config, members, penalised(graph), dtype, device)
    if which == "dense":
        return Dense(graph, stack, update, Loss(task, config), shared=shared)
    return General(graph, stack, update, Objective(task, config), shared=shared, mapped=which == "general")


@contextmanager
def quiet_arithmetic() -> Iterator[None]:
    """No autograd, no NumPy warnings, and numbers below 1e-38 taken for zero: vanishing gradients would make them, and
    processors take a hundred times as long over them.
    """
    tiny = torch.tensor(1e-39)
    flushed = bool(tiny * 1.0 == 0)
    torch.set_flush_denormal(True)
    try:
        with torch.no_grad(), np.errstate(all="ignore"):
            yield
    finally:
        torch.set_flush_denormal(flushed)
