"""Index algebra: what splitting, merging, reordering, cutting and joining axes does to agreement moments.

Merging axes (n1, n2): the merged entries are the same where both are; the disagreeing class averages the ways to
disagree, weighted by their numbers of pairs. Splitting is the inverse. Joining tensors along an axis gives that axis
parts, cutting takes them away again.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from depthscale.numerics.estimate import Array
from depthscale.theory.align import coarse, projected, refined
from depthscale.theory.axes import Axis, class_map, joint, mapped, part_pairs
from depthscale.theory.moments import Shape, State, state

LONGEST = 1024  # entries of an axis for which all pairs are looked at one by one
MOST_FACTORS = 4  # axes that a merged one remembers
MOST_PARTS = 8  # parts that an axis may have before the most alike are put together


def _placed(axes: Sequence[Axis], i: int, old: int, new: Sequence[Axis]) -> tuple[Axis, ...]:
    """axes with ``old`` of them at i replaced by ``new``."""
    return (*axes[:i], *new, *axes[i + old :])


def split(x: State, i: int, sizes: Shape) -> State:
    """Axis i of n entries as several axes, the last running fastest."""
    while len(sizes) > 2:
        x = split(x, i, (sizes[0], math.prod(sizes[1:])))
        i, sizes = i + 1, sizes[1:]
    if len(sizes) == 1:
        return x
    outer, inner = sizes
    axis = x.axes[i]
    if outer == 1 or inner == 1:
        at = i if outer == 1 else i + 1
        axes = _placed(x.axes, i, 1, (Axis(1), axis) if outer == 1 else (axis, Axis(1)))
        return State(axes, x.mean, np.expand_dims(x.q, at), x.spread)
    if axis.factors:
        apart = _split_factors(x, i, outer)
        if apart is not None:
            return apart
    x = coarse(x, i) if axis.parts else projected(x, i, Axis(axis.n, axis.reach))
    axis = x.axes[i]
    near = Axis(inner, axis.reach)
    table = split_weights(axis, outer) if axis.reach > 1 and axis.n <= LONGEST else _exchangeable(axis, near)
    both = np.stack([mapped(x.q, i, table[0]), mapped(x.q, i, table[1])], axis=i)
    return state(_placed(x.axes, i, 1, (Axis(outer), near)), both, x.mean, x.spread)


def _split_factors(x: State, i: int, outer: int) -> State | None:
    """Axis i cut between its factors, or through one; None where the sizes do not fit."""
    factors, q = x.axes[i].factors, x.q
    done, k = 1, 0
    while done * factors[k] <= outer:
        done, k = done * factors[k], k + 1
    cut_through = outer // done
    if done * cut_through != outer or factors[k] % cut_through:
        return None
    if cut_through > 1:  # entries that agree on a factor agree on both of its own
        both = np.arange(q.shape[i]).reshape((2,) * len(factors))
        both = np.stack([np.take(both, [0, 1], axis=k), np.take(both, [1, 1], axis=k)], axis=k)
        q = np.take(q, both.ravel(), axis=i)
        factors = (*factors[:k], cut_through, factors[k] // cut_through, *factors[k + 1 :])
        k += 1
    shape = (*q.shape[:i], 2**k, 2 ** (len(factors) - k), *q.shape[i + 1 :])
    axes = [Axis(math.prod(f), factors=f if len(f) > 1 else ()) for f in (factors[:k], factors[k:])]
    return State(_placed(x.axes, i, 1, axes), x.mean, q.reshape(shape), x.spread)


@lru_cache(maxsize=256)
def split_weights(axis: Axis, outer: int) -> Array:
    """What each class (outer the same or not, inner class) averages of the classes of an axis: (2, inner, axis)."""
    inner = Axis(axis.n // outer, axis.reach)
    whole = class_map(axis).reshape(outer, inner.n, outer, inner.n)
    fine = class_map(inner)
    out = np.zeros((2, inner.classes, axis.classes))
    for o in range(outer):
        for p in range(outer):
            np.add.at(out[int(o != p)], (fine, whole[o, :, p, :]), 1.0)
    return np.asarray(out / out.sum(axis=2, keepdims=True))


def _exchangeable(axis: Axis, inner: Axis) -> Array:
    """The same where distances across the outer axis are not followed: there everything else is averaged."""
    own = np.zeros((inner.classes, axis.classes))
    own[np.arange(inner.classes), np.minimum(np.arange(inner.classes), axis.classes - 1)] = 1.0
    rest = axis.pairs - (axis.n // inner.n) * (inner.pairs @ own)
    return np.stack([own, np.broadcast_to(rest / rest.sum(), own.shape)])


def merge(x: State, i: int, last: int) -> State:
    """Axes i to ``last`` as one."""
    while last > i:
        x = _merge_two(x, last - 1)
        last -= 1
    return x


def _merge_two(x: State, i: int) -> State:
    a, b = x.axes[i], x.axes[i + 1]
    if a.n == 1 or b.n == 1:
        gone, kept = (i, b) if a.n == 1 else (i + 1, a)
        q = np.take(x.q, 0, axis=gone)
        return State(_placed(x.axes, i, 2, (kept,)), x.mean, q, x.spread)
    if a.parts:
        return _merge_into_parts(coarse(x, i + 1), i)
    for k in (i, i + 1):
        x = x if x.axes[k].factors else coarse(x, k)
    factors = tuple(f for k in (i, i + 1) for f in x.axes[k].factors or (x.axes[k].n,))
    if len(factors) > MOST_FACTORS:
        x = coarse(x, i, i + 1)
        factors = (a.n, b.n)
    q = x.q.reshape((*x.q.shape[:i], 2 ** len(factors), *x.q.shape[i + 2 :]))
    merged = State(_placed(x.axes, i, 2, (Axis(a.n * b.n, factors=factors),)), x.mean, q, x.spread)
    others = np.take(q, range(1, q.shape[i]), axis=i)
    alike = np.ptp(others, axis=i).max(initial=0.0) <= 1e-9 * np.abs(q).max(initial=0.0)
    return coarse(merged, i) if alike else merged


def _merge_into_parts(x: State, i: int) -> State:
    """Axis i, which has parts, merged with the exchangeable axis behind it: parts are times as long."""
    a, b = x.axes[i], x.axes[i + 1]
    parts = tuple(s * b.n for s in a.parts)
    same = np.take(np.take(x.q, range(a.same), axis=i), 0, axis=i + 1)
    averages = np.tensordot(x.q, b.weights, ([i + 1], [0]))
    rows = []
    for k, (s, t, *_) in enumerate(part_pairs(a.parts)):
        row = np.take(averages, a.same + k, axis=i)
        if s == t:  # all pairs within the part, less those of an entry with itself
            n, m = a.parts[s], b.n
            every = (n - 1) * row + np.take(averages, s, axis=i)
            row = (every * m - np.take(same, s, axis=i)) / max(n * m - 1, 1)
        rows.append(row)
    q = np.concatenate([same, np.stack(rows, axis=i)], axis=i)
    return state(_placed(x.axes, i, 2, (Axis(a.n * b.n, parts=parts),)), q, x.mean, x.spread)


def reshape(x: State, shape: Shape) -> State:
    """The same elements in another shape: merges and splits, as few as fit."""
    i = 0  # axes in front of i already agree
    while i < max(len(x.axes), len(shape)):
        have = x.axes[i].n if i < len(x.axes) else 1
        want = shape[i] if i < len(shape) else 1
        if i >= len(x.axes):
            x = split_one(x, i)
        elif i >= len(shape):
            x = merge(x, i - 1, i)
            continue
        elif have == want:
            pass
        elif have % want == 0 and want < have:
            x = split(x, i, (want, have // want))
        else:  # too small: take in the next axis
            x = merge(x, i, i + 1)
            continue
        i += 1
    return x


def split_one(x: State, i: int) -> State:
    """A new axis of size 1 at i."""
    return State((*x.axes[:i], Axis(1), *x.axes[i:]), x.mean, np.expand_dims(x.q, i), x.spread)


def drop_one(x: State, i: int) -> State:
    """Without axis i, which has size 1."""
    return State(_placed(x.axes, i, 1, ()), _first(x.mean, x.axes[i]), np.take(x.q, 0, axis=i), x.spread)


def _first(mean: Array, axis: Axis) -> Array:
    return np.asarray(mean[0]) if axis.parts else mean


def permute(x: State, order: Shape) -> State:
    """Axes in another order."""
    return State(tuple(x.axes[a] for a in order), x.mean, np.ascontiguousarray(x.q.transpose(order)), x.spread)


def cut(x: State, i: int, start: int, count: int, step: int = 1) -> State:
    """``count`` entries of axis i from ``start`` on, ``step`` apart."""
    axis = x.axes[i]
    if count == axis.n:
        return x
    if axis.parts:
        return _cut_parts(x, i, start, count, step)
    x = projected(x, i, Axis(axis.n, axis.reach))
    index = [min(d * step, x.q.shape[i] - 1) for d in range(Axis(count, axis.reach).classes)]
    return state(_placed(x.axes, i, 1, (Axis(count, axis.reach),)), np.take(x.q, index, axis=i), x.mean, x.spread)


def _cut_parts(x: State, i: int, start: int, count: int, step: int) -> State:
    axis = x.axes[i]
    owner = np.repeat(np.arange(len(axis.parts)), axis.parts)[start::step][:count]
    kept = [int(s) for s in np.unique(owner)]
    sizes = tuple(int((owner == s).sum()) for s in kept)
    where = {ends: k for k, ends in enumerate(zip(*axis.ends, strict=True)) if k >= len(axis.parts)}
    index = [*kept, *[where[kept[s], kept[t]] for s, t, *_ in part_pairs(sizes)]]
    q, mean = np.take(x.q, index, axis=i), x.mean[kept]
    return simplify(state(_placed(x.axes, i, 1, (Axis(count, parts=sizes),)), q, mean, x.spread))


def join(xs: Sequence[State], i: int, cross: dict[tuple[int, int], Array] | None = None) -> State:
    """Tensors one behind the other along axis i. ``cross``: E[x_k x_l] by class of the other axes, where known."""
    pieces = [_single_part(x, i) for x in _others_aligned(list(xs), i)]
    parts = tuple(s for x in pieces for s in x.axes[i].parts)
    owner = [k for k, x in enumerate(pieces) for _ in x.axes[i].parts]
    local = [s for x in pieces for s in range(len(x.axes[i].parts))]
    rows = [np.take(x.q, s, axis=i) for x in pieces for s in range(len(x.axes[i].parts))]
    for s, t, *_ in part_pairs(parts):
        k, j = owner[s], owner[t]
        x = pieces[k]
        if k == j:
            where = x.axes[i].ends
            at = next(
                c for c in range(x.axes[i].same, len(where[0])) if (where[0][c], where[1][c]) == (local[s], local[t])
            )
            rows.append(np.take(x.q, at, axis=i))
        elif cross and (k, j) in cross:
            rows.append(np.broadcast_to(cross[k, j], rows[0].shape))
        else:
            rows.append(np.full(rows[0].shape, float(x.mean[local[s]] * pieces[j].mean[local[t]])))
    q = np.stack(np.broadcast_arrays(*rows), axis=i)
    mean = np.concatenate([x.mean for x in pieces])
    axes = _placed(pieces[0].axes, i, 1, (Axis(sum(parts), parts=parts),))
    length = np.array([x.length * x.axes[i].n for x in pieces])
    share = length / max(length.sum(), 1e-300)
    spread = float(np.sum(share**2 * np.array([x.spread for x in pieces])))
    return simplify(state(axes, q, mean, spread))


def _others_aligned(xs: list[State], i: int) -> list[State]:
    """States whose axes other than i have the same classes."""
    xs = [coarse(x, x.part_axis) if x.part_axis not in (None, i) else x for x in xs]
    for k in range(len(xs[0].axes)):
        if k != i and any(x.axes[k] != xs[0].axes[k] for x in xs):
            to = joint([x.axes[k] for x in xs])
            xs = [refined(x, k, to) for x in xs]
    return xs


def _single_part(x: State, i: int) -> State:
    """The state whose axis i has parts: its own, or one."""
    if x.axes[i].parts:
        return x
    x = coarse(x, i)
    q = np.take(x.q, [0, min(1, x.q.shape[i] - 1)], axis=i)
    axes = _placed(x.axes, i, 1, (Axis(x.axes[i].n, parts=(x.axes[i].n,)),))
    return State(axes, np.atleast_1d(x.mean), q, x.spread)


def simplify(x: State, tolerance: float = 1e-9) -> State:
    """The state without parts where they are all alike, and with at most ``MOST_PARTS`` of them."""
    i = x.part_axis
    if i is None:
        return x
    parts = x.axes[i].parts
    rows = np.moveaxis(x.q, i, 0)
    size = float(np.abs(x.q).max(initial=0.0))
    pairs = x.axes[i].pairs
    alike = np.ptp(rows[: len(parts)], axis=0).max(initial=0.0) <= tolerance * size
    crossing = rows[len(parts) :][pairs[len(parts) :] > 0]
    alike = alike and (len(crossing) == 0 or np.ptp(crossing, axis=0).max(initial=0.0) <= tolerance * size)
    if alike and np.ptp(x.mean) <= tolerance * max(float(np.abs(x.mean).max()), 1e-300):
        return coarse(x, i)
    if len(parts) > MOST_PARTS:
        gaps = [abs(float(rows[s].flat[0] - rows[s + 1].flat[0])) for s in range(len(parts) - 1)]
        closest = int(np.argmin(gaps))
        return simplify(_joined_neighbours(x, i, closest))
    return x


def _joined_neighbours(x: State, i: int, s: int) -> State:
    """Parts s and s + 1 put together: their classes are averaged."""
    old = x.axes[i].parts
    new = (*old[:s], old[s] + old[s + 1], *old[s + 2 :])
    to = [k if k <= s else k - 1 for k in range(len(old))]
    where = {ends: k for k, ends in enumerate(zip(*Axis(sum(new), parts=new).ends, strict=True)) if k >= len(new)}
    first, second = x.axes[i].ends
    pairs = x.axes[i].pairs
    table = np.zeros((len(first), len(new) + len(part_pairs(new))))
    for k, (a, b) in enumerate(zip(first, second, strict=True)):
        table[k, to[a] if k < len(old) else where[to[a], to[b]]] = pairs[k]
    empty = table.sum(axis=0) == 0  # a part of one entry has no pairs of different ones
    table /= np.where(empty, 1.0, table.sum(axis=0))
    q = np.moveaxis(np.tensordot(x.q, table, ([i], [0])), -1, i)
    share = np.array([old[s], old[s + 1]], dtype=float) / (old[s] + old[s + 1])
    mean = np.concatenate([x.mean[:s], [share @ x.mean[s : s + 2]], x.mean[s + 2 :]])
    return state(_placed(x.axes, i, 1, (Axis(x.axes[i].n, parts=new),)), q, mean, x.spread)


__all__ = ["cut", "drop_one", "join", "merge", "permute", "reshape", "simplify", "split", "split_one"]
