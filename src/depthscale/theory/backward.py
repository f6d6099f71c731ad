"""Backward rules: the moments of gradients, pulled through the adjoint of each forward rule.

``backward(op, setting, g, y, *xs)`` gives, from the moments g of the gradient at an op's output y = op(*xs), those of
the gradient at every input and the mean square of the gradient of every parameter. Gradients have mean zero and are
taken as independent of the forward values given their moments; what the two share is in the rules (a maximum sends
its gradient to the largest entry, a normalisation removes the components along 1 and along its output).
"""

import numpy as np

from depthscale.graph import ops
from depthscale.graph.op import Op
from depthscale.theory import (
    backward_attention as backward_attention,
    backward_contraction as backward_contraction,
    backward_elementwise as backward_elementwise,
    backward_layout as backward_layout,
    backward_norm as backward_norm,
    backward_pool as backward_pool,
)
from depthscale.theory.moments import State, same_average
from depthscale.theory.rules import Pulled as Pulled, Setting, backward as backward, gradient as gradient, summed_pairs


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
