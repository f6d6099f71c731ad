"""From units and scopes to a picture: boxes with places, wires with ways.

Scopes are laid out from the inside out, each as a box in its parent's layered layout, so boxes never overlap, and
wires enter and leave them through ports. A second pass orders the ports of a scope by where their wires come from. A
tall picture is broken into columns at its top level.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from depthscale.graph import ops
from depthscale.graph.draw import columns
from depthscale.graph.draw.boxes import FONT, HEADER, LABEL_HEIGHT, PADDING, SMALL, UNIT_HEIGHT, Box, Chip, Wire
from depthscale.graph.draw.layered import Item, Layout, Net, Segment, arrange
from depthscale.graph.draw.parts import Parts
from depthscale.graph.draw.tree import Folded, Repeat, Scope, fold_repeats, scope_tree
from depthscale.graph.draw.words import count_words, text_width
from depthscale.graph.graph import Graph, Node

MOST_UNITS = 110  # a picture of more units shows its deepest scopes closed
SMALL_PICTURE = 16  # up to so many units, only runs of four and more are folded


def picture(graph: Graph) -> Box:
    """The boxes and wires of a graph with places relative to their parents, folded as far as a page needs."""
    maker = _Maker(graph, fold_repeats(graph, 4), frozenset())
    box = maker.picture()
    if maker.units <= SMALL_PICTURE:
        return box
    folded = fold_repeats(graph)
    maker = _Maker(graph, folded, frozenset())
    box = maker.picture()
    paths = {path for node in folded.nodes for path in _scopes_of(node.name)}
    closed: set[str] = set()
    for depth in sorted({p.count(".") for p in paths}, reverse=True):
        if maker.units <= MOST_UNITS:
            break
        closed |= {p for p in paths if p.count(".") == depth}
        maker = _Maker(graph, folded, frozenset(closed))
        box = maker.picture()
    return box


def _scopes_of(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


@dataclass
class _Level:
    """What is inside one scope: boxes as items (those of children first), ports, and the nets between them."""

    boxes: dict[int, Box]
    owner: dict[str, int]  # node: the child it is in
    items: list[Item] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)  # node read from outside: its item
    exits: dict[str, int] = field(default_factory=dict)  # node read outside: its item
    nets: list[Net] = field(default_factory=list)
    named: list[str] = field(default_factory=list)  # the node that each net carries


class _Maker:
    """Makes boxes out of the folded graph; scopes in ``closed`` are drawn as one unit."""

    def __init__(self, graph: Graph, folded: Folded, closed: frozenset[str]) -> None:
        self.parts, self.folded, self.closed = Parts(graph, folded), folded, closed
        self.port_order: dict[str, list[str]] = {}  # scope: nodes it reads, from left to right
        self.units = 0

    def picture(self) -> Box:
        """The whole graph, its top level in columns where it is tall."""
        tree = scope_tree(self.folded.nodes)
        self.scope(tree)
        self.units = 0
        return self.scope(tree)

    # --- units ---------------------------------------------------------------------------------------------

    def unit(self, group: Sequence[Node], title: tuple[Chip, ...] = ()) -> Box:
        """A run of ops as one row of chips; the shape is said where it changes."""
        last, shapes = group[-1], self.parts.shapes
        before = {shapes[i] for i in group[0].inputs}
        source = isinstance(last.op, ops.Input | ops.Parameter | ops.Constant)
        shape = "" if source or before == {shapes[last.name]} else self.parts.shape(last)
        return self.chips((*title, *map(self.parts.chip, group)), shape, group[0].inputs, [last.name])

    def chips(self, chips: tuple[Chip, ...], shape: str, read: Iterable[str], made: Iterable[str]) -> Box:
        """A unit of these chips, wide enough for the shape's label beside the wire that leaves it."""
        self.units += 1
        width = max(sum(c.width for c in chips), 2 * (text_width(shape, SMALL) + 8) if shape else 0.0, 46.0)
        height = UNIT_HEIGHT + (LABEL_HEIGHT if shape else 0.0)
        ins, outs = dict.fromkeys(read, width / 2), dict.fromkeys(made, width / 2)
        return Box(width, height, ins, outs, chips=chips, shape=shape)

    def closed_scope(self, scope: Scope) -> Box:
        """A scope as one unit that says how much is inside."""
        nodes = list(scope.nodes())
        names = {n.name for n in nodes}
        layers = sum(isinstance(n.op, ops.LAYERS) for n in nodes)
        inside = f"{layers} layer{'s' * (layers != 1)}, {len(nodes)} op{'s' * (len(nodes) != 1)}"
        read = dict.fromkeys(i for n in nodes for i in n.inputs if i not in names)
        made = [n.name for n in nodes if self.parts.leaves(n.name, names)]
        shape = self.parts.shape(self.parts.nodes[made[-1]]) if made else ""
        title = Chip(self.name(scope), "title", scope.path)
        return self.chips((title, Chip(inside, "contraction", f"{scope.path}: {inside}")), shape, read, made)

    def name(self, scope: Scope) -> str:
        """A scope's label with how often it stands there."""
        group = self.folded.repeats.get(scope.path)
        return f"{group.label} {_times(group)}" if group else scope.label

    # --- scopes --------------------------------------------------------------------------------------------

    def scope(self, scope: Scope) -> Box:
        """A scope's box with everything inside it placed."""
        if scope.path in self.closed:
            return self.closed_scope(scope)
        inside = self.parts.inside(scope)
        if scope.path and len(inside) == 1 and not isinstance(inside[0], Scope):  # a frame would only take room
            return self.unit(inside[0], (Chip(self.name(scope), "title", scope.path),))
        boxes, owner = {}, {}
        for k, part in enumerate(inside):
            boxes[k] = self.scope(part) if isinstance(part, Scope) else self.unit(part)
            owner.update({n.name: k for n in (part.nodes() if isinstance(part, Scope) else part)})
        level = self.level(scope, boxes, owner)
        layout = arrange(level.items, level.nets)
        self._remember_ports(level, layout)
        wires = [self.wire(level, layout, s) for s in layout.segments]
        for k, box in level.boxes.items():
            box.x, box.y = layout.x[k], layout.y[k]
        if not scope.path:
            width, height = columns.flow(layout, level.boxes, wires)
            return Box(width, height, inside=list(level.boxes.values()), wires=wires)
        return self.framed(scope, level, layout, wires)

    def level(self, scope: Scope, boxes: dict[int, Box], owner: dict[str, int]) -> _Level:
        """Items and nets of a scope whose children are made."""
        place = self.parts.place
        level = _Level(boxes, owner, [Item(box.width, box.height) for box in boxes.values()])
        readers: dict[str, list[int]] = defaultdict(list)  # node: the items that read it, in order
        for k, box in boxes.items():
            for source in sorted(box.ins, key=place.__getitem__):
                if owner.get(source) != k:
                    readers[source].append(k)
        asked = {name: i for i, name in enumerate(self.port_order.get(scope.path, []))}
        outside = (name for name in readers if name not in owner)
        for name in sorted(outside, key=lambda n: (asked.get(n, len(asked)), place[n])):
            level.ports[name] = len(level.items)
            level.items.append(Item(0.0, 0.0, -1))
        inside = set(owner)
        for name in sorted(owner, key=place.__getitem__):
            if self.parts.leaves(name, inside):
                level.exits[name] = k = len(level.items)
                readers[name].append(k)
                if not scope.path:
                    level.boxes[k] = self._terminal(name)
                box = level.boxes.get(k, Box(0.0, 0.0))
                level.items.append(Item(box.width, box.height, 1))
        for name, targets in readers.items():
            source_item = level.ports.get(name, owner.get(name, -1))
            source_x = 0.0 if name in level.ports else boxes[source_item].outs[name]
            ends = tuple((t, level.boxes[t].ins[name] if t in level.boxes else 0.0) for t in targets)
            level.nets.append(Net((source_item, source_x), ends))
            level.named.append(name)
        return level

    def _terminal(self, name: str) -> Box:
        """The end of a wire that leaves the graph."""
        outputs = self.folded.outputs
        text = "output" if len(outputs) == 1 else f"output {outputs.index(name) + 1}"
        return self.chips((Chip(text, "source", f"{text}: {name}"),), "", (name,), ())

    def _remember_ports(self, level: _Level, layout: Layout) -> None:
        """Keep, for the second pass, in which order wires arrive at the scopes inside."""
        arriving: dict[str, list[tuple[float, str]]] = defaultdict(list)
        for s in layout.segments:
            if (box := level.boxes.get(s.lower)) is not None and box.path:
                arriving[box.path].append((layout.start(s)[0], level.named[s.net]))
        for path, ends in arriving.items():
            self.port_order[path] = [name for _, name in sorted(ends)]

    def wire(self, level: _Level, layout: Layout, s: Segment) -> Wire:
        """A segment as a wire: down to the end of its row, an S through the gap, down to the next item."""
        (x0, y0), (x1, y1) = layout.start(s), layout.end(s)
        lower = level.boxes.get(s.lower)
        if (upper := level.boxes.get(s.upper)) is not None and upper.shape:
            y0 -= LABEL_HEIGHT  # the label of a shape stands beside the wire, not above it
        points = [(x0, y0), (x0, layout.bottoms[s.row]), (x1, layout.tops[s.row + 1]), (x1, y1)]
        if s.lower in layout.lane_net:
            points[-1] = (x1, layout.bottoms[s.row + 1])
        return Wire(points, self._skips(level, layout, s), lower is not None and bool(lower.chips))

    def _skips(self, level: _Level, layout: Layout, s: Segment) -> bool:
        """Whether all that a segment leads to is reached past other layers."""
        name = level.named[s.net]
        targets = [s.lower]
        if s.lower in layout.lane_net:
            targets = [t for t, _ in level.nets[s.net].targets if layout.row_of[t] > s.row + 1]
        readers = []
        for reader in self.parts.readers[name]:
            item = level.owner.get(reader, level.exits.get(name, -1))
            if item in targets:
                readers.append(reader)
        return self.parts.skip(name, readers)

    def framed(self, scope: Scope, level: _Level, layout: Layout, wires: list[Wire]) -> Box:
        """The frame around a scope's layout: header with room for its words on both sides of the wires."""
        group = self.folded.repeats.get(scope.path)
        label = group.label if group else scope.label
        times = _times(group) if group else ""
        count = self.parts.counts.get(scope.path, 0)
        aside = f"{count_words(count)} params{' each' if times else ''}" if count else ""
        width = max(x + w for x, w in zip(layout.x, layout.width, strict=True))
        label_width = text_width(label, FONT) * 1.1 + 16  # bold is wider
        times_width = text_width(times, FONT) * 1.1 + 8 if times else 0.0
        aside_width = times_width + text_width(aside, SMALL) + 16
        tops = [layout.x[i] for i in level.ports.values()]
        left = max(PADDING, label_width - min(tops, default=label_width))
        right = max(PADDING, aside_width - (width - max(tops, default=0.0)))
        for box in level.boxes.values():
            box.x, box.y = box.x + left, box.y + HEADER
        for wire in wires:
            (x, y), *rest = wire.points
            first = (x + left, 0.0 if y == 0 and tops else y + HEADER)  # ports stand on the frame, above the header
            wire.points = [first, *((px + left, py + HEADER) for px, py in rest)]
        return Box(
            width + left + right,
            layout.bottoms[-1] + HEADER + (0.0 if level.exits else PADDING),
            {name: layout.x[i] + left for name, i in level.ports.items()},
            {name: layout.x[i] + left for name, i in level.exits.items()},
            path=scope.path,
            label=label,
            times=times,
            aside=aside,
            inside=list(level.boxes.values()),
            wires=wires,
        )


def _times(group: Repeat) -> str:
    return f"×{len(group.members)}" + (" in parallel" if group.parallel else "")
