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


def regrow(live: Live, gradients: Mapping[str, Tensor], connections: int) -> Live:
    """The network with so many connections in all, the new ones where the gradient is largest; they begin at zero."""
    masks = {n: m.clone() for n, m in live.masks.items()}
    more = connections - sum(int(m.sum()) for m in masks.values())
    wish = torch.cat([torch.where(m, -1.0, gradients[n].abs()).flatten() for n, m in masks.items()])
    more = min(more, int((wish >= 0).sum()))
    if more < 1:
        return live
    chosen = torch.zeros_like(wish, dtype=torch.bool)
    chosen[torch.topk(wish, more).indices] = True
    at = 0
    for mask in masks.values():
        mask |= chosen[at : at + mask.numel()].reshape(mask.shape)
        at += mask.numel()
    out = replace(live, masks=masks)
    out.enforce()
    return out


def swap(live: Live, share: float, gradients: Mapping[str, Tensor] | None = None, seed: int = 0) -> int:
    """Drop this share of every mask's connections, the weakest, and grow as many: by gradient (RigL), else at random
    (SET). New connections begin at zero, so growing changes nothing at first. Returns how many were swapped.
    """
    named = dict(live.module.named_parameters())
    swapped = 0
    with torch.no_grad():
        for name, mask in live.masks.items():
            active, whole = int(mask.sum()), mask.numel()
            n = min(int(share * active), whole - active)
            if n < 1:
                continue
            size = torch.where(mask, named[name].abs(), torch.inf).flatten()
            flat = mask.flatten()
            flat[torch.topk(size, n, largest=False).indices] = False
            if gradients is None:
                generator = torch.Generator().manual_seed(mix(seed, name))
                wish = torch.rand(whole, generator=generator).to(mask.device)
            else:
                wish = gradients[name].abs().flatten()
            before = mask.flatten()
            wish = torch.where(flat, -1.0, wish)
            grown = torch.topk(wish, n).indices
            flat[grown] = True
            mask.copy_(flat.reshape(mask.shape))
            named[name].view(-1)[grown] = torch.where(before[grown], named[name].view(-1)[grown], 0.0)
            swapped += n
    live.enforce()
    return swapped
