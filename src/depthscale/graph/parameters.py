"""The parameters of every op: names, shapes, laws and fans, from the shapes that arrive.

``parameters(op, *shapes)`` is what cost counts, build draws and theory takes moments of, so they cannot disagree.
Names are PyTorch's (weight, bias). A bias law with a fan uses the fans of the weight beside it.
"""

import math
from dataclasses import dataclass
from functools import cached_property

from depthscale.graph import ops
from depthscale.graph.graph import Graph, Shape
from depthscale.graph.laws import Fans, Law, Moments
from depthscale.graph.op import Op
from depthscale.graph.rules import Rule


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter tensor of an op."""

    shape: Shape
    law: Law
    fans: Fans

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @cached_property
    def moments(self) -> Moments:
        """E[w] and E[w²] of an element."""
        return self.law.moments(self.shape, self.fans)


Specs = dict[str, ParameterSpec]
parameters: Rule[Specs] = Rule("parameter", "graph/parameters.py")


def _weight_and_bias(weight: Law | None, bias: Law | None, shape: Shape, fans: Fans, bias_shape: Shape) -> Specs:
    specs: Specs = {}
    if weight is not None:
        specs["weight"] = ParameterSpec(shape, weight, fans)
    if bias is not None:
        specs["bias"] = ParameterSpec(bias_shape, bias, fans)
    return specs


@parameters.register(*ops.WITHOUT_PARAMETERS)
def _(op: Op, *shapes: Shape) -> Specs:
    return {}


@parameters.register(ops.Parameter)
def _(op: ops.Parameter) -> Specs:
    size = float(op.shape[-1]) if op.shape else 1.0
    return {"weight": ParameterSpec(op.shape, op.law, Fans(size, size))}


@parameters.register(ops.Linear)
def _(op: ops.Linear, x: Shape, weight: Shape | None = None) -> Specs:
    shape = (op.out_features, x[-1])
    return _weight_and_bias(op.weight, op.bias, shape, Fans(x[-1], op.out_features), (op.out_features,))


@parameters.register(ops.Conv)
def _(op: ops.Conv, x: Shape, weight: Shape | None = None) -> Specs:
    taps = math.prod(op.kernel)
    shape = (op.out_channels, x[1] // op.groups, *op.kernel)
    fans = Fans(shape[1] * taps, op.out_channels * taps)
    return _weight_and_bias(op.weight, op.bias, shape, fans, (op.out_channels,))


@parameters.register(ops.ConvTranspose)
def _(op: ops.ConvTranspose, x: Shape) -> Specs:
    taps = math.prod(op.kernel)
    shape = (x[1], op.out_channels // op.groups, *op.kernel)
    # torch reads fans off the shape (out, in, …), which is the other way round here; a law means the same in both
    fans = Fans(shape[1] * taps, x[1] * taps)
    return _weight_and_bias(op.weight, op.bias, shape, fans, (op.out_channels,))


@parameters.register(ops.Embedding)
def _(op: ops.Embedding, x: Shape) -> Specs:
    return {"weight": ParameterSpec((op.entries, op.width), op.weight, Fans(op.width, op.entries))}


@parameters.register(ops.BatchNorm, ops.GroupNorm, ops.InstanceNorm)
def _(op: ops.BatchNorm | ops.GroupNorm | ops.InstanceNorm, x: Shape) -> Specs:
    return _weight_and_bias(op.weight, op.bias, (x[1],), Fans(1, 1), (x[1],))


@parameters.register(ops.LayerNorm, ops.RMSNorm)
def _(op: ops.LayerNorm | ops.RMSNorm, x: Shape) -> Specs:
    shape = x[len(x) - op.axes :]
    return _weight_and_bias(op.weight, getattr(op, "bias", None), shape, Fans(1, 1), shape)


@parameters.register(ops.PReLU)
def _(op: ops.PReLU, x: Shape) -> Specs:
    return {"weight": ParameterSpec((x[1] if op.per_channel else 1,), op.weight, Fans(1, 1))}


@parameters.register(ops.Scale)
def _(op: ops.Scale, x: Shape) -> Specs:
    return {"weight": ParameterSpec((1,) if op.axis is None else (x[op.axis],), op.law, Fans(1, 1))}


def owner(name: str, op: Op) -> str:
    """The name that a node's parameters go by: the node's own, or the one it shares them under."""
    return getattr(op, "shared", None) or name


def all_parameters(graph: Graph) -> Specs:
    """Every parameter of a graph by its full name ("stage1.conv1.weight"), shared ones once.

    Raises GraphError where two nodes share a name but not a shape.
    """
    from depthscale.errors import GraphError

    shapes = graph.shapes()
    found: Specs = {}
    for node in graph.nodes:
        for name, spec in parameters(node.op, *[shapes[i] for i in node.inputs]).items():
            full = f"{owner(node.name, node.op)}.{name}"
            if full in found and found[full].shape != spec.shape:
                raise GraphError(
                    f"node {node.name!r}: expected the shared parameter {full!r} to have one shape, "
                    f"got {found[full].shape} and {spec.shape}"
                )
            found.setdefault(full, spec)
    return found
