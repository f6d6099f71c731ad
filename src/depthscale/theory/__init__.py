"""Mean-field theory: how signals and gradients travel through a random network, and so how deep it can be.

Names are resolved on first use: SciPy is loaded only by who needs it.
"""

from importlib import import_module
from typing import Any

_PUBLIC: dict[str, str] = {
    "Activation": "depthscale.theory.activations",
    "activation": "depthscale.theory.resolve",
    "activation_names": "depthscale.theory.resolve",
    "CriticalLine": "depthscale.theory.critical",
    "CriticalPoint": "depthscale.theory.critical",
    "critical_line": "depthscale.theory.critical",
    "critical_point": "depthscale.theory.critical",
    "FixedPoint": "depthscale.theory.maps",
    "LayerMap": "depthscale.theory.maps",
    "layer_map": "depthscale.theory.maps",
    "PHASES": "depthscale.theory.phase",
    "PhaseDiagram": "depthscale.theory.phase",
    "PhasePoint": "depthscale.theory.phase",
    "depth_scale": "depthscale.theory.phase",
    "phase_diagram": "depthscale.theory.phase",
    "phase_point": "depthscale.theory.phase",
    "weights_for_depth": "depthscale.theory.wanted",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'depthscale.theory' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
