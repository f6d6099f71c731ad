"""Pruning alone: units by magnitude with fine-tuning between steps, and single connections with rewinding.

Magnitude: Han et al. 2015, Li et al. 2017, in steps along a cubic (Zhu & Gupta 2018). Lottery ticket: Frankle et al.
2020 (weights rewound to an early step, learning rate begun again), the first training being paid for as well.
"""

from functools import partial

from depthscale.graph import Graph
from depthscale.grow.actions import shrink_to
from depthscale.grow.masks import keep_largest, maskable
from depthscale.grow.policies import policy
from depthscale.grow.resize import scaled
from depthscale.grow.schedules.schedule import Plan, Schedule, Stage, room_for_connections, room_for_units
from depthscale.grow.training import Training

BEGUN, PRUNED = 0.25, 0.65
EVENTS = 5
REWOUND, FOUND = 0.03, 0.5  # shares of the budget: weights are rewound to the first, the ticket is drawn at the second


def begins(plan: Plan, seed: int) -> Graph:
    """The network given, scaled to the cap."""
    return scaled(plan.start, plan.cap)


def stages(plan: Plan) -> tuple[Stage, ...]:
    """Training, pruning steps, fine-tuning."""
    found = [Stage("training", BEGUN)]
    for k in range(1, EVENTS + 1):
        size = round(plan.final + (plan.cap - plan.final) * (1 - k / EVENTS) ** 3)
        until = BEGUN + (PRUNED - BEGUN) * k / EVENTS
        found.append(
            Stage(f"pruning {k}", until, partial(shrink_to, parameters=size, policy=policy("magnitude", "prune")))
        )
    return (*found, Stage("fine-tuning", 1.0))


def later(plan: Plan, number: int, of: int) -> tuple[Stage, ...]:
    """Every task brings its share of the pruning."""
    size = round(plan.cap * (plan.final / plan.cap) ** ((number + 1) / of))
    return (
        Stage("training", 0.4),
        Stage("fine-tuning", 1.0, partial(shrink_to, parameters=size, policy=policy("magnitude", "prune"))),
    )


def lottery(plan: Plan) -> tuple[Stage, ...]:
    """An early training whose end is remembered, a training that draws the ticket, the ticket's own training."""
    return (
        Stage("early", REWOUND, first_cycle),
        Stage("drawing", FOUND, remember),
        Stage("ticket", 1.0, partial(draw_ticket, parameters=plan.final)),
    )


def first_cycle(training: Training) -> None:
    """The learning rate goes through a whole cycle until the ticket is drawn."""
    training.cycle = (0.0, FOUND)


def remember(training: Training) -> None:
    """Keep the weights of now."""
    training.memory = training.values()


def draw_ticket(training: Training, parameters: int) -> None:
    """Mask all but the largest weights, put the others back to what they were early, and begin the cycle again."""
    named = dict(training.live.module.named_parameters())
    names = maskable(training.graph)
    other = sum(p.numel() for n, p in named.items() if n not in names)
    scores = {n: named[n].detach().abs() for n in names}
    live = keep_largest(training.live, scores, max(len(names), parameters - other))
    for n, p in named.items():
        p.data.copy_(training.memory[n])
    if live.optimiser is not None:
        live.optimiser.state.clear()
    live.enforce()
    training.masked(live, "draw a ticket")
    training.cycle = (FOUND, 1.0)


SCHEDULES = [
    Schedule(
        "prune-only",
        "begins at the cap, prunes units by magnitude",
        "Li et al. 2017",
        begins,
        stages,
        later=later,
        room=room_for_units,
    ),
    Schedule(
        "lottery",
        "trains at the cap, masks by magnitude, rewinds",
        "Frankle et al. 2020",
        begins,
        lottery,
        room=room_for_connections,
    ),
]
