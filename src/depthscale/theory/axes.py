"""Axes and the classes of pairs of entries that they tell apart; see ``moments`` for what classes are for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from depthscale.numerics.estimate import Array
from depthscale.theory.kept import kept

REACH = 3  # distances that an ordered axis tells apart: 0, 1, 2, and 3 or more


class _OfAKind(type):
    """Makes one object for all axes that mean the same, which are then compared by identity and never counted twice."""

    _made: dict[tuple[Any, ...], Any] = {}  # noqa: RUF012

    if not TYPE_CHECKING:

        def __call__(
            cls,
            n: int,
            reach: int = 1,
            parts: tuple[int, ...] = (),
            edge: bool = False,
            factors: tuple[int, ...] = (),
        ) -> "Axis":
            key = (n, reach, parts, edge, factors)
            found = cls._made.get(key)
            if found is None:
                new = super().__call__(n, reach, parts, edge, factors)
                found = cls._made.setdefault((new.n, new.reach, new.parts, new.edge, new.factors), new)
                cls._made[key] = found
            return found


@dataclass(frozen=True, eq=False)
class Axis(metaclass=_OfAKind):
    """One axis of a tensor: its size and what it tells apart.

    reach: distances told apart (1: entries are exchangeable). edge: whether the first and last entry are told from
    those between. parts: sizes of contiguous parts (then neither reach nor edge). Entries are of one type, or of two
    (edge, inside), or of as many as there are parts. Classes: first one per type, of pairs of an entry with itself,
    then pairs of different entries by their types and distance.

    factors: sizes of the exchangeable axes that were merged into this one, the last running fastest (then nothing
    else). Classes: for every factor whether the entries agree on it, in the order of binary numbers: what a split or a
    permutation later takes apart again is not lost.
    """

    n: int
    reach: int = 1
    parts: tuple[int, ...] = ()
    edge: bool = False
    factors: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.n < 3 or self.parts or self.factors:  # nothing to tell apart: two axes that mean the same are equal
            object.__setattr__(self, "reach", 1)
            object.__setattr__(self, "edge", False)

    def __reduce__(self) -> tuple[type["Axis"], tuple[Any, ...]]:
        """Copies and what was pickled are the one object again."""
        return Axis, (self.n, self.reach, self.parts, self.edge, self.factors)

    @kept
    def classes(self) -> int:
        """Number of classes of pairs."""
        return len(describe(self))

    @kept
    def pairs(self) -> Array:
        """Ordered pairs of entries in each class: (classes,), in all n²."""
        return np.array([count for _, count in describe(self)])

    @kept
    def weights(self) -> Array:
        """The share of all ordered pairs in each class: (classes,), in all 1."""
        return np.asarray(self.pairs / float(self.n) ** 2)

    @kept
    def same(self) -> int:
        """How many types of entries there are; the first so many classes are pairs of one entry with itself."""
        return len(self.parts) or 1 + self.edge

    @kept
    def shares(self) -> Array:
        """The share of entries of each type: (types,)."""
        return np.asarray(self.pairs[: self.same] / self.n)

    @kept
    def plain(self) -> "Axis":
        """The axis of exchangeable entries."""
        return Axis(self.n)

    @kept
    def ends(self) -> tuple[list[int], list[int]]:
        """For every class, the types of its two entries."""
        return [c[0] for c, _ in describe(self)], [c[1] for c, _ in describe(self)]


Class = tuple[int, int, int]  # types s ≤ t of the two entries, and distance: 0, 1, … reach − 1, or reach for farther


@lru_cache(maxsize=4096)
def describe(axis: Axis) -> tuple[tuple[Class, float], ...]:
    """Every class of an axis with its number of ordered pairs, in order."""
    n, r = axis.n, axis.reach
    if axis.parts:
        own = [((i, i, 0), float(k)) for i, k in enumerate(axis.parts)]
        pairs = part_pairs(axis.parts)
        return (*own, *[((i, j, 1), float(a * (a - 1) if i == j else 2 * a * b)) for i, j, a, b in pairs])
    if axis.factors:
        every = np.ones(1)
        for k in axis.factors:
            every = np.multiply.outer(every, [k, k * (k - 1)]).ravel()
        return tuple(((0, 0, d), float(c)) for d, c in enumerate(every))
    if not axis.edge:
        return tuple(((0, 0, d), c) for d, c in enumerate(_by_distance(n, r)) if c > 0)
    inside = _by_distance(n - 2, r)
    outer = [0.0] * (r + 1)
    outer[min(n - 1, r)] += 2.0
    between = [0.0] + [4.0 if d <= n - 2 else 0.0 for d in range(1, r)]
    between.append(4.0 * (n - 2) - sum(between))
    rows = [((0, 0, 0), 2.0), ((1, 1, 0), float(n - 2))]
    for s, t, counts in ((0, 0, outer), (0, 1, between), (1, 1, inside)):
        rows += [((s, t, d), counts[d]) for d in range(1, r + 1) if counts[d] > 0]
    return tuple(rows)


def _by_distance(n: int, reach: int) -> list[float]:
    """Ordered pairs of n entries at distance 0, 1, … reach − 1 and farther."""
    near = [float(n)] + [2.0 * max(n - d, 0) for d in range(1, reach)]
    return [*near, float(n * n) - sum(near)]


@lru_cache(maxsize=4096)
def distances(axis: Axis) -> tuple[int, ...]:
    """The distance of each class, or −1 where it is not one distance."""
    return tuple(d if d < axis.reach else -1 for (_, _, d), _ in describe(axis))


@lru_cache(maxsize=4096)
def lookup(axis: Axis) -> NDArray[np.int64]:
    """The class of a pair by the types of its entries and its distance (reach: farther): (types, types, reach + 1)."""
    farthest = max(d for (_, _, d), _ in describe(axis))
    out = np.full((axis.same, axis.same, max(axis.reach, farthest) + 1), -1, dtype=np.int64)
    for k, ((s, t, d), _) in enumerate(describe(axis)):
        out[s, t, d] = out[t, s, d] = k
    return out


@lru_cache(maxsize=1024)
def types(axis: Axis) -> NDArray[np.int64]:
    """The type of every entry: (n,)."""
    if axis.parts:
        return np.repeat(np.arange(len(axis.parts)), axis.parts)
    out = np.full(axis.n, 1 if axis.edge else 0, dtype=np.int64)
    if axis.edge:
        out[[0, -1]] = 0
    return out


@lru_cache(maxsize=512)
def class_map(axis: Axis) -> NDArray[np.int64]:
    """The class of every ordered pair of entries: (n, n)."""
    if axis.factors:
        places = np.unravel_index(np.arange(axis.n), axis.factors)
        out = np.zeros((axis.n, axis.n), dtype=np.int64)
        for place in places:
            out = 2 * out + (place[:, None] != place[None, :])
        return out
    i, t = np.arange(axis.n), types(axis)
    distance = np.minimum(np.abs(i[:, None] - i[None, :]), axis.reach)
    return np.asarray(lookup(axis)[t[:, None], t[None, :], distance])


@lru_cache(maxsize=4096)
def row_weights(axis: Axis) -> Array:
    """The average over all partners of an entry, by its type: (types, classes)."""
    out = np.zeros((axis.same, axis.classes))
    for k, ((s, t, _), count) in enumerate(describe(axis)):
        for end in (s, t):
            out[end, k] += count / 2
    return np.asarray(out / out.sum(axis=1, keepdims=True))


@lru_cache(maxsize=4096)
def projection(fine: Axis, to: Axis) -> Array:
    """The average over classes of ``fine`` that makes each class of an axis that tells less apart: (to, fine)."""
    out = np.zeros((to.classes, fine.classes))
    table = lookup(to)
    for k, ((s, t, d), count) in enumerate(describe(fine)):
        ends = (s, t) if to.same == fine.same else (0, 0)
        out[table[(*ends, min(d, to.reach))], k] = count
    empty = out.sum(axis=1) == 0
    return np.asarray(out / np.where(empty, 1.0, out.sum(axis=1))[:, None])


@lru_cache(maxsize=4096)
def refinement(axis: Axis, fine: Axis) -> list[int]:
    """For every class of ``fine``, the class of an axis that tells less apart which holds it (neither has parts)."""
    table = lookup(axis)
    found = []
    for (s, t, d), _ in describe(fine):
        ends = (s, t) if axis.same == fine.same else (0, 0)
        k = int(table[(*ends, min(d, axis.reach))])
        found.append(k if k >= 0 else axis.classes - 1)
    return found


def joint(axes: Sequence[Axis]) -> Axis:
    """The axis that tells apart whatever one of these (of one size, without parts) does.

    Factors are kept where nothing else is told apart and all that have any have the same.
    """
    factors = {a.factors for a in axes if a.factors}
    if len(factors) == 1 and all(a.factors or a == a.plain for a in axes):
        return Axis(axes[0].n, factors=next(iter(factors)))
    return Axis(axes[0].n, max(a.reach for a in axes), edge=any(a.edge for a in axes))


def part_pairs(parts: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """(s, t, size of s, size of t) for s ≤ t, in the order of the classes."""
    return [(i, j, parts[i], parts[j]) for i in range(len(parts)) for j in range(i, len(parts))]


@lru_cache(maxsize=256)
def _last(ndim: int, i: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The order of axes that puts axis i last, and the one that puts it back."""
    rest = [k for k in range(ndim) if k != i % ndim]
    order = (*rest, i % ndim)
    return order, tuple(int(k) for k in np.argsort(order))


def summed(q: Array, weights: Array, i: int) -> Array:
    """Σ over axis i of q times weights (n,); the axis disappears."""
    return np.asarray(q.transpose(_last(q.ndim, i)[0]) @ weights)


def mapped(q: Array, i: int, coefficients: Array) -> Array:
    """q with its axis i (E entries) replaced by ``coefficients`` (D, E) times it."""
    order, back = _last(q.ndim, i)
    return np.asarray((q.transpose(order) @ coefficients.T).transpose(back))
