"""The waist of the package: a network as an immutable, topologically ordered tuple of nodes.

A ``Node`` is a name, an op and the names of the nodes that feed it; every node has one output tensor. Names are
dotted paths ("stage1.block2.conv1"): their scopes are the network's modules, which the built module, the generated
source and the drawings follow. Everything known about a network is a rule per op, folded over the graph.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from depthscale.errors import GraphError, MissingRuleError
from depthscale.graph.op import Op
from depthscale.graph.ops import Input

if TYPE_CHECKING:
    from depthscale.graph.cost import Cost

T = TypeVar("T")
Shape = tuple[int, ...]
_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*\Z")


@dataclass(frozen=True)
class Node:
    """One op in its place: ``name`` is unique in its graph, ``inputs`` are names of other nodes, in order."""

    name: str
    op: Op
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """An immutable network.

    ``nodes`` may be given in any order; they are kept in topological order. ``outputs`` defaults to the last node,
    ``inputs`` (the order in which data are passed) to the Input nodes as they come.

    Raises GraphError for duplicate or malformed names, unknown inputs, cycles and wrong numbers of inputs. Shapes
    are not checked until they are asked for: ``graph.shapes()`` does.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        nodes = _ordered(tuple(self.nodes))
        if not nodes:
            raise GraphError("expected a graph with at least one node, got none")
        _check_scopes(nodes)
        for node in nodes:
            _check_arity(node)
        object.__setattr__(self, "nodes", nodes)
        sources = tuple(n.name for n in nodes if isinstance(n.op, Input))
        object.__setattr__(self, "outputs", tuple(self.outputs) or (nodes[-1].name,))
        object.__setattr__(self, "inputs", tuple(self.inputs) or sources)
        for name in self.outputs:
            if name not in self.by_name:
                raise GraphError(f"expected every output to be a node of the graph, got {name!r}")
        if sorted(self.inputs) != sorted(sources):
            raise GraphError(f"expected inputs to list the Input nodes {sorted(sources)}, got {list(self.inputs)}")

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """Nodes by their names."""
        return {node.name: node for node in self.nodes}

    def __getitem__(self, name: str) -> Node:
        """The node of this name."""
        try:
            return self.by_name[name]
        except KeyError:
            raise GraphError(f"expected the name of a node, got {name!r}; {len(self.nodes)} nodes exist") from None

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        return f"<Graph {len(self.nodes)} nodes, {', '.join(self.inputs)} → {', '.join(self.outputs)}>"

    @cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """For every node, the nodes that it feeds, in order (twice if it feeds a node twice)."""
        out: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for source in node.inputs:
                out[source].append(node.name)
        return {name: tuple(users) for name, users in out.items()}

    def fold(self, rule: Callable[..., T]) -> dict[str, T]:
        """``rule(op, *values of the node's inputs)`` for every node, in order.

        Errors that a rule raises about its op come out with the node's name in front.
        """
        values: dict[str, T] = {}
        for node in self.nodes:
            try:
                values[node.name] = rule(node.op, *[values[i] for i in node.inputs])
            except GraphError as error:
                raise located(error, node) from error
        return values

    def shapes(self, batch: int = 1) -> dict[str, Shape]:
        """The output shape of every node, batch first.

        Raises GraphError that names the node and the shapes where they do not fit.
        """
        from depthscale.graph.shapes import infer, input_shape

        if batch < 1:
            raise GraphError(f"expected a batch of at least 1, got {batch}")
        if batch == 1:
            return dict(self._unit_shapes)
        return self.fold(lambda op, *s: input_shape(op, batch) if isinstance(op, Input) else infer(op, *s))

    @cached_property
    def _unit_shapes(self) -> dict[str, Shape]:
        from depthscale.graph.shapes import infer, input_shape

        return self.fold(lambda op, *s: input_shape(op, 1) if isinstance(op, Input) else infer(op, *s))

    def cost(self, batch: int = 1) -> "Cost":
        """Parameters, multiply-adds, activation memory and depth for a batch of this size."""
        from depthscale.graph.cost import cost

        return cost(self, batch)

    @cached_property
    def key(self) -> str:
        """Content key: the same for graphs that differ in names and order only, else different."""
        from depthscale.graph.canonical import canonical_key

        return canonical_key(self)

    def to_json(self) -> str:
        """The graph as JSON text with a schema version; ``Graph.from_json`` reads back an equal graph."""
        from depthscale.graph.codec import dumps

        return dumps(self)

    @staticmethod
    def from_json(text: str) -> "Graph":
        """The graph that ``to_json`` wrote; GraphError says what is wrong with anything else."""
        from depthscale.graph.codec import loads

        return loads(text)

    def outline(self) -> str:
        """The network as an indented text: scopes, ops, shapes, parameters; repeats are folded."""
        from depthscale.graph.draw import outline

        return outline(self)

    def draw(self) -> str:
        """The network as a self-contained SVG picture; repeats are folded."""
        from depthscale.graph.draw import svg

        return svg(self)


def located(error: GraphError, node: Node) -> GraphError:
    """The same kind of error, with the node in front, once."""
    text = str(error)
    return error if text.startswith("node '") else type(error)(f"node {node.name!r}: {text}")


def _ordered(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Nodes in topological order: as given where that is one, else the nearest to it."""
    known: dict[str, Node] = {}
    in_order = True
    for node in nodes:
        if not isinstance(node, Node) or not isinstance(node.op, Op):
            raise GraphError(f"expected Nodes that hold an Op, got {node!r}")
        if not _NAME.match(node.name):
            raise GraphError(f"expected node names of letters, digits and _ joined by dots, got {node.name!r}")
        if node.name in known:
            raise GraphError(f"expected unique node names, got {node.name!r} twice")
        in_order = in_order and all(i in known for i in node.inputs)
        known[node.name] = node
    if in_order:
        return tuple(nodes)
    for node in nodes:
        for source in node.inputs:
            if source not in known:
                raise GraphError(f"node {node.name!r}: expected inputs that are nodes of the graph, got {source!r}")
    return _sorted(nodes, known)


def _sorted(nodes: Sequence[Node], known: Mapping[str, Node]) -> tuple[Node, ...]:
    done: dict[str, Node] = {}
    open_path: dict[str, None] = {}  # the chain of nodes being visited, in order
    for root in nodes:
        stack = [root.name]
        while stack:
            name = stack[-1]
            if name in done:
                stack.pop()
                continue
            waiting = [i for i in known[name].inputs if i not in done]
            if not waiting:
                done[name] = known[name]
                open_path.pop(name, None)
                stack.pop()
                continue
            open_path[name] = None
            if waiting[0] in open_path:
                path = list(open_path)
                cycle = path[path.index(waiting[0]) :]
                # the path runs from user to source, a reader follows the data
                raise GraphError(f"the graph has a cycle: {' → '.join([*reversed(cycle), cycle[-1]])}")
            stack.append(waiting[0])
    return tuple(done.values())


def _check_scopes(nodes: Iterable[Node]) -> None:
    names = {node.name for node in nodes}
    for name in names:
        parent = name
        while "." in parent:
            parent = parent.rpartition(".")[0]
            if parent in names:
                raise GraphError(f"expected node names that are not also scopes, got {parent!r} beside {name!r}")


def _check_arity(node: Node) -> None:
    fewest, most = node.op.inputs_wanted
    got = len(node.inputs)
    if got < fewest or (most is not None and got > most):
        wanted = f"{fewest}" if most == fewest else f"{fewest} or more" if most is None else f"{fewest} to {most}"
        plural = "" if wanted == "1" else "s"
        raise GraphError(
            f"node {node.name!r}: {type(node.op).__name__} expected {wanted} input{plural}, "
            f"got {got} {list(node.inputs)}"
        )


__all__ = ["Graph", "MissingRuleError", "Node", "Shape", "located"]
