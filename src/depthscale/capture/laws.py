"""Reading laws off tensors: mean, mean square, whether constant, whether orthogonal.

A sampled mean below three standard errors is taken as zero: a weight's accidental mean would otherwise be summed
over the fan-in as if it were a signal.
"""

import math

import torch
from torch import Tensor

from depthscale.errors import DepthscaleError
from depthscale.graph import Law, laws

FEW = 32  # elements below which a mean is what it is
LOOK_AT = 64  # rows of a matrix whose products are compared with those of an orthogonal one


def read_law(value: Tensor, name: str = "tensor") -> Law:
    """The law that a tensor's elements look drawn from: Constant, or Measured.

    Raises DepthscaleError where an element is not finite.
    """
    x = value.detach()
    x = x if x.dtype == torch.float64 else x.float()
    if x.numel() == 0:
        return laws.ZERO
    low, high = (float(v) for v in torch.aminmax(x))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DepthscaleError(
            f"expected finite weights, but {name!r} holds NaN or infinite values; load or initialise the model again"
        )
    if low == high:
        return laws.Constant(low)
    n = x.numel()
    mean = float(x.mean(dtype=torch.float64))
    square = float(x.double().square().mean())
    if n >= FEW and abs(mean) < 3 * math.sqrt(max(square - mean * mean, 0.0) / n):
        mean = 0.0
    return laws.Measured(mean, square, is_orthogonal(x), within_rows(x, mean, square))


def within_rows(x: Tensor, mean: float, square: float) -> float | None:
    """E[w w'] of two weights of one output, where their sums tell that they are not independent (five sigma)."""
    if x.ndim < 2 or x[0].numel() < 2:
        return None
    n, variance = x[0].numel(), square - mean * mean
    sums = x.reshape(len(x), -1).sum(1, dtype=torch.float64) - n * mean
    spread = float(sums.square().mean())  # n · variance if independent: then a chi-square, over its degrees of freedom
    if variance <= 0:
        return None
    width = 2 / (9 * len(x))  # its cube root is nearly Gaussian (Wilson & Hilferty 1931), also far below its mean
    if abs((spread / (n * variance)) ** (1 / 3) - (1 - width)) < 5 * math.sqrt(width):
        return None
    return mean * mean + (spread - n * variance) / (n * (n - 1))


def is_orthogonal(x: Tensor) -> bool:
    """Whether the shorter side of a weight, flattened to a matrix, is orthonormal up to a factor."""
    if x.ndim < 2 or min(x.shape[0], x[0].numel()) < 2:
        return False
    matrix = x.reshape(x.shape[0], -1)
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    some = matrix[:LOOK_AT].double()
    gram = some @ some.T
    size = float(gram.diagonal().mean())
    far = gram / size - torch.eye(len(some), dtype=gram.dtype) if size > 0 else gram + 1
    return float(far.abs().max()) < 1e-3


def without_structure(law: Law, shape: tuple[int, ...]) -> Law:
    """The law of a part of a tensor: an orthogonal matrix's rows are not orthogonal in every cut of it."""
    if isinstance(law, laws.Orthogonal | laws.Mirrored) or (isinstance(law, laws.Measured) and law.orthogonal):
        mean, square = law.moments(shape, laws.Fans(1, 1))
        return laws.Measured(mean, square)
    return law
