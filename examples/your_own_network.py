"""Write a network as a graph, know it before it is built, build it, and get it back as plain PyTorch."""

import torch

import depthscale as ds
from depthscale.build import source
from depthscale.graph import Builder, blocks

net = Builder()
x = net.input(3, 32, 32)
with net.scope("stem"):
    x = blocks.conv_norm_act(x, 16)
for _ in range(3):
    with net.scope("block#"):
        x = blocks.residual(x, lambda y: blocks.conv_norm_act(blocks.conv_norm_act(y, 16), 16, activate="identity"))
        x = blocks.act(x, "relu")
with net.scope("head"):
    graph = net.graph(blocks.classifier(x, 10))

print(graph.outline())
print(graph.cost(batch=128))
module = ds.build(graph, seed=0)
print(module(torch.randn(2, 3, 32, 32)).shape)
print(source(graph))
