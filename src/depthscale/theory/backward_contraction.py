"""Backward rules of linear layers, convolutions and matrix products: the same sums over the other index."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from depthscale.graph import ops
from depthscale.graph.op import Op
from depthscale.graph.parameters import parameters
from depthscale.numerics.estimate import Array
from depthscale.theory.align import coarse, unbroadcast, without_parts
from depthscale.theory.axes import REACH, Axis, mapped
from depthscale.theory.forward_contraction import (
    Maps,
    Terms,
    as_gaussian,
    backward_taps,
    carrying,
    channel_pairs,
    contract,
    conv_windows,
    convolve,
    expand_same,
    forward_taps,
    is_delta,
    law_pattern,
    terms_of,
    transposed_windows,
    weight_classes,
)
from depthscale.theory.frames import product
from depthscale.theory.moments import State, same_average
from depthscale.theory.rules import Pulled, Setting, backward, gradient, significant, specs_of, summed, summed_pairs
from depthscale.theory.windows import Window, every_sums, same_sums


def _leading(x: State) -> State:
    """One feature of x: its last axis agrees and disappears."""
    mean = np.asarray(x.average) if x.axes[-1].parts else x.mean
    return State(x.axes[:-1], mean, same_average(x.q, x.axes, len(x.axes) - 1))


def _bias(op: Op, xs: tuple[State, ...], g: State, channel: int) -> dict[str, float]:
    if "bias" not in specs_of(op, *xs):
        return {}
    return {"bias": summed(g.q, g.axes, (channel,))}


def _whatever_its_length(gx: State, g: State) -> State:
    """A unit's weights that are long make its output long, and a normalisation its gradient short: |w|²/V is even."""
    return gx.with_q(gx.q * g.grain) if g.grain else gx


@backward.register(ops.Linear)
def _(op: ops.Linear, setting: Setting, g: State, y: State, *xs: State) -> Pulled:
    x = xs[0]
    out = g.axes[-1]
    w = expand_same(expand_same(weight_classes(op, xs), out, 0), x.axes[-1], 1)  # (out, in)
    q = np.tensordot(g.q, w * out.pairs[:, None], ([g.q.ndim - 1], [0]))
    gx = gradient((*g.axes[:-1], x.axes[-1]), q) if not _two_parts((*g.axes[:-1], x.axes[-1])) else None
    if gx is None:  # parts both along the features and elsewhere: the features' go
        x = coarse(x, len(x.axes) - 1)
        q = np.tensordot(g.q, expand_same(weight_classes(op, xs), out, 0) * out.pairs[:, None], ([g.q.ndim - 1], [0]))
        gx = gradient((*g.axes[:-1], x.axes[-1]), q)
    gx = as_gaussian(_whatever_its_length(gx, g), g.spread)
    if len(xs) > 1:
        return Pulled((gx, _fed_linear(g, x, xs[1])), _bias(op, xs, g, len(g.axes) - 1))
    square = summed_pairs(_leading(g), _leading(x))
    return Pulled((gx,), {"weight": square, **_bias(op, xs, g, len(g.axes) - 1)})


def _two_parts(axes: tuple[Axis, ...]) -> bool:
    return sum(bool(a.parts) for a in axes) > 1


def _fed_linear(g: State, x: State, weight: State) -> State:
    """The gradient of a weight that is computed: Σ over positions of g_o x_i, by class of (o, i)."""
    a, b = coarse(g), coarse(x)
    rows = []
    for i in range(a.q.shape[-1]):
        row = []
        for j in range(b.q.shape[-1]):
            q = a.q[..., i] * b.q[..., j]
            for axis in reversed(a.axes[:-1]):
                q = np.tensordot(q, axis.pairs, ([q.ndim - 1], [0]))
            row.append(float(q))
        rows.append(row)
    return gradient((Axis(a.axes[-1].n), Axis(b.axes[-1].n)), np.array(rows))


class ConvPlan(NamedTuple):
    """What a convolution does to gradients with these axes: axes of the input's gradient, sums, taps that meet."""

    axes: tuple[Axis, ...]
    terms: Terms
    windows: list[Window]
    sums: list[Array]
    pairs: Array | None  # where entries meet only themselves (kernels of one tap): how many pairs of each class do
    bias: bool


def _conv_plan(
    op: ops.Conv, g: tuple[Axis, ...], x: tuple[Axis, ...], weights: Array, bias: bool, own: bool
) -> ConvPlan:
    windows = conv_windows(op, x, tuple(a.n for a in g))
    inner = [Axis(a.n, REACH, edge=a.edge or o.edge) for a, o in zip(x[2:], g[2:], strict=True)]
    w = np.swapaxes(expand_same(weights, g[1], 0), 0, 1)
    carry = windows
    if own and is_delta(op):
        carry, w = carrying(windows), w * math.prod(op.kernel)
    maps: Maps = [backward_taps(k, g[i], inner[i - 2]) for i, k in enumerate(carry, start=2)]
    terms = terms_of(w, channel_pairs(x[1], g[1], op.groups), maps, x[1])
    sums = [same_sums(k, g[i], x[i]) for i, k in enumerate(windows, start=2)]
    alone = all(c.shape[0] == c.shape[1] and not (c - np.diag(np.diag(c))).any() for c in sums)
    pairs = product([g[0].pairs, *[np.diag(c) for c in sums]]).ravel() if alone else None
    return ConvPlan((*x[:2], *inner), terms, windows, sums, pairs, bias)


@lru_cache(maxsize=4096)
def _own_conv_plan(op: ops.Conv, g: tuple[Axis, ...], x: tuple[Axis, ...]) -> ConvPlan:
    """The plan of a convolution with its own weights."""
    specs = parameters(op, tuple(a.n for a in x))
    return _conv_plan(op, g, x, law_pattern(specs["weight"]), "bias" in specs, own=True)


@backward.register(ops.Conv)
def _(op: ops.Conv, setting: Setting, g: State, y: State, *xs: State) -> Pulled:
    g, x = (without_parts(coarse(s, 1) if op.groups > 1 else s) for s in (g, xs[0]))  # groups cut across the classes
    if len(xs) > 1:
        plan = _conv_plan(op, g.axes, x.axes, weight_classes(op, xs), "bias" in specs_of(op, *xs), own=False)
    else:
        plan = _own_conv_plan(op, g.axes, x.axes)
    q = convolve(g.q, plan.terms)
    gx = as_gaussian(gradient(plan.axes, q * g.grain if g.grain else q), g.spread)
    bias = {"bias": summed(g.q, g.axes, (1,))} if plan.bias else {}
    if len(xs) > 1:
        return Pulled((gx, _fed_conv(op, g, x, xs[1], plan.windows)), bias)
    square = _met(g.q[:, 0], x.q[:, 0], g.axes[0].pairs, plan.sums, plan.pairs) / math.prod(op.kernel)
    return Pulled((gx,), {"weight": square, **bias})


def _met(g: Array, x: Array, batch: Array, sums: list[Array], pairs: Array | None = None) -> float:
    """Σ over pairs of examples and of positions that meet through taps of E[g g'] E[x x']; g, x: (batch, *spatial).

    pairs: the number of them in each class, where positions meet only themselves.
    """
    if pairs is not None:
        alone = (g * x).ravel()
        return significant(float(alone @ pairs), float(np.abs(alone) @ pairs))
    if len(sums) == 2:
        x = sums[0] @ x @ sums[1].T
    else:
        for i, c in enumerate(sums, start=1):
            x = mapped(x, i, c)
    met = batch @ (g * x).reshape(len(batch), -1), batch @ np.abs(g * x).reshape(len(batch), -1)
    return significant(*[float(np.add.reduce(m)) for m in met])


def _fed_conv(op: ops.Conv, g: State, x: State, weight: State, windows: list[Window]) -> State:
    """The gradient of a kernel that is computed, by class of (out, in, *taps)."""
    axes = tuple(Axis(n) for n in weight.shape)
    q = np.zeros(tuple(a.classes for a in axes))
    for index in np.ndindex(*q.shape):
        o, i, *agree = index
        used, pairs = [], 1.0
        for d, (window, t, k) in enumerate(zip(windows, agree, op.kernel, strict=True), start=2):
            same = same_sums(window, g.axes[d], x.axes[d])
            used.append(every_sums(window, g.axes[d], x.axes[d]) - same if t else same)
            pairs *= k * (k - 1) if t else k
        q[index] = _met(g.q[:, o], x.q[:, i], g.axes[0].pairs, used) / pairs
    return gradient(axes, q)


@backward.register(ops.ConvTranspose)
def _(op: ops.ConvTranspose, setting: Setting, g: State, y: State, x: State) -> Pulled:
    g, x = (without_parts(coarse(s, 1) if op.groups > 1 else s) for s in (g, x))
    windows = transposed_windows(op, x, g.shape)
    inner = [Axis(a.n, REACH, edge=True) for a in x.axes[2:]]
    maps: Maps = [forward_taps(w, inner[i - 2], g.axes[i]) for i, w in enumerate(windows, start=2)]
    w = expand_same(weight_classes(op, (x,)), g.axes[1], 1)
    q = convolve(g.q, terms_of(w, channel_pairs(x.axes[1], g.axes[1], op.groups), maps, x.axes[1]))
    sums = [same_sums(w, x.axes[i], g.axes[i]) for i, w in enumerate(windows, start=2)]
    square = _met(x.q[:, 0], g.q[:, 0], g.axes[0].pairs, sums) / math.prod(op.kernel)
    gx = as_gaussian(gradient((*x.axes[:2], *inner), q), g.spread)
    return Pulled((gx,), {"weight": square, **_bias(op, (x,), g, 1)})


@backward.register(ops.MatMul)
def _(op: ops.MatMul, setting: Setting, g: State, y: State, a: State, b: State) -> Pulled:
    ga = contract(g, b, -1, -1)  # Σ_m g_nm b_km
    gb = contract(a, g, -2, -2)  # Σ_n a_nk g_nm
    return Pulled((unbroadcast(_centred(ga), a.axes), unbroadcast(_centred(gb), b.axes)), {})


def _centred(g: State) -> State:
    return gradient(g.axes, g.q)
