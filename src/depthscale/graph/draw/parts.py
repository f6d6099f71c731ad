"""From a folded graph to units and scopes without loops: what there is to place, before any place is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from depthscale.graph import ops
from depthscale.graph.draw.boxes import Chip
from depthscale.graph.draw.tree import Folded, Scope, scope_tree
from depthscale.graph.draw.words import describe, family, shape_words
from depthscale.graph.graph import Graph, Node, Shape
from depthscale.graph.parameters import owner, parameters

WIDEST = 330.0  # a unit this wide takes no more ops


class Parts:
    """The nodes that are drawn, who reads them, and how they gather into units and scopes."""

    def __init__(self, graph: Graph, folded: Folded) -> None:
        self.graph, self.folded = graph, folded
        self.shapes: Mapping[str, Shape] = graph.shapes()
        self.nodes = {node.name: node for node in folded.nodes}
        self.place = {node.name: i for i, node in enumerate(folded.nodes)}
        self.readers: dict[str, list[str]] = defaultdict(list)
        for node in folded.nodes:
            for source in dict.fromkeys(node.inputs):
                self.readers[source].append(node.name)
        self.skips = _skips(folded.nodes)
        self.counts = self._counts()

    def _counts(self) -> dict[str, int]:
        """Parameters of every scope of the whole graph, shared ones once in each."""
        seen: set[tuple[str, str]] = set()
        counts: dict[str, int] = defaultdict(int)
        for node in self.graph.nodes:
            specs = parameters(node.op, *[self.shapes[i] for i in node.inputs])
            path = node.name
            while "." in path:
                path = path.rpartition(".")[0]
                for key, spec in specs.items():
                    full = f"{owner(node.name, node.op)}.{key}"
                    counts[path] += 0 if (path, full) in seen else spec.count
                    seen.add((path, full))
        return counts

    def count(self, node: Node) -> int:
        """Number of parameters of a node."""
        specs = parameters(node.op, *[self.shapes[i] for i in self.graph[node.name].inputs])
        return sum(spec.count for spec in specs.values())

    def skip(self, name: str, readers: Sequence[str]) -> bool:
        """Whether a wire from a node to these readers runs past other layers that lead to all of them."""
        return bool(readers) and all((name, reader) in self.skips for reader in readers)

    def chip(self, node: Node) -> Chip:
        """A node in a few words, with its whole story for a tooltip."""
        count = self.count(node)
        story = f"{node.name}: {describe(node.op)} → {self.shape(node)}"
        short = describe(node.op).replace(", stride ", " /")  # as He et al. 2016 write it
        return Chip(short, family(node.op), story + (f", {count:,} parameters" if count else ""))

    def shape(self, node: Node) -> str:
        """The shape of a node's output, the batch left out."""
        batched = not isinstance(node.op, ops.Parameter | ops.Constant) and getattr(node.op, "batched", True)
        return shape_words(self.shapes[node.name], batched)

    def joins(self, group: Sequence[Node], node: Node) -> bool:
        """Whether a node continues the unit before it: light, fed by it alone, and read by nobody else."""
        before = group[-1]
        return (
            family(node.op) in ("norm", "activation")
            and set(node.inputs) == {before.name}
            and self.readers[before.name] == [node.name]
            and before.name not in self.folded.outputs
            and family(group[0].op) != "source"
            and sum(self.chip(n).width for n in (*group, node)) <= WIDEST
        )

    def leaves(self, name: str, inside: set[str]) -> bool:
        """Whether a node is read outside, or is an output of the graph."""
        return name in self.folded.outputs or any(r not in inside for r in self.readers[name])

    def inside(self, scope: Scope) -> list[Scope | list[Node]]:
        """Units and scopes inside, a scope that data leave and enter again in pieces without such loops."""
        children = scope.children
        place_of = {}  # node: the child it is in
        for k, child in enumerate(children):
            for node in child.nodes() if isinstance(child, Scope) else (child,):
                place_of[node.name] = k
        looped = _in_cycles(len(children), self._lifted(place_of))
        whole: list[Node | Scope] = []
        for k, child in enumerate(children):
            whole += self.pieces(child, place_of, looped) if isinstance(child, Scope) and k in looped else [child]
        return self.grouped(whole)

    def pieces(self, scope: Scope, place_of: Mapping[str, int], looped: set[int]) -> list[Node | Scope]:
        """A scope cut wherever a node of another part of its loop stands between its own in the graph's order."""
        own = {n.name for n in scope.nodes()}
        runs: list[list[Node]] = []
        fresh = True
        for name in sorted((n for n, k in place_of.items() if k in looped), key=self.place.__getitem__):
            if name not in own:
                fresh = True
                continue
            if fresh:
                runs.append([])
            runs[-1].append(self.nodes[name])
            fresh = False
        return [scope_tree(run, scope.path) for run in runs]

    def _lifted(self, place_of: Mapping[str, int]) -> set[tuple[int, int]]:
        """Wires between children."""
        return {
            (place_of[source], k)
            for name, k in place_of.items()
            for source in self.nodes[name].inputs
            if source in place_of and place_of[source] != k
        }

    def grouped(self, children: Sequence[Node | Scope]) -> list[Scope | list[Node]]:
        """Nodes gathered into units."""
        out: list[Scope | list[Node]] = []
        ends: dict[str, list[Node]] = {}
        for child in children:
            if isinstance(child, Scope):
                out.append(child)
                continue
            group = ends.pop(child.inputs[0], None) if child.inputs else None
            if group is not None and self.joins(group, child):
                group.append(child)
            else:
                if group is not None:
                    ends[group[-1].name] = group
                group = [child]
                out.append(group)
            ends[child.name] = group
        return out


def _skips(nodes: Sequence[Node]) -> set[tuple[str, str]]:
    """Wires (node, reader) for which another input of the reader comes from the same node, later."""
    place = {node.name: i for i, node in enumerate(nodes)}
    before: list[int] = []  # what leads to each node, as bits
    skips = set()
    for node in nodes:
        sources = [place[i] for i in node.inputs]
        leading = 0
        for s in sources:
            leading |= before[s]
        skips |= {(nodes[s].name, node.name) for s in sources if leading >> s & 1}
        before.append(leading | sum(1 << s for s in set(sources)))
    return skips


def _in_cycles(count: int, wires: set[tuple[int, int]]) -> set[int]:
    """The vertices that lie on a cycle: those on no cycle fall away from the ends, layer by layer, and between."""
    after: dict[int, set[int]] = defaultdict(set)
    for a, b in wires:
        after[a].add(b)
    reach = {k: set(after[k]) for k in range(count)}
    changed = bool(wires)
    if _sorts(count, wires):
        return set()
    while changed:
        changed = False
        for k in range(count):
            wider = set(reach[k]).union(*(reach[j] for j in reach[k])) if reach[k] else reach[k]
            if len(wider) > len(reach[k]):
                reach[k], changed = wider, True
    return {k for k in range(count) if k in reach[k]}


def _sorts(count: int, wires: set[tuple[int, int]]) -> bool:
    """Whether the vertices have an order in which every wire runs forwards."""
    waits = [0] * count
    after: dict[int, list[int]] = defaultdict(list)
    for a, b in wires:
        waits[b] += 1
        after[a].append(b)
    ready = [k for k, w in enumerate(waits) if w == 0]
    for k in ready:  # grows while it is read
        for j in after[k]:
            waits[j] -= 1
            if waits[j] == 0:
                ready.append(j)
    return len(ready) == count
