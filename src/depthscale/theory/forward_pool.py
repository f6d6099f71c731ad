"""Forward rules of pooling and reductions: averages by counts of pairs, maxima by order statistics."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from depthscale.graph import ops
from depthscale.graph.op import Ints
from depthscale.graph.shapes import infer
from depthscale.numerics.estimate import Array
from depthscale.theory import copula, maxima
from depthscale.theory.activations import Activation
from depthscale.theory.align import coarse, without_parts
from depthscale.theory.axes import REACH, Axis, distances, mapped, types
from depthscale.theory.forward_elementwise import standard
from depthscale.theory.forward_layout import along
from depthscale.theory.moments import (
    State,
    along_axis,
    amplitudes,
    average_pairs,
    modulated,
    same_class,
    state,
    stationary,
)
from depthscale.theory.rules import Setting, forward
from depthscale.theory.windows import Window, forward_map, linear_sums, tap_index

Windows = tuple[Window, ...]


@forward.register(ops.AvgPool)
def _(op: ops.AvgPool, setting: Setting, x: State) -> State:
    shape = infer(op, x.shape)
    for k, (kernel, stride, padding) in enumerate(zip(op.kernel, op.stride, op.padding, strict=True)):
        x = along(x, k + 2, "average", (kernel, stride, padding, int(op.count_padding)), shape[k + 2])
    return x


@forward.register(ops.AdaptivePool)
def _(op: ops.AdaptivePool, setting: Setting, x: State) -> State:
    if op.kind == "max":
        return max_pool(x, pool_windows(op, x), None).y
    for k, size in enumerate(op.size):
        x = along(x, k + 2, "adaptive", (), size)
    return x


@forward.register(ops.MaxPool)
def _(op: ops.MaxPool, setting: Setting, x: State) -> State:
    return max_pool(x, pool_windows(op, x), None).y


def pool_windows(op: ops.MaxPool | ops.AdaptivePool, x: State) -> Windows:
    """The window of every spatial axis; an adaptive pool's are taken alike, as large as the largest."""
    out = infer(op, x.shape)[2:]
    if isinstance(op, ops.MaxPool):
        rows = zip(x.shape[2:], out, op.kernel, op.stride, op.padding, strict=True)
        return tuple(Window(*row) for row in rows)
    windows: list[Window] = []
    for n, m in zip(x.shape[2:], out, strict=True):
        size = -(-n // m)
        windows.append(Window(n, m, size, max(1, (n - size) // max(m - 1, 1)) if m > 1 else 1))
    return tuple(windows)


def reduced_axes(axes: Ints, ndim: int) -> tuple[int, ...]:
    """The axes counted from the front, in order."""
    return tuple(sorted({a % ndim for a in axes}))


@forward.register(ops.Reduce)
def _(op: ops.Reduce, setting: Setting, x: State) -> State:
    over = reduced_axes(op.axes, len(x.axes))
    n = math.prod(x.axes[i].n for i in over)
    if op.kind == "max":
        x = coarse(x)
        q, mean, spread = _reduce_max(x, over, n)
    else:
        scale = float(n) if op.kind == "sum" else 1.0
        q = average_pairs(x.q, x.axes, over) * scale**2
        mean = np.asarray(x.average if x.part_axis in over else x.mean) * scale
        spread = x.spread
    axes = tuple(Axis(1) if i in over else a for i, a in enumerate(x.axes))
    if not op.keep:
        kept = [i for i in range(len(axes)) if i not in over]
        q = q.reshape([q.shape[i] for i in kept])
        axes = tuple(axes[i] for i in kept)
    return state(axes, q, mean, spread)


def _reduce_max(x: State, over: tuple[int, ...], n: int) -> tuple[Array, Array, float]:
    """Maximum over axes of a coarse state: one window that holds all of their entries."""
    first = tuple(slice(0, 1) if i in over else slice(None) for i in range(x.q.ndim))
    every = average_pairs(x.q, x.axes, over)
    matched = x.q[first]
    base = (every * n - matched) / max(n - 1, 1)  # pairs of different entries of the window
    own = same_class(tuple(Axis(1) if i in over else a for i, a in enumerate(x.axes))) > 0
    law = _law_of_max(x, float(n), matched, base, np.full(matched.shape, float(n)), own)
    return law.q, np.asarray(law.mean), x.spread


class Pooled(NamedTuple):
    """A maximum: its moments and what the way back needs. ``kappa`` and ``values`` as in ``copula``."""

    y: State
    window: float  # entries in a window, on average
    kappa: Array
    values: Array


class _Law(NamedTuple):
    q: Array
    mean: float
    kappa: Array
    values: Array


def _law_of_max(
    x: State,
    n: float,
    matched: Array,
    base: Array,
    shared: Array,
    own: NDArray[np.bool_],
    act: Activation | None = None,
) -> _Law:
    """Moments of (a monotone function of) the maxima of windows of n entries.

    matched: E[x x'] of entries that two windows match, base: of the others, shared: how many match, own: whether the
    two windows are one; all by class.
    """
    m, v, _ = standard(x)
    if v == 0:
        value = m if act is None else float(act(np.array([m]))[0])
        return _Law(
            np.full(matched.shape, value * value), value, np.ones(matched.shape), np.full(len(copula.nodes()), m)
        )
    rho_m, rho_b = (matched - m * m) / v, (base - m * m) / v
    inside = float(np.clip(rho_b[own].mean(), 0.0, 1.0)) if n > 1 else 0.0  # correlation within a window
    mean, variance = maxima.single(n)
    rest = max(1.0 - inside, 1e-12)
    covariance = np.empty(matched.shape)
    for o in np.unique(shared):
        where = shared == o
        r = np.clip((rho_m[where] - rho_b[where]) / rest, -1.0, 1.0)
        part = maxima.covariance(n, float(o), r) if o > 0 else np.zeros(int(where.sum()))
        covariance[where] = rho_b[where] + rest * part
    covariance[own] = inside + rest * variance
    if act is None:
        q = v * covariance + (m + math.sqrt(v * rest) * mean) ** 2
        return _Law(q, m + math.sqrt(v * rest) * mean, covariance / covariance.flat[0], np.zeros(0))
    values = maxima.quantiles_at_nodes(n, inside)
    kappa = copula.correlations(values, covariance)
    kappa[own] = 1.0
    inputs = m + math.sqrt(v) * values
    shaped = act(inputs)
    return _Law(copula.pair(shaped, kappa), copula.average(shaped), kappa, inputs)


def pooled_axes(x: State, windows: Windows) -> tuple[Axis, ...]:
    """The axes of a pooled tensor."""
    inner = [Axis(w.out, REACH, edge=a.edge or w.padding > 0) for w, a in zip(windows, x.axes[2:], strict=True)]
    return (*x.axes[:2], *inner)


def window_size(windows: Windows) -> float:
    """Entries in a window, on average over positions."""
    return math.prod(float((tap_index(w) < w.n).sum()) / w.out for w in windows)


@lru_cache(maxsize=1024)
def type_shares(window: Window, out: Axis, axis: Axis) -> Array:
    """Of the entries in windows of each type, the share of each type of entry: (types of out, types of axis)."""
    index = tap_index(window)
    inside = index < window.n
    counts = np.zeros((out.same, axis.same))
    kinds = np.append(types(axis), 0)[index]
    np.add.at(counts, (np.broadcast_to(types(out), index.shape)[inside], kinds[inside]), 1.0)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


@lru_cache(maxsize=64)  # by identity: forward and backward rules ask for the same ones
def meetings(x: State, windows: Windows, axes: tuple[Axis, ...]) -> tuple[Array, Array]:
    """E[x x'] for one entry that two windows share, and how many they share, by class of windows."""
    matched, shared = x.q, np.ones((1,) * x.q.ndim)
    for i, w in enumerate(windows, start=2):
        share = type_shares(w, axes[i], x.axes[i])
        first, second = axes[i].ends
        matched = np.take(matched, range(x.axes[i].same), axis=i)
        matched = np.moveaxis(np.tensordot((share[first] + share[second]) / 2, matched, ([1], [i])), 0, i)
        size = float((tap_index(w) < w.n).sum()) / w.out
        overlap = [size * max(0.0, 1 - d * w.stride / w.kernel) if d >= 0 else 0.0 for d in distances(axes[i])]
        shared = shared * along_axis(np.array(overlap), i, x.q.ndim)
    return matched, np.broadcast_to(shared, matched.shape)


@lru_cache(maxsize=64)  # by identity: forward and backward rules ask for the same ones
def max_pool(x: State, windows: Windows, act: Activation | None) -> Pooled:
    """Maxima over windows of x, or of act(x) for a monotone act: max act(x) = act(max x)."""
    x = without_parts(x)
    axes, n, every = pooled_axes(x, windows), window_size(windows), x.q
    for i, w in enumerate(windows, start=2):
        sums = linear_sums("average", (w.kernel, w.stride, w.padding, 0), axes[i], x.axes[i])
        every = mapped(every, i, forward_map(sums, axes[i]))
    matched, shared = meetings(x, windows, axes)
    # pairs of entries of two windows: n² in all, of which ``shared`` are matched
    base = (every * n * n - matched * shared) / np.maximum(n * n - shared, 1e-9) if n > 1 else every
    sized = state(axes, matched)
    size, _ = amplitudes(sized)
    law = _law_of_max(stationary(x), n, matched / size, base / size, shared, same_class(axes) > 0, act)
    y = modulated(state(axes, law.q, law.mean, x.spread), sized)
    return Pooled(y, n, law.kappa, law.values)
