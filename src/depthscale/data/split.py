"""Which rows train, which validate, which test: decided by a seed, stratified by class where there are classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from depthscale.data.raw import TEST, TRAIN, VAL
from depthscale.errors import DataError

Rows = NDArray[np.int64]


def check_fraction(name: str, value: float) -> None:
    """Raise unless a fraction of rows is a number strictly between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise DataError(f"{name} must be a fraction of the rows between 0 and 1 (say 0.2), but got {value!r}.")


def choose(strata: NDArray[np.int64], count: int, rng: np.random.Generator, *, reserve: int) -> NDArray[np.bool_]:
    """A mask of ``count`` rows in proportion to the strata, leaving ``reserve`` rows of each stratum behind.

    Largest remainders bring the total to ``count`` exactly; only the reserve can make it smaller.
    """
    total = len(strata)
    _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    free = np.maximum(sizes - reserve, 0)
    quota = count * sizes / max(total, 1)
    take = np.minimum(np.floor(quota).astype(np.int64), free)
    ties = rng.permutation(len(sizes))  # equal remainders are settled by lot, not by the order of the labels
    order = ties[np.argsort(-(quota - np.floor(quota))[ties], kind="stable")]
    while take.sum() < count and (take < free).any():
        for s in order:
            if take.sum() < count and take[s] < free[s]:
                take[s] += 1
    shuffled = rng.permutation(total)
    by_stratum = shuffled[np.argsort(stratum[shuffled], kind="stable")]  # grouped by stratum, shuffled within each
    starts = np.cumsum(sizes) - sizes
    rank = np.arange(total) - np.repeat(starts, sizes)
    mask = np.zeros(total, dtype=np.bool_)
    mask[by_stratum[rank < np.repeat(take, sizes)]] = True
    return mask


def subsample(strata: NDArray[np.int64], part: NDArray[np.int8] | None, limit: int, seed: int) -> Rows:
    """Sorted indices of at most ``limit`` rows, in proportion to classes and to the source's own splits."""
    if isinstance(limit, bool) or not isinstance(limit, int | np.integer) or limit < 1:
        raise DataError(f"limit must be a positive number of rows, but got {limit!r}.")
    if limit >= len(strata):
        return np.arange(len(strata), dtype=np.int64)
    both = strata if part is None else strata * 3 + part
    rng = np.random.default_rng([seed, 1])
    return np.flatnonzero(choose(both, int(limit), rng, reserve=0)).astype(np.int64)


def split_rows(
    strata: NDArray[np.int64], *, seed: int, val: float, test: float, part: NDArray[np.int8] | None = None
) -> tuple[Rows, Rows, Rows]:
    """Sorted row indices of train, val and test.

    ``strata`` (N,) holds the class of each row (zeros for regression). ``val`` and ``test`` are fractions of all rows;
    where ``part`` (N,) already gives a test or validation split it is kept, and the other is drawn from the training
    rows. Every class keeps at least one training row.
    """
    check_fraction("val", val)
    check_fraction("test", test)
    n = len(strata)
    assigned = np.zeros(n, dtype=np.int8) if part is None else part.copy()
    own = {p for p in (VAL, TEST) if (assigned == p).any()}
    drawn = {p: fraction for p, fraction in ((TEST, test), (VAL, val)) if p not in own}
    if sum(drawn.values()) >= 1:
        raise DataError(f"val + test must leave rows for training, but val={val!r} and test={test!r} leave none.")
    rng = np.random.default_rng([seed, 0])
    pool_size = int((assigned == TRAIN).sum())
    for which, fraction in drawn.items():
        pool = np.flatnonzero(assigned == TRAIN)
        count = max(1, round(fraction * pool_size))
        assigned[pool[choose(strata[pool], count, rng, reserve=1)]] = which
    rows = tuple(np.flatnonzero(assigned == p).astype(np.int64) for p in (TRAIN, VAL, TEST))
    if any(len(r) == 0 for r in rows):
        raise DataError(
            f"{n} rows in {len(np.unique(strata))} classes are too few for a training, a validation and a test split; "
            "at least 3 rows, and more rows than classes, are needed."
        )
    return rows[0], rows[1], rows[2]
