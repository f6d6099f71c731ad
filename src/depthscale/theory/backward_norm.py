"""Backward rule of normalisations.

    g_x = (g − mean(g) − y · mean(g y)) / √(V + ε):   what is along 1 and along y is removed.

By class, with β the average of E[g g'] E[y y'] over pairs of normalised entries,

    G_x[a] = (G[a] − Ḡ[a] − β Y[a]) · E[1/V],

which for N independent entries is G (1 − 2/N) E[1/V] = G/V · (N − 2)/(N − 3), the rate of Yang et al. 2019 for linear
networks; the faster growth with nonlinearities is in V, which only holds what the mean over the batch leaves.
"""

from depthscale.graph import ops
from depthscale.graph.op import Op
from depthscale.theory.align import aligned, coarse
from depthscale.theory.forward_elementwise import law_factor
from depthscale.theory.forward_norm import Plan, grouped, normalise, plan
from depthscale.theory.frames import split_of
from depthscale.theory.index_algebra import merge, split
from depthscale.theory.moments import State
from depthscale.theory.rules import Pulled, Setting, backward, gradient, specs_of, summed, summed_pairs


def removed(g: State, x: State, p: Plan) -> State:
    """The gradient at the input of a normalisation without gain."""
    met = g.gx
    g, x = aligned(g, x)
    done = normalise(x, p)
    y = done.y
    parted = split_of(g.axes, p.over)
    q, along = parted.matrix(g.q), parted.matrix(y.q)[parted.own]
    if p.subtract:
        down, up = parted.rows
        q = q - q.dot(down).dot(up)
    product = q[parted.own] * along if met is None or met.shape != y.q.shape else parted.matrix(met)[parted.own]
    beta = product.dot(parted.pairs)
    # share: below 1 where ε counts, which leaves some of the length free
    q[parted.own] -= beta[:, None] * along * done.share
    return gradient(g.axes, parted.whole(q * done.scale * done.inverse)).filled(grain=done.beyond / done.inverse)


def _gains(op: Op, g: State, y: State, x: State, own: tuple[int, ...]) -> tuple[State, dict[str, float]]:
    """The gradient in front of gain and bias, and those of gain and bias."""
    specs, found = specs_of(op, x), {}
    if "weight" in specs:
        mean, square = specs["weight"].moments
        if g.gx is None or square == 0:
            found["weight"] = summed_pairs(g, y, own)
        else:  # gx holds the output, gain and all
            met = g.gx if square == 1.0 else gradient(g.axes, g.gx / square).q
            found["weight"] = summed(met, g.axes, own)
        if (mean, square) != (1.0, 1.0):
            g = g.with_q(g.q * law_factor(square, mean * mean, g, own)).marked(gx=g.gx)  # γg · y/γ
    if "bias" in specs:
        found["bias"] = summed(g.q, g.axes, own)
    return g, found


@backward.register(ops.BatchNorm, ops.LayerNorm, ops.RMSNorm, ops.InstanceNorm)
def _(op: Op, setting: Setting, g: State, y: State, x: State) -> Pulled:
    p = plan(op, setting, len(x.axes))
    if p is None:
        before, found = _gains(op, g, x, x, (1,))
        return Pulled((before,), found)
    before, found = _gains(op, g, normalise(x, p).y, x, p.own)
    return Pulled((removed(before, x, p),), found)


@backward.register(ops.GroupNorm)
def _(op: ops.GroupNorm, setting: Setting, g: State, y: State, x: State) -> Pulled:
    p = plan(op, setting, len(x.axes))
    assert p is not None  # group norm always normalises
    xs = grouped(op, x)
    before, found = _gains(op, g, merge(normalise(xs, p).y, 1, 2), x, p.own)
    gs = split(coarse(before, 1), 1, (xs.axes[1].n, xs.axes[2].n))
    if before.gx is not None:
        met = split(coarse(gradient(before.axes, before.gx), 1), 1, (xs.axes[1].n, xs.axes[2].n))
        gs = gs.marked(gx=met.q)
    return Pulled((merge(removed(gs, xs, p), 1, 2),), found)
