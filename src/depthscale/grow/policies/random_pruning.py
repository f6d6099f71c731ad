"""What to prune at random: what the other policies have to beat."""

import numpy as np

from depthscale.grow.policies.policy import Policy
from depthscale.grow.training import Training
from depthscale.grow.units import Array, Units


class RandomPruning:
    """Scores drawn at random."""

    name = "random-pruning"

    def __call__(self, training: Training) -> dict[str, Array]:  # noqa: D102
        units = Units(training.graph)
        training.decisions += 1
        rng = np.random.default_rng([training.seed, training.decisions])
        return {n: rng.random(units.size(n)) for n in units.layers}


POLICY = Policy("random-pruning", "prune", "any unit as well as another", "baseline", RandomPruning())
