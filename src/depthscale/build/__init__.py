"""Graph → torch module, readable PyTorch source, ONNX and weights on disk.

``depthscale.build`` is this room and the function that gave it its name: importing a sub-package makes it an
attribute of the package, so the module itself can be called, and ``ds.build(graph)`` works whatever came first.
"""

import sys
from types import ModuleType
from typing import Any

from depthscale.build.module import GraphModule, build

__all__ = ["GraphModule", "build"]


class _Callable(ModuleType):
    """A module that is called like its function ``build``."""

    def __call__(self, *args: Any, **options: Any) -> GraphModule:
        return build(*args, **options)


sys.modules[__name__].__class__ = _Callable
