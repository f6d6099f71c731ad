"""One hidden layer approximates any continuous function (Cybenko 1989; Hornik, Stinchcombe & White 1989), explicitly.

With knots a = t_0 < … < t_n = b and ReLU units, the network f(a) + Σ_k (s_k − s_{k−1}) relu(x − t_k), s_k the slope
between knots k and k + 1, is the polygon through (t_k, f(t_k)). With h the largest gap and ω the modulus of continuity
of f, its error is at most ω(h), which goes to 0 for every continuous f; and at most h² max|f''| / 8 where f'' exists.
Steps (steep sigmoids in the limit) make a staircase instead, with error at most ω(h/2).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from depthscale.errors import DepthscaleError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OneHiddenLayer:
    """x ↦ bias + Σ_k out_k φ(x − knots_k), with φ a ReLU or a unit step; (width,) hidden units."""

    knots: Array
    out: Array
    bias: float
    activation: Literal["relu", "step"]

    def __call__(self, x: Array) -> Array:
        """The network's values at ``x`` (rows,)."""
        z = x[:, None] - self.knots  # (rows, width): weights of 1, biases −knots
        hidden = np.maximum(z, 0) if self.activation == "relu" else (z >= 0).astype(float)
        values: Array = self.bias + hidden @ self.out
        return values


def approximate(
    f: Callable[[Array], Array], a: float, b: float, width: int, activation: Literal["relu", "step"] = "relu"
) -> OneHiddenLayer:
    """A network of ``width`` hidden units for the continuous function ``f`` on [a, b].

    Raises DepthscaleError for an empty interval, a width below 1, or values that are not finite.
    """
    if not a < b or width < 1 or activation not in ("relu", "step"):
        raise DepthscaleError(
            f"expected a < b, a width from 1 up and relu or step, got {a=}, {b=}, {width=}, {activation=}"
        )
    if activation == "relu":
        t = np.linspace(a, b, width + 1)
        values = np.asarray(f(t), float)
        slopes = np.diff(values) / np.diff(t)
        net = OneHiddenLayer(t[:-1], np.diff(slopes, prepend=0.0), float(values[0]), "relu")
    else:  # width + 1 steps, each at the value in its middle
        edges = np.linspace(a, b, width + 2)
        values = np.asarray(f((edges[:-1] + edges[1:]) / 2), float)
        net = OneHiddenLayer(edges[1:-1], np.diff(values), float(values[0]), "step")
    if not np.isfinite(values).all():
        raise DepthscaleError(
            "expected a function that is finite on [a, b], got a value that is not; is it continuous?"
        )
    return net


def sup_error(f: Callable[[Array], Array], net: OneHiddenLayer, a: float, b: float, per_knot: int = 64) -> float:
    """sup |f − net| over [a, b], on a grid of ``per_knot`` points between any two knots."""
    knots = np.unique(np.concatenate([[a], net.knots, [b]]))
    grid = np.concatenate([np.linspace(s, t, per_knot) for s, t in pairwise(knots)])
    return max(float(np.abs(f(part) - net(part)).max()) for part in np.array_split(grid, max(1, len(grid) // 4096)))
