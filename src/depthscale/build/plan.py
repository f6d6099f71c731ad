"""From a graph to a straight line of Python: which module holds what, and one statement per node.

Parameters go by their owner (the node, or the name they are shared under). Where all nodes of an owner agree on the
layer, each calls it; where they do not (an output layer tied to an embedding), the others read its tensors.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import count

from depthscale.build.expressions import Site, expression
from depthscale.build.layers import Layer, layer, tensors
from depthscale.errors import GraphError
from depthscale.graph import Graph, Node, ParameterSpec, Shape, all_parameters, ops
from depthscale.graph.graph import located
from depthscale.graph.parameters import owner, parameters


@dataclass(frozen=True)
class Plan:
    """A checked graph with its modules: ``leaves`` by owner, ``callers`` the nodes that call theirs."""

    graph: Graph
    shapes: Mapping[str, Shape]
    specs: Mapping[str, ParameterSpec]
    leaves: Mapping[str, Layer]
    callers: frozenset[str]

    def owner(self, node: Node) -> str | None:
        """The path of the module that a node reads parameters or state from."""
        name = owner(node.name, node.op)
        return name if name in self.leaves and self._reads(node) else None

    def _reads(self, node: Node) -> bool:
        return node.name in self.callers or layer(node.op, *self.input_shapes(node)) is not None

    def input_shapes(self, node: Node) -> tuple[Shape, ...]:
        """The shapes that arrive at a node for a batch of one."""
        return tuple(self.shapes[i] for i in node.inputs)

    def expression(self, node: Node, args: Sequence[str], leaf: str) -> str:
        """The node's value as Python, given its inputs as Python and the expression of its module."""
        site = Site(tuple(args), self.input_shapes(node), leaf)
        if node.name in self.callers and not (isinstance(node.op, ops.BatchNorm) and site.rank > 5):
            return f"{leaf}({', '.join(args)})"
        try:
            return expression(node.op, site)
        except GraphError as error:
            raise located(error, node) from error

    @cached_property
    def fixed(self) -> dict[str, Node]:
        """The Constant nodes by the names of their buffers' modules."""
        return {owner(n.name, n.op): n for n in self.graph.nodes if isinstance(n.op, ops.Constant)}

    @property
    def elements(self) -> int:
        """Number of elements of all parameters and constants."""
        fixed = sum(math.prod(self.shapes[n.name]) for n in self.fixed.values())
        return sum(spec.count for spec in self.specs.values()) + fixed


@lru_cache(maxsize=64)
def plan(graph: Graph) -> Plan:
    """The plan of a graph; GraphError where shapes or shared parameters do not fit together."""
    shapes = graph.shapes()
    specs = all_parameters(graph)
    users: dict[str, list[tuple[Node, Layer]]] = {}
    for node in graph.nodes:
        inside = layer(node.op, *[shapes[i] for i in node.inputs])
        if inside is not None:
            users.setdefault(owner(node.name, node.op), []).append((node, inside))
    leaves: dict[str, Layer] = {}
    callers: set[str] = set()
    for name, group in users.items():
        leaves[name] = chosen = _home(name, group, shapes)
        callers.update(n.name for n, inside in group if inside == chosen and inside.kind not in ("Tensors", "Fixed"))
    _check_paths(graph, leaves)
    return Plan(graph, shapes, specs, leaves, frozenset(callers))


def _home(name: str, group: Sequence[tuple[Node, Layer]], shapes: Mapping[str, Shape]) -> Layer:
    """The layer that holds what all nodes of this owner read."""
    group = sorted(group, key=lambda pair: pair[0].name != name)  # the node that has the owner's name comes first
    if all(inside == group[0][1] for _, inside in group):
        return group[0][1]
    kinds = {type(node.op) for node, _ in group}
    if kinds & {ops.BatchNorm, ops.Constant}:
        raise GraphError(
            f"node {group[0][0].name!r}: expected nodes that share {name!r} with a BatchNorm or Constant to be alike "
            f"in every field, got {' and '.join(sorted({str(node.op) for node, _ in group}))}"
        )
    wanted: dict[str, Shape] = {}
    held = []
    for node, inside in group:
        found = {k: spec.shape for k, spec in parameters(node.op, *[shapes[i] for i in node.inputs]).items()}
        held.append((set(found), inside))
        wanted.update(found)
    for names, inside in held:
        if names == set(wanted):
            return inside
    return tensors("Tensors", **dict(sorted(wanted.items())))


def _check_paths(graph: Graph, leaves: Mapping[str, Layer]) -> None:
    """Owners that are no nodes must not collide with scopes, or with modules that hold parameters."""
    scopes = set()
    for name in [n.name for n in graph.nodes] + list(leaves):
        while "." in name:
            name = name.rpartition(".")[0]
            scopes.add(name)
    for name in leaves:
        if "training" in name.split("."):
            raise GraphError(f"expected names other than 'training', which torch modules use, got {name!r}; rename it")
        if name in scopes:
            raise GraphError(
                f"expected shared parameters to have a name of their own, got {name!r}, which is a scope; "
                "rename the scope or the shared name"
            )


def registers(graph: Graph, keep: Collection[str] = ()) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Local variables for the nodes' values, and the variables to delete behind each node.

    A variable is used again as soon as the value in it has been read for the last time, so that running the
    statements holds no more tensors than the graph makes necessary.
    """
    last = {name: name for name in graph.by_name}
    for node in graph.nodes:
        for source in node.inputs:
            last[source] = node.name
    stay = {*graph.outputs, *keep}
    free: list[str] = []
    fresh = (f"v{i}" for i in count())
    where: dict[str, str] = {name: f"x{i}" for i, name in enumerate(graph.inputs)}
    dropped: dict[str, list[str]] = {}
    for node in graph.nodes:
        dying = [where[s] for s in dict.fromkeys(node.inputs) if last[s] == node.name and s not in stay]
        free = dying + free
        if not isinstance(node.op, ops.Input):
            where[node.name] = free.pop(0) if free else next(fresh)
        gone = [v for v in dying if v != where[node.name]]
        if last[node.name] == node.name and node.name not in stay:
            gone.append(where[node.name])
            free.insert(0, where[node.name])
        if gone:
            dropped[node.name] = gone
    return where, dropped


def program(plan: Plan, keep: Collection[str] = ()) -> str:
    """Source of ``forward(self, *inputs)``; with ``keep`` it returns the outputs and a dict of these nodes' values."""
    graph = plan.graph
    where, dropped = registers(graph, keep)
    lines = [f"def forward(self, {', '.join(where[name] for name in graph.inputs)}):", "    root = self._modules"]
    path: str | None = None
    for node in graph.nodes:
        if isinstance(node.op, ops.Input):
            continue
        here, leaf = plan.owner(node), ""
        if here is not None:
            scope, _, label = here.rpartition(".")
            if scope != path:
                path, steps = scope, "._modules".join(f'["{part}"]' for part in scope.split("."))
                lines.append(f"    m = root{steps}._modules" if scope else "    m = root")
            leaf = f'm["{label}"]'
        value = plan.expression(node, [where[i] for i in node.inputs], leaf)
        if value != where[node.name]:
            lines.append(f"    {where[node.name]} = {value}")
        if node.name in dropped:
            lines.append(f"    del {', '.join(dropped[node.name])}")
    outputs = ", ".join(where[name] for name in graph.outputs)
    if keep:
        kept = ", ".join(f'"{n.name}": {where[n.name]}' for n in graph.nodes if n.name in set(keep))
        outputs = f"({outputs},), {{{kept}}}"
    return "\n".join([*lines, f"    return {outputs}", ""])


__all__ = ["Plan", "plan", "program", "registers"]
