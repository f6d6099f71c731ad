"""Forward rules of softmax and attention: the logits' variance decides between averaging and picking.

For a row of n independent Gaussian logits of variance ν, the weights a_j = e^{s_j}/Σ e^{s} have

    n E[a_j²] = n ∫ t E[e^{2s} e^{−t e^s}] (E e^{−t e^s})^{n−1} dt,

which runs from 1/n (ν = 0: averaging) to 1 (ν → ∞: picking). A part of the logits common to a row drops out.
For two rows whose logits have covariance ν' the same function of ν' is used: exact at 0, at ν' = ν and for small
variances. Weights of a row sum to one, so pairs of different entries have what is left.
"""

from functools import lru_cache

import numpy as np

from depthscale.graph import ops
from depthscale.numerics.estimate import Array
from depthscale.theory.align import aligned, coarse, refine
from depthscale.theory.forward_contraction import as_gaussian, contract
from depthscale.theory.moments import State, state
from depthscale.theory.rules import Setting, forward

LARGE_LOGITS = 100.0  # variance beyond which softmax is extrapolated


@lru_cache(maxsize=4096)
def concentration(n: int, variance: float) -> float:
    """n E[a²] of softmax weights over n independent Gaussian logits of this variance: from 1/n to 1."""
    if n == 1:
        return 1.0
    if variance <= 0:
        return 1.0 / n
    if variance > LARGE_LOGITS:  # what is left beside the largest falls as 1/σ
        return 1.0 - (1.0 - concentration(n, LARGE_LOGITS)) * float(np.sqrt(LARGE_LOGITS / variance))
    sigma = np.sqrt(variance)
    # e^{2s} moves the mass out by 2σ
    z = np.concatenate([np.linspace(-8.0, 8.0, 97), np.linspace(8.0, 8.0 + 2 * sigma, 49)[1:]])
    weight = np.gradient(z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    s = sigma * z
    tau = np.linspace(-np.log(n) - 3 * variance - 12, 8 * sigma + 5, 400)
    damp = np.exp(-np.exp(np.minimum(tau[:, None] + s[None, :], 300.0)))  # (τ, z)
    rest = damp @ weight
    top = (damp * np.exp(2 * s)) @ weight
    integrand = np.exp(2 * tau) * top * np.clip(rest, 0.0, 1.0) ** (n - 1)
    return float(np.clip(n * np.trapezoid(integrand, tau), 1.0 / n, 1.0))


def row_weights(logits: State, axis: int, n: int | None = None) -> Array:
    """Σ_j E[a_ij a_i'j] by class of the other axes (in which ``axis`` disappears); n: entries taken part in."""
    x = coarse(logits, axis)
    n = x.axes[axis].n if n is None else n
    if n == 1:
        return np.ones(np.take(x.q, 0, axis=axis).shape)
    same, other = np.take(x.q, 0, axis=axis), np.take(x.q, min(1, x.q.shape[axis] - 1), axis=axis)
    variance = np.maximum(same - other, 0.0)
    found: dict[float, float] = {}
    out = np.empty(variance.shape)
    for index, v in np.ndenumerate(variance):
        key = float(f"{v:.8g}")
        if key not in found:
            found[key] = concentration(n, key)
        out[index] = found[key]
    return out


@forward.register(ops.Softmax)
def _(op: ops.Softmax, setting: Setting, x: State) -> State:
    i = op.axis % len(x.axes)
    x = coarse(x, i)
    n = x.axes[i].n
    same = _causal_rows(x) if op.causal else row_weights(x, i, min(op.visible, n) or None)
    rows = [same / n] if n == 1 else [same / n, (1 - same) / (n * (n - 1))]
    mean = np.full(x.mean.shape, 1.0 / n)
    return state(x.axes, np.stack(rows, axis=i), mean, 0.0)


def logits_of(op: ops.Attention, q: State, k: State) -> State:
    """q kᵀ · scale: (B, heads, T, S)."""
    s = contract(q, k, -1, -1)
    scale = op.scale or q.axes[-1].n ** -0.5
    return s.with_q(s.q * scale**2, s.mean * scale)


def attention_weights(
    op: ops.Attention, setting: Setting, q: State, k: State, mask: State | None
) -> tuple[State, Array]:
    """The logits, and Σ_j E[a_ij a_i'j] by class of (B, heads, T); dropout not counted."""
    s = logits_of(op, q, k)
    if mask is not None:
        lifted = aligned(s, mask)
        s = s.with_q(lifted[0].q + lifted[1].q)
    if not op.causal:
        return s, row_weights(s, len(s.axes) - 1, min(op.visible, s.axes[-1].n) or None)
    return s, _causal_rows(s)


def _causal_rows(s: State) -> Array:
    """The same where row i sees the entries up to i: averaged over rows and pairs of rows."""
    last = len(s.axes) - 1
    n = s.axes[last].n
    lengths = np.unique(np.linspace(1, n, min(n, 12)).round().astype(int))
    table = np.stack([row_weights(s, last, int(m)) for m in lengths])  # (lengths, classes of B, heads, T)
    rows = np.arange(1, n + 1)
    flat = table.reshape(len(lengths), -1)
    # Σ a² falls as 1/length: interpolate length · value
    every = np.stack([np.interp(rows, lengths, flat[:, k] * lengths) / rows for k in range(flat.shape[1])], axis=1)
    own = every.mean(axis=0).reshape(table.shape[1:])
    shorter = np.minimum(rows[:, None], rows[None, :])
    longer = np.maximum(rows[:, None], rows[None, :])
    off = ~np.eye(n, dtype=bool)
    share = (shorter / longer)[off]  # of a long row's weight, what lies on the short row's entries
    pairs = np.stack(
        [(every[shorter[off] - 1, k] * share).mean() if n > 1 else own.flat[k] for k in range(flat.shape[1])]
    )
    out = own.copy()
    rest = [slice(None)] * (out.ndim - 1)
    out[(*rest, slice(1, None))] = pairs.reshape(out.shape)[(*rest, slice(1, None))]
    return np.asarray(out)


@forward.register(ops.Attention)
def _(op: ops.Attention, setting: Setting, q: State, k: State, v: State, mask: State | None = None) -> State:
    s, same = attention_weights(op, setting, q, k, mask)
    return attend(s, same, v, op.dropout if setting.training else 0.0)


def attend(s: State, same: Array, v: State, dropout: float = 0.0) -> State:
    """Σ_j a_ij v_j for weights with Σ_j E[a_ij a_i'j] = ``same`` by class of (B, heads, T)."""
    i = len(v.axes) - 2
    v = v if v.part_axis in (None, i) else coarse(v)
    matched, other = key_averages(v, i)
    n = s.axes[-1].n
    weight = same[..., None]
    kept = weight.copy()
    if dropout:
        kept[(0,) * kept.ndim] /= 1 - dropout
    # (B, heads, classes of v's features), one more axis for the rows of s
    q = kept * np.expand_dims(matched, i) + (1 - weight if n > 1 else 0.0) * np.expand_dims(other, i)
    axes = (*s.axes[:-1], v.axes[-1])
    parts = next((a.parts for a in axes if a.parts), ())
    return as_gaussian(state(axes, q, np.full(len(parts), v.average) if parts else v.average), v.spread)


def key_averages(v: State, i: int) -> tuple[Array, Array]:
    """E[v_j v_j'] where axis i agrees and where it does not, averaged over its parts; the axis disappears."""
    x = coarse(v, i)
    return np.take(x.q, 0, axis=i), np.take(x.q, min(1, x.q.shape[i] - 1), axis=i)


__all__ = ["attend", "attention_weights", "concentration", "refine", "row_weights"]
