"""Any torch model → Graph.

``depthscale.capture`` is this room and the function that gave it its name: ``ds.capture(module, example)``.
"""

from depthscale.capture.mapper import Source
from depthscale.capture.trace import Capture, Origin, capture, trace
from depthscale.rooms import callable_room

__all__ = ["Capture", "Origin", "Source", "capture", "trace"]

callable_room(__name__, capture)
