"""The parameters of all members, stacked: one tensor per parameter, its first axis the member.

Every member's values are those that ``ds.build(graph, seed)`` draws: the same laws, the same generators.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from depthscale.build.plan import plan
from depthscale.build.sampling import draw
from depthscale.errors import TrainingError
from depthscale.graph import Graph, ops
from depthscale.graph.laws import Law
from depthscale.graph.op import Op


def draw_stack(
    graphs: Sequence[Graph], seeds: Sequence[int], dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    """Parameters by name, each (E, *shape), one member per graph and seed."""
    specs = plan(graphs[0]).specs
    stack = {name: torch.empty((len(graphs), *spec.shape), dtype=dtype) for name, spec in specs.items()}
    for e, (graph, seed) in enumerate(zip(graphs, seeds, strict=True)):
        for name, spec in plan(graph).specs.items():
            stack[name][e].copy_(draw(spec, seed, name))
    return {name: values.to(device) for name, values in stack.items()}


def penalised(graph: Graph) -> frozenset[str]:
    """The parameters that weight decay applies to: neither vectors and scalars nor those of a normalisation."""
    found = set()
    for name, spec in plan(graph).specs.items():
        node = graph.by_name.get(name.rpartition(".")[0])
        if len(spec.shape) > 1 and not (node is not None and isinstance(node.op, ops.NORMS)):
            found.add(name)
    return frozenset(found)


def check_same(graph: Graph, other: Graph) -> None:
    """Raise TrainingError unless two graphs differ in the laws of their parameters only."""
    if graph is other:
        return
    if graph.inputs == other.inputs and graph.outputs == other.outputs and len(graph) == len(other):
        for a, b in zip(graph.nodes, other.nodes, strict=True):
            if a.name != b.name or a.inputs != b.inputs or _lawless(a.op) != _lawless(b.op):
                break
        else:
            return
    raise TrainingError(
        "expected the members of an ensemble to be one network that differs in the laws of its parameters only, got "
        f"{graph!r} and {other!r}; train networks of other shapes in an ensemble of their own"
    )


def _lawless(op: Op) -> Op:
    """The op with all its laws made alike."""
    laws = {k: _NO_LAW for k, v in vars(op).items() if isinstance(v, Law)}
    return replace(op, **laws) if laws else op


_NO_LAW = Law()
