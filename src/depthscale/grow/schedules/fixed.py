"""Structures that stay: as large as the cap, of the final size, and of the final size with widths at random."""

import numpy as np

from depthscale.graph import Graph
from depthscale.grow.resize import scaled
from depthscale.grow.schedules.schedule import Plan, Schedule, Stage, narrowest

SPREAD = 1.0  # standard deviation of the logarithm of a random layer's width


def stages(plan: Plan) -> tuple[Stage, ...]:
    """Training, in parts that are kept."""
    return tuple(Stage(f"part {k}", k / 8) for k in range(1, 9))


def large(plan: Plan, seed: int) -> Graph:
    """The network given, scaled to the cap."""
    return scaled(plan.start, plan.cap)


def small(plan: Plan, seed: int) -> Graph:
    """The network given, scaled to the final size."""
    return scaled(plan.start, plan.final)


def random(plan: Plan, seed: int) -> Graph:
    """The final size with widths drawn at random."""
    rng = np.random.default_rng([seed, 1])
    factors: dict[str, float] = {}

    def shape(layer: str) -> float:
        return factors.setdefault(layer, float(np.exp(SPREAD * rng.normal())))

    return scaled(plan.start, plan.final, shape)


SCHEDULES = [
    Schedule("fixed-large", "the network at the size of the cap, unchanged", "baseline", large, stages),
    Schedule("fixed-small", "the network at the final size, unchanged", "baseline", small, stages, room=narrowest),
    Schedule("random", "the final size with widths at random, unchanged", "baseline", random, stages, room=narrowest),
]
