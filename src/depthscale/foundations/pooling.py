"""Max pooling, forward and backward: a gradient goes to the place that won, the first of equals."""

import numpy as np
from numpy.typing import NDArray

from depthscale.errors import DepthscaleError
from depthscale.foundations.windows import Each, Windows

Array = NDArray[np.floating]


def max_pool(
    x: Array, kernel: Each, *, stride: Each | None = None, padding: Each = 0, dilation: Each = 1
) -> tuple[Array, NDArray[np.intp]]:
    """The maxima (B, C, *out) over windows of ``x`` (B, C, *size), and which place of its window each came from.

    ``stride`` is the kernel's size by default. Margins never win; they are at most half of the kernel.
    """
    windows = _windows(x, kernel, stride, padding, dilation)
    columns = windows.columns(x, -np.inf)  # (B, C, K, *out)
    winner = columns.argmax(axis=2)
    return np.take_along_axis(columns, winner[:, :, None], axis=2)[:, :, 0], winner


def max_pool_backward(
    x: Array,
    winner: NDArray[np.intp],
    dy: Array,
    kernel: Each,
    *,
    stride: Each | None = None,
    padding: Each = 0,
    dilation: Each = 1,
) -> Array:
    """∂L/∂x from ``dy`` = ∂L/∂y (B, C, *out) and the winners that ``max_pool`` gave."""
    windows = _windows(x, kernel, stride, padding, dilation)
    places = np.arange(int(np.prod(windows.kernel))).reshape(-1, *(1,) * len(windows.size))
    return windows.gather(dy[:, :, None] * (winner[:, :, None] == places))


def _windows(x: Array, kernel: Each, stride: Each | None, padding: Each, dilation: Each) -> Windows:
    windows = Windows.over(x.shape[2:], kernel, kernel if stride is None else stride, padding, dilation)
    if any(2 * p > k for p, k in zip(windows.padding, windows.kernel, strict=True)):
        raise DepthscaleError(f"expected padding of at most half of the kernel {windows.kernel}, got {windows.padding}")
    if not windows.columns(np.ones(windows.size)).any(axis=0).all():
        raise DepthscaleError(
            f"a window of {windows.kernel} with dilation {windows.dilation} sees nothing but margins of "
            f"{windows.padding} around {windows.size}; take less padding"
        )
    return windows
