"""What the axes of a tensor fix once and for all: averages over classes as weights, edges as tables of indices.

The moments of a tensor are small arrays and there are many of them, so the time of a propagation is the number of
NumPy calls. Whatever is linear in the moments (a length, an average over pairs, taking out the mean of rows) is one
product with weights that are made here, once for every tuple of axes that occurs.
"""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from depthscale.numerics.estimate import Array
from depthscale.theory.axes import Axis, projection, row_weights
from depthscale.theory.kept import kept

Axes = tuple[Axis, ...]
Indices = NDArray[np.intp]


def product(factors: Sequence[Array]) -> Array:
    """The Kronecker product of matrices or vectors (one, for none)."""
    first: Array = np.ones(())
    return reduce(lambda a, b: np.asarray(np.kron(a, b)), factors, first)


@lru_cache(maxsize=4096)
def agreeing(axis: Axis) -> Array:
    """The weights of an average over entries with themselves: (classes,)."""
    out = np.zeros(axis.classes)
    out[: axis.same] = axis.shares
    return out


class Ends(NamedTuple):
    """Types of the two entries of every class of pairs, as indices into values by type, for all ways to pair them.

    An edge on one axis and an inside on another may be of one entry or of two, so there are several ways.
    """

    one: Indices  # (ways, *classes), 1 along axes on which values are of one type
    two: Indices
    ways: int


@lru_cache(maxsize=4096)
def ends(axes: Axes, several: tuple[int, ...]) -> Ends:
    """The ends of pairs for values that differ by type on the axes ``several``."""
    ways = [frozenset(w) for k in range(len(several)) for w in itertools.combinations(several[1:], k)] or [frozenset()]
    grid = tuple(a.classes if i in several else 1 for i, a in enumerate(axes))
    tables: tuple[list[Indices], list[Indices]] = ([], [])
    for way in ways:
        for k, table in enumerate(tables):
            index = np.zeros(grid, dtype=np.intp)
            for i in several:
                end = axes[i].ends[1 - k if i in way else k]
                index = index * axes[i].same + np.reshape(end, [-1 if j == i else 1 for j in range(len(axes))])
            table.append(index)
    return Ends(np.stack(tables[0]), np.stack(tables[1]), len(ways))


@lru_cache(maxsize=4096)
def type_weights(axes: Axes, several: tuple[int, ...]) -> Array:
    """The share of every type, for values that differ by type on the axes ``several``: flat."""
    return product([axes[i].shares for i in several]).ravel()


class Frame:
    """Weights over the classes of a tensor with these axes, flat in the order of its moments."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.shape = tuple(a.classes for a in axes)
        self.sizes = tuple(a.n for a in axes)
        self.size = math.prod(self.sizes)
        self.part_axis = next((i for i, a in enumerate(axes) if a.parts), None)
        self.parts = () if self.part_axis is None else (len(axes[self.part_axis].parts),)  # the shape of a mean
        self.typed = any(a.edge for a in axes)
        self.edge_shape = tuple(a.classes if a.edge else 1 for a in axes)

    @kept
    def same(self) -> Array:
        """An average over entries with themselves: (classes,)."""
        return product([agreeing(a) for a in self.axes]).ravel()

    @kept
    def two_inputs(self) -> Array | None:
        """An average over pairs of inputs (axis 0) at one entry of all else; None where there are no two to tell."""
        if not self.axes or self.axes[0].n == 1 or self.axes[0].parts:
            return None
        last = np.arange(self.axes[0].classes) == self.axes[0].classes - 1
        return product([last * 1.0, *[agreeing(a) for a in self.axes[1:]]]).ravel()

    @kept
    def pairs(self) -> Array:
        """An average over all ordered pairs of entries: (classes,)."""
        return product([a.weights for a in self.axes]).ravel()

    @kept
    def edged(self) -> tuple[int, ...]:
        """The axes that tell edges apart."""
        return tuple(i for i, a in enumerate(self.axes) if a.edge)

    @kept
    def by_type(self) -> Array:
        """Averages over entries with themselves, by type on the axes that tell edges apart: (types, classes)."""
        rows = [np.eye(a.same, a.classes) if a.edge else agreeing(a)[None] for a in self.axes]
        return product(rows).reshape(-1, math.prod(self.shape))

    @kept
    def edge_ends(self) -> Ends:
        """The types of the ends of every pair, for values by type on the axes that tell edges apart."""
        return ends(self.axes, self.edged)

    @kept
    def edge_pairs(self) -> Array:
        """Takes s_i s_j, for values s by type on the axes that tell edges apart, to classes: (types², classes)."""
        n = math.prod(self.types)
        out = np.zeros((n * n, math.prod(self.edge_shape)))
        one, two, ways = self.edge_ends
        for way in range(ways):
            at = np.broadcast_to(one[way] * n + two[way], self.edge_shape).ravel()
            np.add.at(out, (at, np.arange(out.shape[1])), 1 / ways)
        return out

    @kept
    def edge_shares(self) -> Array:
        """The shares of the types on the axes that tell edges apart: flat."""
        return type_weights(self.axes, self.edged)

    @kept
    def own(self) -> Indices:
        """The classes of entries with themselves: flat indices."""
        return np.flatnonzero(self.same)

    @kept
    def types(self) -> tuple[int, ...]:
        """The shape of values by type on the axes that tell edges apart."""
        return tuple(a.same if a.edge else 1 for a in self.axes)

    @kept
    def by_part(self) -> Array:
        """Averages over entries with themselves, by part (one, without): (parts, classes)."""
        rows = [np.eye(a.same, a.classes) if a.parts else agreeing(a)[None] for a in self.axes]
        return product(rows).reshape(-1, math.prod(self.shape))


@lru_cache(maxsize=4096)
def frame(axes: Axes) -> Frame:
    """The frame of a tensor with these axes."""
    return Frame(axes)


class Split:
    """The classes of a tensor as a matrix: those of the axes ``over`` along its rows, one row for the rest."""

    def __init__(self, axes: Axes, over: tuple[int, ...]) -> None:
        self.rest_at = tuple(i for i in range(len(axes)) if i not in over)
        self.over, self.rest = tuple(axes[i] for i in over), tuple(axes[i] for i in self.rest_at)
        self._order = (*self.rest_at, *over)
        self._back = tuple(int(k) for k in np.argsort(self._order))
        self._shape = tuple(a.classes for a in (*self.rest, *self.over))
        self._rows = math.prod(a.classes for a in self.rest)
        self.kept = tuple(1 if i in over else a.classes for i, a in enumerate(axes))

    def matrix(self, q: Array) -> Array:
        """(rest, over)."""
        return q.transpose(self._order).reshape(self._rows, -1)

    def whole(self, matrix: Array) -> Array:
        """The inverse of ``matrix``."""
        return matrix.reshape(self._shape).transpose(self._back)

    @kept
    def pairs(self) -> Array:
        """An average over all ordered pairs of entries of the axes ``over``: (over,)."""
        return product([a.weights for a in self.over]).ravel()

    @kept
    def same(self) -> Array:
        """An average over entries with themselves: (over,)."""
        return product([agreeing(a) for a in self.over]).ravel()

    @kept
    def same_rest(self) -> Array:
        """An average over entries of the rest with themselves: (rest,)."""
        return product([agreeing(a) for a in self.rest]).ravel()

    @kept
    def rows(self) -> tuple[Array, Array]:
        """Takes out the averages of rows: q − q A B with A (over, k) and B (k, over), q as ``matrix``."""
        whole = self.pairs[:, None]
        if all(a.same == 1 for a in self.over):  # every row has the same average
            return whole, np.ones((1, len(whole)))
        averages = product([row_weights(a) for a in self.over]).reshape(-1, len(whole))  # (types, over)
        several = tuple(i for i, a in enumerate(self.over) if a.same > 1)
        both = ends(self.over, several)
        spread = np.zeros((len(averages) + 1, len(whole)))
        classes = tuple(a.classes for a in self.over)
        for table in (both.one, both.two):
            for way in table:
                at = np.broadcast_to(way, classes).ravel()
                np.add.at(spread, (at, np.arange(len(whole))), 1 / both.ways)
        spread[-1] = -1.0
        return np.concatenate([averages.T, whole], axis=1), spread

    @kept
    def own(self) -> Indices | slice:
        """The rows of the matrix that are of entries with themselves, by type of the rest."""
        if all(a.same == 1 for a in self.rest):
            return slice(0, 1)
        index = np.arange(self._rows).reshape([a.classes for a in self.rest])
        return np.asarray(index[tuple(slice(0, a.same) for a in self.rest)].ravel())

    @kept
    def rest_types(self) -> tuple[int, ...]:
        """The shape of values by type of the rest."""
        return tuple(a.same for a in self.rest)

    @kept
    def several(self) -> tuple[int, ...]:
        """Of the rest, the axes whose entries are of several types."""
        return tuple(i for i, a in enumerate(self.rest) if a.same > 1)

    @kept
    def modes(self) -> tuple[Array, Array, Array]:
        """Eigenvalues of covariances that are taken as exchangeable along ``over``.

        The map from a row of the matrix (over, modes), how often each occurs (modes,), and the way back (modes, over).
        """
        there, counts, back = [], [], []
        for a in self.over:
            if a.n == 1:
                there.append(np.ones((1, a.classes)))
                counts.append(np.ones(1))
                back.append(np.ones((a.classes, 1)))
                continue
            n = a.n
            there.append(np.array([[1.0, n - 1.0], [1.0, -1.0]]) @ projection(a, a.plain))
            counts.append(np.array([1.0, n - 1.0]))
            inverse = np.array([[1.0, n - 1.0], [1.0, -1.0]]) / n
            back.append(inverse[[0] * a.same + [1] * (a.classes - a.same)])
        size = math.prod(a.classes for a in self.over)
        into = product(there).reshape(-1, size)
        return np.ascontiguousarray(into.T), product(counts).ravel(), product(back).reshape(size, -1).T.copy()


@lru_cache(maxsize=4096)
def split_of(axes: Axes, over: tuple[int, ...]) -> Split:
    """The classes of a tensor with these axes, those of ``over`` apart."""
    return Split(axes, over)
