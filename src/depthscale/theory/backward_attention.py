"""Backward rules of softmax and attention.

g_s = a ∘ (g − Σ_j a_j g_j). With D = G[same entry] − G[other entry] of a row (what is common to a row drops out),

    Σ_i E[(g_s)_i²] = D · E[Σ a² − 2 Σ a³ + (Σ a²)²],

and the entries of a row sum to zero, which gives pairs of different ones. Moments of a of order 3 and 4 are integrals
of the same kind as ``forward_attention.concentration``.
"""

from functools import lru_cache

import numpy as np

from depthscale.graph import ops
from depthscale.numerics.estimate import Array
from depthscale.theory.align import aligned, coarse, unbroadcast
from depthscale.theory.axes import Axis
from depthscale.theory.forward_attention import LARGE_LOGITS, attention_weights
from depthscale.theory.forward_contraction import contract
from depthscale.theory.moments import State
from depthscale.theory.rules import Pulled, Setting, backward, gradient


@lru_cache(maxsize=4096)
def response(n: int, variance: float) -> float:
    """E[Σ a² − 2 Σ a³ + (Σ a²)²] for softmax weights a over n independent Gaussian logits."""
    if n == 1:
        return 0.0
    if variance <= 0:
        return (1.0 - 1.0 / n) / n
    if variance > LARGE_LOGITS:
        return response(n, LARGE_LOGITS) * float(np.sqrt(LARGE_LOGITS / variance))
    sigma = float(np.sqrt(variance))
    z = np.concatenate([np.linspace(-8.0, 8.0, 97), np.linspace(8.0, 8.0 + 4 * sigma, 97)[1:]])
    weight = np.gradient(z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    s = sigma * z
    tau = np.linspace(-np.log(n) - 5 * variance - 12, 8 * sigma + 5, 500)
    # t^k e^{ks} e^{−t e^s}: e^−1096 is 0, so that nothing overflows
    grows = np.exp(np.minimum(tau[:, None] + s, 7.0))
    term = np.exp(-grows)
    grown = [term @ weight]
    for _ in range(4):
        term *= grows
        grown.append(term @ weight)
    rest = np.clip(grown[0], 0.0, 1.0)
    one, two = rest ** (n - 1), rest ** (n - 2)
    square = float(np.trapezoid(grown[2] * one, tau))
    cube = float(np.trapezoid(grown[3] * one, tau)) / 2
    fourth = float(np.trapezoid(grown[4] * one, tau)) / 6
    pair = float(np.trapezoid(grown[2] ** 2 * two, tau)) / 6
    return max(n * square - 2 * n * cube + n * fourth + n * (n - 1) * pair, 0.0)


def softmax_back(g: State, x: State, i: int, n: int | None = None) -> State:
    """The gradient at the logits x of a softmax along axis i; n: entries that take part."""
    g, x = aligned(coarse(g, i), coarse(x, i))
    size = x.axes[i].n
    n = size if n is None else n
    if size == 1:
        return gradient(x.axes, np.zeros_like(x.q))
    variance = np.maximum(np.take(x.q, 0, axis=i) - np.take(x.q, 1, axis=i), 0.0)
    contrast = np.take(g.q, 0, axis=i) - np.take(g.q, 1, axis=i)
    factor = np.array([response(n, float(f"{v:.8g}")) for v in variance.ravel()]).reshape(variance.shape)
    same = contrast * factor / size
    return gradient(x.axes, np.stack([same, -same / (size - 1)], axis=i))


@backward.register(ops.Softmax)
def _(op: ops.Softmax, setting: Setting, g: State, y: State, x: State) -> Pulled:
    i = op.axis % len(x.axes)
    return Pulled((softmax_back(g, x, i, _taking_part(op, x.axes[i].n)),), {})


def _taking_part(op: ops.Softmax | ops.Attention, n: int) -> int:
    """Entries of a row that a mask leaves, on average."""
    return max((n + 1) // 2, 1) if op.causal else min(op.visible or n, n)


@backward.register(ops.Attention)
def _(
    op: ops.Attention, setting: Setting, g: State, y: State, q: State, k: State, v: State, mask: State | None = None
) -> Pulled:
    s, same = attention_weights(op, setting, q, k, mask)
    kept = same.copy()
    if op.dropout and setting.training:
        kept.flat[0] /= 1 - op.dropout
    gv = _to_values(g, s, kept, same, v)
    ga = contract(g, v, -1, -1)  # (B, heads, T, S)
    last = len(s.axes) - 1
    gs = softmax_back(ga, s, last, _taking_part(op, s.axes[last].n))
    scale = op.scale or q.axes[-1].n ** -0.5
    gs = gs.with_q(gs.q * scale**2)
    gq, gk = contract(gs, k, -1, -2), contract(gs, q, -2, -2)
    found = [unbroadcast(gradient(t.axes, t.q), u.axes) for t, u in ((gq, q), (gk, k), (gv, v))]
    blank = () if mask is None else (unbroadcast(gs, mask.axes),)
    return Pulled((*found, *blank), {})


def _to_values(g: State, s: State, kept: Array, same: Array, v: State) -> State:
    """Σ_i a_ij g_i: every pair of rows, weighted by how much of them falls on one key, or on two."""
    rows = len(g.axes) - 2
    shape = np.ones_like(s.mean)
    own = State((*s.axes[:-1], Axis(1)), shape, kept[..., None])
    plain = State((*s.axes[:-1], Axis(1)), shape, same[..., None])
    g, own, plain = aligned(g, own, plain)
    axis = g.axes[rows]
    n = s.axes[-1].n
    q_same = np.tensordot(g.q * own.q, axis.pairs, ([rows], [0])) / n
    q_other = np.tensordot(g.q * (1 - plain.q), axis.pairs, ([rows], [0])) / max(n * (n - 1), 1)
    q = np.stack([q_same, q_other] if n > 1 else [q_same], axis=rows)
    return gradient((*g.axes[:rows], Axis(n), g.axes[-1]), q)
