"""Points brought into the box [−1, 1]^N, where monomials of any degree stay within [−1, 1].

A shift and a stretch of each variable map polynomials of degree d onto polynomials of degree d, so nothing is lost:
what can be separated, fitted or lies on a surface stays so.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """Middle and half width (1 where a variable does not vary) of each variable, both (N,)."""

    middle: Array
    half: Array

    @staticmethod
    def around(x: Array) -> "Box":
        """The smallest box around points (rows, N)."""
        low, high = x.min(axis=0), x.max(axis=0)
        half = high / 2 - low / 2  # halved first: high − low may be beyond the largest float
        return Box(low / 2 + high / 2, np.where(half > 0, half, 1.0))

    def inside(self, x: Array) -> Array:
        """Points in the box's own coordinates, (rows, N)."""
        scaled: Array = (x - self.middle) / self.half
        return scaled
