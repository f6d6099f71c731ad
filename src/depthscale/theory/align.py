"""States in terms of one another: telling more or less apart on an axis, until two states have their classes in common.

What an axis tells apart (distances, edges, parts; see ``axes``) may differ between the tensors that an op puts
together. Telling less apart averages classes, telling more apart copies them.
"""

import numpy as np

from depthscale.theory.axes import Axis, joint, mapped, part_pairs, projection, refinement, summed
from depthscale.theory.frames import frame
from depthscale.theory.moments import State, gradient, state


def projected(x: State, i: int, to: Axis) -> State:
    """The state with axis i telling less apart: classes are averaged."""
    axis = x.axes[i]
    if axis == to:
        return x
    q = mapped(x.q, i, projection(axis, to))
    mean = np.asarray(x.average) if axis.parts else x.mean
    return state((*x.axes[:i], to, *x.axes[i + 1 :]), q, mean, x.spread)


def coarse(x: State, *which: int) -> State:
    """The state with these axes (all, if none is named) made exchangeable."""
    for i in which or range(len(x.axes)):
        if x.axes[i] != x.axes[i].plain:
            x = projected(x, i, x.axes[i].plain)
    return x


def without_parts(x: State, first: int = 0) -> State:
    """The state whose axes from ``first`` on have no parts and no factors."""
    for i in range(first, len(x.axes)):
        if x.axes[i].parts or x.axes[i].factors:
            x = projected(x, i, x.axes[i].plain)
    return x


def refined(x: State, i: int, to: Axis) -> State:
    """The state with axis i telling more apart (no parts): classes are copied. Other factors are averaged before."""
    if x.axes[i].factors not in ((), to.factors):
        x = coarse(x, i)
    if x.axes[i] == to:
        return x
    index = refinement(x.axes[i], to)
    return State((*x.axes[:i], to, *x.axes[i + 1 :]), x.mean, np.take(x.q, index, axis=i), x.spread)


def refine(x: State, i: int, parts: tuple[int, ...]) -> State:
    """The state with axis i cut into parts, of which its own parts (if any) are unions."""
    axis = x.axes[i]
    if axis.parts == parts or not parts:
        return x
    if not axis.parts:
        x = coarse(without_parts(x), i)
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
    first = xs[0].axes
    for x in xs:
        if x.axes is not first and x.axes != first:
            break
    else:
        return xs
    ndim = max(len(x.axes) for x in xs)
    out = [_lifted(x, ndim) for x in xs]
    chosen = next((x.part_axis for x in out if x.part_axis is not None), None)
    if chosen is not None:
        out = [coarse(x, x.part_axis) if x.part_axis not in (None, chosen) else x for x in out]
        parts: tuple[int, ...] = ()
        for x in out:
            parts = merge_parts(parts, x.axes[chosen].parts)
        out = [refine(x, chosen, parts) if x.axes[chosen].n > 1 else x for x in out]
    for i in range(ndim):
        own = [x.axes[i] for x in out if x.axes[i].n > 1]
        if i != chosen and len(own) > 1 and any(a != own[0] for a in own):
            to = joint(own)
            out = [refined(x, i, to) if x.axes[i].n > 1 else x for x in out]
    return tuple(out)


def _lifted(x: State, ndim: int) -> State:
    extra = ndim - len(x.axes)
    if extra == 0:
        return x
    return State((Axis(1),) * extra + x.axes, x.mean, x.q.reshape((1,) * extra + x.q.shape), x.spread)


def common_axes(xs: tuple[State, ...]) -> tuple[Axis, ...]:
    """The axes of the broadcast of aligned states."""
    if all(x.axes is xs[0].axes for x in xs):
        return xs[0].axes
    return tuple(max((x.axes[i] for x in xs), key=lambda a: a.n) for i in range(len(xs[0].axes)))


def unbroadcast(g: State, axes: tuple[Axis, ...]) -> State:
    """The gradient of a tensor with these axes from that of its broadcast: sums over what was copied."""
    extra = len(g.axes) - len(axes)
    if extra == 0 and frame(axes).sizes == g.shape:
        return g.marked(grain=0.0, law=None, kappa=None, gx=None)
    q = g.q
    for i, axis in enumerate(g.axes):
        copied = i < extra or (axes[i - extra].n == 1 and axis.n > 1)
        if copied:
            q = np.expand_dims(summed(q, axis.pairs, i), i)
    q = q.reshape(q.shape[extra:])
    kept = tuple(g.axes[i + extra] if g.axes[i + extra].n == a.n else a for i, a in enumerate(axes))
    return gradient(kept, q)


def add_states(a: State | None, b: State) -> State:
    """The moments of the sum of two gradients that are uncorrelated and of mean zero."""
    if a is None:
        return b
    x, y = aligned(a, b)
    axes = x.axes if x.axes == y.axes else common_axes((x, y))
    if x.spread == y.spread == 0.0:
        return gradient(axes, x.q + y.q)
    one, two = x.length * x.size, y.length * y.size
    share = one / (one + two) if one + two > 0 else 0.0
    spread = x.spread * share**2 + y.spread * (1 - share) ** 2
    return gradient(axes, x.q + y.q, spread)
