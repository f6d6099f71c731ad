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

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscale.numerics.estimate import Array
from depthscale.theory import copula
from depthscale.theory.axes import Axis, summed
from depthscale.theory.frames import Frame, ends, frame, split_of, type_weights
from depthscale.theory.kept import kept

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False, init=False)
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

    def __init__(
        self,
        axes: tuple[Axis, ...],
        mean: Array,
        q: Array,
        spread: float = 0.0,
        grain: float = 0.0,
        law: Array | None = None,
        kappa: Array | None = None,
        gx: Array | None = None,
    ) -> None:
        # there are thousands of states in a propagation: one update is faster than eight frozen assignments
        self.__dict__.update(axes=axes, mean=mean, q=q, spread=spread, grain=grain, law=law, kappa=kappa, gx=gx)

    @kept
    def frame(self) -> Frame:
        """What the axes fix: shapes, and the weights that averages over classes are taken with."""
        return frame(self.axes)

    @property
    def shape(self) -> Shape:
        """The tensor's shape."""
        return self.frame.sizes

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.frame.size

    @property
    def part_axis(self) -> int | None:
        """The axis that has parts, if any."""
        return self.frame.part_axis

    @property
    def typed(self) -> bool:
        """Whether an axis tells edges apart."""
        return self.frame.typed

    @kept
    def amplitude(self) -> tuple[Array, float]:
        """See ``amplitudes``."""
        return _amplitudes(self)

    @kept
    def evened(self) -> Array:
        """q with the size of edges divided out."""
        return np.asarray(self.q / np.maximum(self.amplitude[0], 1e-300))

    @kept
    def even(self) -> "State | None":
        """The state with the size of edges divided out; None where there is nothing to divide out."""
        return _even(self) if self.typed and self.length > 0 else None

    @kept
    def length(self) -> float:
        """q = E[x²], averaged over all elements."""
        return float(self.q.ravel().dot(self.frame.same))

    @kept
    def average(self) -> float:
        """E[x], averaged over all elements."""
        return float(self.mean) if self.part_axis is None else float(self.mean @ self.axes[self.part_axis].shares)

    @kept
    def key(self) -> tuple[object, ...]:
        """What two equal states have in common, for caches."""
        numbers = (self.mean, self.q, self.law, self.kappa, self.gx)
        return (self.axes, b"|".join([b"" if a is None else a.tobytes() for a in numbers]), self.spread, self.grain)

    @property
    def correlation(self) -> float:
        """c: E[x x'] / q of two inputs (axis 0) at one unit; nan for a batch of one."""
        weights = self.frame.two_inputs
        if weights is None or self.length <= 0:
            return math.nan
        return float(self.q.ravel().dot(weights)) / self.length

    @kept
    def kappa_powers(self) -> Array | None:
        """The powers of κ that series in it use; None for Gaussian elements."""
        return None if self.kappa is None else copula.powers_of(self.kappa)

    @kept
    def standard(self) -> tuple[float, float, Array]:
        """See ``standard``."""
        return _standard(self)

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
        return np.maximum(self.frame.by_part @ self.q.ravel() - self.mean**2, 0.0)

    @kept
    def gaussian_spread(self) -> float:
        """Relative variance of the mean square of Gaussian elements with these correlations: twice the mean ρ²."""
        if self.part_axis is None:
            q, mean = self.q.ravel(), float(self.mean)
            if self.typed and self.length > 0:
                q, mean = self.evened.ravel(), mean / self.amplitude[1]
            v = self.length - mean * mean
            if v <= 0:
                return 0.0
            rho = (q - mean * mean if mean else q) / v  # first: squares of gradients that vanish are nothing
            return 2.0 * float((rho * rho).dot(self.frame.pairs))
        deviations = self.deviations()
        covariance = self.q - self.means() if self.mean.any() else self.q
        rho = np.divide(covariance, deviations, out=np.zeros(covariance.shape), where=deviations > 0).ravel()
        return 2.0 * float((rho * rho) @ self.frame.pairs)

    def marked(self, **fields: Any) -> "State":
        """The same moments with another spread, grain, law, kappa or gx; what is known of the moments is kept."""
        new = object.__new__(State)
        known = new.__dict__
        known.update(self.__dict__)
        for what in ("key", "even", "kappa_powers"):
            known.pop(what, None)
        known.update(fields)
        return new

    def filled(self, **fields: Any) -> "State":
        """This state with another spread, grain, law, kappa or gx, for who has just made it and shown it to nobody."""
        self.__dict__.update(fields)
        return self

    def with_q(self, q: Array, mean: Array | None = None, spread: float | None = None) -> "State":
        """The same axes with other moments."""
        y = state(self.axes, q, self.mean if mean is None else mean, self.spread if spread is None else spread)
        return y.filled(grain=self.grain) if self.grain else y


def along_axis(values: Array, axis: int, ndim: int) -> Array:
    """A vector in the shape that broadcasts along one of ndim axes."""
    return np.asarray(values.reshape([-1 if i == axis else 1 for i in range(ndim)]))


def mean_sums(x: State) -> Array:
    """E[x_i] + E[x_j] by class, in a shape that broadcasts against q."""
    i = x.part_axis
    if i is None:
        return np.asarray(2 * x.mean)
    first, second = x.axes[i].ends
    return along_axis(x.mean[first] + x.mean[second], i, x.q.ndim)


_BITS, _NUMBERS = np.dtype(np.int64), np.dtype(np.float64)
_HALF, _KEPT = np.array(1 << 16), np.array(~((1 << 17) - 1))


def rounded(x: Array) -> Array:
    """x to 36 bits (1.5e-11 relative): repeated layers then reach their fixed point exactly, and caches know it."""
    if not x.shape:  # a mean: plain numbers are faster than arrays of none
        fraction, exponent = math.frexp(float(x))
        if fraction * 0.0 == 0.0:
            return np.asarray(math.ldexp(math.floor(fraction * 2.0**36 + 0.5), exponent - 36))
        return x
    out = np.add(x.view(_BITS), _HALF, order="C")  # a carry goes into the exponent, as it should
    kept_bits: Array = np.bitwise_and(out, _KEPT, out).view(_NUMBERS)
    return kept_bits


_ZERO = np.zeros(())
_ZERO.flags.writeable = False


def state(axes: tuple[Axis, ...], q: Array, mean: Array | float = 0.0, spread: float = 0.0) -> State:
    """A State whose q is broadcast to the classes of ``axes``, rounded to 36 bits."""
    own = frame(axes)
    if q.shape != own.shape:
        q = np.broadcast_to(q, own.shape)
    if type(mean) is float and mean == 0.0:
        means = _ZERO
    else:
        means = rounded(np.asarray(mean, dtype=np.float64))
    new = State(axes, means, rounded(q), spread)
    new.__dict__["frame"] = own
    return new


def gradient(axes: tuple[Axis, ...], q: Array, spread: float = 0.0) -> State:
    """The moments of a gradient: mean zero."""
    parts = frame(axes).parts
    return state(axes, q, np.zeros(parts) if parts else 0.0, spread)


# --- edges: how much larger or smaller a tensor is there -----------------------------------------------------------


def type_squares(x: State) -> Array:
    """E[x²] by type along every axis that tells edges apart, 1 elsewhere; parts are averaged: (types, …)."""
    return np.maximum(x.frame.by_type @ x.q.ravel(), 0.0).reshape(x.frame.types)


def _several(values: Array) -> tuple[int, ...]:
    return tuple(i for i, n in enumerate(values.shape) if n > 1)


def ends_of(values: Array, axes: tuple[Axis, ...]) -> tuple[Array, Array]:
    """Values by type at the first and at the second entry of each class of pairs, for every way to pair them.

    An edge on one axis and an inside on another may be of one entry or of two, so there are several ways: (ways, …).
    """
    table = ends(axes, _several(values))
    flat = values.ravel()
    return flat[table.one], flat[table.two]


def combined(values: Array, axes: tuple[Axis, ...], combine: Callable[[Array, Array], Array]) -> Array:
    """combine(value at one entry, value at the other) by class, for values by type, averaged over the ways."""
    if values.size == 1:
        return np.asarray(combine(values, values))
    both = combine(*ends_of(values, axes))
    return np.asarray(both[0] if len(both) == 1 else both.sum(axis=0) / len(both))


def share_of_types(values: Array, axes: tuple[Axis, ...]) -> float:
    """The average of values by type."""
    if values.size == 1:
        return float(values.item())
    return float(values.ravel() @ type_weights(axes, _several(values)))


def amplitudes(x: State) -> tuple[Array, float]:
    """s_i s_j by class for the size s of x at edges and inside (mean square 1), and the mean of s."""
    return x.amplitude


def _amplitudes(x: State) -> tuple[Array, float]:
    if not x.typed or x.length <= 0:
        return np.ones((1,) * x.q.ndim), 1.0
    s = np.sqrt(np.maximum(x.frame.by_type.dot(x.q.ravel()), 0.0) / x.length)
    return pair_products(s, x.frame), float(s.dot(x.frame.edge_shares))


def pair_products(s: Array, of: Frame) -> Array:
    """s_i s_j by class, for flat values by type on the axes that tell edges apart."""
    return np.asarray((s[:, None] * s).ravel().dot(of.edge_pairs).reshape(of.edge_shape))


def stationary(x: State) -> State:
    """x̃ = x/s: the state with the size of edges divided out."""
    return x.even or x


def _even(x: State) -> State:
    y = state(x.axes, x.evened, x.mean / x.amplitude[1])
    return y.filled(spread=x.spread, grain=x.grain, law=x.law, kappa=x.kappa, even=None)


def standard(x: State) -> tuple[float, float, Array]:
    """Mean, variance and the correlations by class of a state without parts; classes of no variance agree.

    Where edges are told apart, of the state with their size divided out.
    """
    return stationary(x).standard


def _standard(x: State) -> tuple[float, float, Array]:
    m, v = float(x.mean), max(x.length - float(x.mean) ** 2, 0.0)
    if v <= 1e-14 * x.length or v == 0:
        return m, 0.0, np.ones_like(x.q)
    rho = np.minimum(np.maximum((x.q - m * m) / v, -1.0), 1.0)
    rho.ravel()[x.frame.own] = 1.0  # a view: rho is a new array, in order
    return m, v, rho


def modulated(x: State, like: State, power: float = 1.0) -> State:
    """x̃ times s^power, s the size of edges in ``like``."""
    if not like.typed or like.length <= 0:
        return x
    of = like.frame
    if power == 1.0:
        pairs, mean = amplitudes(like)
    else:
        s = np.sqrt(np.maximum(of.by_type @ like.q.ravel(), 0.0) / like.length) ** power
        s = s / math.sqrt(max(float((s * s) @ of.edge_shares), 1e-300))
        pairs, mean = pair_products(s, of), float(s @ of.edge_shares)
    y = state(x.axes, x.q * pairs, x.mean * mean)
    return y.filled(spread=x.spread, grain=x.grain, law=x.law, kappa=x.kappa)


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
    return frame(axes).parts


def average_pairs(q: Array, axes: tuple[Axis, ...], over: tuple[int, ...]) -> Array:
    """q averaged over all ordered pairs of entries of the axes ``over`` (their own pairs included), which keep one."""
    split = split_of(axes, over)
    return (split.matrix(q) @ split.pairs).reshape(split.kept)


def centred(q: Array, axes: tuple[Axis, ...], over: tuple[int, ...]) -> Array:
    """E of the pairs of x − x̄, x̄ the average over the axes ``over``: q_ij − r_i − r_j + r̄, r the averages of rows."""
    split = split_of(axes, over)
    down, up = split.rows
    rows = split.matrix(q)
    return split.whole(rows - (rows @ down) @ up)


def same_average(q: Array, axes: tuple[Axis, ...], i: int) -> Array:
    """q where axis i agrees, averaged over its types; the axis disappears."""
    axis = axes[i]
    front = (slice(None),) * i
    if axis.same == 1:
        return np.asarray(np.take(q, 0, axis=i))
    return summed(q[(*front, slice(0, axis.same))], axis.shares, i)


def same_of_all(q: Array, axes: tuple[Axis, ...]) -> Array:
    """q where every axis agrees, averaged over all types."""
    return np.asarray(q.ravel() @ frame(axes).same)
