"""What a schedule is: the graph it begins with and its stages, each an action and the share of the budget it ends at.

A stage acts once, then the network trains until the share is reached (or until something is due). Everything that a
stage decides follows from the network, the data, the budget and the seed, so a run continues from any finished stage.
"""

from collections.abc import Callable
from dataclasses import dataclass

from depthscale.graph import Graph
from depthscale.grow.policies.policy import When
from depthscale.grow.training import Training


@dataclass(frozen=True)
class Plan:
    """What a run may use. start: the network it is given; cap: parameters at any time; final: parameters at the end."""

    start: Graph
    cap: int
    final: int
    grow: str = "gradmax"
    prune: str = "gradient-weight"


@dataclass(frozen=True)
class Stage:
    """One stage: ``act`` first, then training until the share ``until`` of the budget is spent, or ``when`` is due."""

    name: str
    until: float
    act: Callable[[Training], None] | None = None
    when: When | None = None


@dataclass(frozen=True)
class Schedule:
    """A schedule in the table."""

    name: str
    about: str
    source: str
    begins: Callable[[Plan, int], Graph]
    stages: Callable[[Plan], tuple[Stage, ...]]
    grows: bool = False
    later: Callable[[Plan, int, int], tuple[Stage, ...]] | None = None

    def task(self, plan: Plan, number: int, of: int) -> tuple[Stage, ...]:
        """The stages of one of several tasks that follow each other: ``later`` says (of task number, of how many),
        else the first is as without tasks, and then the structure stands.
        """
        if self.later is not None:
            return self.later(plan, number, of)
        return self.stages(plan) if number == 0 else (Stage("standing", 1.0),)
