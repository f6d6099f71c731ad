"""Structure that changes while a network is trained: graph, weights and optimiser edited together.

``Live(module, optimiser).apply(widen(graph, "layer1", 64))``: edits are values made from a graph alone; applying one
carries weights, running statistics and the optimiser's moments over. ``depthscale.grow(graph, data, schedule=…)``
trains a network along a schedule of such edits.
"""

from typing import Any

from depthscale.grow.branches import (
    branches,
    bypass,
    connect,
    deepen,
    deepen_identity,
    drop_branch,
    rewire,
    skip,
)
from depthscale.grow.edits import add_units, free_layers, narrow, split, widen
from depthscale.grow.heads import add_heads, keep_heads
from depthscale.grow.live import Edit, Live, Step
from depthscale.rooms import callable_room

__all__ = [
    "Edit",
    "Live",
    "Step",
    "add_heads",
    "add_units",
    "branches",
    "bypass",
    "connect",
    "deepen",
    "deepen_identity",
    "drop_branch",
    "free_layers",
    "keep_heads",
    "narrow",
    "rewire",
    "skip",
    "split",
    "widen",
]


def _grow(*args: Any, **options: Any) -> Any:
    from depthscale.grow.run import grow

    return grow(*args, **options)


callable_room(__name__, _grow)
