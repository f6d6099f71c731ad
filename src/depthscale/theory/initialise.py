"""Laws that make a network critical: every layer keeps lengths, and gradients neither grow nor die on average.

What a layer's weights have to be is decided by what feeds it and what it feeds:

- between two activations: the critical point (sw2, sb2) of the activation that feeds it, which keeps the length at q*;
- the first layer, or one behind a normalisation: lengths of data (one) are brought to q* of the activation behind it;
- in front of a normalisation: scale does not matter, He's or LeCun's law stays as it is, biases start at zero;
- the last layer of a residual branch: its variance is divided by the number of branches, so that n of them add up to
  one more length and not to 2^n (Zhang, Dauphin & Ma 2019; Hayou et al. 2021), unless the graph scales the branch;
- the output layer: unit gain.

An activation without a critical point (a sigmoid, say) keeps the laws that it has.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from depthscale.errors import TheoryError
from depthscale.graph import edit, laws, ops
from depthscale.graph.graph import Graph, Node
from depthscale.graph.laws import Law
from depthscale.graph.op import Op

_CARRIES = (  # ops that leave a signal's size roughly as it is
    ops.Dropout,
    ops.DropPath,
    ops.Flatten,
    ops.Unflatten,
    ops.Reshape,
    ops.Permute,
    ops.Squeeze,
    ops.Unsqueeze,
    ops.MaxPool,
    ops.AvgPool,
    ops.AdaptivePool,
    ops.Reduce,
    ops.Slice,
    ops.Select,
    ops.Pad,
    ops.Upsample,
    ops.Resize,
    ops.Roll,
    ops.Take,
)
_SCALES = (ops.Scale,)
_LAYERS = (ops.Linear, ops.Conv)


def critical(graph: Graph, *, isometric: bool = False) -> Graph:
    """The graph with the laws of its linear and convolutional layers set so that it is critical.

    ``isometric`` draws orthogonal matrices of the same variance instead of Gaussian ones. Other ops keep their laws.
    """
    branches = max(_branches(graph), 1)

    def change(node: Node) -> Op:
        op = node.op
        if not isinstance(op, _LAYERS) or op.weight is None:
            return op
        numbers = _variances(graph, node, branches)
        if numbers is None:
            return op
        sw2, sb2 = numbers
        bias = None if op.bias is None else laws.Normal(math.sqrt(sb2)) if sb2 > 0 else laws.ZERO
        return replace(op, weight=_law(graph, node, sw2) if isometric else laws.variance(sw2), bias=bias)

    return edit.map_ops(graph, change)


def _variances(graph: Graph, node: Node, branches: int) -> tuple[float, float] | None:
    """(sw2, sb2) of a layer; None to leave it alone."""
    before, after = _before(graph, node), _after(graph, node)
    if isinstance(after, ops.NORMS):
        return None
    source = _point(before) if _is_activation(before) else None
    target = _point(after) if _is_activation(after) else None
    if _is_activation(before) and source is None:
        return None
    if after is None:  # the output
        return 1.0, 0.0
    if isinstance(after, ops.Add):
        sw2, _ = (source[0], 0.0) if source is not None else (1.0, 0.0)
        if source is None or not _is_branch(graph, node):
            return 1.0, 0.0  # a projection on the way around keeps lengths
        return (sw2 if _scaled(graph, node) else sw2 / branches), 0.0
    if source is not None:
        return source[0], source[1]
    if target is not None and target[2] > target[1]:
        return target[2] - target[1], target[1]
    return 1.0, 0.0


@lru_cache(maxsize=256)
def _point(op: Op | None) -> tuple[float, float, float] | None:
    """(sw2, sb2, q*) of an activation's critical point; q* is 1 where any length will do, None where there is none."""
    from depthscale.theory.critical import critical_point
    from depthscale.theory.resolve import activation

    options: dict[str, Any]
    if isinstance(op, ops.PReLU):
        slope = op.weight.moments((1,), laws.Fans(1, 1)).mean
        name, options = "leaky_relu", {"negative_slope": slope}
    elif isinstance(op, ops.Activation):
        name, options = op.function, dict(op.parameters)
    else:
        return None
    try:
        point = critical_point(activation(name, **options))
    except TheoryError:
        return None
    q = float(point.q.value)
    return float(point.sw2.value), float(point.sb2.value), q if q > 0 else 1.0


def _is_activation(op: Op | None) -> bool:
    if isinstance(op, ops.Activation):
        return op.function not in ("affine", "identity")
    return isinstance(op, ops.PReLU)


def _passes(op: Op) -> bool:
    plain = isinstance(op, ops.Activation) and op.function in ("affine", "identity")
    return plain or isinstance(op, _CARRIES + _SCALES)


def _before(graph: Graph, node: Node) -> Op | None:
    """The op that shaped what a layer reads; None for data."""
    while node.inputs:
        node = graph[node.inputs[0]]
        if not _passes(node.op):
            return None if isinstance(node.op, ops.Input) else node.op
    return None


def _after(graph: Graph, node: Node) -> Op | None:
    """The op that a layer's output is for; None for the graph's output."""
    while True:
        users = graph.consumers[node.name]
        if not users:
            return None
        node = graph[users[0]]
        if not _passes(node.op):
            return node.op


def _scaled(graph: Graph, node: Node) -> bool:
    """Whether the graph itself scales what this layer adds to a sum."""
    while True:
        node = graph[graph.consumers[node.name][0]]
        if isinstance(node.op, _SCALES) or (isinstance(node.op, ops.Activation) and node.op.function == "affine"):
            return True
        if not _passes(node.op):
            return False


def _branches(graph: Graph) -> int:
    """Sums that a layer adds to directly: the number of un-normalised residual branches."""
    sums = 0
    for node in graph.nodes:
        if isinstance(node.op, ops.Add):
            sums += any(_reaches(graph, source) for source in node.inputs)
    return sums


def _reaches(graph: Graph, name: str) -> bool:
    """Whether a weighted layer whose input is an activation's output feeds this value directly."""
    node = graph[name]
    while _passes(node.op) and node.inputs:
        node = graph[node.inputs[0]]
    return isinstance(node.op, _LAYERS) and _is_branch(graph, node)


def _is_branch(graph: Graph, node: Node) -> bool:
    """Whether a layer that feeds a sum ends a branch, rather than projecting what goes around it.

    Branches are the deepest way into their sum; a projection has fewer weighted layers before it.
    """
    depth = _depths(graph)
    total = node
    while not isinstance(total.op, ops.Add):
        total = graph[graph.consumers[total.name][0]]
    return depth[node.name] == max(depth[source] for source in total.inputs)


@lru_cache(maxsize=64)
def _depths(graph: Graph) -> Mapping[str, int]:
    """Weighted layers on the longest path to each node, its own included."""
    return graph.fold(lambda op, *depths: max(depths, default=0) + isinstance(op, _LAYERS))


def _law(graph: Graph, node: Node, sw2: float) -> Law:
    """An orthogonal law of variance sw2/fan_in."""
    from depthscale.graph.parameters import parameters

    shapes = graph.shapes()
    spec = parameters(node.op, *[shapes[i] for i in node.inputs])["weight"]
    longer = max(spec.shape[0], spec.fans.fan_in)
    return laws.Orthogonal(math.sqrt(sw2 * longer / spec.fans.fan_in))
