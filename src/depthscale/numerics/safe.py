"""Elementary functions that survive the last bit: arguments a rounding error outside their domain."""

from typing import Any

import numpy as np

from depthscale.numerics.estimate import Array

_SLACK = 1e-9


def sqrt(x: Any) -> Array:
    """The square root, zero for arguments a rounding error below zero; nan further out. Any shape."""
    x = np.asarray(x, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where((x < 0) & (x > -_SLACK), 0.0, np.sqrt(x)))


def arccos(c: Any) -> Array:
    """The angle in [0, π] of a cosine, with |c| a rounding error above 1 clipped; nan further out. Any shape."""
    c = np.asarray(c, dtype=np.float64)
    if np.abs(c).max(initial=0.0) <= 1:
        return np.asarray(np.arccos(c))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.arccos(np.where(np.abs(c) < 1 + _SLACK, np.clip(c, -1.0, 1.0), np.nan)))


def log_decay(slope: Any) -> Array:
    """The depth scale 1/|ln |slope|| of a map with this slope: 0 for slope 0, inf for slope ±1. Any shape.

    Written with log1p of |slope| − 1 (exact by Sterbenz' lemma), so that it keeps its digits beside 1.
    """
    magnitude = np.abs(np.asarray(slope, dtype=np.float64))
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / np.abs(np.where(magnitude > 0.5, np.log1p(magnitude - 1.0), np.log(magnitude))))
