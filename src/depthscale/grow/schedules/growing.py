"""Growing alone: new units where the gradient wants them, in steps, until the final size (Net2Net, GradMax)."""

from functools import partial

from depthscale.graph import Graph
from depthscale.grow.actions import grow_to
from depthscale.grow.edits import widen
from depthscale.grow.policies import policy
from depthscale.grow.schedules.schedule import Plan, Schedule, Stage, room_to_grow
from depthscale.grow.training import Training
from depthscale.grow.units import Units

GROWN = 0.5  # share of the budget by which growth is over
EVENTS = 6


def begins(plan: Plan, seed: int) -> Graph:
    """The network as it was given."""
    return plan.start


def stages(plan: Plan) -> tuple[Stage, ...]:
    """Sizes in equal ratios up to the final one."""
    return _stages(plan, lambda size: partial(grow_to, parameters=size, policy=policy(plan.grow, "grow")))


def later(plan: Plan, number: int, of: int) -> tuple[Stage, ...]:
    """Every task brings its share of the growth."""
    first = plan.start.cost().parameters
    size = round(first * (max(plan.final, first) / first) ** (number / max(of - 1, 1)))
    act = partial(grow_to, parameters=size, policy=policy(plan.grow, "grow"))
    return (Stage("meeting", 0.1), Stage("growth", 1.0, act if number else None))


def copying(plan: Plan) -> tuple[Stage, ...]:
    """The same, new units being copies of old ones."""
    return _stages(plan, lambda size: partial(copy_to, parameters=size))


def _stages(plan: Plan, act) -> tuple[Stage, ...]:  # type: ignore[no-untyped-def]
    first = plan.start.cost().parameters
    found = [Stage("small", GROWN / (EVENTS + 1))]
    for k in range(1, EVENTS + 1):
        size = round(first * (max(plan.final, first) / first) ** (k / EVENTS))
        found.append(Stage(f"growth {k}", GROWN * (k + 1) / (EVENTS + 1), act(size)))
    return (*found, Stage("consolidation", 1.0))


def copy_to(training: Training, parameters: int) -> None:
    """Widen every layer by copies, all by one factor, to at most so many parameters."""
    for _ in range(3):
        units = Units(training.graph)
        ratio = (parameters / training.graph.cost().parameters) ** 0.6 - 1
        for i, layer in enumerate(units.layers):
            groups = units.groups(layer)
            more = int(ratio * units.size(layer)) // groups * groups
            if more < groups or not units.grows(layer):
                continue
            change = widen(training.graph, layer, units.size(layer) + more, seed=training.seed + i, tilt=0.5)
            if change.graph.cost().parameters <= parameters:
                training.edit(change)


SCHEDULES = [
    Schedule(
        "grow-only",
        "grows from the network given to the final size, where the gradient wants units",
        "Evci et al. 2022 (GradMax)",
        begins,
        stages,
        grows=True,
        later=later,
        room=room_to_grow,
    ),
    Schedule("net2net", "grows by copying units", "Chen et al. 2016", begins, copying, grows=True, room=room_to_grow),
]
