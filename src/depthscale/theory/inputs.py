"""What is known of the data before it is seen: its moments, and how its elements correlate."""

import math
from dataclasses import dataclass

import numpy as np

from depthscale.errors import TheoryError
from depthscale.graph import ops
from depthscale.theory.axes import REACH, Axis
from depthscale.theory.moments import State, same_class, state


@dataclass(frozen=True)
class InputStats:
    """What is known of the data: E[x²], E[x], and how two elements correlate.

    c: E[x x']/E[x²] of two examples at one element; of whole numbers, the share of places at which two examples hold
    the same. channels: correlation of two channels of one example. spatial:
    correlation at distance 1, 2 and farther along each spatial axis (natural images: about 0.95, 0.9 and 0.5).
    The default is white noise of unit variance.
    """

    second_moment: float = 1.0
    mean: float = 0.0
    c: float = 0.0
    channels: float = 0.0
    spatial: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        finite = math.isfinite(self.second_moment) and math.isfinite(self.mean)
        if not finite or self.second_moment <= 0 or self.mean**2 > self.second_moment * (1 + 1e-12):
            raise TheoryError(
                "expected an input's second moment to be positive and at least its mean squared, "
                f"got second moment {self.second_moment} and mean {self.mean}; give E[x²], not the variance."
            )
        if any(not -1 <= r <= 1 for r in (self.c, self.channels, *self.spatial)):
            raise TheoryError(f"expected correlations of an input between -1 and 1, got {self}; divide by E[x²].")

    def state(self, op: ops.Input, batch: int) -> State:
        """The moments of a batch of such data."""
        shape = (batch, *op.shape) if op.batched else op.shape
        axes = tuple(Axis(n, REACH if i >= 2 and op.dtype == "float" else 1) for i, n in enumerate(shape))
        if op.dtype == "int":  # the probability that two places hold the same index
            q = same_class(axes)
            if op.batched and axes[0].n > 1 and self.c > 0:
                q[1] = self.c * q[0]
            return state(axes, q, 0.0)
        variance = max(self.second_moment - self.mean**2, 0.0)
        other = (self.c * self.second_moment - self.mean**2) / variance if variance > 0 else 0.0
        q = np.ones((1,) * len(axes))
        for i, axis in enumerate(axes):
            first = op.batched and i == 0
            far = other if first else self.channels if i == (1 if op.batched else 0) else None
            values = [1.0, far] if far is not None else [1.0, *self.spatial]
            index = np.minimum(np.arange(axis.classes), len(values) - 1)
            row = np.array(values, dtype=float)[index]
            q = q * row.reshape([-1 if k == i else 1 for k in range(len(axes))])
        x = state(axes, self.mean**2 + variance * q, self.mean)
        return State(x.axes, x.mean, x.q, x.gaussian_spread)
