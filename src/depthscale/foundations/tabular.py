"""What the network estimators do to a table before training: merge, order and standardise its rows.

Equal rows become one with the sum of their weights, and rows stand in an order that depends on nothing but what they
hold. So a weight of 3 is the same as three copies, and shuffling the data changes nothing, bit for bit.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FAR = 8.0  # standard deviations beyond which an input is cut off


def merge_rows(x: Array, y: NDArray[Any], weight: Array) -> tuple[Array, NDArray[Any], Array]:
    """Rows (x, y) with equal ones merged and their weights added (mean 1), in an order of their own."""
    kept = np.flatnonzero(weight > 0)
    both = np.ascontiguousarray(np.column_stack([x, y]), np.float64)
    places: dict[bytes, list[int]] = {}
    for i in kept:
        places.setdefault(blake2b(both[i].tobytes(), digest_size=16).digest(), []).append(int(i))
    groups = [places[key] for key in sorted(places)]
    first = np.array([g[0] for g in groups])
    total = np.array([weight[g].sum() for g in groups])
    return x[first], y[first], total / total.mean()


@dataclass(frozen=True)
class Standard:
    """Weighted mean and standard deviation (0 where a column is constant) of each column."""

    mean: Array
    scale: Array

    @staticmethod
    def of(x: Array, weight: Array) -> "Standard":
        """Those of the rows of ``x`` (rows, N)."""
        size = np.abs(x).max(axis=0)
        size = np.where(size > 0, size, 1.0)  # squares of what is in range do not overflow
        z = x / size
        mean = np.average(z, axis=0, weights=weight)
        scale = np.sqrt(np.average((z - mean) ** 2, axis=0, weights=weight))
        return Standard(mean * size, np.where(scale > 1e-12 * np.maximum(np.abs(mean), 1e-300), scale, 0.0) * size)

    def apply(self, x: Array, *, cut: bool = False) -> Array:
        """Standardised columns; with ``cut``, what is far out is brought to FAR standard deviations."""
        z: Array = (x - self.mean) / np.where(self.scale > 0, self.scale, 1.0)
        return np.clip(z, -FAR, FAR) if cut else z

    def undo(self, z: Array) -> Array:
        """The columns that were standardised."""
        return z * self.scale + self.mean
