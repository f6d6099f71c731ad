"""What to prune by gradient × weight: the change of the loss, to first order, when a unit falls silent.

Σ g·w over what reads a unit is that change on one part of the rows; its square is averaged over parts (Molchanov et al.
2019, eq. 8).
"""

import numpy as np

from depthscale.grow.policies.magnitude import Magnitude
from depthscale.grow.policies.policy import Policy
from depthscale.grow.training import Training
from depthscale.grow.units import Array, Units

_PARTS = 8


class GradientWeight:
    """Mean over parts of (Σ g w)²; magnitude where looking costs too much."""

    name = "gradient-weight"

    def __call__(self, training: Training) -> dict[str, Array]:  # noqa: D102
        units = Units(training.graph)
        named = dict(training.live.module.named_parameters())
        scores = {n: np.zeros(units.size(n)) for n in units.layers}
        found = training.gradients(_PARTS)
        if not found:
            return Magnitude()(training)
        for gradients in found:
            products = {n: (g * named[n].detach()).double() for n, g in gradients.items() if g.dim() > 1}
            for n in units.layers:
                scores[n] += units.heard(n, products) ** 2 / len(found)
        return scores


POLICY = Policy(
    "gradient-weight",
    "prune",
    "change of the loss, to first order, when a unit falls silent",
    "Molchanov et al. 2019",
    GradientWeight(),
)
