"""Where to grow by the expected decrease of the loss: units in every layer, and a new block behind every activation.

A new part that begins at zero moves the function along its gradient; to first order a step of length ε lowers the loss
by ε‖∂L/∂w‖ over what begins at zero (the functional gradient; Wu et al. 2020, Firefly, eq. 4; Verbockhaven et al.
2024). The decrease per parameter decides between wider and deeper.
"""

import copy
from collections.abc import Mapping, Sequence

from depthscale.errors import GraphError
from depthscale.graph import Graph, ops
from depthscale.grow.branches import deepen
from depthscale.grow.live import Edit, Live
from depthscale.grow.policies._candidates import best_units
from depthscale.grow.policies.policy import Policy, Proposal
from depthscale.grow.training import STEP, Training, work

_TRIED = 2
_PLACES = 4  # new blocks tried at most


class FunctionalGradient:
    """Proposals for units and for blocks, comparable by gain per parameter."""

    name = "functional-gradient"

    def __call__(self, training: Training, wanted: Mapping[str, int]) -> Sequence[Proposal]:  # noqa: D102
        return [*best_units(training, wanted, _TRIED), *blocks(training)]


def blocks(training: Training) -> list[Proposal]:
    """A residual block behind every activation (at most a few places, evenly), each with its gain, as far as looking
    can be paid for.
    """
    graph = training.graph
    made: list[Edit] = []
    for name in places(graph)[:: max(1, -(-len(places(graph)) // _PLACES))]:
        op = graph[name].op
        try:
            made.append(deepen(graph, name, act=op.function if isinstance(op, ops.Activation) else "relu"))
        except GraphError:
            continue
    found = []
    for edit in made:
        price = STEP * work(edit.graph, {})
        rows = training.afford(price)
        if not rows:
            break
        live = Live(copy.deepcopy(training.live.module)).apply(edit, seed=training.decisions)
        x, y = training.probe(rows)
        with training.still(live.module) as module:
            training.engine.devices.backward(training.engine.objective(module(x), y))
            grads = [p.grad for n, p in module.named_parameters() if n not in _names(graph) and p.grad is not None]
            gain = sum(float(g.double().square().sum()) for g in grads)
        training.pay(len(x) * price)
        more = edit.graph.cost().parameters - graph.cost().parameters
        found.append(Proposal(f"block {edit.where}", (gain,), float(more), edit=edit))
    return found


def places(graph: Graph) -> list[str]:
    """Activations behind which a block fits."""
    shapes = graph.shapes()
    return [
        n.name
        for n in graph.nodes
        if isinstance(n.op, ops.Activation) and len(shapes[n.name]) in (2, 3, 4) and graph.consumers[n.name]
    ]


def _names(graph: Graph) -> set[str]:
    from depthscale.graph import all_parameters

    return set(all_parameters(graph))


POLICY = Policy(
    "functional-gradient",
    "grow",
    "units or blocks by the expected decrease of the loss per parameter",
    "Wu et al. 2020, Firefly; Verbockhaven et al. 2024",
    FunctionalGradient(),
)
