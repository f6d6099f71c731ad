"""Backward rules of pooling and reductions.

An average sends its gradient to every entry of the window. A maximum sends it to the largest entry: of two windows
that share o of their n entries (independent ones), the largest of all 2n − o is shared, and so the gradient of both,
with probability o/(2n − o); entries of two inputs whose values correlate are largest together more often than by
chance (``maxima.match``).
"""

import math

import numpy as np

from depthscale.graph import ops
from depthscale.numerics.estimate import Array
from depthscale.theory import copula, maxima
from depthscale.theory.activations import Activation
from depthscale.theory.align import coarse, projected, refined, without_parts
from depthscale.theory.axes import REACH, Axis, joint, mapped
from depthscale.theory.backward_layout import along_back
from depthscale.theory.forward_elementwise import standard
from depthscale.theory.forward_pool import (
    Windows,
    max_pool,
    meetings,
    pool_windows,
    pooled_axes,
    reduced_axes,
    type_shares,
    window_size,
)
from depthscale.theory.moments import State, amplitudes, same_class, state, stationary
from depthscale.theory.rules import Pulled, Setting, backward, gradient
from depthscale.theory.windows import backward_map, linear_sums


@backward.register(ops.AvgPool)
def _(op: ops.AvgPool, setting: Setting, g: State, y: State, x: State) -> Pulled:
    for k, (kernel, stride, padding) in enumerate(zip(op.kernel, op.stride, op.padding, strict=True)):
        g = along_back(g, k + 2, "average", (kernel, stride, padding, int(op.count_padding)), x.axes[k + 2])
    return Pulled((g,), {})


@backward.register(ops.AdaptivePool)
def _(op: ops.AdaptivePool, setting: Setting, g: State, y: State, x: State) -> Pulled:
    if op.kind == "max":
        return Pulled((max_pool_back(g, x, pool_windows(op, x), None),), {})
    for k in range(len(op.size)):
        g = along_back(g, k + 2, "adaptive", (), x.axes[k + 2])
    return Pulled((g,), {})


@backward.register(ops.MaxPool)
def _(op: ops.MaxPool, setting: Setting, g: State, y: State, x: State) -> Pulled:
    return Pulled((max_pool_back(g, x, pool_windows(op, x), None),), {})


def max_pool_back(g: State, x: State, windows: Windows, act: Activation | None, *, times_x: bool = False) -> State:
    """The gradient at the input of a max pool of x, or of act(x), in which case it is that of x.

    ``times_x`` gives E[(g x)_i (g x)_j] instead.
    """
    x = without_parts(x)
    g = without_parts(g)
    axes = pooled_axes(x, windows)
    g = refined_to(g, axes)
    q, n = g.q, window_size(windows)
    if act is not None:
        pooled = max_pool(x, windows, act)
        slope = act.derivative(pooled.values) * (pooled.values if times_x else 1.0)
        q = q * copula.pair(slope, pooled.kappa)
    matched, shared = meetings(x, windows, axes)
    inner = stationary(x)
    m, v = float(inner.mean), max(inner.length - float(inner.mean) ** 2, 1e-300)
    rho = (matched / amplitudes(state(axes, matched))[0] - m * m) / v
    rho[same_class(axes) > 0] = 1.0
    together = _together(n, rho, shared)
    chance = shared / (n * n)
    apart = np.where(chance < 1, (1 - together) / np.maximum(1 - chance, 1e-12), 0.0)
    spread, at = q * apart, q * (together - apart * chance)
    wide = tuple(Axis(a.n, REACH, edge=a.edge or b.edge) for a, b in zip(x.axes[2:], axes[2:], strict=True))
    for i, w in enumerate(windows, start=2):
        sums = linear_sums("average", (w.kernel, w.stride, w.padding, 0), axes[i], wide[i - 2])
        spread = mapped(spread, i, backward_map(sums, wide[i - 2]))
        shares, (first, second) = type_shares(w, axes[i], wide[i - 2]), axes[i].ends
        arriving = axes[i].pairs[:, None] * (shares[first] + shares[second]) / 2  # (classes, types of entries)
        at = np.moveaxis(np.tensordot(at, arriving / (wide[i - 2].n * wide[i - 2].shares), ([i], [0])), -1, i)
    spread[(slice(None), slice(None), *[slice(0, a.same) for a in wide])] += at
    return gradient((*g.axes[:2], *wide), spread)


def refined_to(g: State, axes: tuple[Axis, ...]) -> State:
    """g telling apart what these axes do, and no more."""
    for i, axis in enumerate(axes):
        if g.axes[i] != axis:
            to = joint([g.axes[i], axis])
            g = projected(refined(g, i, to), i, axis)
    return g


def _together(n: float, matched: Array, shared: Array) -> Array:
    """P(two windows have their largest entry in the same place)."""
    alike = maxima.match(n, matched)  # 1/n … 1
    alike = np.where(matched >= 1 - 1e-12, 1.0, alike)
    certainty = (alike - 1 / n) / max(1 - 1 / n, 1e-12) if n > 1 else np.ones_like(alike)
    by_chance, surely = shared / (n * n), shared / np.maximum(2 * n - shared, 1e-12)
    return np.asarray(by_chance + certainty * (surely - by_chance))


@backward.register(ops.Reduce)
def _(op: ops.Reduce, setting: Setting, g: State, y: State, x: State) -> Pulled:
    over = reduced_axes(op.axes, len(x.axes))
    g = coarse(g) if op.kind == "max" else g
    q = g.q
    if not op.keep:
        for i in over:
            q = np.expand_dims(q, i)
    own = g.axes if op.keep else None
    kept = iter(g.axes) if own is None else None
    axes = []
    for i, axis in enumerate(x.axes):
        if own is not None:
            axes.append(own[i] if i not in over else axis.plain)
        else:
            axes.append(axis.plain if i in over else next(kept))  # type: ignore[arg-type]
    n = math.prod(x.axes[i].n for i in over)
    if op.kind == "max":
        return Pulled((_reduce_max_back(coarse(x), tuple(axes), q, over, n),), {})
    return Pulled((gradient(tuple(axes), q if op.kind == "sum" else q / n**2),), {})


def _reduce_max_back(x: State, axes: tuple[Axis, ...], q: Array, over: tuple[int, ...], n: int) -> State:
    """One window that holds all entries: the same entry is largest in both, or two different ones."""
    axes = tuple(a.plain for a in axes)
    _, _, rho = standard(x)
    at = rho[tuple(slice(0, 1) if i in over else slice(None) for i in range(rho.ndim))]
    alike = np.where(at >= 1 - 1e-12, 1.0, maxima.match(float(n), at))
    classes = tuple(a.classes for a in axes)
    out = np.array(np.broadcast_to(q * (1 - alike) / max(n * (n - 1), 1), classes))
    same = tuple(slice(0, 1) if i in over else slice(None) for i in range(len(axes)))
    out[same] = q * alike / n
    return gradient(axes, out)
