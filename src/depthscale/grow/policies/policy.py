"""What a policy is: a small object that looks at a network in training and says what to change, or when.

Three kinds share one protocol (a name, and being called with the training): one that grows returns ``Proposal``s, one
that prunes scores for every unit of every free layer (larger: keep), one that times returns whether it is due. A file
in this folder defines ``POLICY``; it is found by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor

from depthscale.grow.live import Edit
from depthscale.grow.training import Training
from depthscale.grow.units import Array

Kind = Literal["grow", "prune", "when"]


@dataclass(frozen=True)
class Proposal:
    """New units of a layer (``layer``, with what each would read), or an edit as a whole.

    gains: expected decrease of the loss, to first order, for a step of unit length along the gradient, squared: one per
    unit, or one of the edit. parameters: what one unit (or the edit) costs.
    """

    words: str
    gains: tuple[float, ...]
    parameters: float
    layer: str = ""
    rows: Mapping[str, Tensor] = field(default_factory=dict)
    edit: Edit | None = None


class Grow(Protocol):
    """Where and what to grow."""

    name: str

    def __call__(self, training: Training, wanted: Mapping[str, int]) -> Sequence[Proposal]:
        """Proposals for at most so many new units by layer, on the network as it is, which stays."""


class Prune(Protocol):
    """What to keep."""

    name: str

    def __call__(self, training: Training) -> Mapping[str, Array]:
        """For every free layer the importance of its units; what is least important goes first."""


class When(Protocol):
    """When to go on to the next stage."""

    name: str

    def __call__(self, training: Training) -> bool:
        """Whether it is due."""


@dataclass(frozen=True)
class Policy:
    """A policy in the table: what kind it is, in a line what it does, its source, and the object."""

    name: str
    kind: Kind
    about: str
    source: str
    call: Grow | Prune | When
