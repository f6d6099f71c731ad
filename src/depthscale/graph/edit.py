"""Edits: functions that return a new graph and leave the old one as it was.

Every edit checks the shapes of what it made, so an edit that does not fit fails where it was asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace as with_fields

from depthscale.errors import GraphError
from depthscale.graph.graph import Graph, Node
from depthscale.graph.op import Op
from depthscale.graph.ops import Input


def _checked(nodes: tuple[Node, ...], outputs: tuple[str, ...], inputs: tuple[str, ...]) -> Graph:
    graph = Graph(nodes, outputs, inputs)
    graph.shapes()
    return graph


def map_ops(graph: Graph, change: Callable[[Node], Op]) -> Graph:
    """The graph with every node's op replaced by ``change(node)``."""
    return _checked(tuple(with_fields(n, op=change(n)) for n in graph.nodes), graph.outputs, graph.inputs)


def replace(graph: Graph, name: str, op: Op) -> Graph:
    """The graph with another op at node ``name``; its inputs stay."""
    graph[name]
    return map_ops(graph, lambda node: op if node.name == name else node.op)


def rename(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The graph with nodes renamed; names of shared parameters stay as they are."""
    for name in names:
        graph[name]

    def new(name: str) -> str:
        return names.get(name, name)

    nodes = tuple(Node(new(n.name), n.op, tuple(map(new, n.inputs))) for n in graph.nodes)
    return _checked(nodes, tuple(map(new, graph.outputs)), tuple(map(new, graph.inputs)))


def insert(graph: Graph, after: str, name: str, op: Op, *, users: tuple[str, ...] | None = None) -> Graph:
    """The graph with a one-input op between node ``after`` and its users (all of them, or those named).

    Where ``after`` was an output of the graph and ``users`` is not given, the new node is the output instead.
    """
    graph[after]
    if name in graph.by_name:
        raise GraphError(f"expected a new name for the node to insert, got {name!r}, which exists")
    targets = set(graph.consumers[after]) if users is None else set(users)
    if strangers := targets - set(graph.consumers[after]):
        raise GraphError(f"expected users of {after!r}, got {sorted(strangers)[0]!r}, which it does not feed")
    nodes = []
    for node in graph.nodes:
        if node.name in targets:
            node = with_fields(node, inputs=tuple(name if i == after else i for i in node.inputs))
        nodes.append(node)
        if node.name == after:
            nodes.append(Node(name, op, (after,)))
    outputs = tuple(name if o == after and users is None else o for o in graph.outputs)
    return _checked(tuple(nodes), outputs, graph.inputs)


def delete(graph: Graph, name: str) -> Graph:
    """The graph without a node: its users are fed by its first input; what then feeds nothing goes too.

    Raises GraphError for an Input, and where the shapes no longer fit.
    """
    node = graph[name]
    if not node.inputs:
        raise GraphError(f"expected a node that has an input to take its place, got {name!r}, a source of data")
    stand_in = node.inputs[0]

    def new(source: str) -> str:
        return stand_in if source == name else source

    nodes = tuple(with_fields(n, inputs=tuple(map(new, n.inputs))) for n in graph.nodes if n.name != name)
    outputs = tuple(map(new, graph.outputs))
    return _checked(_used(nodes, outputs), outputs, graph.inputs)


def _used(nodes: tuple[Node, ...], outputs: tuple[str, ...]) -> tuple[Node, ...]:
    """The nodes that reach an output (and every Input, which is part of the signature)."""
    wanted = set(outputs)
    for node in reversed(nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
    return tuple(n for n in nodes if n.name in wanted or isinstance(n.op, Input))


def prune(graph: Graph) -> Graph:
    """The graph without nodes that reach no output."""
    return Graph(_used(graph.nodes, graph.outputs), graph.outputs, graph.inputs)
