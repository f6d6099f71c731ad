"""depthscale tells you whether a deep network will train before you train it, repairs it when it won't,
and finds a better one.

Names are resolved on first use, so that ``import depthscale`` costs nothing: it loads neither torch nor scipy.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# public name -> module that defines it
_PUBLIC: dict[str, str] = {
    "Graph": "depthscale.graph",
    "activation": "depthscale.theory.resolve",
    "check": "depthscale.diagnose.examine",
    "critical_line": "depthscale.theory.critical",
    "critical_point": "depthscale.theory.critical",
    "Diagnosis": "depthscale.diagnose.diagnosis",
    "depth_scale": "depthscale.theory.phase",
    "phase_diagram": "depthscale.theory.phase",
    "weights_for_depth": "depthscale.theory.wanted",
    "Estimate": "depthscale.numerics",
    "fit": "depthscale.train",
    "load_data": "depthscale.data",
    "InputStats": "depthscale.theory.inputs",
    "repair": "depthscale.diagnose.mend",
    "propagate": "depthscale.theory.propagate",
    "DepthscaleError": "depthscale.errors",
}
# rooms; build, capture, design and grow are called like functions
_MODULES: frozenset[str] = frozenset({"build", "capture", "design", "foundations", "grow", "zoo"})


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"depthscale.{name}")
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'depthscale' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC, *_MODULES])
