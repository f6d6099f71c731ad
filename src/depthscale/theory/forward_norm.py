"""Forward rules of normalisations: subtract an average over a set of axes, divide by what is left.

    y_i = (x_i − x̄)/√(V + ε):   Q_y[a] = (Q[a] − Q̄[a]) / √((V_i + ε)(V_j + ε)),

Q̄ the average of Q over all pairs of entries of the normalised axes, V = Q[0] − Q̄[0]. Batch, layer, group, instance
and RMS normalisation differ only in the axes (and in the subtraction). Pairs of an entry with itself are counted, so
small batches and groups are exact to the order of the fluctuations of V.
"""

import math
from typing import NamedTuple

import numpy as np

from depthscale.graph import ops
from depthscale.graph.op import Op
from depthscale.numerics.estimate import Array
from depthscale.theory.forward import Setting, forward, specs_of
from depthscale.theory.forward_elementwise import law_factor
from depthscale.theory.index_algebra import merge, split
from depthscale.theory.moments import Axis, State, average_pairs, coarse, part_ends, state


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
    variance: Array  # V by part: (parts,), or (1,)
    scale: Array  # 1/√((V_i + ε)(V_j + ε)), broadcasts against q
    inverse: float  # E[1/V] · V: larger than 1 where V fluctuates between the groups that share one


def normalise(x: State, p: Plan) -> Normalised:
    """x minus its average (if wanted) over its root mean square, over the axes of the plan."""
    centred = x.q - average_pairs(x.q, x.axes, p.over) if p.subtract else x.q
    i = x.part_axis
    inside = i is not None and i in p.over
    same = centred[tuple(slice(None) if k == i else 0 for k in range(x.q.ndim))]
    if i is None:
        variance = np.array([max(float(same), 0.0)])
    else:
        parts = np.array(x.axes[i].parts, dtype=float)
        variance = np.maximum(same[: len(parts)], 0.0)
        if inside:
            variance = np.array([float(variance @ parts / parts.sum())])
    root = 1.0 / np.sqrt(variance + p.eps)
    if i is None or inside:
        scale = np.asarray(root[0] ** 2)
    else:
        first, second = part_ends(x.axes[i].parts)
        scale = (root[list(first)] * root[list(second)]).reshape([-1 if k == i else 1 for k in range(x.q.ndim)])
    mean = x.mean
    if p.subtract:
        mean = mean - x.average if inside else np.zeros_like(mean)
    mean = mean * (root[0] if i is None or inside else root)
    y = state(x.axes, centred * scale, mean, 0.0, kept_profile(x, p))
    return Normalised(y, variance, scale, inverse_excess(x, centred, p))


def kept_profile(x: State, p: Plan) -> tuple[Array | None, ...]:
    """Along an axis that is averaged over the profile stays; position by position nothing is left of it."""
    return tuple(s if i in p.over else None for i, s in enumerate(x.profile))


def inverse_excess(x: State, centred: Array, p: Plan) -> float:
    """E[1/V]·E[V] for the mean square V of ν effectively independent Gaussians: ν/(ν − 2).

    ν = 1/(mean ρ² over pairs of the normalised entries): Satterthwaite's count, and N − 1 for N independent ones.
    """
    v = float(centred.flat[0])
    if v <= 0:
        return 1.0
    rho2 = (centred / v) ** 2
    for k, axis in enumerate(x.axes):
        if k in p.over:
            rho2 = np.expand_dims(np.tensordot(rho2, axis.weights, ([k], [0])), k)
    freedom = 1.0 / max(float(rho2.flat[0]), 1e-300)
    return freedom / (freedom - 2) if freedom > 3 else 3.0


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
