"""The waist: ops, parameter laws, graphs, and what is known of them without building them."""

from depthscale.graph.builder import Builder, Wire
from depthscale.graph.canonical import canonical_key
from depthscale.graph.cost import Cost
from depthscale.graph.graph import Graph, Node, Shape
from depthscale.graph.laws import Law
from depthscale.graph.op import Op
from depthscale.graph.parameters import ParameterSpec, all_parameters, parameters

__all__ = [
    "Builder",
    "Cost",
    "Graph",
    "Law",
    "Node",
    "Op",
    "ParameterSpec",
    "Shape",
    "Wire",
    "all_parameters",
    "canonical_key",
    "parameters",
]
