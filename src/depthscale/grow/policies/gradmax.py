"""New units that make the gradient as large as it can be.

For linear layers the best directions to read along are the right singular vectors of Σ δ hᵀ, δ the gradient at the
reader's output and h what the layer reads (Evci et al. 2022, GradMax, eq. 7, with the zeros on the other side: here
nobody hears the unit at first, so it works for any activation). These and random directions are then tried on the
network itself, and those of the largest gradient are kept; for convolutions and other layouts random ones alone.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from depthscale.graph import ops
from depthscale.grow.policies._candidates import best_units
from depthscale.grow.policies.policy import Policy, Proposal
from depthscale.grow.training import STEP, Training
from depthscale.grow.units import Units

_TRIED = 3  # candidates per new unit


class GradMax:
    """New units for every layer, by the gradient that what reads them would have."""

    name = "gradmax"

    def __call__(self, training: Training, wanted: Mapping[str, int]) -> Sequence[Proposal]:  # noqa: D102
        return best_units(training, wanted, _TRIED, self._directions(training, wanted))

    def _directions(self, training: Training, wanted: Mapping[str, int]) -> dict[str, dict[str, Tensor]]:
        """± the leading right singular vectors, for linear layers that linear layers read."""
        graph, units = training.graph, Units(training.graph)
        pairs = {}
        for layer in wanted:
            makers, readers = units.makers(layer), units.readers(layer)
            if makers == [layer] and all(isinstance(graph[n].op, ops.Linear) for n in (*makers, *readers)):
                pairs[layer] = readers
        rows = training.afford(STEP * training.row_work)
        if not pairs or not rows:
            return {}
        x, y = training.probe(rows)
        names = {n for layer, readers in pairs.items() for n in (graph[layer].inputs[0], *readers)}
        with training.still() as module:
            seen = module.intermediates(x, of=[*sorted(names), *graph.outputs])
            outs = tuple(seen[n] for n in graph.outputs)
            loss = training.engine.objective(outs[0] if len(outs) == 1 else outs, y)
            wished = [seen[r] for readers in pairs.values() for r in readers]
            deltas = iter(torch.autograd.grad(loss, wished))
        training.pay(len(x) * STEP * training.row_work)
        found = {}
        for layer, readers in pairs.items():
            h = seen[graph[layer].inputs[0]].detach().flatten(0, -2)  # (B, n)
            moments = torch.cat([next(deltas).flatten(0, -2).T @ h for _ in readers])  # (m, n)
            k = min(wanted[layer], *moments.shape)
            _, _, right = torch.linalg.svd(moments.double(), full_matrices=False)
            found[layer] = {layer: torch.cat([right[:k], -right[:k]]).to(h)}
        return found


POLICY = Policy(
    "gradmax",
    "grow",
    "new units whose readers have the largest gradient; singular vectors for linear layers",
    "Evci et al. 2022, GradMax",
    GradMax(),
)
