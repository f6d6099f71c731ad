"""Whether a network as it stands is critical: propagation over its graph with the laws of its weights of now.

Every layer's laws are read off its tensors (mean, mean square), and ``theory.propagate`` is run on that: q is the
second moment at the last hidden layer, chi1 the factor per layer that the gradient's energy changes by on its way back
(1: critical; Schoenholz et al. 2017).
"""

from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from depthscale.capture.laws import read_law
from depthscale.errors import DepthscaleError
from depthscale.graph import Graph, Law, Node, Op, edit, ops
from depthscale.grow.live import Live
from depthscale.theory.propagate import propagate

NODES = 1000  # beyond it theory would take seconds at every edit


def as_it_stands(live: Live) -> Graph:
    """The graph with the laws that its weights of now look drawn from."""
    named: dict[str, Tensor] = dict(live.module.named_parameters())

    def op(node: Node) -> Op:
        owner = getattr(node.op, "shared", None) or node.name
        found: dict[str, Any] = {}
        for field in fields(node.op):
            leaf = "weight" if field.name == "law" else field.name
            if isinstance(getattr(node.op, field.name), Law) and f"{owner}.{leaf}" in named:
                found[field.name] = read_law(named[f"{owner}.{leaf}"], f"{owner}.{leaf}")
        return replace(node.op, **found) if found else node.op

    return edit.map_ops(live.graph, op)


def criticality(live: Live) -> dict[str, float] | None:
    """q and chi1 of the network as it stands; None where theory has no answer (or the network is too large for it)."""
    graph = live.graph
    if len(graph) > NODES:
        return None
    try:
        found = propagate(as_it_stands(live))
    except DepthscaleError:
        return None
    layers = [r for r in found.rows if isinstance(r.op, ops.LAYERS)]
    q = layers[-2].q if len(layers) > 1 else found.totals.q_end
    return {"q": q, "chi1": found.totals.growth_backward}
