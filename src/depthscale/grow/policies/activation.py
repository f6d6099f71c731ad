"""What to prune by activity: the variance of what a unit says, times how loudly it is heard (after Hu et al. 2016)."""

import numpy as np
import torch

from depthscale.grow.policies.magnitude import Magnitude
from depthscale.grow.policies.policy import Policy
from depthscale.grow.training import FORWARD, Training
from depthscale.grow.units import Array, Units, scores_of


class ActivationVariance:
    """Σ over readers of Var(h) ‖column‖²: the variance that a unit contributes; magnitude if it costs too much."""

    name = "activation"

    def __call__(self, training: Training) -> dict[str, Array]:  # noqa: D102
        graph, units = training.graph, Units(training.graph)
        named = dict(training.live.module.named_parameters())
        readers = {r for n in units.layers for r in units.readers(n)}
        rows = training.afford(FORWARD * training.row_work)
        if not rows:
            return Magnitude()(training)
        x, _ = training.probe(rows)
        with training.still() as module, torch.no_grad():
            seen = module.intermediates(x, of=sorted({graph[r].inputs[0] for r in readers}))
        training.pay(len(x) * FORWARD * training.row_work)
        scores = {n: np.zeros(units.size(n)) for n in units.layers}
        for n in units.layers:
            for r in units.readers(n):
                h = seen[graph[r].inputs[0]].double()
                axis = 1 if f"{r}.weight" in named and named[f"{r}.weight"].dim() > 2 else h.dim() - 1
                variance = h.transpose(0, axis).flatten(1).var(1)
                weight = scores_of(named[f"{r}.weight"])
                groups = getattr(graph[r].op, "groups", 1)
                parts = weight.reshape(groups, -1, weight.shape[1], *weight.shape[2:]).transpose(1, 2).flatten(2).sum(2)
                scores[n] += units.entries(n, r, variance * parts.flatten())
        return scores


POLICY = Policy(
    "activation",
    "prune",
    "the variance that a unit contributes to what reads it",
    "Hu et al. 2016",
    ActivationVariance(),
)
