"""Where a parameter of the graph comes from in the module, and how it is written through."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from depthscale.errors import CaptureError


@dataclass(frozen=True)
class Step:
    """One view taken of a parameter on its way into a layer."""

    target: Any
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Source:
    """Where a parameter of the graph comes from in the module.

    names: the module's own parameters it is made of. steps: views that lead from the (only) one to the graph's
    tensor, so that it can be written through; None where it is computed and cannot be written.
    """

    names: tuple[str, ...]
    steps: tuple[Step, ...] | None = ()

    def view(self, tensor: Tensor) -> Tensor:
        """The graph's tensor as a view of the module's: writing into it writes the module's parameter."""
        if self.steps is None:
            raise CaptureError(
                f"a weight computed from {', '.join(self.names) or 'constants'} cannot be written; set those instead"
            )
        for step in self.steps:
            tensor = step.target(tensor, *step.args, **dict(step.kwargs))
        return tensor
