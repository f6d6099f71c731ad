"""What a schedule is: the graph it begins with and its stages, each an action and the share of the budget it ends at.

A stage acts once, then the network trains until the share is reached (or until something is due). Everything that a
stage decides follows from the network, the data, the budget and the seed, so a run continues from any finished stage.
"""

from collections.abc import Callable
from dataclasses import dataclass

from depthscale.errors import DepthscaleError
from depthscale.graph import Graph, all_parameters
from depthscale.grow.actions import LEAST
from depthscale.grow.edits import free_layers
from depthscale.grow.masks import maskable
from depthscale.grow.policies.policy import When
from depthscale.grow.resize import scaled, with_widths
from depthscale.grow.spaces import Spaces
from depthscale.grow.training import Training


@dataclass(frozen=True)
class Plan:
    """What a run may use. start: the network it is given; cap: parameters at any time; final: parameters at the end."""

    start: Graph
    cap: int
    final: int
    grow: str = "gradmax"
    prune: str = "gradient-weight"


def room_to_grow(plan: Plan) -> str:
    """Why a schedule that grows can not, or ""."""
    size = plan.start.cost().parameters
    if not free_layers(plan.start):
        return "no layer of the network can change its width"
    if plan.final <= size:
        return f"the network has {size:,} parameters and is to end with {plan.final:,}; raise --final-parameters"
    return ""


def room_to_prune(plan: Plan) -> str:
    """Why a schedule that prunes can not, or ""."""
    if plan.final >= plan.cap:
        return f"it begins at the cap of {plan.cap:,} parameters and is to end with as many; lower --final-parameters"
    return ""


def room_for_units(plan: Plan) -> str:
    """Why a schedule cannot prune whole units down to the final size, or ""."""
    return room_to_prune(plan) or narrowest(plan, LEAST)


def narrowest(plan: Plan, units: int = 1) -> str:
    """Why the network cannot be of its final size with so many units a layer at least, or ""."""
    spaces = Spaces(plan.start)
    found = {n: spaces.space(spaces.of(n)) for n in spaces.free()}
    least = with_widths(plan.start, {n: min(s.size, units * s.groups) for n, s in found.items()}).cost().parameters
    if plan.final < least:
        return (
            f"it is to end with {plan.final:,} parameters and has {least:,} at its narrowest; raise --final-parameters"
        )
    return ""


def room_for_connections(plan: Plan) -> str:
    """Why a schedule cannot prune connections down to the final size, or ""."""
    if why := room_to_prune(plan):
        return why
    graph = scaled(plan.start, plan.cap)
    names, specs = maskable(graph), all_parameters(graph)
    least = graph.cost().parameters - sum(specs[n].count for n in names) + len(names)
    if plan.final < least:
        return (
            f"it is to end with {plan.final:,} parameters, but biases and the like, and one connection a layer, are "
            f"{least:,} in the network of the cap; raise --final-parameters or lower --max-parameters"
        )
    return ""


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

    room: Callable[[Plan], str] | None = None

    def check(self, plan: Plan, largest: Graph) -> None:
        """Raise DepthscaleError where the sizes leave the schedule nothing to do; ``room`` says why, or ""."""
        why = "" if self.room is None else self.room(plan)
        if why:
            raise DepthscaleError(f"the schedule {self.name} has no room to act: {why}")

    def largest(self, plan: Plan, first: Graph) -> Graph:
        """The largest graph that the schedule may come to, by which a step is priced at most."""
        return scaled(plan.start, max(plan.cap if self.grows else 0, first.cost().parameters))

    def task(self, plan: Plan, number: int, of: int) -> tuple[Stage, ...]:
        """The stages of one of several tasks that follow each other: ``later`` says (of task number, of how many),
        else the first is as without tasks, and then the structure stands.
        """
        if self.later is not None:
            return self.later(plan, number, of)
        return self.stages(plan) if number == 0 else (Stage("standing", 1.0),)
