"""Graph → torch module, readable PyTorch source, ONNX and weights on disk.

``depthscale.build`` is this room and the function that gave it its name: ``ds.build(graph)`` works whatever has been
imported before.
"""

from depthscale.build.module import GraphModule, build
from depthscale.build.onnx import to_onnx
from depthscale.build.weights import load_weights, save
from depthscale.build.writing import source
from depthscale.rooms import callable_room

__all__ = ["GraphModule", "build", "load_weights", "save", "source", "to_onnx"]

callable_room(__name__, build)
