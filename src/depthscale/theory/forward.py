"""Forward rules: the moments of an op's output from those of its inputs, one short rule per op.

``forward(op, setting, *states)``; the law that the rules follow is derived in ``moments``. A missing rule raises
MissingRuleError, which names the op. The rules live in the ``forward_*`` modules, by kind of op.
"""

import numpy as np

from depthscale.graph import ops
from depthscale.graph.parameters import parameters
from depthscale.theory import (
    forward_attention as forward_attention,
    forward_contraction as forward_contraction,
    forward_elementwise as forward_elementwise,
    forward_layout as forward_layout,
    forward_norm as forward_norm,
    forward_pool as forward_pool,
)
from depthscale.theory.axes import Axis
from depthscale.theory.moments import State, independent, same_class, state
from depthscale.theory.rules import Setting as Setting, forward as forward, row_product, specs_of


@forward.register(ops.Parameter, ops.Constant)
def _(op: ops.Parameter | ops.Constant, setting: Setting) -> State:
    mean, square = parameters(op)["weight"].moments if isinstance(op, ops.Parameter) else _law_of(op)
    x = independent(tuple(Axis(n) for n in op.shape), square, mean)
    if len(op.shape) < 2:
        return x
    q = x.q.copy()  # two entries of one row
    q[0] = np.where(same_class(x.axes)[0] > 0, q[0], row_product(op.law, mean * mean))
    return x.with_q(q)


def _law_of(op: ops.Constant) -> tuple[float, float]:
    from depthscale.graph.laws import Fans

    size = float(op.shape[-1]) if op.shape else 1.0
    mean, square = op.law.moments(op.shape, Fans(size, size))
    return mean, square


@forward.register(ops.Embedding)
def _(op: ops.Embedding, setting: Setting, x: State) -> State:
    mean, square = specs_of(op, x)["weight"].moments
    # x.q is the probability that two places hold the same entry of the table
    same = np.maximum(x.q, 1.0 / op.entries)[..., None] * np.array([1.0, 0.0] if op.width > 1 else [1.0])
    return state((*x.axes, Axis(op.width)), mean * mean + (square - mean * mean) * same, mean)
