"""Spaces without cells: layer by layer (MetaQNN), whole networks, MLPs for tables."""

from collections.abc import Sequence
from math import prod

from depthscale import zoo
from depthscale.graph import Builder, Graph, Wire, blocks, laws
from depthscale.graph.blocks import Style
from depthscale.search.space import Decider, Space, within
from depthscale.search.spaces.parts import LEAST, add_steps, batch_normed, decide_steps, halved, image_shape
from depthscale.zoo.images import image

SHORTEST = 2  # layers of a chain before it may end


def layerwise(
    input_shape: Sequence[int] = (1, 28, 28),
    outputs: int = 10,
    *,
    depth: int = 8,
    widths: Sequence[int] = (4, 6, 8, 12, 16, 24, 32, 48, 64),
    hidden: Sequence[int] = (32, 64, 96, 128),
    act: str = "relu",
    norms: Sequence[str] = ("none", "batch"),
    parameters: int | None = 60_000,
) -> Space:
    """A chain chosen layer by layer: convolve, pool, a hidden layer, or stop (Baker et al. 2017).

    depth: layers at most, pools counted; the first is a convolution, and the chain goes on until the third at least.
    After a hidden layer come only hidden layers, at most two; images below 8 pixels are not pooled further.
    parameters: the most that a network may have (None: any number); by default as many as a LeNet-5.
    """
    channels, size = image_shape(input_shape, "layerwise")

    def describe(decide: Decider) -> Graph:
        norm = decide("norm", norms)
        style = Style(norm=norm, act=act, weight=laws.HE, bias=laws.ZERO if norm == "none" else None)
        net = Builder()
        x, dense = image(net, channels, size), 0
        for i in range(1, depth + 1):
            kind = _kind(decide, i, x, dense)
            if kind == "stop":
                break
            with net.scope("layer#"):
                if kind == "dense":
                    x = blocks.act(blocks.linear(blocks.flatten(x), decide(f"hidden{i}", hidden), weight=laws.HE), act)
                    dense += 1
                elif kind == "conv":
                    kernel = decide(f"kernel{i}", [1, 3, 5])
                    x = blocks.conv_norm_act(x, decide(f"width{i}", widths), kernel, style=style)
                else:
                    x = blocks.max_pool(x, 2, 2) if kind == "max pool" else blocks.avg_pool(x, 2, 2)
        averaged = not dense and decide("head", ["flatten", "average"]) == "average"
        with net.scope("head"):
            if averaged:
                return net.graph(blocks.classifier(x, outputs, weight=laws.LECUN))
            return net.graph(blocks.linear(blocks.flatten(x), outputs, weight=laws.LECUN))

    found = Space("layerwise", describe)
    return found if parameters is None else within(found, parameters)


def _kind(decide: Decider, i: int, x: Wire, dense: int) -> str:
    """What the next layer is; which kinds there are depends on what is there."""
    if i == 1:
        return "conv"
    if dense:
        return decide(f"after dense{i}", ["dense", "stop"]) if dense < 2 else "stop"
    end = ["dense", "stop"] if i > SHORTEST else []
    if min(x.shape[2:]) < 2 * LEAST:
        return decide(f"small{i}", ["conv", *end])
    return decide(f"layer{i}", ["conv", "max pool", "avg pool", *end])


def whole(
    input_shape: Sequence[int] = (3, 32, 32), outputs: int = 10, *, nodes: int = 12, width: int = 16, act: str = "relu"
) -> Space:
    """A network without repeated blocks: every node chooses its operation and which one or two nodes feed it.

    nodes: operations in all, in three stages (the image halves and channels double between); what blockwise search
    gives up by repeating one cell.
    """
    channels, size = image_shape(input_shape, "whole")
    style = batch_normed(act)

    def describe(decide: Decider) -> Graph:
        net = Builder()
        x = image(net, channels, size)
        with net.scope("stem"):
            x = blocks.conv_norm_act(x, width, style=style)
        for stage in range(3):
            with net.scope("stage#"):
                if stage:
                    x = halved(x, width * 2**stage, style)
                own = nodes // 3 + (stage < nodes % 3)
                x = add_steps(x, decide_steps(decide, own, f"stage{stage + 1}/"), style) if own else x
        with net.scope("head"):
            return net.graph(blocks.classifier(x, outputs, weight=laws.LECUN))

    return Space("whole", describe)


def mlp(
    input_shape: Sequence[int] = (16,), outputs: int = 2, *, widths: Sequence[int] = (16, 32, 64, 128, 256)
) -> Space:
    """MLPs for tables: plain or residual, one to sixteen layers, with or without normalisation and dropout."""

    def describe(decide: Decider) -> Graph:
        width, depth = decide("width", widths), decide("depth", [1, 2, 3, 4, 6, 8, 12, 16])
        return zoo.mlp(
            (prod(input_shape), *[width] * depth, outputs),
            decide("activation", ["relu", "tanh", "gelu", "silu"]),
            input_shape=tuple(input_shape),
            residual=decide("residual", [False, True]),
            norm=decide("norm", ["none", "layer", "batch"]),
            dropout=decide("dropout", [0.0, 0.1, 0.3]),
        )

    return Space("mlp", describe)
