"""NAS-Bench-101: Ying, Klein, Christiansen, Real, Murphy & Hutter 2019, "Towards reproducible architecture search".

A cell is a directed acyclic graph of at most seven vertices and nine edges, an upper-triangular 0/1 matrix and a
list of operations. Vertex 0 is the input, the last the output; the others sum what feeds them (every edge from the
input through a 1 × 1 convolution) and apply their operation; the output joins what feeds it over channels and adds
the input where an edge leads there directly. The network: 3 × 3 stem of 128, three stacks of three cells, a 2 × 2
max-pool and twice the channels in front of the second and the third.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Wire, blocks, laws, ops
from depthscale.graph.blocks import Style
from depthscale.zoo.images import Size, image, sized

OPS = ("conv3x3", "conv1x1", "maxpool3x3")
_LONG = {"conv3x3-bn-relu": "conv3x3", "conv1x1-bn-relu": "conv1x1", "input": "input", "output": "output"}
MOST_VERTICES, MOST_EDGES = 7, 9

Matrix = tuple[tuple[int, ...], ...]
# TensorFlow's variance scaling: a normal law cut at two deviations, widened so that its variance is 1/fan_in
LAW = laws.TruncatedNormal(1 / 0.8796256610342398, cut=2.0, fan="in")

INCEPTION_LIKE = (  # figure 1 of the paper
    ((0, 1, 1, 1, 0, 1, 0), (0, 0, 0, 0, 0, 0, 1), (0, 0, 0, 0, 0, 0, 1), (0, 0, 0, 0, 1, 0, 0),
     (0, 0, 0, 0, 0, 0, 1), (0, 0, 0, 0, 0, 0, 1), (0, 0, 0, 0, 0, 0, 0)),
    ("conv1x1", "conv3x3", "conv3x3", "conv3x3", "maxpool3x3"),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A checked cell: ``matrix`` with every vertex on a path from input to output, ``ops`` of the inner vertices."""

    matrix: Matrix
    ops: tuple[str, ...]

    @property
    def edges(self) -> list[tuple[int, int]]:
        """(source, vertex) pairs."""
        return [(i, j) for i, row in enumerate(self.matrix) for j, one in enumerate(row) if one]

    def sources(self, vertex: int) -> list[int]:
        """The vertices that feed this one, in order."""
        return [i for i, row in enumerate(self.matrix) if row[vertex]]


def parse(matrix: Sequence[Sequence[int]], operations: Sequence[str]) -> Cell:
    """The cell of a matrix and its inner operations (the benchmark's long names and end markers are taken too).

    Vertices that lie on no path from input to output are dropped, as in the benchmark. Raises GraphError for what
    is no cell: not square, a cycle, output out of reach, too many vertices or edges, an unknown operation.
    """
    try:
        rows = tuple(tuple(int(v) for v in row) for row in matrix)
    except (TypeError, ValueError):
        raise GraphError(f"expected a matrix as rows of 0 and 1, got {matrix!r}") from None
    size = len(rows)
    if size < 2 or any(len(row) != size for row in rows) or any(v not in (0, 1) for row in rows for v in row):
        raise GraphError(f"expected a square matrix of 0 and 1 with at least 2 rows, got {[list(r) for r in rows]}")
    names = [_operation(op) for op in operations]
    if names[:1] == ["input"] and names[-1:] == ["output"]:
        names = names[1:-1]
    if len(names) != size - 2 or not set(names) <= set(OPS):
        raise GraphError(f"expected {size - 2} operations for a matrix of {size} vertices, got {list(operations)}")
    back = [(i, j) for i in range(size) for j in range(i + 1) if rows[i][j]]
    if back:
        i, j = back[0]
        why = "closes a cycle" if _reaches(rows, j, i) else "runs backwards; number the vertices along the edges"
        raise GraphError(f"expected edges from lower to higher vertices only, got {i} → {j}, which {why}")
    return _pruned(rows, names)


def _pruned(rows: Matrix, names: Sequence[str]) -> Cell:
    """The cell without vertices off every path, checked against the benchmark's limits."""
    size = len(rows)
    kept = [v for v in range(size) if _reaches(rows, 0, v) and _reaches(rows, v, size - 1)]
    if not kept:
        raise GraphError(f"expected a path from vertex 0 to vertex {size - 1}, got a cell without one (disconnected)")
    matrix = tuple(tuple(rows[i][j] for j in kept) for i in kept)
    edges = sum(map(sum, matrix))
    if len(kept) > MOST_VERTICES:
        raise GraphError(f"expected at most {MOST_VERTICES} vertices in a cell of NAS-Bench-101, got {len(kept)}")
    if edges > MOST_EDGES:
        raise GraphError(f"expected at most {MOST_EDGES} edges in a cell of NAS-Bench-101, got {edges}")
    return Cell(matrix, tuple(names[v - 1] for v in kept[1:-1]))


def _operation(name: str) -> str:
    short = _LONG.get(name, name)
    if short not in (*OPS, "input", "output"):
        near = difflib.get_close_matches(name, (*OPS, *_LONG), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise GraphError(f"expected an operation of NAS-Bench-101 ({', '.join(OPS)}), got {name!r}{hint}")
    return short


def _reaches(rows: Matrix, start: int, goal: int) -> bool:
    seen, front = {start}, [start]
    while front:
        i = front.pop()
        new = {j for j, one in enumerate(rows[i]) if one} - seen
        seen |= new
        front.extend(new)
    return goal in seen


def channels(cell: Cell, into: int, out: int) -> list[int]:
    """Channels of every vertex: those that feed the output share ``out``, the others take the most that they feed."""
    last = len(cell.matrix) - 1
    width = [0] * (last + 1)
    width[0], width[last] = into, out
    ends = [v for v in cell.sources(last) if v > 0]
    for place, v in enumerate(ends):
        width[v] = out // len(ends) + (place < out % len(ends))  # the first ones take what is left over
    for v in range(last - 1, 0, -1):
        if v not in ends:
            width[v] = max(width[j] for i, j in cell.edges if i == v and j < last)
    return width


def add_cell(x: Wire, cell: Cell, out: int, style: Style) -> Wire:
    """The cell at ``out`` channels."""
    last = len(cell.matrix) - 1
    width = channels(cell, x.channels, out)

    def project(target: int) -> Wire:
        with x.scope(f"project{target}"):
            return blocks.conv_norm_act(x, width[target], 1, style=style)

    values: dict[int, Wire] = {}
    for v in range(1, last):
        fed = [_narrowed(values[i], width[v]) for i in cell.sources(v) if i > 0]
        if cell.matrix[0][v]:
            fed.append(project(v))
        with x.scope(f"vertex{v}"):
            y = fed[0] if len(fed) == 1 else fed[0].then(ops.Add(), *fed[1:])
            values[v] = _apply(y, cell.ops[v - 1], style)
    ends = [values[v] for v in cell.sources(last) if v > 0]
    if not ends:
        return project(last)
    joined = blocks.concat(*ends)
    return joined + project(last) if cell.matrix[0][last] else joined


def _narrowed(x: Wire, width: int) -> Wire:
    return x.then(ops.Slice(1, 0, width)) if x.channels > width else x


def _apply(x: Wire, op: str, style: Style) -> Wire:
    if op == "maxpool3x3":
        return blocks.max_pool(x, 3, 1, 1)
    return blocks.conv_norm_act(x, x.channels, 3 if op == "conv3x3" else 1, style=style)


@sized
def nasbench101(
    matrix: Sequence[Sequence[int]] = INCEPTION_LIKE[0],
    operations: Sequence[str] = INCEPTION_LIKE[1],
    num_classes: int = 10,
    *,
    in_channels: int = 3,
    image_size: Size = 32,
    width: int = 128,
    stacks: int = 3,
    cells: int = 3,
    norm: str = "batch",
    act: str = "relu",
) -> Graph:
    """The network of a NAS-Bench-101 cell; by default the Inception-like one of the paper's figure 1."""
    cell = parse(matrix, operations)
    style = Style(norm=norm, act=act, weight=LAW)
    net = Builder()
    x = image(net, in_channels, image_size)
    with net.scope("stem"):
        x = blocks.conv_norm_act(x, width, style=style)
    for i in range(stacks):
        with net.scope("stack#"):
            if i > 0:
                x = blocks.max_pool(x)
            for _ in range(cells):
                with net.scope("cell#"):
                    x = add_cell(x, cell, width * 2**i, style)
    with net.scope("head"):
        return net.graph(blocks.classifier(x, num_classes, weight=laws.XAVIER))
