"""Backward rules: the moments of gradients, pulled through the adjoint of each forward rule.

``backward(op, setting, g, y, *xs)`` gives, from the moments g of the gradient at an op's output y = op(*xs), those of
the gradient at every input and the mean square of the gradient of every parameter. Gradients have mean zero and are
taken as independent of the forward values given their moments; what the two share is in the rules (a maximum sends
its gradient to the largest entry, a normalisation removes the components along 1 and along its output).
"""

from typing import NamedTuple

import numpy as np

from depthscale.graph import ops
from depthscale.graph.op import Op
from depthscale.graph.rules import Rule
from depthscale.numerics.estimate import Array
from depthscale.theory.forward import Setting
from depthscale.theory.moments import Axis, State, aligned, common_axes, same_average, state


class Pulled(NamedTuple):
    """Gradients of inputs (None: none flows) and E[(∂/∂θ)²] of an element of every parameter."""

    inputs: tuple[State | None, ...]
    parameters: dict[str, float]


backward: Rule[Pulled] = Rule("backward moment", "theory/backward.py")


def gradient(axes: tuple[Axis, ...], q: Array, profile: tuple[Array | None, ...] = ()) -> State:
    """The moments of a gradient: mean zero."""
    parts = next((a.parts for a in axes if a.parts), ())
    return state(axes, q, np.zeros(len(parts)) if parts else 0.0, 0.0, profile)


def significant(total: float, size: float) -> float:
    """A sum of squares, or 0 where it is the rounding error of terms of this size that cancel."""
    return total if total > 1e-8 * size else 0.0


def summed_pairs(a: State, b: State, keep: tuple[int, ...] = ()) -> float:
    """Σ over all pairs of entries of E[a_i a_j] E[b_i b_j], where entries of the axes ``keep`` are the same one.

    Averaged over the entries of the kept axes.
    """
    a, b = aligned(a, b)
    axes = common_axes((a, b))
    q = np.stack(np.broadcast_arrays(a.q * b.q, np.abs(a.q * b.q)))
    for i in reversed(range(len(axes))):
        if i in keep:
            q = same_average(q, (axes[i],) * (i + 2), i + 1)
        else:
            q = np.tensordot(q, axes[i].pairs, ([i + 1], [0]))
    return significant(float(q[0]), float(q[1]))


def ones_like(x: State) -> State:
    """The moments of a tensor of ones."""
    return State(x.axes, np.ones_like(x.mean), np.ones_like(x.q))


@backward.register(ops.Input, ops.Constant)
def _(op: Op, setting: Setting, g: State, y: State) -> Pulled:
    return Pulled((), {})


@backward.register(ops.Parameter)
def _(op: ops.Parameter, setting: Setting, g: State, y: State) -> Pulled:
    return Pulled((), {"weight": g.length})


@backward.register(ops.Embedding)
def _(op: ops.Embedding, setting: Setting, g: State, y: State, x: State) -> Pulled:
    same = State(x.axes, x.mean, np.maximum(x.q, 1.0 / op.entries))
    own = State(g.axes[:-1], np.zeros(()), same_average(g.q, g.axes, len(g.axes) - 1))
    return Pulled((None,), {"weight": summed_pairs(own, same) / op.entries})


from depthscale.theory import (  # noqa: E402  (rules register themselves)
    backward_attention as backward_attention,
    backward_contraction as backward_contraction,
    backward_elementwise as backward_elementwise,
    backward_layout as backward_layout,
    backward_norm as backward_norm,
    backward_pool as backward_pool,
)
