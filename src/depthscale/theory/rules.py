"""The two rules of mean-field propagation, empty, and what it takes to write one; see ``forward`` and ``backward``."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from depthscale.graph.laws import Law
from depthscale.graph.op import Op
from depthscale.graph.parameters import ParameterSpec, Specs, parameters
from depthscale.graph.rules import Rule
from depthscale.numerics.estimate import Array
from depthscale.theory.align import aligned, common_axes
from depthscale.theory.axes import Axis
from depthscale.theory.frames import agreeing, frame, product
from depthscale.theory.moments import Shape, State, gradient as gradient


class Setting(NamedTuple):
    """What a propagation is about besides the graph: examples in a batch, and whether dropout drops and batch
    normalisation sees the batch.
    """

    batch: int = 32
    training: bool = True


forward: Rule[State] = Rule("forward moment", "theory/forward.py")


def specs_of(op: Op, *xs: State) -> Specs:
    """The parameters of an op that is fed by these."""
    return _specs(op, *[x.shape for x in xs])


@lru_cache(maxsize=4096)
def _specs(op: Op, *shapes: Shape) -> Specs:
    return parameters(op, *shapes)


def law_classes(spec: ParameterSpec | None) -> tuple[float, float]:
    """E[w w'] of a parameter for the same element and for two different ones; (1, 1) for none."""
    if spec is None:
        return 1.0, 1.0
    mean, square = spec.moments
    return square, mean * mean


def row_product(law: Law, other: float) -> float:
    """E[w w'] of two different weights of one output; ``other``: that of any two."""
    row = getattr(law, "row", None)
    return other if row is None else float(row)


class Pulled(NamedTuple):
    """Gradients of inputs (None: none flows) and E[(∂/∂θ)²] of an element of every parameter."""

    inputs: tuple[State | None, ...]
    parameters: dict[str, float]


backward: Rule[Pulled] = Rule("backward moment", "theory/backward.py")


def significant(total: float, size: float) -> float:
    """A sum of squares, or 0 where it is the rounding error of terms of this size that cancel."""
    return total if total > 1e-8 * size else 0.0


def summed_pairs(a: State, b: State, keep: tuple[int, ...] = ()) -> float:
    """Σ over all pairs of entries of E[a_i a_j] E[b_i b_j], where entries of the axes ``keep`` are the same one.

    Averaged over the entries of the kept axes.
    """
    a, b = aligned(a, b)
    axes = a.axes if a.axes == b.axes else common_axes((a, b))
    met = a.q * b.q
    shape = frame(axes).shape
    met = (met if met.shape == shape else np.broadcast_to(met, shape)).ravel()
    weights = _pair_counts(axes, keep)
    return significant(float(met.dot(weights)), float(np.abs(met).dot(weights)))


def summed(q: Array, axes: tuple[Axis, ...], keep: tuple[int, ...] = ()) -> float:
    """``summed_pairs`` of moments with those of a tensor of ones: Σ over all pairs of entries of E[a_i a_j]."""
    met, weights = q.ravel(), _pair_counts(axes, keep)
    return significant(float(met.dot(weights)), float(np.abs(met).dot(weights)))


@lru_cache(maxsize=4096)
def _pair_counts(axes: tuple[Axis, ...], keep: tuple[int, ...]) -> Array:
    """The number of pairs in every class, where entries of the axes ``keep`` are the same one: flat."""
    return product([agreeing(a) if i in keep else a.pairs for i, a in enumerate(axes)]).ravel()
