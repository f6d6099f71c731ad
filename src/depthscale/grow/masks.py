"""Single connections: masks over weights, removed and regrown while the network is trained.

A mask is a tensor of booleans beside a weight; the weight itself stays dense, so sparse networks save parameters and
counted operations, not time. Layer densities are Erdős–Rényi (Mocanu et al. 2018, SET; for kernels Evci et al. 2020,
RigL, eq. of section 3): a layer keeps connections in proportion to the sum of its sides, not to their product.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from depthscale.errors import GraphError
from depthscale.graph import Graph, all_parameters, ops
from depthscale.grow.live import Live, mix


def maskable(graph: Graph) -> list[str]:
    """The weights whose connections can be masked: those of linear layers and convolutions, shared ones left out."""
    specs = all_parameters(graph)
    return [
        f"{n.name}.weight"
        for n in graph.nodes
        if isinstance(n.op, ops.Linear | ops.Conv) and n.op.shared is None and f"{n.name}.weight" in specs
    ]


def densities(graph: Graph, density: float) -> dict[str, float]:
    """Erdős–Rényi densities per weight whose mean over all connections is ``density`` ∈ (0, 1]."""
    if not 0 < density <= 1:
        raise GraphError(f"expected a density above 0 and at most 1, got {density}")
    specs = all_parameters(graph)
    shapes = {n: specs[n].shape for n in maskable(graph)}
    raw = {n: sum(s) / math.prod(s) for n, s in shapes.items()}
    full: set[str] = set()
    while True:
        wanted = density * sum(math.prod(s) for s in shapes.values()) - sum(math.prod(shapes[n]) for n in full)
        free = sum(raw[n] * math.prod(s) for n, s in shapes.items() if n not in full)
        scale = wanted / free if free else 0.0
        over = {n for n in shapes if n not in full and raw[n] * scale > 1}
        if not over:
            return {n: 1.0 if n in full else max(raw[n] * scale, 1 / math.prod(s)) for n, s in shapes.items()}
        full |= over


def sparsify(live: Live, wanted: Mapping[str, float], seed: int = 0) -> Live:
    """The network with random masks of these densities; what they leave out is zero.

    Meant for a network that has not been trained: the weights that a unit keeps are scaled by √(fan-in / kept), so that
    it hears as much as before and the network stays as critical as it was drawn (Evci et al. 2022, "Gradient Flow in
    Sparse Neural Networks and How Lottery Tickets Win", section 3).
    """
    named = dict(live.module.named_parameters())
    masks = dict(live.masks)
    for name, density in wanted.items():
        n = named[name].numel()
        generator = torch.Generator().manual_seed(mix(seed, name))
        flat = torch.zeros(n, dtype=torch.bool)
        flat[torch.randperm(n, generator=generator)[: max(1, round(density * n))]] = True
        mask = masks[name] = flat.reshape(named[name].shape).to(named[name].device)
        kept = mask.flatten(1).sum(1).clamp(min=1)
        with torch.no_grad():
            gain = (mask[0].numel() / kept).sqrt().to(named[name].dtype)
            named[name].mul_(gain.reshape(-1, *[1] * (mask.ndim - 1)))
    out = replace(live, masks=masks)
    out.enforce()
    return out


def keep_largest(live: Live, scores: Mapping[str, Tensor], connections: int) -> Live:
    """The network with masks that keep so many connections, those of the largest scores over all layers together.

    Every layer keeps at least one. Scores of connections that are not there already are not looked at.
    """
    flat = torch.cat([torch.where(live.masks[n], s, -1.0).flatten() if n in live.masks else s.flatten()
                      for n, s in scores.items()])  # fmt: skip
    if not 1 <= connections <= len(flat):
        raise GraphError(f"expected to keep 1 to {len(flat)} connections, got {connections}")
    level = torch.topk(flat, connections).values[-1]
    masks = dict(live.masks)
    for name, score in scores.items():
        before = live.masks.get(name, torch.ones_like(score, dtype=torch.bool))
        mask = (score >= level) & before
        if not mask.any():
            mask = before & (score >= score[before].max())  # without connections it would cut the network in two
        masks[name] = mask
    out = replace(live, masks=masks)
    out.enforce()
    return out


def shares(graph: Graph, connections: int) -> dict[str, int]:
    """How many connections every weight has where a network has so many in all, by Erdős–Rényi densities."""
    specs = all_parameters(graph)
    whole = {n: specs[n].count for n in maskable(graph)}
    found = densities(graph, min(1.0, connections / sum(whole.values())))
    return {n: max(1, int(found[n] * count + 1e-6)) for n, count in whole.items()}


def prune(live: Live, counts: Mapping[str, int]) -> Live:
    """The network with at most so many connections in every weight, the largest that there are."""
    named = dict(live.module.named_parameters())
    masks = {n: m.clone() for n, m in live.masks.items()}
    for name, mask in masks.items():
        gone = int(mask.sum()) - counts[name]
        if gone > 0:
            size = torch.where(mask, named[name].detach().abs(), torch.inf).flatten()
            mask.view(-1)[torch.topk(size, gone, largest=False).indices] = False
    out = replace(live, masks=masks)
    out.enforce()
    return out


def regrow(live: Live, gradients: Mapping[str, Tensor] | None, counts: Mapping[str, int], seed: int = 0) -> Live:
    """The network with at least so many connections in every weight.

    The new ones are where the gradient is largest, without gradients at random; they begin at zero, so that growing
    changes nothing at first, and with the second moments that the weight's connections have on average (without, their
    first steps would be too long).
    """
    masks = {n: m.clone() for n, m in live.masks.items()}
    for name, mask in masks.items():
        more = min(counts[name], mask.numel()) - int(mask.sum())
        if more < 1:
            continue
        if gradients is None:
            generator = torch.Generator().manual_seed(mix(seed, name))
            wish = torch.rand(mask.shape, generator=generator).to(mask.device)
        else:
            wish = gradients[name].abs()
        wish = torch.where(mask, -1.0, wish).flatten()
        mask.view(-1)[torch.topk(wish, more).indices] = True
    _begin_softly(live, masks)
    out = replace(live, masks=masks)
    out.enforce()
    return out


def _begin_softly(live: Live, masks: Mapping[str, Tensor]) -> None:
    """New connections get the mean of the second moments of those that were there."""
    if live.optimiser is None:
        return
    named = dict(live.module.named_parameters())
    for name, mask in masks.items():
        before, state = live.masks[name], live.optimiser.state.get(named[name], {})
        for key, value in state.items():
            if "sq" in key and isinstance(value, Tensor) and value.shape == mask.shape:
                value[mask & ~before] = value[before].mean()


def swap(live: Live, share: float, gradients: Mapping[str, Tensor] | None = None, seed: int = 0) -> Live:
    """The network with this share of every mask's connections, the weakest, replaced by as many others: by gradient
    (RigL), else at random (SET). What is dropped and grown in one keeps its value.
    """
    named = dict(live.module.named_parameters())
    values = {n: named[n].detach().clone() for n in live.masks}
    now = {n: int(m.sum()) for n, m in live.masks.items()}
    kept = {n: k - min(int(share * k), live.masks[n].numel() - k) for n, k in now.items()}
    out = regrow(prune(live, kept), gradients, now, seed)
    with torch.no_grad():
        for name, mask in out.masks.items():
            named[name].copy_(torch.where(mask & live.masks[name], values[name], named[name]))
    return out
