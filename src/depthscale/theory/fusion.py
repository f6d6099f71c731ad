"""Values that are functions of one another: recognised by structure, so that they are not taken as independent.

x·σ(x) written out, relu(x) + x, a chain of activations: every node that is an elementwise function of one earlier
tensor (its root) is one elementwise function of that root, exactly. A maximum over a window of φ(x) for a monotone φ
(or one that, as SiLU, falls but a little) is φ of the maximum of x; back-propagation then knows that the largest entry
is hardly ever on a flat part of φ.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from depthscale.graph import ops
from depthscale.graph.graph import Graph
from depthscale.graph.op import Op
from depthscale.numerics.estimate import Array
from depthscale.theory.activations import Activation
from depthscale.theory.forward_elementwise import averages_of

_LONGEST = 12  # ops in one expression: beyond, a node is a root of its own


@dataclass(frozen=True)
class Expression:
    """An elementwise function of one tensor. op None: the tensor itself; else op applied to ``arguments``."""

    op: Op | None = None
    arguments: tuple["Expression", ...] = ()

    @property
    def size(self) -> int:
        """Number of ops."""
        return (self.op is not None) + sum(a.size for a in self.arguments)

    def evaluate(self, x: Array) -> tuple[Array, Array]:
        """Value and derivative."""
        if self.op is None:
            return x, np.ones_like(x)
        values = [a.evaluate(x) for a in self.arguments]
        if isinstance(self.op, ops.Activation):
            inner, slope = values[0]
            act = averages_of(self.op)
            return act(inner), act.derivative(inner) * slope
        if isinstance(self.op, ops.Multiply):
            value, slope = values[0]
            for other, its in values[1:]:
                value, slope = value * other, slope * other + value * its
            return value, slope
        if isinstance(self.op, ops.Divide):
            (a, da), (b, db) = values
            return a / b, (da - a / b * db) / b
        signs = (1.0, -1.0) if isinstance(self.op, ops.Subtract) else (1.0,) * len(values)
        return (
            np.sum([s * v for s, (v, _) in zip(signs, values, strict=True)], axis=0),
            np.sum([s * d for s, (_, d) in zip(signs, values, strict=True)], axis=0),
        )


@lru_cache(maxsize=256)
def averages_of_expression(expression: Expression) -> Activation:
    """The Gaussian averages of an expression."""
    return Activation(
        "composite", (), lambda x: expression.evaluate(x)[0], lambda x: expression.evaluate(x)[1], _kinks(expression)
    )


def _kinks(expression: Expression) -> tuple[float, ...]:
    """Kinks of functions applied to the root itself; the mesh finds the others."""
    found: set[float] = set()
    for a in expression.arguments:
        found.update(_kinks(a))
        if a.op is None and isinstance(expression.op, ops.Activation):
            found.update(averages_of(expression.op).kinks)
    return tuple(sorted(found))


@dataclass(frozen=True)
class Fused:
    """A node that is best computed from an earlier one: ``pool`` (if any) of ``expression`` of the root."""

    root: str
    expression: Expression
    pool: ops.MaxPool | None = None


_DIP = 0.4  # what SiLU, GELU, Mish and their like lose on the way down, at most


@lru_cache(maxsize=4096)
def _rises(op: ops.Activation, window: int) -> bool:
    """Whether the largest of a window's values is the function of the largest argument, or hardly ever another.

    SiLU and its kin fall a little below 0 before they rise: that counts only where all of a window is negative.
    """
    x = np.linspace(-12.0, 12.0, 481)
    with np.errstate(all="ignore"):
        y = averages_of(op)(x)
    if not np.all(np.isfinite(y)):
        return False
    fall = float(np.max(np.maximum.accumulate(y) - y))
    return fall <= 0 or (fall <= _DIP and window >= 4 and bool(np.all(np.diff(y[x >= 0]) >= 0)))


_TOGETHER = (ops.Add, ops.Subtract, ops.Multiply, ops.Divide)


def fuse(graph: Graph) -> dict[str, Fused]:
    """The nodes that are to be computed from a root, by name."""
    own = Expression()
    known: dict[str, tuple[str, Expression]] = {}  # node -> its root and what it is of it
    out: dict[str, Fused] = {}
    for node in graph.nodes:
        op = node.op
        if isinstance(op, ops.Activation):
            root, inner = known.get(node.inputs[0], (node.inputs[0], own))
            if inner.size >= _LONGEST:
                root, inner = node.inputs[0], own
            known[node.name] = (root, Expression(op, (inner,)))
            if _bends(inner):
                out[node.name] = Fused(root, Expression(op, (inner,)))
        elif isinstance(op, _TOGETHER) and len(node.inputs) > 1:
            found = _common_root(node.inputs, known)
            if found is not None:
                root, parts = found
                expression = Expression(op, parts)
                if expression.size <= _LONGEST:
                    known[node.name] = (root, expression)
                    out[node.name] = Fused(root, expression)
        elif isinstance(op, ops.MaxPool) and node.inputs[0] in known:
            root, inner = known[node.inputs[0]]
            simple = inner.op is not None and inner.arguments == (own,)
            if simple and isinstance(inner.op, ops.Activation) and _rises(inner.op, math.prod(op.kernel)):
                out[node.name] = Fused(root, inner, op)
    return out


def _bends(expression: Expression) -> bool:
    """Whether an expression is more than an affine map of its root (which leaves a Gaussian Gaussian)."""
    op = expression.op
    if op is None:
        return False
    if isinstance(op, ops.Activation) and op.function in ("identity", "affine", "neg"):
        return _bends(expression.arguments[0])
    return True


def _common_root(
    inputs: tuple[str, ...], known: dict[str, tuple[str, Expression]]
) -> tuple[str, tuple[Expression, ...]] | None:
    """One node that all of the inputs are functions of, or are."""
    own = Expression()
    for candidate in (known[i][0] if i in known else i for i in inputs):
        parts = []
        for i in inputs:
            if i == candidate:
                parts.append(own)
            elif i in known and known[i][0] == candidate:
                parts.append(known[i][1])
            else:
                break
        else:
            return candidate, tuple(parts)
    # an input that is itself the root of the others
    for candidate in inputs:
        if all(i == candidate or (i in known and known[i][0] == candidate) for i in inputs):
            return candidate, tuple(own if i == candidate else known[i][1] for i in inputs)
    return None
