"""Sparse from the beginning, connections dropped and regrown: SET (at random) and RigL (by gradient).

Mocanu et al. 2018; Evci et al. 2020: the structure of the cap with the connections of the final size, Erdős–Rényi
densities, a share of the weakest replaced at intervals, falling along a cosine to nothing at three quarters of
training. The gradient is that of an ordinary training batch.
"""

import math
from dataclasses import replace
from functools import partial

from depthscale.graph import Graph, all_parameters
from depthscale.grow.masks import maskable, shares, sparsify, swap
from depthscale.grow.resize import scaled
from depthscale.grow.schedules.schedule import Plan, Schedule, Stage, room_for_connections
from depthscale.grow.training import Training

SHARE, STOPPED, EVENTS = 0.3, 0.75, 24


def begins(plan: Plan, seed: int) -> Graph:
    """The network given, scaled to the cap."""
    return scaled(plan.start, plan.cap)


def _stages(plan: Plan, by_gradient: bool) -> tuple[Stage, ...]:
    found = [Stage("sparse", STOPPED / (EVENTS + 1), partial(thin, parameters=plan.final))]
    for k in range(1, EVENTS + 1):
        share = SHARE / 2 * (1 + math.cos(math.pi * k / (EVENTS + 1)))
        act = partial(turn, share=share, by_gradient=by_gradient)
        found.append(Stage(f"swap {k}", STOPPED * (k + 1) / (EVENTS + 1), act))
    return (*found, Stage("consolidation", 1.0))


def _later(plan: Plan, number: int, of: int, by_gradient: bool) -> tuple[Stage, ...]:
    """Every task has its own cosine of shares."""
    found = _stages(plan, by_gradient)
    return found if number == 0 else (replace(found[0], act=None), *found[1:])


def connections_of(training: Training, parameters: int) -> int:
    """How many connections make so many parameters, biases and the like being counted first."""
    named = dict(training.live.module.named_parameters())
    names = maskable(training.graph)
    connections = sum(named[n].numel() for n in names)
    other = sum(p.numel() for p in named.values()) - connections
    return min(connections, max(parameters - other, len(names)))


def thin(training: Training, parameters: int) -> None:
    """Mask connections at random down to so many parameters."""
    specs = all_parameters(training.graph)
    counts = shares(training.graph, connections_of(training, parameters))
    wanted = {n: k / specs[n].count for n, k in counts.items()}
    training.masked(sparsify(training.live, wanted, training.seed), "sparsify")


def turn(training: Training, share: float, by_gradient: bool) -> None:
    """Replace a share of the connections; by gradient, only where the gradient can be paid for."""
    gradients = training.absent() if by_gradient else None
    if gradients is not None or not by_gradient:
        seed = training.seed + len(training.points)
        training.masked(swap(training.live, share, gradients, seed), "swap")


SCHEDULES = [
    Schedule("set", "sparse; weak connections replaced at random", "Mocanu et al. 2018", begins,
             partial(_stages, by_gradient=False), later=partial(_later, by_gradient=False), room=room_for_connections),
    Schedule("rigl", "sparse; weak connections replaced by gradient", "Evci et al. 2020", begins,
             partial(_stages, by_gradient=True), later=partial(_later, by_gradient=True), room=room_for_connections),
]  # fmt: skip
