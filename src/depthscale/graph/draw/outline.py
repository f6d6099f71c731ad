"""The network as an indented text, one line a node, and wires that skip.

A node reads the line above it unless it says "← …"; joins always say what they join, and "skip" marks an input that
runs past another input of the same join.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from depthscale.graph import ops
from depthscale.graph.draw.tree import Repeat, Scope, repeats, scope_tree
from depthscale.graph.draw.words import count_words, describe, family, shape_words
from depthscale.graph.graph import Graph, Node, Shape
from depthscale.graph.parameters import owner, parameters


@dataclass(frozen=True)
class _Line:
    name: str
    op: str = ""
    shape: str = ""
    count: str = ""
    note: str = ""


def outline(graph: Graph) -> str:
    """The network as an indented text: scopes, ops, shapes, parameters, skips; repeats folded; totals at the end.

    Raises GraphError where shapes do not fit.
    """
    lines = [
        _Line("name", "op", "output", "parameters"),
        *_Outline(graph).lines(scope_tree(graph.nodes), 0),
    ]
    widths = [max(len(getattr(line, key)) for line in lines) for key in ("name", "op", "shape", "count")]
    text = []
    for line in lines:
        cells = (line.name.ljust(widths[0]), line.op.ljust(widths[1]), line.shape.rjust(widths[2]))
        text.append("  ".join((*cells, line.count.rjust(widths[3]), line.note)).rstrip())
    return "\n".join([*text, "", totals(graph)]) + "\n"


def totals(graph: Graph) -> str:
    """Parameters, multiply-adds and depth in one line."""
    cost = graph.cost()
    layers = "layer" if cost.depth == 1 else "layers"
    return (
        f"{cost.parameters:,} parameters · {count_words(cost.multiply_adds)} multiply-adds per example · "
        f"depth {cost.depth} weighted {layers}"
    )


class _Outline:
    """Lines of a graph; counts a shared parameter where it is first met."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.shapes: Mapping[str, Shape] = graph.shapes()
        self.groups = {group.first: group for group in repeats(graph)}
        self.hidden = {m for group in self.groups.values() for m in group.members[1:]}
        self.counts: dict[str, int] = {}
        met: set[str] = set()
        for node in graph.nodes:
            total = 0
            for key, spec in parameters(node.op, *[self.shapes[i] for i in node.inputs]).items():
                full = f"{owner(node.name, node.op)}.{key}"
                total += 0 if full in met else spec.count
                met.add(full)
            self.counts[node.name] = total
        self.place = {node.name: i for i, node in enumerate(graph.nodes)}
        self.before: dict[str, int] = {}  # the nodes that lead to a node, as bits of their places
        for node in graph.nodes:
            self.before[node.name] = 0
            for source in node.inputs:
                self.before[node.name] |= self.before[source] | 1 << self.place[source]
        self.above: str | None = None  # the node whose line was written last

    def lines(self, scope: Scope, depth: int) -> list[_Line]:
        out: list[_Line] = []
        inside = {child.path: child for child in scope.scopes()}
        for child in scope.children:
            if isinstance(child, Node):
                out.append(self._node(child, scope.path, depth))
            elif child.path not in self.hidden:
                out.append(_Line("  " * depth + child.label))
                out += self.lines(child, depth + 1)
                if (group := self.groups.get(child.path)) is not None:
                    out.append(self._repeat(group, inside, depth))
        return out

    def _node(self, node: Node, path: str, depth: int) -> _Line:
        batched = not isinstance(node.op, ops.Parameter | ops.Constant) and getattr(node.op, "batched", True)
        count = self.counts[node.name]
        note = self._note(node, path)
        self.above = node.name
        return _Line(
            "  " * depth + node.name.rpartition(".")[2],
            describe(node.op),
            shape_words(self.shapes[node.name], batched),
            f"{count:,}" if count else "",
            note + (" → output" if node.name in self.graph.outputs and len(self.graph.outputs) > 1 else ""),
        )

    def _note(self, node: Node, path: str) -> str:
        if not node.inputs or (node.inputs == (self.above,)):
            return ""
        words = []
        for source in node.inputs:
            bit = 1 << self.place[source]
            skips = family(node.op) == "join" and any(self.before[i] & bit for i in node.inputs)
            words.append(_relative(source, path) + (" (skip)" if skips else ""))
        return "← " + " + ".join(words) if isinstance(node.op, ops.Add) else "← " + ", ".join(words)

    def _repeat(self, group: Repeat, inside: Mapping[str, Scope], depth: int) -> _Line:
        rest = group.members[1:]
        total = sum(self.counts[node.name] for member in rest for node in inside[member].nodes())
        last = [*inside[group.members[-1]].nodes()][-1].name
        self.above = last
        rest_label = Repeat(rest, group.parallel).label if len(rest) > 1 else rest[0].rpartition(".")[2]
        times = f", ×{len(rest)}" if len(rest) > 1 else ""
        how = ", in parallel" if group.parallel else ""
        return _Line(
            "  " * depth + rest_label,
            f"the same as {inside[group.first].label}{times}{how}",
            "",
            f"{total:,}" if total else "",
        )


def _relative(source: str, path: str) -> str:
    """A node's name as seen from a scope: what both have in front is left out."""
    here, there = path.split(".") if path else [], source.split(".")
    common = 0
    while common < min(len(here), len(there) - 1) and here[common] == there[common]:
        common += 1
    return ".".join(there[common:])
