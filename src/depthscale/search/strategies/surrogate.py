"""What a predictor learns from: decisions as columns, and Gaussian processes over them.

The surrogate is an ensemble of Gaussian processes (Rasmussen & Williams 2006, chapters 2 and 5) with squared
exponential kernels of several length scales, weighed by their marginal likelihood. Scores enter as normal scores of
their ranks, so that neither the unit nor a few networks that did not train at all decide the fit.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from depthscale.search.space import Choice, Domain, Range, Value, fits

Array = np.ndarray
Features = Callable[[Mapping[str, Value]], "Array | None"]

SCALES = (0.3, 0.5, 1.0)  # length scales, in units of the root mean square distance of two trials
NOISE = 0.1  # variance of a normal score that is nobody's merit: a seed's, an early epoch's


class Encoder:
    """Decisions as a row: one column per value of a choice, two per number (its share of the range, and that it is).

    A decision that was not made is all zeros. ``features`` adds columns of the caller's (None: none known, zeros).
    """

    def __init__(self, domains: Mapping[str, Domain], features: Features | None = None) -> None:
        self.domains, self.features = dict(domains), features
        self._starts: dict[str, int]
        self._places: dict[tuple[str, Value], int]
        self.width, self._starts, self._places = 0, {}, {}
        for name, domain in self.domains.items():
            self._starts[name] = self.width
            if isinstance(domain, Choice):
                self._places |= {(name, o): self.width + i for i, o in enumerate(domain.options)}
            self.width += len(domain.options) if isinstance(domain, Choice) else 2

    def __call__(self, decisions: Mapping[str, Value]) -> tuple[Array, Array]:
        """The columns of the decisions and those of the features (of length 0 where there are none)."""
        row = np.zeros(self.width)
        for name, value in decisions.items():
            place = self._places.get((name, value))
            if place is not None:
                row[place] = 1.0
                continue
            domain = self.domains.get(name)
            if isinstance(domain, Range) and fits(domain, value):
                start = self._starts[name]
                row[start : start + 2] = domain.share(float(value)), 1.0
        own = None if self.features is None else self.features(decisions)
        return row, np.zeros(0) if own is None else np.asarray(own, float)


def stacked(rows: "list[tuple[Array, Array]]") -> Array:
    """Rows as a matrix; missing features become NaN."""
    own = max(len(f) for _, f in rows)
    return np.array([np.concatenate([d, f if len(f) == own else np.full(own, np.nan)]) for d, f in rows])


class Surrogate:
    """Gaussian processes fitted to rows of columns; columns from ``decisions`` on (the features) are standardised."""

    def __init__(self, x: Array, y: Array, decisions: int) -> None:
        self.decisions = decisions
        own = x[:, decisions:]
        self.shift = np.nan_to_num(np.nanmean(own, 0)) if own.size else np.zeros(0)
        spread = np.nan_to_num(np.nanstd(own, 0)) if own.size else np.zeros(0)
        self.scale = np.where(spread > 0, spread, 1.0)
        self.x = self._standard(x)
        self.z = ndtri((rankdata(y) - 0.5) / len(y))
        self.best = float(self.z.max())
        squares = _squares(self.x, self.x)
        unit = squares.sum() / max(len(x) * (len(x) - 1), 1) or 1.0
        self.members: list[tuple[float, Array, Array]] = []  # 1/(2 length²), Cholesky factor, weights of the rows
        evidence = []
        for s in SCALES:
            rate = 0.5 / (s * s * unit)
            factor = cho_factor(np.exp(-rate * squares) + NOISE * np.eye(len(x)), lower=True, check_finite=False)
            dual = cho_solve(factor, self.z, check_finite=False)
            self.members.append((rate, factor[0], dual))
            evidence.append(-0.5 * float(self.z @ dual) - float(np.log(np.diag(factor[0])).sum()))
        weights = np.exp(np.array(evidence) - max(evidence))
        self.weights = weights / weights.sum()  # (members,)

    def _standard(self, x: Array) -> Array:
        own = np.nan_to_num((x[:, self.decisions :] - self.shift) / self.scale)
        return np.concatenate([x[:, : self.decisions], own], axis=1)

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Mean and deviation of the normal score at every row, each of shape (rows,)."""
        squares = _squares(self._standard(x), self.x)
        mean, second = np.zeros(len(x)), np.zeros(len(x))
        for weight, (rate, factor, dual) in zip(self.weights, self.members, strict=True):
            if weight < 1e-3:
                continue
            k = np.exp(-rate * squares)  # (rows, trials)
            m = k @ dual
            left = solve_triangular(factor, k.T, lower=True, check_finite=False)
            variance = np.maximum(1.0 - np.einsum("ij,ij->j", left, left), 1e-12)
            mean += weight * m
            second += weight * (variance + m * m)
        return mean, np.sqrt(np.maximum(second - mean**2, 1e-12))

    def improvement(self, x: Array) -> Array:
        """Expected improvement on the best score (Jones, Schonlau & Welch 1998, equation 15)."""
        mean, spread = self(x)
        u = (mean - self.best) / spread
        return np.asarray(spread * (u * ndtr(u) + np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi)))


def _squares(a: Array, b: Array) -> Array:
    """Squared distances of rows, shape (len(a), len(b))."""
    return np.asarray(np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T, 0.0))
