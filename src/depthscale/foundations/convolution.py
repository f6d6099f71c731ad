"""Convolution as a matrix product, in one to three dimensions.

A kernel at one place sees C·K numbers (C channels, K places). With these as columns (im2col; Chellapilla, Puri & Simard
2006), convolution is weight (O, C K) times columns (C K, places), and its gradients are matrix products as well:

    y = W · cols(x)        ∂L/∂W = Σ_batch ∂L/∂y · cols(x)ᵀ        ∂L/∂x = colsᵀ(Wᵀ · ∂L/∂y)

With G groups, each group of O/G outputs sees its own C/G channels. As everywhere in this field the kernel is not
flipped, so this is cross-correlation. ``x`` is (B, C, *size), or (B, *size, C) with ``channels_last``; weight
(O, C/G, *kernel) in both; bias (O,).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthscale.errors import DepthscaleError
from depthscale.foundations.windows import Each, Windows

Array = NDArray[np.floating]
_BYTES = 2**21  # of columns at a time: what stays in a cache


def convolve(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Each = 1,
    padding: Each = 0,
    dilation: Each = 1,
    groups: int = 1,
    channels_last: bool = False,
) -> Array:
    """The convolution of ``x`` with ``weight``, (B, O, *out) or (B, *out, O).

    Raises DepthscaleError for shapes that do not fit each other.
    """
    if channels_last:
        x = np.moveaxis(x, -1, 1)
    windows = _fit(x, weight, stride, padding, dilation, groups)
    split = _grouped(weight, groups)  # (G, O/G, C/G · K)
    out = np.empty((len(x), groups, split.shape[1], int(np.prod(windows.out))), np.result_type(x, weight))
    for part in _chunks(x, weight, windows):
        np.matmul(split, _columns(x[part], windows, groups), out=out[part])
    y = out.reshape(len(x), len(weight), *windows.out)
    if bias is not None:
        y += bias.reshape(-1, *(1,) * len(windows.out))
    return np.moveaxis(y, 1, -1) if channels_last else y


def convolve_backward(
    x: Array,
    weight: Array,
    dy: Array,
    *,
    stride: Each = 1,
    padding: Each = 0,
    dilation: Each = 1,
    groups: int = 1,
    channels_last: bool = False,
) -> tuple[Array, Array, Array]:
    """(∂L/∂x, ∂L/∂weight, ∂L/∂bias) from ``dy`` = ∂L/∂y, each of the shape of what it is the gradient of."""
    if channels_last:
        x, dy = np.moveaxis(x, -1, 1), np.moveaxis(dy, -1, 1)
    windows = _fit(x, weight, stride, padding, dilation, groups)
    split = _grouped(weight, groups)
    dy = dy.reshape(len(x), groups, split.shape[1], -1)  # (B, G, O/G, places)
    dw, dx = np.zeros(split.shape, np.result_type(x, dy)), np.empty(x.shape, np.result_type(x, dy))
    for part in _chunks(x, weight, windows):
        columns = _columns(x[part], windows, groups)
        dw += (dy[part] @ columns.swapaxes(-1, -2)).sum(axis=0)
        back = (split.swapaxes(-1, -2) @ dy[part]).reshape(-1, x.shape[1], int(np.prod(windows.kernel)), *windows.out)
        dx[part] = windows.gather(back)
    db = dy.sum(axis=(0, 3)).reshape(-1)
    return np.moveaxis(dx, 1, -1) if channels_last else dx, dw.reshape(weight.shape), db


def convolution_matrix(
    weight: Array, size: tuple[int, ...], *, stride: Each = 1, padding: Each = 0, dilation: Each = 1, groups: int = 1
) -> Array:
    """The matrix M (O · places, C · Π size) with convolve(x, weight) = M x, both flattened; dense."""
    channels = weight.shape[1] * groups
    x = np.zeros((1, channels, *size))
    windows = _fit(x, weight, stride, padding, dilation, groups)
    source = np.arange(1, x.size + 1, dtype=float).reshape(x.shape)  # 0 is left for the margins
    seen = _columns(source, windows, groups)[0].astype(np.intp)  # (G, C/G · K, places): which input each column holds
    split = _grouped(weight, groups)
    g, o, _ = split.shape
    places = seen.shape[-1]
    matrix = np.zeros((g, o, places, x.size + 1))
    for group in range(g):
        for row, values in zip(matrix[group], split[group], strict=True):
            np.add.at(row, (np.arange(places)[None], seen[group]), values[:, None])
    found: Array = matrix.reshape(g * o * places, -1)[:, 1:]
    return found


def _fit(x: Array, weight: Array, stride: Each, padding: Each, dilation: Each, groups: int) -> Windows:
    dims = x.ndim - 2
    if not 1 <= dims <= 3 or weight.ndim != x.ndim:
        raise DepthscaleError(
            f"expected x (B, C, *size) and weight (O, C/groups, *kernel) of one to three dimensions each, "
            f"got {x.shape} and {weight.shape}"
        )
    if groups < 1 or x.shape[1] != weight.shape[1] * groups or len(weight) % groups:
        raise DepthscaleError(
            f"expected C = {weight.shape[1]} x groups channels and outputs in {groups} equal groups, "
            f"got {x.shape[1]} channels and {len(weight)} outputs"
        )
    return Windows.over(x.shape[2:], weight.shape[2:], stride, padding, dilation)


def _grouped(weight: Array, groups: int) -> Array:
    return weight.reshape(groups, len(weight) // groups, -1)


def _columns(x: Array, windows: Windows, groups: int) -> Array:
    """(B, G, C/G · K, places)."""
    return windows.columns(x).reshape(len(x), groups, -1, int(np.prod(windows.out)))


def _chunks(x: Array, weight: Array, windows: Windows) -> list[Any]:
    """Parts of a batch whose columns fit into a cache."""
    one = x.shape[1] * np.prod(windows.kernel) * np.prod(windows.out) * x.itemsize
    step = max(1, int(_BYTES // one))
    return [slice(i, i + step) for i in range(0, len(x), step)]
