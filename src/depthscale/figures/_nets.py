"""Networks by hand, trained for the figures: their parameters as one vector, and L-BFGS on it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from depthscale.foundations.multilayer import Layer, backward, forward, square_loss

Array = NDArray[np.float64]


def pack(layers: Sequence[Layer]) -> Array:
    """All weights and biases, one after the other."""
    return np.concatenate([part.ravel() for layer in layers for part in (layer.weight, layer.bias)])


def unpack(layers: Sequence[Layer], values: Array) -> list[Layer]:
    """Layers of the same shapes with these parameters."""
    found, at = [], 0
    for layer in layers:
        w, b = layer.weight.size, layer.bias.size
        weight = values[at : at + w].reshape(layer.weight.shape)
        found.append(replace(layer, weight=weight, bias=values[at + w : at + w + b]))
        at += w + b
    return found


def objective(
    layers: Sequence[Layer], x: Array, y: Array, ridge: float = 0.0
) -> Callable[[Array], tuple[float, Array]]:
    """Square loss plus ½ ridge ‖w‖², and its gradient, as functions of the packed parameters."""

    def loss(values: Array) -> tuple[float, Array]:
        now = unpack(layers, values)
        output, kept = forward(now, x)
        value, delta = square_loss(output, y)
        gradients, _ = backward(now, kept, delta)
        flat = np.concatenate([part.ravel() for pair in gradients for part in pair])
        return value + 0.5 * ridge * float(values @ values), flat + ridge * values

    return loss


def fit(
    layers: Sequence[Layer], x: Array, y: Array, *, iterations: int, ridge: float = 0.0
) -> tuple[list[Layer], float]:
    """The layers after L-BFGS, and their loss."""
    options: Any = {"maxiter": iterations, "maxfun": 10 * iterations, "ftol": 1e-15, "gtol": 1e-12, "maxcor": 30}
    loss: Any = objective(layers, x, y, ridge)
    found = minimize(loss, pack(layers), jac=True, method="L-BFGS-B", options=options)
    return unpack(layers, np.asarray(found.x)), float(found.fun)
