"""What stands for a tensor while an exported program is read: data, or something known before the data arrive."""

from dataclasses import dataclass, replace
from typing import Any

from torch.fx import Node as FxNode

from depthscale.graph import Op, Shape


@dataclass(frozen=True)
class Hidden:
    """What a mask hides of attention logits: the ``causal`` entries, or all but ``visible`` of a row on average."""

    causal: bool = False
    visible: int = 0


@dataclass(frozen=True)
class Data:
    """A tensor that depends on the data: the output of draft number ``draft``.

    shape: at the example's batch; other: the same at another batch (None: the program is tied to the example's).
    hidden: what a mask added so far hides from the softmax to come.
    """

    draft: int
    shape: Shape
    other: Shape | None
    hidden: Hidden | None = None

    def hiding(self, hidden: Hidden | None) -> "Data":
        """The same tensor with these entries hidden."""
        return replace(self, hidden=hidden) if hidden is not None else self


@dataclass(frozen=True)
class Static:
    """A tensor that is a function of parameters, buffers and constants only."""

    fx: FxNode
    shape: Shape


@dataclass(frozen=True)
class Noise:
    """A fresh Bernoulli mask of 1s with probability ``keep``, divided by ``scale``."""

    keep: float
    shape: Shape


@dataclass
class Draft:
    """A node of the graph to be: names are given once all are known."""

    op: Op
    inputs: tuple[int, ...]
    fx: FxNode
    leaf: str  # what it is called within its module
    weights: dict[str, "Any"]  # parameter name (weight, bias) -> Source


Value = Any  # Data | Static | Noise | tuple of these | number | None
