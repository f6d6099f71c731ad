"""Shattered gradients: how alike are the gradients at inputs that lie side by side?

A function of one input is looked at on a grid. Its gradient along the grid is like brown noise in a shallow network
(neighbours agree), like white noise in a deep plain one, and in between in a residual one (Balduzzi et al. 2017).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from depthscale.errors import DepthscaleError

Array = NDArray[np.float64]


def grid(points: int = 256, span: float = 2.0) -> Tensor:
    """Inputs on a line: (points, 1), from −span to span."""
    if points < 2:
        raise DepthscaleError(f"expected at least 2 points of a grid, got {points}")
    return torch.linspace(-span, span, points)[:, None]


def input_gradients(module: nn.Module, x: Tensor) -> Array:
    """∂(sum of outputs)/∂x at every row of x (N, …), each row by itself: (N, inputs).

    Normalisations that see the batch see all of x.
    """
    at = x.detach().clone().requires_grad_()
    out = module(at)
    (g,) = torch.autograd.grad(out.sum(), at)
    return np.asarray(g.reshape(len(x), -1).numpy(), np.float64)


def gradient_correlation(make: Callable[[int], nn.Module], x: Tensor, seeds: Sequence[int]) -> Array:
    """Correlation of the gradients at every pair of rows of x, over networks ``make(seed)``: (N, N), 1 on the diagonal.

    Gradients have mean zero over networks whose last layer has, so second moments are covariances.
    """
    if len(seeds) < 2:
        raise DepthscaleError(f"expected at least 2 seeds to correlate gradients over, got {len(seeds)}")
    total = np.zeros((len(x), len(x)))
    for seed in seeds:
        g = input_gradients(make(seed), x)
        total += g @ g.T
    size = np.sqrt(np.maximum(np.diag(total), 1e-300))
    return np.asarray(total / np.outer(size, size))


def shattering(correlation: Array, lag: int = 1) -> float:
    """1 − the average correlation of gradients ``lag`` rows apart: 0 for a straight line, 1 for white noise."""
    n = len(correlation)
    if correlation.shape != (n, n) or not 1 <= lag < n:
        raise DepthscaleError(
            f"expected a square matrix of correlations and a lag from 1 to its size, got {correlation.shape} and {lag}"
        )
    return float(1 - np.mean(np.diag(correlation, lag)))
