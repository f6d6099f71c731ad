"""Curve fitting: least squares with monomials, with a ridge and a degree chosen by cross-validation."""

import math
import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import KFold
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from depthscale.errors import DepthscaleError
from depthscale.foundations.box import Box
from depthscale.foundations.monomials import exponents, monomials, refuse_absurd
from depthscale.foundations.polynomial_classifier import check_degree

Array = NDArray[np.float64]
_ILL = 1e8  # a condition number beyond which half of the digits of a float are lost


class PolynomialCurve(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Fits y = Σ w_e x^e of total degree at most ``degree`` by least squares, Σ s_i (y_i − f_w(x_i))² + alpha ‖w‖².

    degree: a whole number from 0 up, or "auto": that from 0 to ``max_degree`` with the smallest mean squared error
    under ``folds``-fold cross-validation (shuffled by ``random_state``), among those that memory and rows allow.
    alpha: the ridge, from 0 up; the constant is not penalised. It acts on the coefficients in the coordinates of
    ``box_``, where the training points fill [−1, 1]^N. Of several solutions the shortest w is taken.

    Attributes: ``degree_``; ``coef_`` (Q,) or (Q, T) with ``exponents_`` (Q, N); ``condition_``, the ratio of the
    largest to the smallest singular value of what was solved (a warning names it from 1e8 on); ``validation_``, the
    mean squared error of each degree tried; ``polynomial_``, for one variable and one target, as
    numpy.polynomial.Polynomial.
    """

    def __init__(
        self,
        degree: int | Literal["auto"] = 3,
        *,
        alpha: float = 0.0,
        max_degree: int = 15,
        folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.degree = degree
        self.alpha = alpha
        self.max_degree = max_degree
        self.folds = folds
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "PolynomialCurve":
        """Fit to points ``X`` (rows, N) and values ``y`` (rows,) or (rows, T); weights (rows,) multiply the squares."""
        degree, highest = check_degree("degree", self.degree), check_degree("max_degree", self.max_degree)
        if not isinstance(self.alpha, int | float) or not 0 <= self.alpha < math.inf:
            raise DepthscaleError(f"expected alpha to be a finite number of at least 0, got {self.alpha!r}")
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, multi_output=True)
        y = y.astype(np.float64)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weight.sum() > 0:
            raise DepthscaleError("expected some sample weight above 0, got none")
        self.box_ = Box.around(X[weight > 0])
        x = self.box_.inside(X)
        self.validation_: dict[int, float] = {}
        if degree is None:
            degree = self._choose(x, y, weight, highest or 0)
        refuse_absurd(len(x), x.shape[1], degree)
        self.degree_ = degree
        self.exponents_ = exponents(x.shape[1], degree)
        self.coef_, self.condition_ = _least_squares(monomials(x, degree), y, weight, self.alpha)
        if self.condition_ > _ILL:
            digits = max(0, int(15.9 - math.log10(self.condition_))) if math.isfinite(self.condition_) else 0
            warnings.warn(
                f"the condition number of degree {degree} on {len(x)} rows is {self.condition_:.1e}: coefficients "
                f"carry about {digits} digits; take a lower degree, more rows or alpha > 0",
                UserWarning,
                stacklevel=2,
            )
        if x.shape[1] == 1 and self.coef_.ndim == 1:
            low, high = self.box_.middle[0] - self.box_.half[0], self.box_.middle[0] + self.box_.half[0]
            self.polynomial_ = np.polynomial.Polynomial(self.coef_, domain=[low, high], window=[-1, 1])
        return self

    def predict(self, X: Any) -> Array:
        """f_w(x), (rows,) or (rows, T)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        values: Array = monomials(self.box_.inside(X), self.degree_) @ self.coef_
        return values

    def _choose(self, x: Array, y: Array, weight: Array, highest: int) -> int:
        rows = np.flatnonzero(weight > 0)
        if len(rows) < 2:
            return 0
        folds = KFold(min(self.folds, len(rows)), shuffle=True, random_state=self.random_state)
        parts = [(rows[a], rows[b]) for a, b in folds.split(rows)]
        for degree in range(highest + 1):
            try:
                q = refuse_absurd(len(x), x.shape[1], degree)
            except DepthscaleError:
                break
            if degree > 0 and q > min(len(a) for a, _ in parts) * (1 if self.alpha == 0 else 10):
                break  # such a fit goes through every point, and says nothing of those left out
            features, total = monomials(x, degree), 0.0
            for seen, held in parts:
                w, _ = _least_squares(features[seen], y[seen], weight[seen], self.alpha)
                off = (y[held] - features[held] @ w) ** 2
                total += float((weight[held] * off.reshape(len(held), -1).mean(axis=1)).sum())
            self.validation_[degree] = total / float(weight[rows].sum())
        return min(self.validation_, key=lambda d: self.validation_[d])


def _least_squares(features: Array, y: Array, weight: Array, alpha: float) -> tuple[Array, float]:
    """The shortest w that solves the weighted ridge problem, and the condition number of its matrix."""
    root = np.sqrt(weight)
    a = features * root[:, None]
    b = (y.T * root).T
    if alpha > 0:
        q = a.shape[1]
        a = np.vstack([a, math.sqrt(alpha) * np.eye(q)[1:]])  # the constant goes free
        b = np.concatenate([b, np.zeros((q - 1, *b.shape[1:]))])
    w: Any
    w, _, rank, singular = np.linalg.lstsq(a, b, rcond=None)
    full = rank == a.shape[1] and singular[-1] > 0
    return w, float(singular[0] / singular[-1]) if full else math.inf
