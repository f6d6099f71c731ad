"""Forward rules of pooling and reductions: averages by counts of pairs, maxima by order statistics."""

import math
from typing import NamedTuple

import numpy as np

from depthscale.graph import ops
from depthscale.graph.op import Ints
from depthscale.graph.shapes import infer
from depthscale.numerics.estimate import Array
from depthscale.theory import copula, maxima
from depthscale.theory.activations import Activation
from depthscale.theory.forward import Setting, forward
from depthscale.theory.forward_elementwise import standard
from depthscale.theory.forward_layout import along, mapped_profile
from depthscale.theory.moments import Axis, State, average_pairs, coarse, state
from depthscale.theory.windows import Window, apply_map, forward_map, linear_sums, matrix, taps


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


def pool_windows(op: ops.MaxPool | ops.AdaptivePool, x: State) -> list[Window]:
    """The window of every spatial axis; an adaptive pool's are taken alike, as large as the largest."""
    out = infer(op, x.shape)[2:]
    if isinstance(op, ops.MaxPool):
        rows = zip(x.shape[2:], out, op.kernel, op.stride, op.padding, strict=True)
        return [Window(*row) for row in rows]
    windows = []
    for n, m in zip(x.shape[2:], out, strict=True):
        size = -(-n // m)
        windows.append(Window(n, m, size, max(1, (n - size) // max(m - 1, 1)) if m > 1 else 1))
    return windows


def reduced_axes(axes: Ints, ndim: int) -> tuple[int, ...]:
    """The axes counted from the front, in order."""
    return tuple(sorted({a % ndim for a in axes}))


@forward.register(ops.Reduce)
def _(op: ops.Reduce, setting: Setting, x: State) -> State:
    over = reduced_axes(op.axes, len(x.axes))
    n = math.prod(x.axes[i].n for i in over)
    if op.kind == "max":
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
    """Maximum over axes: one window that holds all of their entries."""
    x = coarse(x)
    first = tuple(slice(0, 1) if i in over else slice(None) for i in range(x.q.ndim))
    every = average_pairs(x.q, x.axes, over)
    matched = x.q[first]
    base = (every * n - matched) / max(n - 1, 1)  # pairs of different entries of the window
    law = _law_of_max(x, float(n), matched, base, np.full(matched.shape, float(n)))
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


def _law_of_max(x: State, n: float, matched: Array, base: Array, shared: Array, act: Activation | None = None) -> _Law:
    """Moments of (a monotone function of) the maxima of windows of n entries.

    matched: E[x x'] of entries that two windows match, base: of the others, shared: how many match; all by class.
    """
    m, v, _ = standard(x)
    if v == 0:
        value = m if act is None else float(act(np.array([m]))[0])
        return _Law(
            np.full(matched.shape, value * value), value, np.ones(matched.shape), np.full(len(copula.nodes()), m)
        )
    rho_m, rho_b = (matched - m * m) / v, (base - m * m) / v
    inside = float(np.clip(rho_b.flat[0], 0.0, 1.0)) if n > 1 else 0.0  # correlation within a window
    mean, variance = maxima.single(n)
    own = max(1.0 - inside, 1e-12)
    covariance = np.empty(matched.shape)
    for o in np.unique(shared):
        where = shared == o
        r = np.clip((rho_m[where] - rho_b[where]) / own, -1.0, 1.0)
        part = maxima.covariance(n, float(o), r) if o > 0 else np.zeros(int(where.sum()))
        covariance[where] = rho_b[where] + own * part
    covariance.flat[0] = inside + own * variance
    if act is None:
        q = v * covariance + (m + math.sqrt(v * own) * mean) ** 2
        return _Law(q, m + math.sqrt(v * own) * mean, covariance / covariance.flat[0], np.zeros(0))
    values = maxima.quantiles(n, inside, copula.nodes())
    kappa = copula.correlations(values, covariance)
    kappa.flat[0] = 1.0
    inputs = m + math.sqrt(v) * values
    shaped = act(inputs)
    return _Law(copula.pair(shaped, kappa), copula.average(shaped), kappa, inputs)


def max_pool(x: State, windows: list[Window], act: Activation | None) -> Pooled:
    """Maxima over windows of x, or of act(x) for a monotone act: max act(x) = act(max x)."""
    x = coarse(x, 1) if x.axes[1].parts else x
    axes = (*x.axes[:2], *[Axis(w.out, a.reach) for w, a in zip(windows, x.axes[2:], strict=True)])
    inside = [sum(len(rows) for rows, _ in taps(w)) / w.out for w in windows]
    n = math.prod(inside)
    every, matched = x.q, x.q
    shared = np.ones((1,) * x.q.ndim)
    for i, (w, size) in enumerate(zip(windows, inside, strict=True), start=2):
        args = (w.kernel, w.stride, w.padding, 0)
        every = apply_map(every, i, forward_map(linear_sums("average", args, axes[i], x.axes[i]), axes[i]))
        matched = np.take(matched, [0] * axes[i].classes, axis=i)
        overlap = [size * max(0.0, 1 - d * w.stride / w.kernel) for d in range(axes[i].classes)]
        if axes[i].classes == axes[i].reach + 1 or axes[i].reach == 1:
            overlap[1 if axes[i].reach == 1 else -1 :] = [0.0] * (1 if axes[i].reach > 1 else len(overlap) - 1)
        shared = shared * np.array(overlap).reshape([-1 if k == i else 1 for k in range(x.q.ndim)])
    shared = np.broadcast_to(shared, every.shape)
    # pairs of entries of two windows: n² in all, of which ``shared`` are matched
    base = (every * n * n - matched * shared) / np.maximum(n * n - shared, 1e-9) if n > 1 else every
    law = _law_of_max(x, n, np.broadcast_to(matched, every.shape), base, shared, act)
    profile = x.profile
    for i, w in enumerate(windows, start=2):
        rows = matrix("average", (w.kernel, w.stride, w.padding, 0), w.out, w.n)
        profile = mapped_profile(State(x.axes, x.mean, x.q, 0.0, profile), i, rows)
    return Pooled(state(axes, law.q, law.mean, x.spread, profile), n, law.kappa, law.values)
