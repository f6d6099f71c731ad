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
from depthscale.theory import copula
from depthscale.theory.align import coarse
from depthscale.theory.axes import Axis
from depthscale.theory.forward_elementwise import law_factor
from depthscale.theory.frames import Split, split_of, type_weights
from depthscale.theory.index_algebra import merge, split
from depthscale.theory.moments import State, combined, mean_sums, state
from depthscale.theory.rules import Setting, forward, specs_of


class Plan(NamedTuple):
    """A normalisation: over which axes, whether a mean is subtracted, ε, and the axes of its gain and bias."""

    over: tuple[int, ...]
    subtract: bool
    eps: float
    own: tuple[int, ...]


@lru_cache(maxsize=1024)
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
    scale: Array  # 1/√((V_i + ε)(V_j + ε)), broadcasts against q as a matrix (``Split``)
    inverse: float  # E[1/V] · E[V]: larger than 1 where V fluctuates between the groups that share one
    beyond: float  # the same without what goes with the length of a unit's own weights


@lru_cache(maxsize=256)  # by identity: forward, gain and backward rules ask for the same one
def normalise(x: State, p: Plan) -> Normalised:
    """x minus its average (if wanted) over its root mean square, over the axes of the plan."""
    parted = split_of(x.axes, p.over)
    rows = parted.matrix(x.q)  # (rest, over)
    if p.subtract:
        down, up = parted.rows
        rows = rows - rows.dot(down).dot(up)
    variance = np.maximum(rows[parted.own].dot(parted.same), 0.0)  # by type of the rest
    root = 1.0 / np.sqrt(variance + p.eps)
    if len(root) == 1:
        scale = (root * root)[:, None]
    else:
        scale = combined(root.reshape(parted.rest_types), parted.rest, np.multiply)
        scale = np.broadcast_to(scale, [a.classes for a in parted.rest]).reshape(-1, 1)
    y = state(x.axes, parted.whole(_tilted(rows * scale, parted)), _normalised_mean(x, p, parted, root))
    excess = mean_square_correlation(y, parted)
    units = y.axes[1].n if 1 in p.over and len(y.axes) > 1 else 1
    return Normalised(
        y,
        float(np.add.reduce(variance / (variance + p.eps)) / len(variance)),
        scale,
        inverse_excess(excess + x.grain / units if y.length > 0 else 0.0),
        inverse_excess(excess),
    )


def _normalised_mean(x: State, p: Plan, parted: Split, root: Array) -> Array:
    """E[y], for 1/√(V + ε) by type of the axes that are not normalised."""
    i = x.part_axis
    if p.subtract:
        if i is None or i not in p.over:
            return np.zeros_like(x.mean)
        mean = np.asarray(x.mean - x.average)
    else:
        mean = x.mean
    if len(root) == 1 or i is None or i in p.over:  # one factor for all
        several = parted.several
        return np.asarray(mean * float(root @ type_weights(parted.rest, several) if several else root[0]))
    at = parted.rest_at.index(i)
    moved = np.moveaxis(root.reshape(parted.rest_types), at, 0).reshape(parted.rest_types[at], -1)
    others = parted.rest[:at] + parted.rest[at + 1 :]
    return np.asarray(mean * (moved @ type_weights(others, tuple(range(len(others))))))


def tilted(q: Array, axes: tuple[Axis, ...], over: tuple[int, ...]) -> Array:
    """E[x_i x_j / V] where V, the mean square of a unit, fluctuates from unit to unit along with x_i x_j.

    x of one unit is a Gaussian Σ √λ_m z_m φ_m in the eigenvectors of its covariance (whose class structure is taken
    as that of exchangeable axes), and E[λ_m z_m² / Σ λ z²] is about λ_m/(1 + 2 λ_m/Σλ), normalised: a pattern that
    all examples share weighs less than E[x_i x_j]/E[V] says.
    """
    parted = split_of(axes, over)
    return parted.whole(_tilted(parted.matrix(q), parted))


def _tilted(rows: Array, parted: Split) -> Array:
    """``tilted``, of moments as a matrix (rest, over)."""
    into, counts, back = parted.modes
    modes = np.maximum(rows[parted.own].dot(into), 0.0)  # (types, modes)
    trace = modes.dot(counts)[:, None]
    if not all(t > 0 for t in trace.ravel().tolist()):
        return rows
    new = modes / (1 + 2 * modes / trace)
    new = new * (trace / new.dot(counts)[:, None]) - modes
    out = rows.copy()
    out[parted.own] += new.dot(back)
    return out


def mean_square_correlation(y: State, parted: Split) -> float:
    """Mean ρ² over pairs of the normalised entries: 1/ν, with ν of them effectively independent (Satterthwaite)."""
    if y.length <= 0:
        return 0.0
    rows = parted.matrix(y.q)
    return float(parted.same_rest.dot(rows * rows).dot(parted.pairs)) / y.length**2


def inverse_excess(inverse: float) -> float:
    """E[1/V]·E[V] for the mean square V of ν effectively independent Gaussians: ν/(ν − 2), from 1/ν.

    1/ν is ``mean_square_correlation``, plus 1/(number of terms that a unit is a sum of): few terms make units of
    different length.
    """
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
            y = y.with_q(y.q + shift + mean * mean_sums(y), y.mean + mean)
    return y


def grouped(op: ops.GroupNorm, x: State) -> State:
    """Channels split into (groups, members)."""
    return split(coarse(x, 1), 1, (op.groups, x.axes[1].n // op.groups))


@forward.register(ops.BatchNorm, ops.LayerNorm, ops.RMSNorm, ops.InstanceNorm)
def _(op: Op, setting: Setting, x: State) -> State:
    p = plan(op, setting, len(x.axes))
    if p is None:
        return scaled(op, x, x, (1,))
    y = normalise(x, p).y
    return scaled(op, with_law(y, x) if isinstance(op, ops.BatchNorm) else y, x, p.own)


def with_law(y: State, x: State) -> State:
    """y with the law of x where that is not Gaussian, centred and scaled as all of a unit's values are alike."""
    if x.law is None or y.length <= 0:
        return y
    law = x.law - copula.average(x.law)
    size = copula.average(law * law)
    return y.marked(law=law * math.sqrt(y.length / size), kappa=x.kappa) if size > 0 else y


@forward.register(ops.GroupNorm)
def _(op: ops.GroupNorm, setting: Setting, x: State) -> State:
    p = plan(op, setting, len(x.axes))
    assert p is not None  # group norm always normalises
    y = merge(normalise(grouped(op, x), p).y, 1, 2)
    return scaled(op, y, x, p.own)


def effective_count(axes: tuple[Axis, ...]) -> int:
    """Number of entries of these axes together."""
    return math.prod(a.n for a in axes)
