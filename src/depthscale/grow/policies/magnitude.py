"""What to prune by size: the norm of what a unit reads times the norm of what reads it, over the layer's mean.

The product does not change when a scale moves from one side of a ReLU to the other (Han et al. 2015; for units, Li et
al. 2017).
"""

import numpy as np

from depthscale.grow.policies.policy import Policy
from depthscale.grow.training import Training
from depthscale.grow.units import Array, Units, scores_of


class Magnitude:
    """‖row‖ · ‖column‖."""

    name = "magnitude"

    def __call__(self, training: Training) -> dict[str, Array]:  # noqa: D102
        units = Units(training.graph)
        squares = {n: scores_of(p) for n, p in training.live.module.named_parameters() if p.dim() > 1}
        found = {n: np.sqrt(units.made(n, squares) * units.heard(n, squares)) for n in units.layers}
        return {n: s / max(float(s.mean()), 1e-30) for n, s in found.items()}


POLICY = Policy(
    "magnitude", "prune", "norm of what a unit reads times norm of what reads it", "Li et al. 2017", Magnitude()
)
