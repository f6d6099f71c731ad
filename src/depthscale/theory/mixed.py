"""Mixtures: x + α (y − x) as what it is, (1 − α) x + α y, so that what cancels is not counted as independent.

Learned interpolation between a branch and its input is written so. α is a parameter or a constant.
"""

from dataclasses import replace
from typing import NamedTuple

from depthscale.graph import laws, ops
from depthscale.graph.graph import Graph, Node


class Mixture(NamedTuple):
    """A mixture: the names of α (y − x), y − x and α, which it does not go through any more, and of 1 − α."""

    product: str
    difference: str
    share: str
    rest: str


def with_mixtures(graph: Graph) -> tuple[Graph, dict[str, Mixture]]:
    """The graph with such sums as sums of two independent terms, and what they are made of, by name of the sum."""
    nodes: list[Node] = []
    found: dict[str, Mixture] = {}
    for node in graph.nodes:
        mixture = _mixture(graph, node) if isinstance(node.op, ops.Add) and len(node.inputs) == 2 else None
        if mixture is None:
            nodes.append(node)
            continue
        y, x = graph.by_name[mixture.difference].inputs
        share = graph.by_name[mixture.share].op
        assert isinstance(share, ops.Parameter)  # else it is no mixture
        mean, square = share.law.moments(share.shape, laws.Fans(1, 1))
        rest = replace(share, law=laws.Measured(1 - mean, 1 - 2 * mean + square), shared=None)
        one, other = f"{node.name}_kept", f"{node.name}_new"
        nodes += [
            Node(mixture.rest, rest),
            Node(one, ops.Multiply(), (x, mixture.rest)),
            Node(other, ops.Multiply(), (y, mixture.share)),
            replace(node, inputs=(one, other)),
        ]
        found[node.name] = mixture
    return (replace(graph, nodes=tuple(nodes)), found) if found else (graph, found)


def _mixture(graph: Graph, total: Node) -> Mixture | None:
    """What a sum mixes, if it does."""
    for x, product in (total.inputs, total.inputs[::-1]):
        step = graph.by_name[product]
        if not isinstance(step.op, ops.Multiply) or len(step.inputs) != 2:
            continue
        for share, difference in (step.inputs, step.inputs[::-1]):
            parts = graph.by_name[difference]
            moved = isinstance(parts.op, ops.Subtract) and parts.inputs[1] == x != parts.inputs[0]
            if moved and isinstance(graph.by_name[share].op, ops.Parameter) and len({*total.inputs}) == 2:
                return Mixture(product, difference, share, f"{total.name}_rest")
    return None
