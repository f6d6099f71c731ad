"""The main job: data in; a trained network, its weights, its plain PyTorch source and a report out.

``depthscale.design(data, budget="60s")`` calls ``run.design``.
"""

from depthscale.design.run import DesignResult, design
from depthscale.design.watcher import Watcher
from depthscale.rooms import callable_room

__all__ = ["DesignResult", "Watcher", "design"]

callable_room(__name__, design)
