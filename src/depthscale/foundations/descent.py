"""Gradient descent, with momentum, clipping and a rule for stopping.

    v ← μ v + ∇L(w)        w ← w − η v         (Polyak 1964, in the form that everybody's optimiser has)

On L = ½ wᵀ H w every eigenvector of H shrinks by 1 − η λ a step, so the loss falls for η < 2/λ_max and diverges beyond;
with momentum the bound is 2 (1 + μ)/λ_max. A gradient longer than ``clip`` is shortened to it (Pascanu et al. 2013).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from depthscale.errors import DepthscaleError

Array = NDArray[np.float64]
Loss = Callable[[Array], tuple[float, Array]]  # L and ∇L at w


@dataclass(frozen=True)
class Descent:
    """Where a descent went: ``losses`` before each step and at the end; ``status`` says why it ended."""

    w: Array
    losses: list[float]
    status: Literal["converged", "diverged", "out of steps"]

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.losses) - 1


def descend(
    loss: Loss,
    w: Array,
    *,
    rate: float,
    steps: int = 1000,
    momentum: float = 0.0,
    clip: float | None = None,
    tolerance: float = 1e-10,
    explode: float = 1e12,
) -> Descent:
    """Go down from ``w`` until |L_n − L_{n−1}| ≤ tolerance · max(1, |L_n|), for at most ``steps``.

    ``loss(w)`` gives L and ∇L. A loss that is not finite, or ``explode`` times the first one (or 1), has diverged.
    """
    if not rate > 0 or not 0 <= momentum < 1 or (clip is not None and not clip > 0):
        raise DepthscaleError(
            f"expected rate > 0, 0 <= momentum < 1 and clip > 0 or None, got {rate=}, {momentum=}, {clip=}"
        )
    value, gradient = loss(w)
    losses, velocity = [value], np.zeros_like(w)
    limit = explode * max(abs(value), 1.0)
    for _ in range(steps):
        length = float(np.linalg.norm(gradient))
        if clip is not None and length > clip:
            gradient = gradient * (clip / length)
        velocity = momentum * velocity + gradient
        w = w - rate * velocity
        value, gradient = loss(w)
        losses.append(value)
        if not np.isfinite(value) or abs(value) > limit:
            return Descent(w, losses, "diverged")
        if abs(losses[-1] - losses[-2]) <= tolerance * max(1.0, abs(value)):
            return Descent(w, losses, "converged")
    return Descent(w, losses, "out of steps")
