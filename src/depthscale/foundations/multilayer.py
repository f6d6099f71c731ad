"""A multilayer perceptron, forward and backward, as the chain rule reads.

Layer l takes a (B, n) to z = a Wᵀ + b (B, m) and a' = φ(z), or a' = a + φ(z) where it is residual. With the loss L and
δ = ∂L/∂a', going back through one layer:

    ∂L/∂z = δ ⊙ φ'(z)      ∂L/∂W = (∂L/∂z)ᵀ a      ∂L/∂b = Σ_rows ∂L/∂z      ∂L/∂a = (∂L/∂z) W, + δ if residual

Losses are means over the rows of a batch, so their gradients carry the factor 1/B, once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from depthscale.errors import DepthscaleError

Array = NDArray[np.float64]
Function = Callable[[Array], Array]


@dataclass(frozen=True)
class Activation:
    """Any function of one variable, elementwise, and its derivative."""

    value: Function
    derivative: Function


def _sigmoid(z: Array) -> Array:
    e = np.exp(-np.abs(z))  # never overflows
    found: Array = np.where(z >= 0, 1, e) / (1 + e)
    return found


IDENTITY = Activation(lambda z: z, np.ones_like)
RELU = Activation(lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(z.dtype))
TANH = Activation(np.tanh, lambda z: 1 - np.tanh(z) ** 2)
SIGMOID = Activation(_sigmoid, lambda z: _sigmoid(z) * _sigmoid(-z))
SOFTPLUS = Activation(lambda z: np.logaddexp(0, z), _sigmoid)
SINE = Activation(np.sin, np.cos)


@dataclass(frozen=True)
class Layer:
    """One layer: weight (m, n), bias (m,), activation, and whether its input is added to its output (m = n)."""

    weight: Array
    bias: Array
    activation: Activation
    residual: bool = False


def make(
    widths: Sequence[int], activation: Activation, rng: np.random.Generator, *, sw2: float = 2.0, residual: bool = False
) -> list[Layer]:
    """Layers of ``widths`` (inputs, hidden …, outputs) with Var W = sw2 / fan-in, zero biases and a linear last layer.

    Weights must differ, or all units of a layer stay equal for ever; biases need not. sw2 = 2 suits ReLU, 1 tanh.
    ``residual`` joins all hidden layers whose input and output have one width.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise DepthscaleError(f"expected widths of at least an input and an output, each from 1 up, got {list(widths)}")
    layers = []
    for i, (n, m) in enumerate(pairwise(widths)):
        last = i == len(widths) - 2
        weight = rng.normal(0, np.sqrt((1.0 if last else sw2) / n), (m, n))
        layers.append(Layer(weight, np.zeros(m), IDENTITY if last else activation, residual and n == m and not last))
    return layers


def forward(layers: Sequence[Layer], x: Array) -> tuple[Array, list[tuple[Array, Array]]]:
    """The output (B, m) for inputs ``x`` (B, n), and each layer's input a and pre-activation z."""
    kept, a = [], x
    for layer in layers:
        z = a @ layer.weight.T + layer.bias  # (B, m)
        kept.append((a, z))
        a = layer.activation.value(z) + (a if layer.residual else 0)
    return a, kept


def backward(
    layers: Sequence[Layer], kept: list[tuple[Array, Array]], delta: Array
) -> tuple[list[tuple[Array, Array]], Array]:
    """Gradients (∂L/∂W, ∂L/∂b) of each layer and ∂L/∂x, from ``delta`` = ∂L/∂output (B, m) and what was kept."""
    gradients = []
    for layer, (a, z) in zip(reversed(layers), reversed(kept), strict=True):
        dz = delta * layer.activation.derivative(z)  # (B, m)
        gradients.append((dz.T @ a, dz.sum(axis=0)))
        delta = dz @ layer.weight + (delta if layer.residual else 0)  # (B, n)
    return gradients[::-1], delta


def square_loss(output: Array, target: Array) -> tuple[float, Array]:
    """L = mean over rows of ½ ‖output − target‖², and ∂L/∂output."""
    off = output - target
    return float(0.5 * (off**2).sum() / len(off)), off / len(off)


def cross_entropy(logits: Array, labels: NDArray[np.intp]) -> tuple[float, Array]:
    """L = mean over rows of −log softmax(logits)[label], and ∂L/∂logits = (softmax − one-hot) / B; labels (B,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)  # softmax does not see a shift, exp does
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    gradient = np.exp(log_p)
    gradient[rows, labels] -= 1
    return -float(log_p[rows, labels].mean()), gradient / len(labels)
