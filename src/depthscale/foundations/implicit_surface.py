"""The polynomial surface f_w(x) = 0 nearest to given points: a smallest singular vector.

With A the points' monomials (rows, Q), w minimises wᵀ Aᵀ A w = Σ f_w(x_i)² under ‖w‖ = 1. f_w(x) is no distance, but
|f_w(x)| / ‖∇f_w(x)‖ is, to first order (Sampson 1982; Taubin 1991).
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from depthscale.errors import DepthscaleError
from depthscale.foundations.box import Box
from depthscale.foundations.monomials import exponents, gradients, monomials, refuse_absurd
from depthscale.foundations.polynomial_classifier import check_degree

Array = NDArray[np.float64]


class ImplicitSurface(BaseEstimator):  # type: ignore[misc]
    """Fits the surface f_w(x) = 0 of total degree at most ``degree`` (from 1 up) that is nearest to points.

    Attributes: ``coef_`` (Q,) of length 1 with ``exponents_`` (Q, N), in the coordinates of ``box_``, where the points
    fill [−1, 1]^N; ``singular_values_`` of A/√rows, falling; ``surfaces_``, how many independent surfaces fit equally
    well (more than one: the points do not determine it, and a warning says so).
    """

    def __init__(self, degree: int = 2) -> None:
        self.degree = degree

    def fit(self, X: Any, y: Any = None) -> "ImplicitSurface":
        """Fit to points ``X`` (rows, N); ``y`` is not looked at.

        Raises DepthscaleError for degree 0 (a constant has no surface) and for degrees that memory cannot hold.
        """
        if check_degree("max_degree", self.degree) in (None, 0):
            raise DepthscaleError(
                f"expected degree to be at least 1, since a constant has no surface, got {self.degree}"
            )
        X = validate_data(self, X, dtype=np.float64)
        refuse_absurd(len(X), X.shape[1], self.degree)
        self.box_ = Box.around(X)
        a = monomials(self.box_.inside(X), self.degree)
        self.exponents_ = exponents(X.shape[1], self.degree)
        _, values, vectors = np.linalg.svd(a / np.sqrt(len(a)), full_matrices=len(a) < a.shape[1])
        self.singular_values_ = np.concatenate([values, np.zeros(a.shape[1] - len(values))])
        floor = values[0] * max(a.shape) * np.finfo(float).eps
        self.surfaces_ = max(1, int((self.singular_values_ <= floor).sum()))
        self.coef_ = vectors[-1]
        if self.surfaces_ > 1:
            warnings.warn(
                f"{self.surfaces_} independent surfaces of degree {self.degree} pass through these {len(a)} points, "
                f"and one of them was taken; give more points that are in general position, or a lower degree",
                UserWarning,
                stacklevel=2,
            )
        return self

    def decision_function(self, X: Any) -> Array:
        """f_w(x), (rows,): zero on the surface, of one sign on each side."""
        x = self._inside(X)
        values: Array = monomials(x, self.degree) @ self.coef_
        return values

    def distance(self, X: Any) -> Array:
        """Approximate distance of each point from the surface, (rows,), in the units of ``X``."""
        x = self._inside(X)
        f = monomials(x, self.degree) @ self.coef_
        slope = np.einsum("rqn,q->rn", gradients(x, self.degree), self.coef_) / self.box_.half  # chain rule
        length = np.linalg.norm(slope, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):  # a flat spot off the surface is far from it
            found: Array = np.where(f == 0, 0.0, np.abs(f) / length)
        return found

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the mean squared approximate distance: larger is better, as for any score."""
        return -float(np.mean(self.distance(X) ** 2))

    def _inside(self, X: Any) -> Array:
        check_is_fitted(self)
        return self.box_.inside(validate_data(self, X, dtype=np.float64, reset=False))
