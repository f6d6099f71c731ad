"""Over-produce, prune, then turn over for life: the course of a brain's development, in connections.

The network has the units of the cap but few connections at first. In a few steps it makes more than it will keep, where
the gradient is largest (synapses in excess in the first year). Then it prunes the weakest in steps down to its final
size, growing some anew each time (Liu et al. 2021, GraNet: regeneration keeps pruning from being final). After that a
falling share of the weakest keeps being replaced (lifelong turnover), until the last part of the budget, in which the
structure stands and the learning rate comes down. A change of task brings a shorter burst of the same.
"""

import math
from functools import partial

from depthscale.graph import Graph
from depthscale.grow import masks
from depthscale.grow.masks import regrow, shares, swap
from depthscale.grow.resize import scaled
from depthscale.grow.schedules.schedule import Plan, Schedule, Stage, room_for_connections
from depthscale.grow.schedules.sparse import connections_of, thin
from depthscale.grow.training import Training

GROWN, PRUNED, TURNED = 0.15, 0.65, 0.80  # shares of the budget by which each phase is over
GROWTHS, PRUNINGS, TURNOVERS = 4, 8, 8
FIRST = 0.5  # of the final size: connections at birth
EXCESS = 1.3  # times the final size at the peak, the cap permitting
ANEW = 0.3  # of the connections: grown anew at each pruning
SHARE = 0.25  # of the connections: replaced by the first turnover
AGAIN = 1.3  # times the final size at the peak of a later task


def begins(plan: Plan, seed: int) -> Graph:
    """The network given, scaled to the cap."""
    return scaled(plan.start, plan.cap)


def stages(plan: Plan) -> tuple[Stage, ...]:
    """Growth, pruning, turnover, consolidation; sizes in equal ratios."""
    peak, first = min(plan.cap, round(EXCESS * plan.final)), round(FIRST * plan.final)
    found = [Stage("infancy", GROWN / (GROWTHS + 1), partial(thin, parameters=first))]
    for k in range(1, GROWTHS + 1):
        size = round(first * (peak / first) ** (k / GROWTHS))
        found.append(Stage(f"growth {k}", GROWN * (k + 1) / (GROWTHS + 1), partial(grow, parameters=size)))
    for k in range(1, PRUNINGS + 1):
        size = round(plan.final + (peak - plan.final) * (1 - k / PRUNINGS) ** 3)
        until = GROWN + (PRUNED - GROWN) * k / PRUNINGS
        found.append(Stage(f"pruning {k}", until, partial(prune, parameters=size, anew=ANEW)))
    for k in range(1, TURNOVERS + 1):
        share = SHARE / 2 * (1 + math.cos(math.pi * k / (TURNOVERS + 1)))
        until = PRUNED + (TURNED - PRUNED) * k / TURNOVERS
        found.append(Stage(f"turnover {k}", until, partial(turn_over, share=share)))
    return (*found, Stage("consolidation", 1.0))


def later(plan: Plan, number: int, of: int) -> tuple[Stage, ...]:
    """A life of tasks: the first as ever; each change brings a shorter burst of growth, pruning and turnover."""
    if number == 0:
        return stages(plan)
    peak = min(plan.cap, round(AGAIN * plan.final))
    found = [
        Stage("meeting", 0.05),
        Stage("growth", 0.30, partial(grow, parameters=peak)),
    ]
    for k in range(1, 5):
        size = round(plan.final + (peak - plan.final) * (1 - k / 4) ** 3)
        found.append(Stage(f"pruning {k}", 0.3 + 0.1 * k, partial(prune, parameters=size, anew=ANEW / 2)))
    return (*found, Stage("consolidation", 1.0))


def grow(training: Training, parameters: int) -> None:
    """Make connections where the gradient is largest (at random where it cannot be paid for), up to so many
    parameters.
    """
    counts = shares(training.graph, connections_of(training, parameters))
    training.masked(regrow(training.live, training.absent(), counts, _seed(training)), "regrow")


def prune(training: Training, parameters: int, anew: float) -> None:
    """Prune the weakest connections beyond what is wanted, and grow a share anew where the gradient is largest."""
    counts = shares(training.graph, connections_of(training, parameters))
    fewer = {n: max(1, round((1 - anew) * k)) for n, k in counts.items()}
    live = masks.prune(training.live, fewer)
    training.masked(regrow(live, training.absent(), counts, _seed(training)), "prune and regrow")


def turn_over(training: Training, share: float) -> None:
    """Replace the weakest connections of every layer."""
    training.masked(swap(training.live, share, training.absent(), _seed(training)), "swap")


def _seed(training: Training) -> int:
    return training.seed + len(training.points)


SCHEDULES = [
    Schedule(
        "developmental",
        "makes connections in excess, prunes with regeneration, then keeps replacing the weakest",
        "Huttenlocher 1979 (synapses); Liu et al. 2021 (GraNet); Evci et al. 2020 (RigL)",
        begins,
        stages,
        later=later,
        room=room_for_connections,
    )
]
