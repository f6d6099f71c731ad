"""Structure that changes while a network is trained: graph, weights and optimiser edited together.

``Live(module, optimiser).apply(widen(graph, "layer1", 64))``: edits are values made from a graph alone; applying one
carries weights, running statistics and the optimiser's moments over.
"""

from depthscale.grow.edits import connect, deepen, deepen_identity, free_layers, narrow, widen
from depthscale.grow.live import Edit, Live, Step

__all__ = ["Edit", "Live", "Step", "connect", "deepen", "deepen_identity", "free_layers", "narrow", "widen"]
