"""What an ensemble is made of and what comes out of it: members and their results, as plain data."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from depthscale.errors import TrainingError
from depthscale.graph import Graph

ORDERS = ("shared", "own")


@dataclass(frozen=True)
class Member:
    """One network of an ensemble: where it starts and how it learns.

    ``seed`` draws its parameters (as ``ds.build(graph, seed)`` does) and, in an ensemble with ``order="own"``, the
    order of its rows. ``lr``, ``momentum``, ``weight_decay`` and ``steps`` are those of the ensemble's configuration
    where they are None. ``graph`` is the ensemble's network with other laws for its parameters (nothing else may
    differ). Raises TrainingError for numbers out of range.
    """

    seed: int = 0
    lr: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    steps: int | None = None
    graph: Graph | None = None

    def __post_init__(self) -> None:
        for name, high in (("lr", math.inf), ("momentum", 1.0), ("weight_decay", math.inf)):
            value = getattr(self, name)
            ok = value is None or (math.isfinite(value) and 0 <= value < high and (value > 0 or name != "lr"))
            if not ok:
                raise TrainingError(f"expected a member's {name} to be a finite number in range, got {value!r}")
        for name, low in (("seed", 0), ("steps", 1)):
            value = getattr(self, name)
            if value is None and name == "steps":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise TrainingError(f"expected a member's {name} to be a whole number of at least {low}, got {value!r}")


@dataclass(frozen=True)
class MemberResult:
    """What became of one member.

    ``status``: finished, diverged (its loss left the finite numbers, or rose above ``explode`` times its first) or
    interrupted. ``steps``: those it took, the one that diverged included. ``first_loss`` and ``last_loss``: the mean
    loss of its first and last batch. ``train`` and ``val``: loss and accuracy (classification) or loss and r2
    (regression) on all rows of these splits after its last step; NaN where it diverged. ``curve``: (step,
    metrics) of validations on the way. ``losses``: the mean loss of every batch, float32 (steps,).
    """

    status: str
    steps: int
    first_loss: float
    last_loss: float
    train: Mapping[str, float]
    val: Mapping[str, float]
    curve: tuple[tuple[int, Mapping[str, float]], ...] = ()
    losses: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32), repr=False, compare=False)

    @property
    def diverged(self) -> bool:
        """Whether its numbers broke."""
        return self.status == "diverged"

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "status": self.status,
            "steps": self.steps,
            "first_loss": self.first_loss,
            "last_loss": self.last_loss,
            "train": dict(self.train),
            "val": dict(self.val),
            "curve": [[step, dict(metrics)] for step, metrics in self.curve],
        }


@dataclass(frozen=True, eq=False)
class EnsembleResult:
    """The results of all members, in their order.

    ``engine`` names the program that trained them (dense or general), ``chunk`` how many were trained at once,
    ``seconds`` the wall time and ``flops`` the floating-point operations of the contractions of all training steps.
    ``weights`` holds the members' parameters by name, stacked in their order, where they were asked for.
    """

    members: tuple[MemberResult, ...]
    engine: str
    chunk: int
    seconds: float
    flops: float
    weights: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, index: int) -> MemberResult:
        return self.members[index]

    def __iter__(self) -> Iterator[MemberResult]:
        return iter(self.members)
