"""Maxima over windows of joined or gated channels, as what they are: maxima of each part, joined or gated.

max_w concat(a, b) = concat(max_w a, max_w b), and max_w (s a) = s max_w a for a gate s > 0 that is one number for a
channel (squeeze and excitation): exactly. Where a and b are functions of sums of many terms the maxima are then those
of Gaussians (``fusion``); of the joined or gated tensor the theory only knows that it is not Gaussian.
"""

from dataclasses import replace

from depthscale.graph import ops
from depthscale.graph.graph import Graph, Node
from depthscale.graph.layout import Concat

Parts = dict[str, tuple[str, ...]]


def in_parts(graph: Graph) -> tuple[Graph, Parts]:
    """The graph with pools of joined channels as joined pools, and of gated ones as gated pools.

    Pools keep their names; for each: the names of the pools that it is now made of, and, where it was gated, of the
    product that is not pooled any more.
    """
    nodes: list[Node] = []
    parts: Parts = {}
    for node in graph.nodes:
        source = graph.by_name[node.inputs[0]] if isinstance(node.op, ops.MaxPool) else None
        inner = _gated(graph, source) if source is not None else None
        if source is not None and inner is not None:
            name = f"{node.name}_inside"
            gate = next(i for i in source.inputs if i != inner)
            nodes += [replace(node, name=name, inputs=(inner,)), Node(node.name, ops.Multiply(), (name, gate))]
            parts[node.name] = (name, source.name)
        elif source is not None and isinstance(source.op, Concat) and source.op.axis == 1 and _bent(graph, source):
            names = tuple(f"{node.name}_part{k}" for k in range(1, len(source.inputs) + 1))
            nodes += [replace(node, name=n, inputs=(i,)) for n, i in zip(names, source.inputs, strict=True)]
            nodes.append(Node(node.name, Concat(1), names))
            parts[node.name] = names
        else:
            nodes.append(node)
    return (replace(graph, nodes=tuple(nodes)), parts) if parts else (graph, parts)


_POSITIVE = ("sigmoid", "hardsigmoid", "softplus", "exp")


def _gated(graph: Graph, product: Node) -> str | None:
    """Of an activation times a positive number for every channel, the activation."""
    if not isinstance(product.op, ops.Multiply) or len(set(product.inputs)) != 2:
        return None
    shapes = graph.shapes()
    for inner, gate in (product.inputs, product.inputs[::-1]):
        by = graph.by_name[gate].op
        positive = isinstance(by, ops.Activation) and by.function in _POSITIVE
        whole = isinstance(graph.by_name[inner].op, ops.Activation) and shapes[inner] == shapes[product.name]
        if positive and whole and len(shapes[gate]) > 2 and set(shapes[gate][2:]) == {1}:
            return inner
    return None


def _bent(graph: Graph, node: Node) -> bool:
    return any(isinstance(graph[i].op, ops.Activation) for i in node.inputs)
