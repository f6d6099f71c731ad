"""The perceptron (Rosenblatt 1958), and why it stops.

A point x with label s = ±1 is misclassified when s (w·x + b) ≤ 0; then w ← w + s x, b ← b + s. If some unit vector u
separates with margin γ = min s_i u·(x_i, 1) > 0, and R = max ‖(x_i, 1)‖, there are at most (R/γ)² such updates,
whatever the order of points (Novikoff 1962): each adds at least γ to u·w, and at most R² to ‖w‖².
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from depthscale.errors import DepthscaleError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Perceptron:
    """A trained perceptron: ``updates`` made in ``epochs`` passes; ``separates`` tells whether the last made none."""

    weight: Array  # (N,)
    bias: float
    updates: int
    epochs: int
    separates: bool

    def __call__(self, x: Array) -> Array:
        """The sign, ±1, of each point (rows, N)."""
        return np.where(x @ self.weight + self.bias > 0, 1.0, -1.0)


def train_perceptron(x: Array, labels: Array, *, epochs: int = 1000) -> Perceptron:
    """Show points ``x`` (rows, N) with ``labels`` (rows,) of ±1 in order until a pass makes no mistake, or ``epochs``.

    Raises DepthscaleError for labels other than ±1.
    """
    if not np.isin(labels, (-1, 1)).all():
        raise DepthscaleError("expected labels of -1 and +1 only; map two classes onto them first")
    weight, bias, updates = np.zeros(x.shape[1]), 0.0, 0
    for epoch in range(1, epochs + 1):
        mistakes = 0
        for point, s in zip(x, labels, strict=True):
            if s * (weight @ point + bias) <= 0:
                weight, bias, mistakes = weight + s * point, bias + s, mistakes + 1
        updates += mistakes
        if mistakes == 0:
            return Perceptron(weight, float(bias), updates, epoch, True)
    return Perceptron(weight, float(bias), updates, epochs, False)
