"""Classification by the sign of a polynomial, as a convex problem: either a separating surface or a proof that there is
none, and then the surface that violates least.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from depthscale.errors import DepthscaleError
from depthscale.foundations.box import Box
from depthscale.foundations.monomials import exponents, monomials, refuse_absurd
from depthscale.foundations.separation import Certificate, least_violation, separate

Array = NDArray[np.float64]


class InfeasibleError(DepthscaleError):
    """No polynomial of the degree asked for separates the classes; ``certificate`` proves it."""

    def __init__(self, message: str, certificate: Certificate) -> None:
        super().__init__(message)
        self.certificate = certificate


class PolynomialClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifies x by the sign of a polynomial f_w(x) = Σ w_e x^e of total degree at most ``degree``.

    degree: a whole number from 0 up, or "auto": the lowest that separates, up to ``max_degree`` and to what memory
    holds; where none does, the one that misclassifies fewest training rows (the lowest of equals).
    infeasible: what to do when no polynomial of the degree separates: "relax" takes the w with the least total
    violation Σ max(0, 1 − s_i f_w(x_i)), "raise" raises InfeasibleError with the certificate.

    Where a separating w exists, one with a large margin is taken (see ``separation.separate``). More than two classes:
    one against the rest, for each class.

    Attributes: ``degree_``; ``coef_`` (1 or K, Q) with ``exponents_`` (Q, N), in the coordinates of ``box_``, in which
    the training points fill [−1, 1]^N; ``feasible_``; for each problem ``margins_`` (min_i s_i f_w(x_i), f_w having
    mean square 1 over the training points; NaN where none separates) and ``certificates_`` (None where one does);
    ``classes_``.
    """

    def __init__(
        self,
        degree: int | Literal["auto"] = 2,
        *,
        max_degree: int = 10,
        infeasible: Literal["relax", "raise"] = "relax",
    ) -> None:
        self.degree = degree
        self.max_degree = max_degree
        self.infeasible = infeasible

    def fit(self, X: Any, y: Any) -> "PolynomialClassifier":
        """Fit to points ``X`` (rows, N) and labels ``y`` (rows,).

        Raises DepthscaleError for a degree that is none, and before memory is touched for one that is absurd.
        """
        if self.infeasible not in ("relax", "raise"):
            raise DepthscaleError(f'expected infeasible to be "relax" or "raise", got {self.infeasible!r}')
        degree, highest = check_degree("degree", self.degree), check_degree("max_degree", self.max_degree)
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        self.box_ = Box.around(X)
        x = self.box_.inside(X)
        targets = _signs(index, len(self.classes_))
        if degree is None:
            self._climb(x, targets, highest or 0)
        else:
            refuse_absurd(len(x), x.shape[1], degree)
            self._solve(x, targets, degree)
        self.exponents_ = exponents(x.shape[1], self.degree_)
        if not self.feasible_ and self.infeasible == "raise":
            proof = next(c for c in self.certificates_ if c is not None)
            raise InfeasibleError(f"no polynomial of degree {self.degree_} separates the classes: {proof}", proof)
        return self

    def _climb(self, x: Array, targets: list[Array], highest: int) -> None:
        """Raise the degree until the classes separate; keep the best where they do not."""
        best: tuple[int, int] | None = None
        hopeless = sum(len(_contradictions(x, s)) for s in targets)  # wrong at any degree; the others decide
        for degree in range(highest + 1):
            try:
                refuse_absurd(len(x), x.shape[1], degree)
            except DepthscaleError:
                break
            self._solve(x, targets, degree)
            errors = sum(int(((f > 0) != (s > 0)).sum()) for f, s in zip(self._values(x).T, targets, strict=True))
            if best is None or errors < best[0]:
                best = errors, degree
            if errors <= hopeless:
                return
        if best is not None and best[1] != self.degree_:
            self._solve(x, targets, best[1])

    def _solve(self, x: Array, targets: list[Array], degree: int) -> None:
        features = monomials(x, degree)
        self.degree_ = degree
        answers = [_answer(x, features, s) for s in targets]
        self.coef_ = np.array([w for w, _, _ in answers])
        self.margins_ = np.array([m for _, m, _ in answers])
        self.certificates_ = [c for _, _, c in answers]
        self.feasible_ = all(c is None for c in self.certificates_)

    def _values(self, x: Array) -> Array:
        values: Array = monomials(x, self.degree_) @ self.coef_.T
        return values

    def decision_function(self, X: Any) -> Array:
        """f_w(x): (rows,) for two classes, positive for the second; else (rows, K)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        f = self._values(self.box_.inside(X))
        return f[:, 0] if len(self.classes_) <= 2 else f

    def predict(self, X: Any) -> NDArray[Any]:
        """The class of each point, (rows,)."""
        f = self.decision_function(X)
        index = np.zeros(len(f), np.intp) if len(self.classes_) == 1 else (f > 0).astype(int)
        labels: NDArray[Any] = self.classes_[f.argmax(axis=1) if f.ndim == 2 else index]
        return labels


def check_degree(name: str, degree: Any) -> int | None:
    """A degree as a whole number; None for "auto". Raises DepthscaleError for anything else."""
    if isinstance(degree, str) and degree == "auto" and name == "degree":
        return None
    if isinstance(degree, bool) or not isinstance(degree, int | np.integer) or degree < 0:
        auto = ' or "auto"' if name == "degree" else ""
        raise DepthscaleError(f"expected {name} to be a whole number of at least 0{auto}, got {degree!r}")
    return int(degree)


def _signs(index: NDArray[np.intp], classes: int) -> list[Array]:
    """The ±1 targets of each problem."""
    positive = [index == 1] if classes <= 2 else [index == k for k in range(classes)]
    return [np.where(p, 1.0, -1.0) for p in positive]


def _answer(x: Array, features: Array, signs: Array) -> tuple[Array, float, Certificate | None]:
    """w, its margin (NaN without) and the certificate (None where w separates)."""
    if np.all(signs == signs[0]):  # one class: the constant has it
        return signs[0] * np.eye(features.shape[1])[0], 1.0, None
    found = _equal_points(x, signs) or separate(features, signs)
    if isinstance(found, Certificate):
        return least_violation(features, signs), float("nan"), found
    return *found, None


def _equal_points(x: Array, signs: Array) -> Certificate | None:
    """Two equal points of different classes, as a certificate for every degree; None where there are none."""
    rare = _contradictions(x, signs)
    if len(rare) == 0:
        return None
    other = np.flatnonzero((x == x[rare[0]]).all(axis=1) & (signs != signs[rare[0]]))[0]
    up, down = (rare[0], other) if signs[rare[0]] > 0 else (other, rare[0])
    return Certificate(np.array([up]), np.array([down]), np.ones(1), np.ones(1), 0.0, any_degree=True)


def _contradictions(x: Array, signs: Array) -> NDArray[np.intp]:
    """Rows that cannot all be right: of each set of equal points, those of its rarer label."""
    _, group = np.unique(x, axis=0, return_inverse=True)
    total = np.zeros((2, int(group.max()) + 1))
    np.add.at(total, ((signs > 0).astype(int), group), 1)
    rare = np.where(total[1] < total[0], 1.0, -1.0)
    both = total.min(axis=0) > 0
    return np.flatnonzero(both[group] & (signs == rare[group]))
