"""The state that mean-field propagation carries: agreement moments.

Derivation. A network at initialisation is a random tensor program: its parameters are drawn from laws, its data from
a distribution. A tensor x of shape (n_1, …, n_k) in it is random, and for a wide network everything that the next op
needs to know of it are the mean of an element and the second moments of pairs of elements,

    m = E[x_i],        Q[a_1, …, a_k] = E[x_i x_j],

where the pair (i, j) is described, axis by axis, by how its two entries lie to each other. On an axis whose entries
are exchangeable (examples, units, heads) there are two classes: 0, the same entry, and 1, another one. On an axis
with order (rows and columns of an image) class d is distance d for d < r and class r is everything farther; behind a
padded convolution the first and last entries, which read zeros, are told from those inside. On an axis with parts (a
class token before the others, features concatenated from several layers) a class says which two parts the entries
lie in. An axis of size 1 has the one class 0.

Q[0, …, 0] is the length q. Of a batch of images (batch, channel, y, x), Q[1, 0, 0, 0]/q is the usual correlation c of
two inputs at one unit and Q[0, 0, 1, 0] the covariance of a pixel with the one below: the length and correlation maps
of fully connected networks and the covariance maps of convolutional ones are corners of one array.

Why it closes. Layout operations permute, merge, split or copy axes, so they act on Q by index algebra. A contraction
with independent weights sums products of classes, weighted by the number of pairs in each class. The result is a sum
of many terms, so it is Gaussian, and an elementwise function needs no more than m and Q. Normalisations subtract and
divide averages of Q over classes. The gradient is a tensor of the same shape and carries G[a] = E[g_i g_j] through
the adjoints of the same rules.

Assumed: elements of one class are alike (only the outermost rows and columns are told apart), forward values
and gradients are independent given Q (exact for wide networks whose weights are not tied between the two: Yang 2020,
"Tensor Programs II"), and fluctuations of order 1/width are left out (``finite_width`` estimates them).

Sources of the special cases: Poole et al. 2016; Schoenholz et al. 2017; Xiao et al. 2018 (convolutions); Yang et al.
2019 (batch normalisation); Yang & Schoenholz 2017 (residual networks).
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from depthscale.numerics.estimate import Array
from depthscale.theory.axes import Axis, mapped, row_weights, summed

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class State:
    """The moments of one tensor. axes: one per dimension; mean: E[x], a number, or one per part along the axis that
    has parts (where edges are told apart it is proportional to their root mean square); q: E[x_i x_j] by class, one
    dimension per axis.

    ``spread`` is the relative variance of the tensor's own mean square about q in a network of finite width.
    ``grain``: of sums over few terms, 1/their number: units of one layer differ in length by this much (relative
    variance 2·grain); of a gradient behind a normalisation, the factor by which this is overrated in front of the
    layer (0: none), whose weights are large where the length is. ``law`` and ``kappa``: where x is not Gaussian but
    x = H(z) for a standard Gaussian z, H sampled at ``copula.nodes()`` (averaged over edges and inside) and the
    correlations of z by class.
    ``gx``: of a gradient, E[(g x)_i (g x)_j] by class where that is not the product of the moments of g and of x.
    """

    axes: tuple[Axis, ...]
    mean: Array
    q: Array
    spread: float = 0.0
    grain: float = 0.0
    law: Array | None = None
    kappa: Array | None = None
    gx: Array | None = None

    @cached_property
    def shape(self) -> Shape:
        """The tensor's shape."""
        return tuple(a.n for a in self.axes)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @cached_property
    def part_axis(self) -> int | None:
        """The axis that has parts, if any."""
        return next((i for i, a in enumerate(self.axes) if a.parts), None)

    @cached_property
    def typed(self) -> bool:
        """Whether an axis tells edges apart."""
        return any(a.edge for a in self.axes)

    @cached_property
    def amplitude(self) -> tuple[Array, float]:
        """See ``amplitudes``."""
        return _amplitudes(self)

    @cached_property
    def length(self) -> float:
        """q = E[x²], averaged over all elements."""
        return float(same_of_all(self.q, self.axes))

    @cached_property
    def average(self) -> float:
        """E[x], averaged over all elements."""
        return float(self.mean) if self.part_axis is None else float(self.mean @ self.axes[self.part_axis].shares)

    @cached_property
    def key(self) -> tuple[object, ...]:
        """What two equal states have in common, for caches."""
        rest = tuple(None if a is None else a.tobytes() for a in (self.law, self.kappa, self.gx))
        return (self.axes, self.mean.tobytes(), self.q.tobytes(), self.spread, self.grain, rest)

    @property
    def correlation(self) -> float:
        """c: E[x x'] / q of two inputs (axis 0) at one unit; nan for a batch of one."""
        if not self.axes or self.axes[0].n == 1 or self.axes[0].parts:
            return math.nan
        other = np.take(self.q, self.q.shape[0] - 1, axis=0)
        return float(same_of_all(other, self.axes[1:])) / self.length if self.length > 0 else math.nan

    def means(self) -> Array:
        """E[x_i] E[x_j] by class, in a shape that broadcasts against q."""
        pairs, mean = amplitudes(self)
        i = self.part_axis
        if i is None:
            return np.asarray((self.mean / mean) ** 2 * pairs)
        first, second = self.axes[i].ends
        return np.asarray(along_axis(self.mean[first] * self.mean[second] / mean**2, i, self.q.ndim) * pairs)

    def deviations(self) -> Array:
        """√(var x_i var x_j) by class, in a shape that broadcasts against q."""
        pairs, mean = amplitudes(self)
        i = self.part_axis
        if i is None:
            return np.asarray(max(self.length - float(self.mean / mean) ** 2, 0.0) * pairs)
        variance = self.part_variances()
        first, second = self.axes[i].ends
        return np.asarray(along_axis(np.sqrt(variance[first] * variance[second]), i, self.q.ndim) * pairs)

    def part_variances(self) -> Array:
        """The variance of an element, per part: (parts,), or (1,) without."""
        i = self.part_axis
        if i is None:
            return np.array([max(self.length - float(self.mean) ** 2, 0.0)])
        q = self.q
        for k in reversed(range(len(self.axes))):
            if k != i:
                q = same_average(q, self.axes, k)
        return np.maximum(q[: len(self.mean)] - self.mean**2, 0.0)

    def with_q(self, q: Array, mean: Array | None = None, spread: float | None = None) -> "State":
        """The same axes with other moments."""
        y = state(self.axes, q, self.mean if mean is None else mean, self.spread if spread is None else spread)
        return replace(y, grain=self.grain) if self.grain else y


def along_axis(values: Array, axis: int, ndim: int) -> Array:
    """A vector in the shape that broadcasts along one of ndim axes."""
    return np.asarray(values.reshape([-1 if i == axis else 1 for i in range(ndim)]))


_SPLIT = 2.0**17 + 1


def rounded(x: Array) -> Array:
    """x to 36 bits (1.5e-11 relative): repeated layers then reach their fixed point exactly, and caches know it."""
    with np.errstate(over="ignore", invalid="ignore"):
        big = x * _SPLIT
        out = np.asarray(big - (big - x))
    return out if np.isfinite(out).all() else x


def state(axes: tuple[Axis, ...], q: Array, mean: Array | float = 0.0, spread: float = 0.0) -> State:
    """A State whose q is broadcast to the classes of ``axes``, rounded to 36 bits."""
    wanted = tuple(a.classes for a in axes)
    if q.shape != wanted:
        q = np.broadcast_to(q, wanted)
    return State(axes, rounded(np.asarray(mean, dtype=np.float64)), rounded(np.ascontiguousarray(q)), spread)


# --- edges: how much larger or smaller a tensor is there -----------------------------------------------------------


def type_squares(x: State) -> Array:
    """E[x²] by type along every axis that tells edges apart, 1 elsewhere; parts are averaged: (types, …)."""
    q = x.q
    for i, axis in enumerate(x.axes):
        if axis.edge:
            q = q[(slice(None),) * i + (slice(0, axis.same),)]
        else:
            q = same_average(q, x.axes, i)
            q = q.reshape((*q.shape[:i], 1, *q.shape[i:]))
    return np.maximum(q, 0.0)


def ends_of(values: Array, axes: tuple[Axis, ...], swapped: frozenset[int] = frozenset()) -> tuple[Array, Array]:
    """Values by type at the first and at the second entry of each class of pairs; on ``swapped`` axes the other way."""
    one = two = values
    for i, axis in enumerate(axes):
        if values.shape[i] > 1:
            first, second = axis.ends[::-1] if i in swapped else axis.ends
            one, two = np.take(one, first, axis=i), np.take(two, second, axis=i)
    return one, two


def combined(values: Array, axes: tuple[Axis, ...], combine: Callable[[Array, Array], Array]) -> Array:
    """combine(value at one entry, value at the other) by class, for values by type.

    An edge on one axis and an inside on another may be of one entry or of two: both ways are averaged.
    """
    several = [i for i in range(len(axes)) if values.shape[i] > 1]
    ways = [frozenset(w) for k in range(len(several)) for w in itertools.combinations(several[1:], k)] or [frozenset()]
    return np.asarray(sum(combine(*ends_of(values, axes, way)) for way in ways) / len(ways))


def share_of_types(values: Array, axes: tuple[Axis, ...]) -> float:
    """The average of values by type."""
    for i in reversed(range(len(axes))):
        values = _averaged(values, axes, i)
    return float(values)


def _averaged(values: Array, axes: tuple[Axis, ...], i: int) -> Array:
    if values.shape[i] == 1:
        return np.asarray(np.take(values, 0, axis=i))
    return summed(values, axes[i].shares, i)


def amplitudes(x: State) -> tuple[Array, float]:
    """s_i s_j by class for the size s of x at edges and inside (mean square 1), and the mean of s."""
    return x.amplitude


def _amplitudes(x: State) -> tuple[Array, float]:
    if not x.typed or x.length <= 0:
        return np.ones((1,) * x.q.ndim), 1.0
    s = np.sqrt(type_squares(x) / max(x.length, 1e-300))
    return combined(s, x.axes, np.multiply), share_of_types(s, x.axes)


def stationary(x: State) -> State:
    """x̃ = x/s: the state with the size of edges divided out."""
    if not x.typed or x.length <= 0:
        return x
    pairs, mean = amplitudes(x)
    y = state(x.axes, x.q / np.maximum(pairs, 1e-300), x.mean / mean, x.spread)
    return replace(y, law=x.law, kappa=x.kappa, grain=x.grain)


def modulated(x: State, like: State, power: float = 1.0) -> State:
    """x̃ times s^power, s the size of edges in ``like``."""
    if not like.typed or like.length <= 0:
        return x
    s = np.sqrt(type_squares(like) / max(like.length, 1e-300)) ** power
    s = s / math.sqrt(max(share_of_types(s * s, like.axes), 1e-300))
    y = state(x.axes, x.q * combined(s, like.axes, np.multiply), x.mean * share_of_types(s, like.axes), x.spread)
    return replace(y, law=x.law, kappa=x.kappa, grain=x.grain)


# --- patterns and averages --------------------------------------------------------------------------------------


def plain_axes(shape: Shape) -> tuple[Axis, ...]:
    """Exchangeable axes of these sizes."""
    return tuple(Axis(n) for n in shape)


def same_class(axes: tuple[Axis, ...]) -> Array:
    """1 where all entries are the same, else 0: the pattern of independent elements, of the shape of q."""
    out = np.zeros(tuple(a.classes for a in axes))
    out[tuple(slice(0, a.same) for a in axes)] = 1.0
    return out


def independent(axes: tuple[Axis, ...], square: float, mean: float = 0.0) -> State:
    """Independent elements of this mean and mean square."""
    return state(axes, mean * mean + (square - mean * mean) * same_class(axes), np.full(parts_shape(axes), mean))


def parts_shape(axes: tuple[Axis, ...]) -> tuple[int, ...]:
    """The shape of a mean: (parts,), or () without."""
    found = next((a.parts for a in axes if a.parts), ())
    return (len(found),) if found else ()


def average_pairs(q: Array, axes: tuple[Axis, ...], over: tuple[int, ...], keep: bool = True) -> Array:
    """q averaged over all ordered pairs of entries of the axes ``over`` (their own pairs included)."""
    for i in sorted(over, reverse=True):
        q = summed(q, axes[i].weights, i)
        if keep:
            q = q.reshape((*q.shape[:i], 1, *q.shape[i:]))
    return q


def centred(q: Array, axes: tuple[Axis, ...], over: tuple[int, ...]) -> Array:
    """E of the pairs of x − x̄, x̄ the average over the axes ``over``: q_ij − r_i − r_j + r̄, r the averages of rows."""
    mean = average_pairs(q, axes, over)
    if all(axes[i].same == 1 for i in over):
        return q - mean  # every row has the same average
    rows = q
    for i in over:
        rows = mapped(rows, i, row_weights(axes[i]))
    shape = tuple(a if i in over else Axis(1) for i, a in enumerate(axes))  # on the other axes rows are by class
    return np.asarray(q - _rows_of(rows, shape, over) + mean)


def _rows_of(rows: Array, axes: tuple[Axis, ...], over: tuple[int, ...]) -> Array:
    """r_i + r_j by class, for rows by type on the axes ``over`` and by class elsewhere."""
    moved = np.moveaxis(rows, over, range(len(over)))
    inner = moved.reshape((*moved.shape[: len(over)], -1))
    kept = tuple(axes[i] for i in over)
    columns = [combined(inner[..., k], kept, np.add) for k in range(inner.shape[-1])]
    total = np.stack(columns, axis=-1)
    total = total.reshape((*total.shape[:-1], *moved.shape[len(over) :]))
    return np.asarray(np.moveaxis(total, range(len(over)), over))


def same_average(q: Array, axes: tuple[Axis, ...], i: int) -> Array:
    """q where axis i agrees, averaged over its types; the axis disappears."""
    axis = axes[i]
    front = (slice(None),) * i
    if axis.same == 1:
        return np.asarray(np.take(q, 0, axis=i))
    return summed(q[(*front, slice(0, axis.same))], axis.shares, i)


def same_of_all(q: Array, axes: tuple[Axis, ...]) -> Array:
    """q where every axis agrees, averaged over all types."""
    for i in reversed(range(len(axes))):
        q = same_average(q, axes, i)
    return q
