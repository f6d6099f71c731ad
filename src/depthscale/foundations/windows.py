"""Sliding windows over 1-D to 3-D arrays: what convolution and pooling have in common.

For each place p in a kernel, the values that p meets as the kernel slides are one strided view of the padded input; all
views side by side are im2col. The same views, added to instead of read, carry gradients back.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthscale.errors import DepthscaleError

Array = NDArray[np.floating]
Each = int | Sequence[int]


@dataclass(frozen=True)
class Windows:
    """A kernel of ``kernel`` sliding over ``size``, with stride, padding and dilation in each dimension."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @staticmethod
    def over(size: Sequence[int], kernel: Each, stride: Each = 1, padding: Each = 0, dilation: Each = 1) -> "Windows":
        """The windows; a single number stands for every dimension. Raises DepthscaleError where they do not fit."""
        d = len(size)
        each = [(v,) * d if isinstance(v, int) else tuple(v) for v in (kernel, stride, padding, dilation)]
        if any(len(v) != d for v in each) or min(*each[0], *each[1], *each[3]) < 1 or min(each[2]) < 0:
            raise DepthscaleError(
                f"expected kernel, stride and dilation from 1 up and padding from 0 up, a number or {d} of them, "
                f"got {kernel=}, {stride=}, {dilation=}, {padding=}"
            )
        found = Windows(tuple(size), *each)
        if min(found.out) < 1:
            raise DepthscaleError(
                f"a kernel of {found.kernel} with dilation {found.dilation} does not fit into {found}"
            )
        return found

    @property
    def out(self) -> tuple[int, ...]:
        """Places that the kernel takes, in each dimension: ⌊(n + 2p − d (k − 1) − 1) / s⌋ + 1."""
        rows = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in rows)

    def pad(self, x: Array, value: float = 0.0) -> Array:
        """``x`` (…, *size) with its margins."""
        if not any(self.padding):
            return x
        whole = [n + 2 * p for n, p in zip(self.size, self.padding, strict=True)]
        padded = np.full((*x.shape[: -len(whole)], *whole), value, x.dtype)
        padded[self._inner] = x
        return padded

    def views(self, padded: Array) -> Iterator[tuple[int, Array]]:
        """For each place of the kernel, its number and the values it meets, (…, *out): views, not copies."""
        for number, place in enumerate(product(*map(range, self.kernel))):
            rows = zip(place, self.dilation, self.stride, self.out, strict=True)
            at: Any = (..., *(slice(i * d, i * d + s * (n - 1) + 1, s) for i, d, s, n in rows))
            yield number, padded[at]

    def columns(self, x: Array, pad_value: float = 0.0) -> Array:
        """im2col of ``x`` (…, *size): (…, K, *out), K the number of places in the kernel."""
        padded = self.pad(x, pad_value)
        lead = x.shape[: x.ndim - len(self.size)]
        out = np.empty((*lead, int(np.prod(self.kernel)), *self.out), x.dtype)
        for number, view in self.views(padded):
            out[self._at(number)] = view
        return out

    def gather(self, columns: Array) -> Array:
        """The adjoint of ``columns``: (…, K, *out) added up where it came from, (…, *size)."""
        d = len(self.size)
        whole = [n + 2 * p for n, p in zip(self.size, self.padding, strict=True)]
        padded = np.zeros((*columns.shape[: -d - 1], *whole), columns.dtype)
        for number, view in self.views(padded):
            view += columns[self._at(number)]
        inner: Array = padded[self._inner]
        return inner

    def _at(self, number: int) -> Any:
        """The index of one place of the kernel in columns."""
        return (..., number, *(slice(None),) * len(self.size))

    @property
    def _inner(self) -> Any:
        return (..., *(slice(p, p + n) for p, n in zip(self.padding, self.size, strict=True)))
