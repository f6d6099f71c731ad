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
from depthscale.theory.moments import Axis, part_ends

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
def class_map(axis: Axis) -> NDArray[np.int64]:
    """The class of each ordered pair of entries: (n, n)."""
    n = axis.n
    i = np.arange(n)
    if axis.parts:
        part = np.repeat(np.arange(len(axis.parts)), axis.parts)
        where = {ends: k for k, ends in enumerate(zip(*part_ends(axis.parts), strict=True)) if k >= len(axis.parts)}
        table = np.zeros((len(axis.parts),) * 2, dtype=np.int64)
        for (s, t), k in where.items():
            table[s, t] = table[t, s] = k
        out = table[part[:, None], part[None, :]]
        out[i, i] = part
        return np.asarray(out)
    return np.asarray(np.minimum(np.abs(i[:, None] - i[None, :]), axis.classes - 1), dtype=np.int64)


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


def same_sums(window: Window, out: Axis, axis: Axis, s: Array | None = None, t: Array | None = None) -> Array:
    """Σ over taps and over pairs of outputs of class d that read, through the same tap, entries of class e: (D, E).

    Each pair counts s_q s_q' t_p t_p' for sizes s of the entries and t of the outputs (1 where not given). Outputs
    at distance d read entries at distance d · stride.
    """
    if s is None and t is None:
        return _plain_same_sums(window, out, axis)
    return _same_sums(window, out, axis, s, t)


@lru_cache(maxsize=1024)
def _plain_same_sums(window: Window, out: Axis, axis: Axis) -> Array:
    return _same_sums(window, out, axis, None, None)


def _same_sums(window: Window, out: Axis, axis: Axis, s: Array | None, t: Array | None) -> Array:
    size = np.append(np.ones(window.n) if s is None else s, 0.0)[tap_index(window)]  # (kernel, out)
    if t is not None:
        size = size * t
    sums = np.zeros((out.classes, axis.classes))
    left = float((size.sum(axis=1) ** 2).sum())
    for d in range(min(out.reach, out.n)):
        near = float((size * size).sum()) if d == 0 else 2 * float((size[:, :-d] * size[:, d:]).sum())
        sums[d, min(d * window.stride, axis.classes - 1)] += near
        left -= near
    if out.n > out.reach:
        sums[-1, -1] += left
    return sums


@lru_cache(maxsize=1024)
def every_sums(window: Window, out: Axis, axis: Axis) -> Array:
    """Σ over any two taps and over pairs of outputs of class d that read entries of class e: (D, E)."""
    matrix = np.zeros((window.out, window.n))
    for rows, columns in taps(window):
        matrix[rows, columns] += 1.0
    return _pair_sums(matrix, out, axis)


def output_squares(window: Window, s: Array | None) -> Array:
    """Σ over taps of the squared size of what each output reads: (out,)."""
    size = np.append(np.ones(window.n) if s is None else s, 0.0)[tap_index(window)]
    return np.asarray((size * size).sum(axis=0))


def input_squares(window: Window, t: Array | None) -> Array:
    """Σ over the outputs that read each entry of their squared size: (n,)."""
    size = np.broadcast_to(np.ones(window.out) if t is None else t * t, (window.kernel, window.out))
    index = tap_index(window)
    sums = np.bincount(index.ravel(), weights=size.ravel(), minlength=window.n + 1)
    return np.asarray(sums[: window.n], dtype=np.float64)


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
    slice: (start, step); shift: (entries put in front,).
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
    if kind == "slice":
        m[rows, args[0] + rows * args[1]] = 1.0
        return m
    if kind == "shift":
        columns = rows - args[0]
        inside = (columns >= 0) & (columns < n)
        m[rows[inside], columns[inside]] = 1.0
        return m
    raise ValueError(f"expected a known kind of linear map, got {kind!r}")


def forward_map(sums: Array, out: Axis) -> Array:
    """(D, E): what multiplies the moments of the input."""
    return sums / out.pairs[:, None]


def backward_map(sums: Array, axis: Axis) -> Array:
    """(E, D): what multiplies the moments of the output's gradient."""
    return sums.T / np.maximum(axis.pairs, 1e-300)[:, None]


def apply_map(q: Array, i: int, coefficients: Array) -> Array:
    """q with its dimension i (E classes) replaced by ``coefficients`` (D, E) times it."""
    return np.asarray(np.moveaxis(np.tensordot(q, coefficients, ([i], [1])), -1, i))
