"""Spaces of cells that are stacked: NAS-Bench-201, NAS-Bench-101, blocks after BlockQNN and NASNet, random wiring."""

from collections.abc import Sequence
from typing import Any

from depthscale import zoo
from depthscale.graph import Builder, Graph, blocks, laws
from depthscale.search.features import cell_features
from depthscale.search.space import Decider, Space
from depthscale.search.spaces.parts import add_steps, batch_normed, decide_steps, halved, image_shape, zoo_options
from depthscale.zoo.images import image
from depthscale.zoo.nasbench101 import OPS as OPS_101, Cell, parse
from depthscale.zoo.nasbench101_forms import canonical
from depthscale.zoo.nasbench201 import EDGES, OPS, published_form, write


def nasbench201_space(input_shape: Sequence[int] | None = None, outputs: int = 10, **options: Any) -> Space:
    """The 15,625 cells of NAS-Bench-201 (Dong & Yang 2020); the architecture is the cell's string.

    options: arguments of ``zoo.nasbench201`` (width, cells …). Networks are told apart as the authors do it: 6,466 are
    different.
    """
    fixed = zoo_options(input_shape, outputs, "nasbench201") | options

    def describe(decide: Decider) -> str:
        return write(tuple(decide(f"edge{source}{node}", OPS) for node, source in EDGES))

    return Space("nasbench201", describe, lambda cell: zoo.nasbench201(cell, **fixed), published_form, cell_features)


def nasbench101_space(
    input_shape: Sequence[int] | None = None, outputs: int = 10, *, vertices: int = 7, **options: Any
) -> Space:
    """The cells of NAS-Bench-101 (Ying et al. 2019), as matrix of edges and operations; the architecture is the cell.

    A draw with too many edges, or without a path to the output, is a GraphError. Cells that differ in numbering only
    are one network. options: arguments of ``zoo.nasbench101`` (width, stacks, cells …).
    """
    fixed = zoo_options(input_shape, outputs, "nasbench101") | options

    def describe(decide: Decider) -> Cell:
        matrix = [[0] * vertices for _ in range(vertices)]
        for j in range(1, vertices):
            for i in range(j):
                matrix[i][j] = int(decide(f"edge{i}{j}", [False, True]))
        return parse(matrix, [decide(f"op{v}", OPS_101) for v in range(1, vertices - 1)])

    return Space("nasbench101", describe, lambda cell: zoo.nasbench101(cell.matrix, cell.ops, **fixed), canonical)


def blockwise(
    input_shape: Sequence[int] = (3, 32, 32),
    outputs: int = 10,
    *,
    nodes: int = 4,
    repeats: int = 2,
    width: int = 16,
    act: str = "relu",
) -> Space:
    """One cell of ``nodes`` operations, stacked (Zhong et al. 2018; Zoph et al. 2018).

    Every node takes the sum of one or two earlier ones through an operation; what feeds no other node is summed at the
    end. Three stages of ``repeats`` cells, the image halved and the channels doubled between them.
    """
    channels, size = image_shape(input_shape, "blockwise")
    style = batch_normed(act)

    def describe(decide: Decider) -> Graph:
        steps = decide_steps(decide, nodes)
        net = Builder()
        x = image(net, channels, size)
        with net.scope("stem"):
            x = blocks.conv_norm_act(x, width, style=style)
        for stage in range(3):
            if stage:
                with net.scope("reduction#"):
                    x = halved(x, width * 2**stage, style)
            with net.scope("stage#"):
                for _ in range(repeats):
                    with net.scope("cell#"):
                        x = add_steps(x, steps, style)
        with net.scope("head"):
            return net.graph(blocks.classifier(x, outputs, weight=laws.LECUN))

    return Space("blockwise", describe)


def wired(
    input_shape: Sequence[int] = (3, 32, 32), outputs: int = 10, *, nodes: int = 12, width: int = 24, seeds: int = 1000
) -> Space:
    """Randomly wired networks: the generator, its parameters and its seed are the decisions (Xie et al. 2019)."""
    fixed = zoo_options(input_shape, outputs, "wired")

    def describe(decide: Decider) -> Graph:
        kind = decide("generator", ["ws", "er", "ba"])
        parameters: tuple[float, ...]
        if kind == "ws":
            parameters = (decide("neighbours", [2, 4, 6]), decide("rewiring", [0.25, 0.5, 0.75, 1.0]))
        elif kind == "er":
            parameters = (decide("probability", [0.1, 0.2, 0.3]),)
        else:
            parameters = (decide("edges per node", [1, 2, 3, 5]),)
        seed = decide.between("seed", 0, seeds - 1)
        return zoo.randomly_wired(kind, seed, parameters=parameters, nodes=nodes, width=width, small=True, **fixed)

    return Space("wired", describe)
