"""Deeper or wider, by theory: a network is worth deepening while its depth stays below six depth scales.

Signals of random networks are told apart over about six times ξ (Schoenholz et al. 2017); a block more is proposed
where the deeper network is within that, by propagation over its graph, else only units are.
"""

import math
from collections.abc import Mapping, Sequence

from depthscale.errors import DepthscaleError
from depthscale.graph import Graph
from depthscale.grow.policies.functional_gradient import blocks
from depthscale.grow.policies.gradmax import GradMax
from depthscale.grow.policies.policy import Policy, Proposal
from depthscale.grow.training import Training
from depthscale.theory.propagate import propagate

REACH = 6.0  # depth scales


def deeper(graph: Graph) -> bool:
    """Whether theory has room for another layer: it trains, and depth + 2 is within six depth scales."""
    try:
        found = propagate(graph)
    except DepthscaleError:
        return False
    xi = found.totals.xi
    return found.trains and (math.isnan(xi) or found.totals.depth + 2 <= REACH * xi)


class DepthScale:
    """Blocks first where theory has room for them, else units."""

    name = "depth-scale"

    def __call__(self, training: Training, wanted: Mapping[str, int]) -> Sequence[Proposal]:  # noqa: D102
        found = list(GradMax()(training, wanted))
        made = blocks(training)
        return [*found, *(b for b in made if b.edit is not None and deeper(b.edit.graph))]


POLICY = Policy(
    "depth-scale",
    "grow",
    "blocks where the depth scale of theory has room for them, else units",
    "Schoenholz et al. 2017",
    DepthScale(),
)
