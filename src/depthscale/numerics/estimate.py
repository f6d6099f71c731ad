"""A number that knows how wrong it may be."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A value with a bound on its absolute error and the method it came by.

    ``value`` and ``error`` have one shape (floats for scalars); ``error`` covers rounding as well as truncation and
    is infinite where nothing can be promised. ``how`` names the method in a few words.
    """

    value: Any
    error: Any
    how: str

    def __float__(self) -> float:
        return float(self.value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.value, dtype=dtype)

    def __str__(self) -> str:
        if np.ndim(self.value):
            return f"{self.value} ± {np.max(self.error):.1g} ({self.how})"
        return f"{float(self.value):.12g} ± {float(self.error):.1g}"

    def __format__(self, spec: str) -> str:
        return format(float(self.value), spec) if spec else str(self)


def estimate(value: Any, error: Any, how: str) -> Estimate:
    """An Estimate whose zero-dimensional arrays have become plain floats."""
    value, error = np.asarray(value, dtype=np.float64), np.asarray(error, dtype=np.float64)
    if value.ndim == 0:
        return Estimate(float(value), float(error), how)
    return Estimate(value, np.broadcast_to(error, value.shape), how)
