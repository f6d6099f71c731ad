"""Maxima over windows of joined channels, as what they are: maxima of each part, joined.

max_w concat(a, b) = concat(max_w a, max_w b), exactly. Where a and b are functions of sums of many terms the maxima are
then those of Gaussians (``fusion``); of the joined tensor the theory only knows that it is not Gaussian.
"""

from dataclasses import replace

from depthscale.graph import ops
from depthscale.graph.graph import Graph, Node
from depthscale.graph.layout import Concat

Parts = dict[str, tuple[str, ...]]


def in_parts(graph: Graph) -> tuple[Graph, Parts]:
    """The graph with pools of joined channels as joined pools, and the names of these by pool (which keeps its own)."""
    nodes: list[Node] = []
    parts: Parts = {}
    for node in graph.nodes:
        source = graph[node.inputs[0]] if isinstance(node.op, ops.MaxPool) else None
        if source is None or not isinstance(source.op, Concat) or source.op.axis != 1 or not _bent(graph, source):
            nodes.append(node)
            continue
        names = tuple(f"{node.name}_part{k}" for k in range(1, len(source.inputs) + 1))
        nodes += [replace(node, name=n, inputs=(i,)) for n, i in zip(names, source.inputs, strict=True)]
        nodes.append(Node(node.name, Concat(1), names))
        parts[node.name] = names
    return (replace(graph, nodes=tuple(nodes)), parts) if parts else (graph, parts)


def _bent(graph: Graph, node: Node) -> bool:
    return any(isinstance(graph[i].op, ops.Activation) for i in node.inputs)
