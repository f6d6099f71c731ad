"""Forward rules of normalisations: subtract an average over a set of axes, divide by what is left.

    y_i = (x_i − x̄)/√(V + ε):   Q_y[a] = (Q[a] − Q̄[a]) / √((V_i + ε)(V_j + ε)),

Q̄ the average of Q over all pairs of entries of the normalised axes, V = Q[0] − Q̄[0]. Batch, layer, group, instance
and RMS normalisation differ only in the axes (and in the subtraction). Pairs of an entry with itself are counted, so
small batches and groups are exact to the order of the fluctuations of V.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from depthscale.graph import ops
from depthscale.graph.op import Op
from depthscale.numerics.estimate import Array
from depthscale.theory.align import coarse
from depthscale.theory.axes import Axis, mapped, projection, summed
from depthscale.theory.forward_elementwise import law_factor
from depthscale.theory.index_algebra import merge, split
from depthscale.theory.moments import State, along_axis, centred, combined, same_average, state
from depthscale.theory.rules import Setting, forward, specs_of


class Plan(NamedTuple):
    """A normalisation: over which axes, whether a mean is subtracted, ε, and the axes of its gain and bias."""

    over: tuple[int, ...]
    subtract: bool
    eps: float
    own: tuple[int, ...]


def plan(op: Op, setting: Setting, ndim: int) -> Plan | None:
    """What an op normalises; None where it does nothing but scale (batch norm in evaluation, at the start)."""
    if isinstance(op, ops.BatchNorm):
        if not setting.training:
            return None
        return Plan(tuple(i for i in range(ndim) if i != 1), True, op.eps, (1,))
    if isinstance(op, ops.InstanceNorm):
        return Plan(tuple(range(2, ndim)), True, op.eps, (1,))
    if isinstance(op, ops.LayerNorm | ops.RMSNorm):
        over = tuple(range(ndim - op.axes, ndim))
        return Plan(over, isinstance(op, ops.LayerNorm), op.eps, over)
    assert isinstance(op, ops.GroupNorm)  # the last kind: channels are split into (groups, members) first
    return Plan(tuple(range(2, ndim + 1)), True, op.eps, (1,))


class Normalised(NamedTuple):
    """The result of normalising, and what the way back needs."""

    y: State
    share: float  # V / (V + ε), on average
    scale: Array  # 1/√((V_i + ε)(V_j + ε)), broadcasts against q
    inverse: float  # E[1/V] · E[V]: larger than 1 where V fluctuates between the groups that share one
    beyond: float  # the same without what goes with the length of a unit's own weights


@lru_cache(maxsize=256)  # by identity: forward, gain and backward rules ask for the same one
def normalise(x: State, p: Plan) -> Normalised:
    """x minus its average (if wanted) over its root mean square, over the axes of the plan."""
    left = centred(x.q, x.axes, p.over) if p.subtract else x.q
    variance = left[tuple(slice(0, a.same) for a in x.axes)]  # by type of entry
    for k in p.over:
        variance = np.expand_dims(summed(variance, x.axes[k].shares, k), k)
    variance = np.maximum(variance, 0.0)
    root = 1.0 / np.sqrt(variance + p.eps)
    scale = combined(root, x.axes, np.multiply)
    i, mean = x.part_axis, x.mean
    for k in reversed(range(len(x.axes))):  # the factor by part
        if k != i:
            root = summed(root, x.axes[k].shares, k) if root.shape[k] > 1 else np.take(root, 0, axis=k)
    if p.subtract:
        mean = mean - x.average if i is not None and i in p.over else np.zeros_like(mean)
    y = state(x.axes, tilted(left * scale, x.axes, p.over), mean * (root if i is not None else float(root)))
    return Normalised(
        y,
        float(np.mean(variance / (variance + p.eps))),
        scale,
        inverse_excess(y, x.grain, p),
        inverse_excess(y, 0.0, p),
    )


def tilted(q: Array, axes: tuple[Axis, ...], over: tuple[int, ...]) -> Array:
    """E[x_i x_j / V] where V, the mean square of a unit, fluctuates from unit to unit along with x_i x_j.

    x of one unit is a Gaussian Σ √λ_m z_m φ_m in the eigenvectors of its covariance (whose class structure is taken
    as that of exchangeable axes), and E[λ_m z_m² / Σ λ z²] is about λ_m/(1 + 2 λ_m/Σλ), normalised: a pattern that
    all examples share weighs less than E[x_i x_j]/E[V] says.
    """
    own = tuple(slice(None) if i in over else slice(0, a.same) for i, a in enumerate(axes))
    part, sizes = q[own], []
    for i in over:
        part = mapped(part, i, projection(axes[i], axes[i].plain))
        sizes.append(axes[i].n)
    modes, counts = part, np.ones((1,) * part.ndim)
    for i, n in zip(over, sizes, strict=True):
        if n > 1:
            first, rest = np.take(modes, [0], axis=i), np.take(modes, [1], axis=i)
            modes = np.concatenate([first + (n - 1) * rest, first - rest], axis=i)
            counts = counts * along_axis(np.array([1.0, n - 1.0]), i, part.ndim)
    modes = np.maximum(modes, 0.0)
    trace = (modes * counts).sum(axis=over, keepdims=True)
    if not trace.min() > 0:
        return q
    new = modes / (1 + 2 * modes / trace)
    new = new * trace / (new * counts).sum(axis=over, keepdims=True) - modes
    for i, n in zip(over, sizes, strict=True):
        if n > 1:
            constant, rest = np.take(new, [0], axis=i), np.take(new, [1], axis=i)
            new = np.concatenate([(constant + (n - 1) * rest) / n, (constant - rest) / n], axis=i)
            new = np.take(new, [0] * axes[i].same + [1] * (axes[i].classes - axes[i].same), axis=i)
    out = q.copy()
    out[own] += new
    return out


def inverse_excess(y: State, grain: float, p: Plan) -> float:
    """E[1/V]·E[V] for the mean square V of ν effectively independent Gaussians: ν/(ν − 2).

    1/ν = mean ρ² over pairs of the normalised entries (Satterthwaite's count, N − 1 for N independent ones), plus
    1/(number of terms that a unit is a sum of): few terms make units of different length.
    """
    if y.length <= 0:
        return 1.0
    rho2 = y.q**2
    units = y.axes[1].n if 1 in p.over and len(y.axes) > 1 else 1
    for k in reversed(range(len(y.axes))):
        axis = y.axes[k]
        rho2 = summed(rho2, axis.weights, k) if k in p.over else same_average(rho2, y.axes[: k + 1], k)
    inverse = float(rho2) / y.length**2 + grain / units
    return 1 / (1 - 2 * inverse) if inverse < 1 / 3 else 3.0


def scaled(op: Op, y: State, x: State, own: tuple[int, ...]) -> State:
    """y times the op's gain plus its bias, both of which belong to the entries of the axes ``own``."""
    specs = specs_of(op, x)
    if "weight" in specs:
        mean, square = specs["weight"].moments
        if (mean, square) != (1.0, 1.0):
            y = y.with_q(y.q * law_factor(square, mean * mean, y, own), y.mean * mean)
    if "bias" in specs:
        mean, square = specs["bias"].moments
        if square:
            shift = law_factor(square, mean * mean, y, own)
            y = y.with_q(y.q + shift + 2 * mean * y.average, y.mean + mean)
    return y


def grouped(op: ops.GroupNorm, x: State) -> State:
    """Channels split into (groups, members)."""
    return split(coarse(x, 1), 1, (op.groups, x.axes[1].n // op.groups))


@forward.register(ops.BatchNorm, ops.LayerNorm, ops.RMSNorm, ops.InstanceNorm)
def _(op: Op, setting: Setting, x: State) -> State:
    p = plan(op, setting, len(x.axes))
    if p is None:
        return scaled(op, x, x, (1,))
    return scaled(op, normalise(x, p).y, x, p.own)


@forward.register(ops.GroupNorm)
def _(op: ops.GroupNorm, setting: Setting, x: State) -> State:
    p = plan(op, setting, len(x.axes))
    assert p is not None  # group norm always normalises
    y = merge(normalise(grouped(op, x), p).y, 1, 2)
    return scaled(op, y, x, p.own)


def effective_count(axes: tuple[Axis, ...]) -> int:
    """Number of entries of these axes together."""
    return math.prod(a.n for a in axes)
