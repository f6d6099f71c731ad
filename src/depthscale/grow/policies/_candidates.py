"""New units tried out: added to a copy of the network unheard, they show by the gradient of what would read them how
fast the loss would fall.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from depthscale.grow.edits import add_units
from depthscale.grow.live import Live
from depthscale.grow.policies.policy import Proposal
from depthscale.grow.policies.random_units import RandomUnits
from depthscale.grow.training import STEP, Training, work
from depthscale.grow.units import Units, scores_of


def best_units(
    training: Training, wanted: Mapping[str, int], tried: int, rows: Mapping[str, Mapping[str, Tensor]] | None = None
) -> list[Proposal]:
    """For every layer the best of ``tried`` candidates per wanted unit, by the gradient on one batch.

    rows: what some candidates should read, by layer and maker; the others are drawn by the layers' laws. All layers are
    tried in one pass: candidates are not heard, so they do not disturb each other. Where looking costs too much, units
    at random are proposed.
    """
    units = Units(training.graph)
    sizes = {n: units.size(n) for n in wanted}
    live = Live(copy.deepcopy(training.live.module))
    tried_rows: dict[str, dict[str, Tensor]] = {}
    for i, (layer, count) in enumerate(reversed(list(wanted.items()))):  # the last first, so that none hears another
        given = {} if rows is None else dict(rows.get(layer, {}))
        have = max((len(r) for r in given.values()), default=0)
        groups = units.groups(layer)
        total = -(-max(tried * count, have) // groups) * groups
        change = add_units(live.graph, layer, total, rows=_filled(live, given, total, training.decisions + i))
        live = live.apply(change, seed=training.decisions * 1000 + i)
        named = dict(live.module.named_parameters())
        tried_rows[layer] = {m: named[f"{m}.weight"].detach().clone() for m in units.makers(layer)}
    price = STEP * work(live.graph, {})
    rows_seen = training.afford(price)
    if not rows_seen:
        return RandomUnits()(training, wanted)
    x, y = training.probe(rows_seen)
    with training.still(live.module) as module:
        training.engine.devices.backward(training.engine.objective(module(x), y))
        named = dict(module.named_parameters())
        gradients = {n: scores_of(p.grad) for n, p in named.items() if p.grad is not None}
    training.pay(len(x) * price)
    after = Units(live.graph)
    found = []
    for layer, count in wanted.items():
        gains = after.heard(layer, gradients)
        groups, new = units.groups(layer), after.size(layer)
        each, own = new // groups, sizes[layer] // groups
        together = after.together(layer, gains)[own:]  # of the new ones, one of each group together
        order = together.argsort()[::-1][: max(1, count // groups)]
        index = torch.as_tensor([g * each + own + int(k) for g in range(groups) for k in order])
        chosen = {m: value[index] for m, value in tried_rows[layer].items()}
        proposal = Proposal(
            f"{layer}: units",
            tuple(float(together[k]) / groups for k in order),
            units.cost(layer).parameters * groups,
            layer=layer,
            rows=chosen,
        )
        found.append(proposal)
    return found


def _filled(live: Live, given: dict[str, Tensor], total: int, seed: int) -> dict[str, Tensor]:
    """Rows for all new units where some are given: the rest point anywhere, as long as the layer's rows are."""
    named = dict(live.module.named_parameters())
    out = {}
    for maker, rows in given.items():
        weight = named[f"{maker}.weight"].detach()
        generator = torch.Generator().manual_seed(seed)
        rest = torch.randn((total - len(rows), *weight.shape[1:]), generator=generator).to(weight)
        out[maker] = torch.cat([_as_long(rows, weight), _as_long(rest, weight)])
    return out


def _as_long(rows: Tensor, weight: Tensor) -> Tensor:
    """Rows of the length that rows of the weight have on average, so that new units have the layer's q."""
    if len(rows) == 0:
        return rows
    length = weight.flatten(1).norm(dim=1).square().mean().sqrt()
    norms = rows.flatten(1).norm(dim=1).clamp_min(1e-30).reshape(-1, *[1] * (rows.dim() - 1))
    scaled: Tensor = rows / norms * length
    return scaled
