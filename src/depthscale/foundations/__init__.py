"""The small exact pieces the subject starts from, written to be read; and scikit-learn estimators for networks.

Polynomial models as convex problems (estimators), perceptrons, back-propagation and convolution by hand in NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from depthscale.foundations.implicit_surface import ImplicitSurface as ImplicitSurface
    from depthscale.foundations.monomials import coefficients as coefficients
    from depthscale.foundations.network_estimators import (
        NetworkClassifier as NetworkClassifier,
        NetworkRegressor as NetworkRegressor,
    )
    from depthscale.foundations.polynomial_classifier import (
        InfeasibleError as InfeasibleError,
        PolynomialClassifier as PolynomialClassifier,
    )
    from depthscale.foundations.polynomial_curve import PolynomialCurve as PolynomialCurve

_HOMES = {
    "ImplicitSurface": "implicit_surface",
    "InfeasibleError": "polynomial_classifier",
    "NetworkClassifier": "network_estimators",
    "NetworkRegressor": "network_estimators",
    "PolynomialClassifier": "polynomial_classifier",
    "PolynomialCurve": "polynomial_curve",
    "coefficients": "monomials",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Estimators load scikit-learn, and networks torch, when they are first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
