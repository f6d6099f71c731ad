"""States that are carried from step to step past a gate, as those of an LSTM and a GRU are.

c' = f ∘ c + …: the gradient passes from step to step times f alone, 4⁻ᵀ of its energy over T steps where gates start
half open. Gates that start at σ(b) = T/(T + 1), b = ln T, keep most of it (Gers, Schmidhuber & Cummins 2000; Tallec &
Ollivier 2018, "Can recurrent neural networks warp time?", which draws b = ln U over lengths up to T).
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from depthscale.graph import Graph, ops
from depthscale.graph.parameters import owner
from depthscale.theory.activations import Activation

OFTEN = 2  # products in a row, at least
_SUMS = (ops.Add, ops.Subtract)
_WEIGHTED = (ops.Linear, ops.Conv)


class _Function(Protocol):
    @property
    def act(self) -> Activation: ...
    @property
    def root(self) -> str: ...


class Carried(NamedTuple):
    """steps: by the name of the parameters of a gate, how often in a row it lets a state through; sums: where what is
    new is added to a state.
    """

    steps: dict[str, int]
    sums: frozenset[str]


def carried(graph: Graph, functions: Mapping[str, _Function]) -> Carried:
    """The carried states of a graph, whose elementwise functions are given by the nodes that give them out."""
    products: dict[str, list[str]] = {}
    for node in graph.nodes:
        if isinstance(node.op, ops.Multiply):
            for key in gates_of(graph, functions, node.name):
                products.setdefault(key, []).append(node.name)
    steps: dict[str, int] = {}
    sums: set[str] = set()
    for key, names in products.items():
        runs: dict[str, int] = {}
        for name in names:
            runs[name] = 1 + max((runs[n] for n in _states_behind(graph, name) if n in runs), default=0)
        if max(runs.values()) >= OFTEN:
            steps[key] = max(runs.values())
            sums |= {u for n in names for u in graph.consumers[n] if isinstance(graph[u].op, _SUMS)}
    return Carried(steps, frozenset(sums))


def gates_of(graph: Graph, functions: Mapping[str, _Function], product: str) -> set[str]:
    """The parameters of the layers behind the gates of a product."""
    return {k for i in graph[product].inputs if i in functions for k in _gate(graph, functions[i])}


def _gate(graph: Graph, function: _Function) -> Iterator[str]:
    """The parameters of the layers that a gate's argument is a sum of; none where it does not start open."""
    with np.errstate(all="ignore"):
        if not 0.1 < float(function.act(np.zeros(1))[0]) < 1.0:
            return
    stack = [function.root]
    while stack:
        node = graph[stack.pop()]
        if isinstance(node.op, _WEIGHTED):
            yield owner(node.name, node.op)
        elif isinstance(node.op, (*_SUMS, ops.Slice, ops.Reshape, ops.Select)):
            stack.extend(node.inputs)


def _states_behind(graph: Graph, product: str) -> Iterator[str]:
    """Products that a product's factors are sums of: what was carried there, and what was added."""
    stack, seen = list(graph[product].inputs), set()
    while stack:
        here = stack.pop()
        if here in seen:
            continue
        seen.add(here)
        op = graph[here].op
        if isinstance(op, ops.Multiply):
            yield here
        elif isinstance(op, (*_SUMS, ops.Dropout)):
            stack.extend(graph[here].inputs)
