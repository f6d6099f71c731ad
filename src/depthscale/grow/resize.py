"""Networks of another size and the same shape: every free width times one factor."""

from collections.abc import Callable, Mapping

import numpy as np

from depthscale.errors import GraphError
from depthscale.graph import Graph
from depthscale.grow.edits import add_units, free_layers, narrow, widen
from depthscale.grow.spaces import Spaces


def with_widths(graph: Graph, widths: Mapping[str, int]) -> Graph:
    """The graph with so many units in these layers (one layer of each space). Weights are for a build to draw."""
    for layer, units in widths.items():
        spaces = Spaces(graph)
        space = spaces.space(spaces.of(layer))
        if units < space.size:
            each = units // space.groups
            graph = narrow(graph, layer, spaces.spread(spaces.of(layer), np.arange(each)).tolist()).graph
        elif units > space.size:
            made = widen(graph, layer, units) if space.even else add_units(graph, layer, units - space.size)
            graph = made.graph
    return graph


def scaled(graph: Graph, parameters: int, shape: Callable[[str], float] | None = None) -> Graph:
    """The largest graph of the same proportions with at most so many parameters.

    ``shape``: factors of single layers on top of the common one. Raises GraphError where even one unit a layer is more.
    """
    layers = free_layers(graph)
    if not layers:
        if graph.cost().parameters > parameters:
            raise GraphError(_too_small(graph.cost().parameters, parameters))
        return graph
    spaces = Spaces(graph)
    found = {n: spaces.space(spaces.of(n)) for n in layers}

    def at(factor: float) -> Graph:
        widths = {}
        for n, space in found.items():
            own = factor * (1.0 if shape is None else shape(n))
            step = space.size if space.even and own >= 1 else space.groups
            widths[n] = max(step, int(space.size * own + 1e-9) // step * step)
        return with_widths(graph, widths)

    low, high = 0.0, 1.0
    smallest = at(0.0).cost().parameters
    if smallest > parameters:
        raise GraphError(_too_small(smallest, parameters))
    while at(high).cost().parameters <= parameters and high < 1e4:
        low, high = high, 2 * high
    for _ in range(24):
        middle = (low + high) / 2
        if at(middle).cost().parameters <= parameters:
            low = middle
        else:
            high = middle
        if high - low < 1e-3 * high:
            break
    return at(low)


def _too_small(least: int, parameters: int) -> str:
    return (
        f"expected a cap of at least {least:,} parameters, which this network has at its narrowest, got "
        f"{parameters:,}; raise the cap or give a smaller network"
    )
