"""The main job: data in; a trained network, its weights, its plain PyTorch source and a report out.

``depthscale.design(data, budget="60s")`` calls ``run.design``.
"""

from depthscale.design.run import DesignResult, design
from depthscale.rooms import callable_room
from depthscale.search.watch import Watcher

__all__ = ["DesignResult", "Watcher", "design"]

callable_room(__name__, design)
