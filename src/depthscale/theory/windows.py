"""Counting pairs: what convolutions, pools and resampling do to the classes of an ordered axis.

A linear map y_p = Σ_k M_pk x_k along one axis turns pair classes into pair classes:

    E[y_p y_p'], averaged over the pairs (p, p') of class d,  =  Σ_e T[d, e] X[e],
    T[d, e] = Σ_{(p, p') in d} Σ_{(k, k') in e} M_pk M_p'k' / |d|,

exactly, for every size, stride, dilation and padding; entries that fall on padding are zero and drop out. Its adjoint
has the same sums over |e| instead of |d|. In more than one axis the maps factorise, and so do the counts. A
convolution has one such map per tap: pairs of the same tap (whose weights agree) are counted apart from pairs of
different taps.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from depthscale.numerics.estimate import Array
from depthscale.theory.axes import Axis, class_map, lookup, types

Indices = NDArray[np.intp]


class Window(NamedTuple):
    """A sliding window along one axis of ``n`` entries that makes ``out`` of them."""

    n: int
    out: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1


@lru_cache(maxsize=1024)
def taps(window: Window) -> tuple[tuple[Indices, Indices], ...]:
    """Per tap: the outputs for which it lies inside the input, and the entries it lies on."""
    found = []
    for k in range(window.kernel):
        rows = np.arange(window.out)
        columns = rows * window.stride - window.padding + k * window.dilation
        inside = (columns >= 0) & (columns < window.n)
        found.append((rows[inside], columns[inside]))
    return tuple(found)


@lru_cache(maxsize=1024)
def tap_index(window: Window) -> Indices:
    """The entry that each tap reads for each output, n where that is padding: (kernel, out)."""
    columns = np.arange(window.out) * window.stride - window.padding
    columns = columns[None, :] + np.arange(window.kernel)[:, None] * window.dilation
    return np.where((columns >= 0) & (columns < window.n), columns, window.n)


@lru_cache(maxsize=1024)
def same_sums(window: Window, out: Axis, axis: Axis) -> Array:
    """Σ over taps and over pairs of outputs of class d that read, through the same tap, entries of class e: (D, E).

    Outputs at distance d read entries at distance d · stride, so only a few distances are counted one by one; of the
    rest, types of entries are all that matters.
    """
    index = tap_index(window)  # (kernel, out)
    inside = index < window.n
    to, ti = types(out), np.append(types(axis), 0)[index]
    classes_out, classes_in = lookup(out), lookup(axis)
    sums = np.zeros((out.classes, axis.classes))
    kinds = (out.same, axis.same)
    counts = np.zeros((window.kernel, *kinds))
    for k in range(window.kernel):
        np.add.at(counts[k], (to[inside[k]], ti[k, inside[k]]), 1.0)
    left = np.einsum("ksu,ktv->stuv", counts, counts)  # ordered pairs by types of outputs s, t and of entries u, v
    for d in range(min(max(out.reach, -(-axis.reach // window.stride)), window.out)):
        p = slice(0, window.out - d)
        r = slice(d, window.out)
        for k in range(window.kernel):
            met = inside[k, p] & inside[k, r]
            s, t, u, v = to[p][met], to[r][met], ti[k, p][met], ti[k, r][met]
            rows = classes_out[s, t, min(d, out.reach)]
            columns = classes_in[u, v, min(d * window.stride, axis.reach)]
            twice = 1.0 if d == 0 else 2.0
            np.add.at(sums, (rows, columns), twice)
            np.add.at(left, (s, t, u, v), -twice / 2)
            np.add.at(left, (t, s, v, u), -twice / 2)
    for s, t, u, v in zip(*np.nonzero(left > 0.5), strict=True):
        sums[classes_out[s, t, out.reach], classes_in[u, v, axis.reach]] += left[s, t, u, v]
    return sums


@lru_cache(maxsize=1024)
def every_sums(window: Window, out: Axis, axis: Axis) -> Array:
    """Σ over any two taps and over pairs of outputs of class d that read entries of class e: (D, E)."""
    matrix = np.zeros((window.out, window.n))
    for rows, columns in taps(window):
        matrix[rows, columns] += 1.0
    return _pair_sums(matrix, out, axis)


def _pair_sums(matrix: Array, out: Axis, axis: Axis) -> Array:
    """Σ over pairs in (d, e) of M M', unnormalised: (D, E)."""
    d, e = class_map(out), class_map(axis)
    sums = np.empty((out.classes, axis.classes))
    for b in range(axis.classes):
        spread = matrix @ (e == b).astype(np.float64) @ matrix.T
        sums[:, b] = np.bincount(d.ravel(), weights=spread.ravel(), minlength=out.classes)
    return sums


@lru_cache(maxsize=1024)
def linear_sums(kind: str, args: tuple[int, ...], out: Axis, axis: Axis) -> Array:
    """``_pair_sums`` of the map of this kind (see ``matrix``)."""
    return _pair_sums(matrix(kind, args, out.n, axis.n), out, axis)


@lru_cache(maxsize=256)
def matrix(kind: str, args: tuple[int, ...], out: int, n: int) -> Array:
    """The matrix (out, n) of a linear map along one axis.

    average: (kernel, stride, padding, count_padding); adaptive: (); nearest and linear: (factor,);
    resize: (mode's place in nearest, linear, cubic; corners); slice: (start, step); shift: (entries put in front,).
    """
    m = np.zeros((out, n))
    if kind == "average":
        kernel, stride, padding, count_padding = args
        for rows, columns in taps(Window(n, out, kernel, stride, padding)):
            m[rows, columns] += 1.0
        starts = np.arange(out) * stride - padding
        padded = np.minimum(starts + kernel, n + padding) - starts  # torch: beyond the padding nothing is counted
        return m / (padded if count_padding else np.maximum(m.sum(axis=1), 1.0))[:, None]
    if kind == "adaptive":
        for p in range(out):
            first, last = p * n // out, -(-(p + 1) * n // out)
            m[p, first:last] = 1.0 / (last - first)
        return m
    rows = np.arange(out)
    if kind == "nearest":
        m[rows, rows // args[0]] = 1.0
        return m
    if kind == "linear":
        at = np.clip((rows + 0.5) / args[0] - 0.5, 0.0, n - 1.0)
        low = np.minimum(at.astype(int), n - 1)
        high = np.minimum(low + 1, n - 1)
        m[rows, low] += 1.0 - (at - low)
        m[rows, high] += at - low
        return m
    if kind == "resize":
        return _resized(m, *args)
    if kind == "slice":
        m[rows, args[0] + rows * args[1]] = 1.0
        return m
    if kind == "shift":
        columns = rows - args[0]
        inside = (columns >= 0) & (columns < n)
        m[rows[inside], columns[inside]] = 1.0
        return m
    raise ValueError(f"expected a known kind of linear map, got {kind!r}")


def _resized(m: Array, mode: int, corners: int) -> Array:
    """Interpolation as torch does it: nearest, linear, or cubic convolution with a = −0.75 (Keys 1981)."""
    out, n = m.shape
    rows = np.arange(out)
    if mode == 0:
        m[rows, np.minimum((rows * n) // out, n - 1)] = 1.0
        return m
    at = rows * ((n - 1) / max(out - 1, 1)) if corners else (rows + 0.5) * n / out - 0.5
    if mode == 1:
        at = np.clip(at, 0.0, n - 1.0)
    low = np.floor(at).astype(int)
    for k in (0, 1) if mode == 1 else (-1, 0, 1, 2):
        d = np.abs(at - (low + k))
        if mode == 1:
            weight = 1.0 - d
        else:
            a = -0.75
            near = (a + 2) * d**3 - (a + 3) * d**2 + 1
            weight = np.where(d <= 1, near, a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a)
        np.add.at(m, (rows, np.clip(low + k, 0, n - 1)), weight)
    return m


def forward_map(sums: Array, out: Axis) -> Array:
    """(D, E): what multiplies the moments of the input."""
    return sums / out.pairs[:, None]


def backward_map(sums: Array, axis: Axis) -> Array:
    """(E, D): what multiplies the moments of the output's gradient."""
    return sums.T / np.maximum(axis.pairs, 1e-300)[:, None]
