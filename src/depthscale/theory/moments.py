"""The state that mean-field propagation carries: agreement moments.

Derivation. A network at initialisation is a random tensor program: its parameters are drawn from laws, its data from
a distribution. A tensor x of shape (n_1, …, n_k) in it is random, and for a wide network everything that the next op
needs to know of it are the mean of an element and the second moments of pairs of elements,

    m = E[x_i],        Q[a_1, …, a_k] = E[x_i x_j],

where the pair (i, j) is described, axis by axis, by how its two entries lie to each other. On an axis whose entries
are exchangeable (examples, units, heads) there are two classes: 0, the same entry, and 1, another one. On an axis
with order (rows and columns of an image) class d is distance d for d < r and class r is everything farther. On an
axis with parts (a class token before the others, features concatenated from several layers) a class says which
two parts the entries lie in. An axis of size 1 has the one class 0.

Q[0, …, 0] is the length q. Of a batch of images (batch, channel, y, x), Q[1, 0, 0, 0]/q is the usual correlation c of
two inputs at one unit and Q[0, 0, 1, 0] the covariance of a pixel with the one below: the length and correlation maps
of fully connected networks and the covariance maps of convolutional ones are corners of one array.

Why it closes. Layout operations permute, merge, split or copy axes, so they act on Q by index algebra. A contraction
with independent weights sums products of classes, weighted by the number of pairs in each class. The result is a sum
of many terms, so it is Gaussian, and an elementwise function needs no more than m and Q. Normalisations subtract and
divide averages of Q over classes. The gradient is a tensor of the same shape and carries G[a] = E[g_i g_j] through
the adjoints of the same rules.

Assumed: elements of one class are alike (borders of an image are averaged in with exact counts), forward values
and gradients are independent given Q (exact for wide networks whose weights are not tied between the two: Yang 2020,
"Tensor Programs II"), and fluctuations of order 1/width are left out (``finite_width`` estimates them).

Sources of the special cases: Poole et al. 2016; Schoenholz et al. 2017; Xiao et al. 2018 (convolutions); Yang et al.
2019 (batch normalisation); Yang & Schoenholz 2017 (residual networks).
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from depthscale.errors import GraphError
from depthscale.numerics.estimate import Array

Shape = tuple[int, ...]
REACH = 3  # distances that an ordered axis tells apart: 0, 1, 2, and 3 or more


@dataclass(frozen=True)
class Axis:
    """One axis: its size, how many distances it tells apart (1: entries are exchangeable), or the sizes of its parts.

    Classes of an axis with S parts: s = 0 … S−1 the same entry of part s, then, for s ≤ t, two entries of s and t.
    """

    n: int
    reach: int = 1
    parts: tuple[int, ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes of pairs."""
        return len(_pairs(self))

    @property
    def pairs(self) -> Array:
        """Ordered pairs of entries in each class: (classes,), in all n²."""
        return _pairs(self)

    @property
    def same(self) -> int:
        """How many classes (the first ones) hold pairs of one entry with itself."""
        return max(len(self.parts), 1)

    @property
    def plain(self) -> "Axis":
        """The axis without order and parts."""
        return Axis(self.n)

    @property
    def weights(self) -> Array:
        """The share of all ordered pairs in each class: (classes,), in all 1."""
        return _weights(self)


@lru_cache(maxsize=4096)
def _pairs(axis: Axis) -> Array:
    n = axis.n
    if axis.parts:
        s = axis.parts
        cross = [float(a * (a - 1) if i == j else 2 * a * b) for i, j, a, b in part_pairs(s)]
        return np.array([*map(float, s), *cross])
    if n == 1:
        return np.array([1.0])
    near = [float(n)] + [2.0 * (n - d) for d in range(1, min(axis.reach, n))]
    rest = float(n * n) - sum(near)
    return np.array([*near, rest] if rest > 0 else near)


@lru_cache(maxsize=4096)
def _weights(axis: Axis) -> Array:
    return np.asarray(_pairs(axis) / float(axis.n) ** 2)


def part_pairs(parts: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """(s, t, size of s, size of t) for s ≤ t, in the order of the classes."""
    return [(i, j, parts[i], parts[j]) for i in range(len(parts)) for j in range(i, len(parts))]


@lru_cache(maxsize=4096)
def part_ends(parts: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For every class of an axis with parts, the parts that the two entries lie in."""
    cross = part_pairs(parts)
    first = tuple(range(len(parts))) + tuple(i for i, *_ in cross)
    return first, tuple(range(len(parts))) + tuple(j for _, j, *_ in cross)


@dataclass(frozen=True, eq=False)
class State:
    """The moments of one tensor. axes: one per dimension; mean: E[x], a number, or one per part along the axis that
    has parts; q: E[x_i x_j] by class, one dimension per axis.

    ``spread`` is the relative variance of the tensor's own mean square about q in a network of finite width.
    ``profile``: along ordered axes, how the size of x varies with position (mean square 1), or None where it does not:
    x = s_y s_x x̃ with x̃ stationary. q and mean are averages of x, not of x̃.
    ``law`` and ``kappa``: where x is not Gaussian but x = H(z) for a standard Gaussian z, H sampled at
    ``copula.nodes()`` (of x̃ where there is a profile) and the correlations of z by class.
    ``gx``: of a gradient, E[(g x)_i (g x)_j] by class where that is not the product of the moments of g and of x.
    """

    axes: tuple[Axis, ...]
    mean: Array
    q: Array
    spread: float = 0.0
    profile: tuple[Array | None, ...] = ()
    gx: Array | None = None
    law: Array | None = None
    kappa: Array | None = None

    @property
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
    def length(self) -> float:
        """q = E[x²], averaged over all elements."""
        if self.part_axis is None:
            return float(self.q.flat[0])
        same = self.q[tuple(slice(None) if i == self.part_axis else 0 for i in range(self.q.ndim))]
        parts = np.array(self.axes[self.part_axis].parts, dtype=float)
        return float(same[: len(parts)] @ parts / parts.sum())

    @cached_property
    def average(self) -> float:
        """E[x], averaged over all elements."""
        if self.part_axis is None:
            return float(self.mean)
        parts = np.array(self.axes[self.part_axis].parts, dtype=float)
        return float(self.mean @ parts / parts.sum())

    @cached_property
    def key(self) -> tuple[object, ...]:
        """What two equal states have in common, for caches."""
        profile = tuple(None if s is None else s.tobytes() for s in self.profile)
        rest = tuple(None if a is None else a.tobytes() for a in (self.gx, self.law, self.kappa))
        return (self.axes, self.mean.tobytes(), self.q.tobytes(), self.spread, profile, rest)

    @property
    def correlation(self) -> float:
        """c: E[x x'] / q of two inputs (axis 0) at one unit; nan for a batch of one."""
        if not self.axes or self.axes[0].n == 1 or self.axes[0].parts:
            return math.nan
        q = np.take(self.q, self.q.shape[0] - 1, axis=0)
        for i in reversed(range(1, len(self.axes))):
            q = same_average(q, self.axes[1:], i - 1)
        return float(q) / self.length if self.length > 0 else math.nan

    def means(self) -> Array:
        """E[x_i] E[x_j] by class, in a shape that broadcasts against q."""
        if self.part_axis is None:
            return np.asarray(self.mean * self.mean)
        first, second = part_ends(self.axes[self.part_axis].parts)
        return _along(self.mean[list(first)] * self.mean[list(second)], self.part_axis, self.q.ndim)

    def deviations(self) -> Array:
        """√(var x_i var x_j) by class, in a shape that broadcasts against q."""
        if self.part_axis is None:
            return np.asarray(max(self.length - float(self.mean) ** 2, 0.0))
        variance = self.part_variances()
        first, second = part_ends(self.axes[self.part_axis].parts)
        return _along(np.sqrt(variance[list(first)] * variance[list(second)]), self.part_axis, self.q.ndim)

    def part_variances(self) -> Array:
        """The variance of an element, per part: (parts,), or (1,) without."""
        if self.part_axis is None:
            return np.array([max(self.length - float(self.mean) ** 2, 0.0)])
        same = self.q[tuple(slice(None) if i == self.part_axis else 0 for i in range(self.q.ndim))]
        return np.maximum(same[: len(self.mean)] - self.mean**2, 0.0)

    def with_q(self, q: Array, mean: Array | None = None, spread: float | None = None) -> "State":
        """The same axes with other moments."""
        return state(
            self.axes, q, self.mean if mean is None else mean, self.spread if spread is None else spread, self.profile
        )


def _along(values: Array, axis: int, ndim: int) -> Array:
    return np.asarray(values.reshape([-1 if i == axis else 1 for i in range(ndim)]))


_SPLIT = 2.0**17 + 1


def rounded(x: Array) -> Array:
    """x to 36 bits (1.5e-11 relative): repeated layers then reach their fixed point exactly, and caches know it."""
    big = x * _SPLIT
    out = np.asarray(big - (big - x))
    return out if np.isfinite(out).all() else x


def state(
    axes: tuple[Axis, ...],
    q: Array,
    mean: Array | float = 0.0,
    spread: float = 0.0,
    profile: tuple[Array | None, ...] = (),
) -> State:
    """A State whose q is broadcast to the classes of ``axes``, rounded to 36 bits."""
    wanted = tuple(a.classes for a in axes)
    if q.shape != wanted:
        q = np.broadcast_to(q, wanted)
    if profile and (len(profile) != len(axes) or all(s is None for s in profile)):
        profile = ()
    mean = rounded(np.asarray(mean, dtype=np.float64))
    return State(axes, mean, rounded(np.ascontiguousarray(q)), spread, profile)


# --- profiles: how large a tensor is at each position ---------------------------------------------------------------


def normalised_profile(squares: Array) -> Array | None:
    """The profile whose squares are proportional to these (n,); None where it is flat."""
    mean = float(squares.mean())
    if mean <= 0 or float(np.ptp(squares)) <= 1e-7 * mean:
        return None
    return rounded(np.sqrt(squares / mean))


def profile_pairs(s: Array | None, axis: Axis) -> Array:
    """E over the pairs of each class of s_p s_p': (classes,), for an axis without parts."""
    if s is None:
        return np.ones(axis.classes)
    near = [float(s @ s)] + [2 * float(s[:-d] @ s[d:]) for d in range(1, min(axis.reach, axis.n))]
    sums = near if len(near) == axis.classes else [*near, float(s.sum()) ** 2 - sum(near)]
    return np.asarray(np.array(sums) / axis.pairs)


def modulation(x: State) -> tuple[Array, float]:
    """E[s_i s_j] by class, in a shape that broadcasts against q, and E[s]: what q and mean hold of the profile."""
    pairs, mean = np.ones((1,) * x.q.ndim), 1.0
    for i, s in enumerate(x.profile):
        if s is not None:
            pairs = pairs * _along(profile_pairs(s, x.axes[i]), i, x.q.ndim)
            mean *= float(s.mean())
    return pairs, mean


def stationary(x: State) -> State:
    """x̃: the state with its profile divided out."""
    if not x.profile:
        return x
    pairs, mean = modulation(x)
    y = state(x.axes, x.q / np.maximum(pairs, 1e-300), x.mean / mean, x.spread)
    return replace(y, law=x.law, kappa=x.kappa)


def modulated(x: State, profile: tuple[Array | None, ...]) -> State:
    """A stationary state with a profile put on."""
    if not profile:
        return x
    shaped = State(x.axes, x.mean, x.q, x.spread, profile)
    pairs, mean = modulation(shaped)
    y = state(x.axes, x.q * pairs, x.mean * mean, x.spread, profile)
    return replace(y, law=x.law, kappa=x.kappa)


def mixed_profile(parts: list[tuple[float, tuple[Array | None, ...]]], ndim: int) -> tuple[Array | None, ...]:
    """The profile of a sum of uncorrelated tensors, given their lengths and profiles."""
    if not any(profile for _, profile in parts):
        return ()
    out: list[Array | None] = []
    for i in range(ndim):
        rows = [(q, p[i] if p else None) for q, p in parts]
        shaped = [s for _, s in rows if s is not None]
        if not shaped or any(len(s) != len(shaped[0]) for s in shaped):
            out.append(None)
            continue
        squares = np.zeros(len(shaped[0]))
        for q, s in rows:
            squares = squares + (q if s is None else q * s * s)
        out.append(normalised_profile(squares))
    return tuple(out)


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
    return state(axes, mean * mean + (square - mean * mean) * same_class(axes), np.full(_parts_of(axes), mean))


def _parts_of(axes: tuple[Axis, ...]) -> tuple[int, ...]:
    found = next((a.parts for a in axes if a.parts), ())
    return (len(found),) if found else ()


def average_pairs(q: Array, axes: tuple[Axis, ...], over: tuple[int, ...], keep: bool = True) -> Array:
    """q averaged over all ordered pairs of entries of the axes ``over`` (their own pairs included)."""
    for i in sorted(over, reverse=True):
        w = axes[i].weights
        q = np.tensordot(q, w, ([i], [0]))
        if keep:
            q = np.expand_dims(q, i)
    return q


def same_average(q: Array, axes: tuple[Axis, ...], i: int) -> Array:
    """q where axis i agrees, averaged over its parts; the axis disappears."""
    axis = axes[i]
    if not axis.parts:
        return np.asarray(np.take(q, 0, axis=i))
    parts = np.array(axis.parts, dtype=float)
    return np.asarray(np.tensordot(np.take(q, range(len(parts)), axis=i), parts / parts.sum(), ([i], [0])))


# --- changing what an axis tells apart --------------------------------------------------------------------------


def coarsen(q: Array, axis: Axis, i: int) -> Array:
    """q with axis i made exchangeable: the classes of different entries are averaged."""
    if axis.n == 1:
        return q if q.shape[i] == 1 else np.take(q, [0], axis=i)
    if not axis.parts and q.shape[i] == 2:
        return q
    s, p = axis.same, axis.pairs
    other = np.tensordot(np.take(q, range(s, len(p)), axis=i), p[s:] / max(p[s:].sum(), 1e-300), ([i], [0]))
    return np.stack([same_average(q, (axis,) * (i + 1), i), other], axis=i)


def coarse(x: State, *which: int) -> State:
    """The state with these axes (all, if none is named) made exchangeable."""
    axes, q, mean = list(x.axes), x.q, x.mean
    for i in which or range(len(axes)):
        if axes[i] != axes[i].plain:
            q = coarsen(q, axes[i], i)
            mean = np.asarray(x.average) if axes[i].parts else mean
            axes[i] = axes[i].plain
    return state(tuple(axes), q, mean, x.spread, x.profile)


def refine(x: State, i: int, parts: tuple[int, ...]) -> State:
    """The state with axis i cut into parts, of which its own parts (if any) are unions."""
    axis = x.axes[i]
    if axis.parts == parts or not parts:
        return x
    if not axis.parts:
        x = coarse(x)
        old = [0] * len(parts)
    else:
        edges = np.cumsum(axis.parts)
        old = [int(np.searchsorted(edges, e)) for e in np.cumsum(parts)]
    count = len(axis.parts)
    index = [o if count else 0 for o in old]
    where = {(a, b): count + k for k, (a, b, *_) in enumerate(part_pairs(axis.parts))} if count else {}
    for s, t, *_ in part_pairs(parts):
        a, b = old[s], old[t]
        index.append(where[(min(a, b), max(a, b))] if count else min(1, x.q.shape[i] - 1))
    axes = tuple(Axis(a.n, parts=parts) if k == i else a for k, a in enumerate(x.axes))
    mean = x.mean[old] if count else np.full(len(parts), float(x.mean))
    return state(axes, np.take(x.q, index, axis=i), mean, x.spread)


def merge_parts(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The coarsest parts that both divisions of one axis are unions of."""
    if not a or not b:
        return a or b
    edges = sorted({*np.cumsum(a).tolist(), *np.cumsum(b).tolist()})
    return tuple(int(n) for n in np.diff([0, *edges]))


def aligned(*xs: State) -> tuple[State, ...]:
    """States of as many axes each (those missing in front are of size 1), whose axes have classes in common.

    Sizes may differ as broadcasting allows. Where two different axes have parts, the later one's are averaged away.
    """
    ndim = max(len(x.axes) for x in xs)
    out = [_lifted(x, ndim) for x in xs]
    if all(x.part_axis is None for x in out):
        return tuple(_same_reach(out))
    chosen = next(x.part_axis for x in out if x.part_axis is not None)
    out = [coarse(x) if x.part_axis not in (None, chosen) else x for x in out]
    parts: tuple[int, ...] = ()
    for x in out:
        parts = merge_parts(parts, x.axes[chosen].parts)
    out = [refine(x, chosen, parts) if x.axes[chosen].n > 1 else x for x in out]
    return tuple(_same_reach(out))


def _same_reach(xs: list[State]) -> list[State]:
    """Where one state tells distances apart and another does not, nothing is lost by copying the class."""
    for i in range(len(xs[0].axes)):
        reach = max(x.axes[i].reach if not x.axes[i].parts else 1 for x in xs)
        if reach == 1 or any(x.axes[i].parts for x in xs):
            continue
        for k, x in enumerate(xs):
            axis = x.axes[i]
            if axis.n > 1 and axis.reach < reach:
                wide = Axis(axis.n, reach)
                index = [min(d, x.q.shape[i] - 1) for d in range(wide.classes)]
                axes = tuple(wide if j == i else a for j, a in enumerate(x.axes))
                xs[k] = State(axes, x.mean, np.take(x.q, index, axis=i), x.spread, x.profile)
    return xs


def _lifted(x: State, ndim: int) -> State:
    extra = ndim - len(x.axes)
    if extra == 0:
        return x
    profile = (None,) * extra + x.profile if x.profile else ()
    return State((Axis(1),) * extra + x.axes, x.mean, x.q.reshape((1,) * extra + x.q.shape), x.spread, profile)


def common_axes(xs: tuple[State, ...]) -> tuple[Axis, ...]:
    """The axes of the broadcast of aligned states."""
    return tuple(max((x.axes[i] for x in xs), key=lambda a: a.n) for i in range(len(xs[0].axes)))


def unbroadcast(g: State, axes: tuple[Axis, ...]) -> State:
    """The gradient of a tensor with these axes from that of its broadcast: sums over what was copied."""
    extra = len(g.axes) - len(axes)
    if extra == 0 and all(a.n == b.n for a, b in zip(axes, g.axes, strict=True)):
        return State(g.axes, g.mean, g.q, g.spread, g.profile)
    q = g.q
    for i, axis in enumerate(g.axes):
        copied = i < extra or (axes[i - extra].n == 1 and axis.n > 1)
        if copied:
            q = np.expand_dims(np.tensordot(q, axis.pairs, ([i], [0])), i)
    q = q.reshape(q.shape[extra:])
    kept = tuple(g.axes[i + extra] if g.axes[i + extra].n == a.n else a for i, a in enumerate(axes))
    return state(kept, q, np.zeros(_parts_of(kept)))


def need_same_shape(x: State, shape: Shape) -> None:
    """Raise GraphError unless the state describes a tensor of this shape (a rule is wrong otherwise)."""
    if x.shape != shape:
        raise GraphError(f"expected the moments of a tensor of shape {shape}, got {x.shape}; the forward rule is wrong")


def add_states(a: State | None, b: State) -> State:
    """The moments of the sum of two gradients that are uncorrelated and of mean zero."""
    if a is None:
        return b
    x, y = aligned(a, b)
    profile = mixed_profile([(x.length, x.profile), (y.length, y.profile)], len(x.axes))
    total = max(x.length * x.size + y.length * y.size, 1e-300)
    spread = (x.spread * (x.length * x.size) ** 2 + y.spread * (y.length * y.size) ** 2) / total**2
    return state(common_axes((x, y)), x.q + y.q, np.zeros(_parts_of(x.axes)), spread, profile)
