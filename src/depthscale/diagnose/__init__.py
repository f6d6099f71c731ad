"""Will a network train? ``check`` says so, and where and why not; ``repair`` chooses the weights that make it train."""

from importlib import import_module
from typing import Any

_PUBLIC: dict[str, str] = {
    "Diagnosis": "depthscale.diagnose.diagnosis",
    "Measured": "depthscale.diagnose.diagnosis",
    "check": "depthscale.diagnose.examine",
    "Repair": "depthscale.diagnose.mend",
    "repair": "depthscale.diagnose.mend",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'depthscale.diagnose' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
