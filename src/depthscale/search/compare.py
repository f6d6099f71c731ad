"""Whether one search is better than another: paired by seed, tested by exchanging signs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from depthscale.errors import SearchError

EXACT = 14  # pairs up to which all exchanges of signs are listed
DRAWS = 20_000


@dataclass(frozen=True)
class Paired:
    """Differences a − b of n pairs: their mean, its standard error, and the two-sided p-value of a sign exchange."""

    n: int
    difference: float
    error: float
    p: float

    @property
    def words(self) -> str:
        """As a sentence's end: +0.12 ± 0.03 (n = 20, p = 0.001)."""
        if self.n < 2:
            return f"{self.difference:+.3g} (one pair: no test)"
        return f"{self.difference:+.3g} ± {self.error:.2g} (n = {self.n}, p = {self.p:.2g})"


def paired(a: Sequence[float], b: Sequence[float], *, seed: int = 0) -> Paired:
    """The paired test of two lists of equal length: under the null each difference is as likely of either sign.

    Exact up to 14 pairs, by 20,000 random exchanges beyond (Fisher's randomisation test). With n pairs no p-value can
    be below 2^(1−n). Raises SearchError for lists of other lengths or without pairs.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if x.shape != y.shape or x.ndim != 1 or not len(x):
        raise SearchError(f"expected as many numbers on either side of a paired test, got {x.shape} and {y.shape}")
    d = x - y
    n = len(d)
    observed = abs(d.sum()) - 1e-12 * np.abs(d).sum()
    if n <= EXACT:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        p = float(np.mean(np.abs(signs @ d) >= observed))
    else:
        rng = np.random.default_rng(seed)
        extreme = sum(
            int(np.sum(np.abs((1 - 2 * rng.integers(2, size=(1000, n))) @ d) >= observed)) for _ in range(DRAWS // 1000)
        )
        p = (extreme + 1) / (DRAWS + 1)
    error = float(d.std(ddof=1) / math.sqrt(n)) if n > 1 else math.inf
    return Paired(n, float(d.mean()), error, p)
