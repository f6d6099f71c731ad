"""A network that makes connections in excess, prunes them and keeps rewiring while it learns handwritten digits.

Run it: ``python examples/a_network_that_grows.py``; a few seconds.
"""

import torch

import depthscale as ds
from depthscale.grow import Live, deepen, free_layers, split, widen

# 1. Along a schedule, under a budget of training FLOPs and a cap on parameters.
net = ds.zoo.get("mlp", input_shape=(1, 8, 8), hidden=(16, 16))
found = ds.grow(net, "digits", schedule="developmental", flops="300M", max_parameters=6_000, device="cpu")
for point in found.points:
    if point.stage.endswith("1") or point.stage in ("infancy", "consolidation"):
        print(f"{point.stage:14s} {point.parameters:6,} parameters  validation accuracy {point.val['accuracy']:.3f}")
print(
    f"test accuracy {found.test['accuracy']:.3f} with {found.parameters:,} parameters, {found.flops:.2g} training FLOPs"
)

# 2. By hand: edits are values made from a graph; growth leaves what the network computes as it is.
module = ds.build(net, seed=0)
live = Live(module, torch.optim.AdamW(module.parameters(), 1e-3))
x = torch.randn(4, 1, 8, 8)
before = live.module(x).detach()
first, second = free_layers(live.graph)
for edit in (
    lambda g: widen(g, first, 24, tilt=0.5),
    lambda g: split(g, second, [0, 3]),
    lambda g: deepen(g, "layer1.act1"),
):
    live = live.apply(edit(live.graph))
for step in live.lineage:
    print(f"{step.kind:8s} {step.where}: {step.parameters:,} parameters")
print(f"the output moved by {float((live.module(x).detach() - before).abs().max()):.1e}")
