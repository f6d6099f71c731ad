"""Forward rules: the moments of an op's output from those of its inputs, one short rule per op.

``forward(op, setting, *states)``; the law that the rules follow is derived in ``moments``. A missing rule raises
MissingRuleError, which names the op. The rules live in the ``forward_*`` modules, by kind of op.
"""

from dataclasses import dataclass

import numpy as np

from depthscale.graph import ops
from depthscale.graph.op import Op
from depthscale.graph.parameters import ParameterSpec, Specs, parameters
from depthscale.graph.rules import Rule
from depthscale.theory.moments import REACH, Axis, Shape, State, independent, state


@dataclass(frozen=True)
class Setting:
    """What a propagation is about besides the graph: examples in a batch, and whether dropout drops and batch
    normalisation sees the batch.
    """

    batch: int = 32
    training: bool = True


forward: Rule[State] = Rule("forward moment", "theory/forward.py")


def shapes_of(xs: tuple[State, ...]) -> list[Shape]:
    """The shapes of the tensors that states describe."""
    return [x.shape for x in xs]


def specs_of(op: Op, *xs: State) -> Specs:
    """The parameters of an op that is fed by these."""
    return parameters(op, *shapes_of(xs))


def law_classes(spec: ParameterSpec | None) -> tuple[float, float]:
    """E[w w'] of a parameter for the same element and for two different ones; (1, 1) for none."""
    if spec is None:
        return 1.0, 1.0
    mean, square = spec.moments
    return square, mean * mean


def spatial_axes(shape: Shape, first: int = 2) -> tuple[Axis, ...]:
    """Axes of a tensor whose axes from ``first`` on are ordered."""
    return tuple(Axis(n, REACH if i >= first else 1) for i, n in enumerate(shape))


@forward.register(ops.Parameter, ops.Constant)
def _(op: ops.Parameter | ops.Constant, setting: Setting) -> State:
    mean, square = parameters(op)["weight"].moments if isinstance(op, ops.Parameter) else _law_of(op)
    return independent(tuple(Axis(n) for n in op.shape), square, mean)


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


from depthscale.theory import (  # noqa: E402  (rules register themselves)
    forward_attention as forward_attention,
    forward_contraction as forward_contraction,
    forward_elementwise as forward_elementwise,
    forward_layout as forward_layout,
    forward_norm as forward_norm,
    forward_pool as forward_pool,
)
