"""Over-produce, prune, then turn over for life, in whole units: what is pruned saves time on any hardware.

The network begins small, grows in a few steps to the cap (synapses in excess in the first year), is pruned in steps to
its final size (until the end of youth), and after that its least useful units keep being replaced (lifelong turnover)
until the last part of the budget, in which the structure stands and the learning rate comes down.
"""

from functools import partial

from depthscale.graph import Graph
from depthscale.grow.actions import grow_to, shrink_to, turn_over
from depthscale.grow.policies import policy
from depthscale.grow.schedules.schedule import Plan, Schedule, Stage, room_for_units

GROWN, PRUNED, TURNED = 0.25, 0.60, 0.85  # shares of the budget by which each phase is over
EVENTS = 4  # of growth, of pruning, of turnover
SHARE = 0.08  # of the parameters that one turnover replaces


def begins(plan: Plan, seed: int) -> Graph:
    """The network as it was given."""
    return plan.start


def stages(plan: Plan) -> tuple[Stage, ...]:
    """Growth, pruning, turnover, consolidation; sizes in equal ratios."""
    grow, prune = policy(plan.grow, "grow"), policy(plan.prune, "prune")
    first, found = plan.start.cost().parameters, [Stage("infancy", GROWN / (EVENTS + 1))]
    for k in range(1, EVENTS + 1):
        size = round(first * (plan.cap / first) ** (k / EVENTS))
        until = GROWN * (k + 1) / (EVENTS + 1)
        found.append(Stage(f"growth {k}", until, partial(grow_to, parameters=size, policy=grow)))
    for k in range(1, EVENTS + 1):
        size = round(plan.cap * (plan.final / plan.cap) ** (k / EVENTS))
        until = GROWN + (PRUNED - GROWN) * k / EVENTS
        found.append(Stage(f"pruning {k}", until, partial(shrink_to, parameters=size, policy=prune)))
    for k in range(1, EVENTS + 1):
        until = PRUNED + (TURNED - PRUNED) * k / EVENTS
        found.append(Stage(f"turnover {k}", until, partial(turn_over, share=SHARE, prune=prune, grow=grow)))
    return (*found, Stage("consolidation", 1.0))


SCHEDULES = [
    Schedule(
        "developmental-units",
        "over-produces, prunes, then keeps replacing its least useful units",
        "Huttenlocher 1979 (synapses); own combination of GradMax and pruning by gradient × weight",
        begins,
        stages,
        grows=True,
        room=room_for_units,
    )
]
