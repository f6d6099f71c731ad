"""NAS-Bench-201: Dong & Yang 2020, "NAS-Bench-201: extending the scope of reproducible architecture search".

A cell has four nodes; node i sums one operation from every node before it. Written as the paper writes it, with one
group per node and the source behind each operation:

    |nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|

or as six digits, one per edge in the same order, each the place of its operation in ``OPS``. The network: 3 × 3 stem,
three stages of five cells at 16, 32 and 64 channels, a residual block of stride 2 between stages.
"""

import difflib
import re
from functools import lru_cache

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Wire, blocks, edit, laws, ops
from depthscale.graph.blocks import Style
from depthscale.zoo.images import Size, image, sized

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))  # (node, source) in the order of the string
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
STYLE = Style(weight=laws.TORCH_DEFAULT)  # the benchmark trained with PyTorch's own law

Cell = tuple[str, ...]  # the operations of the six edges


@lru_cache(maxsize=1024)
def parse(text: str) -> Cell:
    """The six operations of a cell, written as in the paper or as six digits.

    Raises GraphError that says what is wrong: an unknown operation, a missing or misplaced edge.
    """
    if re.fullmatch(r"[0-9]{6}", text.strip()):
        digits = [int(d) for d in text.strip()]
        if max(digits) >= len(OPS):
            raise GraphError(f"expected digits from 0 to {len(OPS) - 1} ({', '.join(OPS)}), got {text!r}")
        return tuple(OPS[d] for d in digits)
    groups = text.strip().split("+")
    edges = [(i, part) for i, group in enumerate(groups, 1) for part in group.strip("|").split("|")]
    if len(groups) != 3 or len(edges) != len(EDGES):
        raise GraphError(f"expected a cell such as |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, got {text!r}")
    found = []
    for (node, part), wanted in zip(edges, EDGES, strict=True):
        op, _, source = part.partition("~")
        if op not in OPS:
            near = difflib.get_close_matches(op, OPS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise GraphError(f"expected an operation of NAS-Bench-201 ({', '.join(OPS)}), got {op!r}{hint}")
        if (node, source) != (wanted[0], str(wanted[1])):
            raise GraphError(f"expected edge {part!r} of node {node} to come from node {wanted[1]}, got {source!r}")
        found.append(op)
    return tuple(found)


def write(cell: Cell) -> str:
    """The cell as the paper writes it."""
    groups: dict[int, str] = {}
    for (node, source), op in zip(EDGES, cell, strict=True):
        groups[node] = groups.get(node, "|") + f"{op}~{source}|"
    return "+".join(groups.values())


def published_form(text: str) -> str:
    """An expression that is equal for cells the authors count as one: 6,466 of the 15,625.

    Skips are folded into their source and what follows a zero is a zero; but a zero stays a term of the sum it is in,
    sums are joined as text in alphabetical order (so the count rests on how an operation is written, "(source)@name"),
    and two operations of one kind on one source are not told from one used twice. ``simplified`` has none of these
    accidents: by its keys there are 5,425 different networks.
    """
    values = {0: "0"}
    terms: dict[int, list[str]] = {1: [], 2: [], 3: []}
    for (node, source), op in zip(EDGES, parse(text), strict=True):
        nothing = op == "none" or values[source] == "#"
        fed = values[source] if op == "skip_connect" else f"({values[source]})@{op}"
        terms[node].append("#" if nothing else fed)
        values[node] = "+".join(sorted(terms[node]))
    return values[3]


def operation(x: Wire, op: str, style: Style) -> Wire:
    """One edge; "none" is not an operation but its absence."""
    if op == "skip_connect":
        return x
    if op == "avg_pool_3x3":
        return blocks.avg_pool(x, 3, 1, 1, count_padding=False)
    y = blocks.conv(blocks.act(x, style.act), x.channels, 3 if op == "nor_conv_3x3" else 1, weight=style.weight)
    return blocks.norm(y, style.norm)


def zero(x: Wire) -> Wire:
    """Zeros of the shape of x."""
    return x.then(ops.Activation("affine", (("scale", 0.0),)))


def total(terms: list[Wire]) -> Wire:
    """The sum of the terms."""
    return terms[0] if len(terms) == 1 else terms[0].then(ops.Add(), *terms[1:])


def add_cell(x: Wire, cell: Cell, style: Style = STYLE) -> Wire:
    """The cell as the benchmark ran it: operations that come to nothing are there, and their parameters count."""
    values: list[Wire | None] = [x]  # None: a node that nothing feeds
    nothing: list[Wire] = []  # the zeros of this cell, once they are needed

    def value(node: int) -> Wire:
        found = values[node]
        if found is None:
            nothing[:] = nothing or [zero(x)]
            return nothing[0]
        return found

    for node in (1, 2, 3):
        terms = []
        for (i, source), op in zip(EDGES, cell, strict=True):
            if i == node and op != "none":
                with x.scope(f"edge{source}{node}"):
                    terms.append(operation(value(source), op, style))
        values.append(total(terms) if terms else None)
    return value(3)


def add_simplified(x: Wire, cell: Cell, style: Style = STYLE) -> Wire:
    """The same function with nothing superfluous: zeros dropped, sums flat."""
    values: list[list[Wire]] = [[x]]  # every node as the terms of its sum; none: zero
    sums: dict[int, Wire] = {}
    for node in (1, 2, 3):
        terms: list[Wire] = []
        for (i, source), op in zip(EDGES, cell, strict=True):
            if i != node or op == "none" or not values[source]:
                continue
            if op == "skip_connect":
                terms += values[source]
                continue
            if source not in sums:
                sums[source] = total(values[source])
            with x.scope(f"edge{source}{node}"):
                terms.append(operation(sums[source], op, style))
        values.append(terms)
    return total(values[3]) if values[3] else zero(x)


def simplified(text: str, channels: int = 16) -> Graph:
    """One cell as a graph with all superfluous operations folded away; its key is that of the function it computes."""
    net = Builder()
    return edit.prune(net.graph(add_simplified(net.input(channels, 8, 8), parse(text))))


def reduction(x: Wire, channels: int, style: Style) -> Wire:
    """The residual block between stages: ReLU-conv-BN twice, beside a 2 × 2 average and 1 × 1 convolution."""

    def branch(y: Wire) -> Wire:
        for stride in (2, 1):
            y = blocks.conv(blocks.act(y, style.act), channels, stride=stride, weight=style.weight)
            y = blocks.norm(y, style.norm)
        return y

    def shortcut(y: Wire) -> Wire:
        return blocks.conv(blocks.avg_pool(y), channels, 1, weight=style.weight)

    return blocks.residual(x, branch, shortcut=shortcut)


@sized
def nasbench201(
    cell: str = BEST,
    num_classes: int = 10,
    *,
    in_channels: int = 3,
    image_size: Size = 32,
    width: int = 16,
    cells: int = 5,
    simplify: bool = False,
    norm: str = "batch",
    act: str = "relu",
) -> Graph:
    """The network of a NAS-Bench-201 cell; by default that of the best on CIFAR-10.

    With ``simplify`` operations that come to nothing are left out (the benchmark ran and counted them).
    """
    if not isinstance(cell, str):
        raise GraphError(f"expected a cell as text, such as '333111' or {BEST!r}, got {cell!r}")
    operations = parse(cell)
    style = Style(norm=norm, act=act, weight=STYLE.weight)
    net = Builder()
    x = image(net, in_channels, image_size)
    with net.scope("stem"):
        x = blocks.norm(blocks.conv(x, width, weight=style.weight), norm)
    for i in range(3):
        if i > 0:
            with net.scope("reduction#"):
                x = reduction(x, width * 2**i, style)
        with net.scope("stage#"):
            for _ in range(cells):
                with net.scope("cell#"):
                    x = (add_simplified if simplify else add_cell)(x, operations, style)
    with net.scope("head"):
        graph = net.graph(blocks.classifier(blocks.norm_act(x, style), num_classes, weight=laws.TORCH_DEFAULT))
    return edit.prune(graph) if simplify else graph
