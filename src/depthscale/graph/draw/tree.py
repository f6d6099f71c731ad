"""A graph as a tree of scopes in which repeats are told apart from what is new.

Neighbouring sibling scopes are one scope and a number when they have the same ops, shapes and wiring inside, and
are either a chain (each feeds only the next) or parallel (all read and feed the same nodes); only then does drawing
one of them and "×N" say everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from depthscale.graph.graph import Graph, Node, Shape
from depthscale.graph.laws import ZERO, Law
from depthscale.graph.op import Op


@dataclass
class Scope:
    """A scope: its dotted path ("" for the whole graph) and its nodes and scopes, in order of first appearance."""

    path: str
    children: list[Node | Scope] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    def nodes(self) -> Iterator[Node]:
        """All nodes inside, nested ones too."""
        for child in self.children:
            if isinstance(child, Scope):
                yield from child.nodes()
            else:
                yield child

    def scopes(self) -> list[Scope]:
        """Scopes directly inside."""
        return [c for c in self.children if isinstance(c, Scope)]


@dataclass(frozen=True)
class Repeat:
    """Sibling scopes that are equal; ``first`` stands for all of them."""

    members: tuple[str, ...]
    parallel: bool

    @property
    def first(self) -> str:
        """Path of the scope that is shown."""
        return self.members[0]

    @property
    def label(self) -> str:
        """The names of the members, shortened: "block2–6"."""
        return span_words([m.rpartition(".")[2] for m in self.members])


def span_words(names: Sequence[str]) -> str:
    """First and last name as one: block2, …, block6 gives "block2–6"; 0, 1, 2 gives "0–2"."""
    first, last = names[0], names[-1]
    stem = first.rstrip("0123456789")
    if last.startswith(stem) and first != stem and last[len(stem) :].isdigit():
        return f"{stem}{first[len(stem) :]}–{last[len(stem) :]}"
    return f"{first} … {last}"


def scope_tree(nodes: Sequence[Node], path: str = "") -> Scope:
    """The scopes of these nodes, whose names all start with ``path``."""
    root = Scope(path)
    found = {path: root}

    def of(inner: str) -> Scope:
        if inner not in found:
            parent = inner.rpartition(".")[0]
            found[inner] = Scope(inner)
            of(parent).children.append(found[inner])
        return found[inner]

    for node in nodes:
        of(node.name.rpartition(".")[0]).children.append(node)
    return root


def _plain(op: Op) -> Op:
    """The op without what does not show: laws (but for their presence) and the names parameters are shared under."""
    changes: dict[str, object] = {k: ZERO for k, v in vars(op).items() if isinstance(v, Law)}
    if getattr(op, "shared", None) is not None:
        changes["shared"] = "shared"
    return replace(op, **changes) if changes else op


class _Inside:
    """A scope seen from outside: what it is made of, what it reads, who reads it."""

    def __init__(self, graph: Graph, shapes: Mapping[str, Shape], scope: Scope) -> None:
        nodes = list(scope.nodes())
        cut = len(scope.path) + 1
        self.local = {n.name: n.name[cut:] for n in nodes}
        self.reads: list[str] = []  # nodes outside, in the order they are first read
        parts: list[object] = []
        for node in nodes:
            wires: list[object] = []
            for source in node.inputs:
                if source not in self.local and source not in self.reads:
                    self.reads.append(source)
                wires.append(self.local[source] if source in self.local else self.reads.index(source))
            parts.append((self.local[node.name], _plain(node.op), tuple(wires), shapes[node.name]))
        self.signature = tuple(parts)
        self.is_output = any(name in self.local for name in graph.outputs)
        self.readers: dict[str, tuple[str, ...]] = {}  # local name: who outside reads it
        for name, local in self.local.items():
            if outside := tuple(u for u in graph.consumers[name] if u not in self.local):
                self.readers[local] = outside


def _chained(a: _Inside, b: _Inside) -> tuple[str | None, ...] | None:
    """How b follows a in a chain: for each node b reads, the local name in a, or None where both read the same.

    None where it does not: something else comes between, or somebody else reads a.
    """
    if a.is_output or any(user not in b.local for users in a.readers.values() for user in users):
        return None
    links: list[str | None] = []
    for before, now in zip(a.reads, b.reads, strict=True):
        if now in a.local:
            links.append(a.local[now])
        elif now == before:
            links.append(None)
        else:
            return None
    return tuple(links) if any(links) else None


def _parallel(a: _Inside, b: _Inside) -> bool:
    return not (a.is_output or b.is_output) and a.reads == b.reads and a.readers == b.readers and bool(a.readers)


def repeats(graph: Graph, least: int = 2) -> list[Repeat]:
    """Every run of at least ``least`` equal sibling scopes, outermost first; none inside a scope that is not shown."""
    shapes = graph.shapes()
    found: list[Repeat] = []
    queue = [scope_tree(graph.nodes)]
    while queue:
        children = queue.pop(0).scopes()
        views = [_Inside(graph, shapes, child) for child in children]
        i = 0
        while i < len(children):
            stop, parallel = _run(views, i)
            queue.append(children[i])
            if stop - i >= max(least, 2):
                found.append(Repeat(tuple(c.path for c in children[i:stop]), parallel))
            else:
                queue.extend(children[i + 1 : stop])
            i = stop
    return found


def _run(views: Sequence[_Inside], start: int) -> tuple[int, bool]:
    """Where the run of equals that begins at ``start`` stops, and whether it is parallel."""
    stop = start + 1
    links: tuple[str | None, ...] | None = None
    parallel = False
    while stop < len(views) and views[stop].signature == views[start].signature:
        a, b = views[stop - 1], views[stop]
        if stop == start + 1:
            links, parallel = _chained(a, b), _parallel(a, b)
        if not (_parallel(a, b) if parallel else links is not None and _chained(a, b) == links):
            break
        stop += 1
    return stop, parallel


@dataclass(frozen=True)
class Folded:
    """The nodes that are left when every repeat is shown once, and how often each scope stands there."""

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    repeats: Mapping[str, Repeat]  # by the path of the scope that is shown


def fold_repeats(graph: Graph, least: int = 2) -> Folded:
    """The graph with every run of repeats drawn once: what read the last of a chain now reads the first."""
    groups = repeats(graph, least)
    gone: dict[str, str] = {}  # path of a hidden scope: path of the one that stands for it
    for group in groups:
        gone.update(dict.fromkeys(group.members[1:], group.first))

    def shown(name: str) -> str:
        parts = name.split(".")
        for i in range(1, len(parts)):
            if (stand_in := gone.get(".".join(parts[:i]))) is not None:
                return shown(".".join([stand_in, *parts[i:]]))
        return name

    nodes = []
    for node in graph.nodes:
        if shown(node.name) == node.name:
            inputs = tuple(map(shown, node.inputs))
            if len(set(inputs)) < len(set(node.inputs)):
                inputs = tuple(dict.fromkeys(inputs))  # parallel repeats are read as one wire
            nodes.append(Node(node.name, node.op, inputs))
    outputs = tuple(dict.fromkeys(map(shown, graph.outputs)))
    return Folded(tuple(nodes), outputs, {g.first: g for g in groups})
