"""Randomly wired networks: Xie, Kirillov, Girshick & He 2019, "Exploring randomly wired neural networks", table 1.

Every stage is a random graph: nodes sum what feeds them with learned positive weights and apply ReLU, separable
convolution and batch normalisation; nodes that nothing feeds read the stage's input at stride 2, and the stage's
output is the mean of the nodes that feed nothing. Edges run from lower to higher numbers.

| kind | parameters (default) | source |
|---|---|---|
| ws | neighbours 4, rewiring 0.75 | Watts & Strogatz 1998 |
| er | edge probability 0.2 | Erdős & Rényi 1959 |
| ba | edges per new node 5 | Barabási & Albert 1999 |
"""

import random
from collections.abc import Callable

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Wire, blocks, laws, ops
from depthscale.graph.blocks import Style
from depthscale.zoo.images import Size, image, is_small, sized

Edges = set[tuple[int, int]]  # (lower, higher)
STYLE = Style(weight=laws.HE)


def watts_strogatz(nodes: int, neighbours: int, rewiring: float, draw: Callable[[], float]) -> Edges:
    """A ring in which every node knows its ``neighbours`` nearest, edges rewired with probability ``rewiring``."""
    if neighbours % 2 or not 2 <= neighbours < nodes or not 0 <= rewiring <= 1:
        raise GraphError(
            f"expected an even number of neighbours below {nodes} and a probability, got {neighbours}, {rewiring}"
        )
    edges = {_edge(v, (v + i) % nodes) for i in range(1, neighbours // 2 + 1) for v in range(nodes)}
    for i in range(1, neighbours // 2 + 1):
        for v in range(nodes):
            edge = _edge(v, (v + i) % nodes)
            if edge not in edges or draw() >= rewiring:
                continue
            free = [w for w in range(nodes) if w != v and _edge(v, w) not in edges]
            if free:
                edges.remove(edge)
                edges.add(_edge(v, free[int(draw() * len(free))]))
    return edges


def erdos_renyi(nodes: int, probability: float, draw: Callable[[], float]) -> Edges:
    """Every edge with the same probability."""
    if not 0 <= probability <= 1:
        raise GraphError(f"expected an edge probability in [0, 1], got {probability}")
    return {(v, w) for v in range(nodes) for w in range(v + 1, nodes) if draw() < probability}


def barabasi_albert(nodes: int, per_node: int, draw: Callable[[], float]) -> Edges:
    """Every new node joins ``per_node`` old ones, chosen in proportion to their edges."""
    if not 1 <= per_node < nodes:
        raise GraphError(f"expected 1 to {nodes - 1} edges per new node, got {per_node}")
    edges: Edges = set()
    ends = list(range(per_node))  # every node as often as it has edges; the first ones once
    targets = list(range(per_node))
    for v in range(per_node, nodes):
        edges |= {(w, v) for w in targets}
        ends = (ends if v > per_node else []) + targets + [v] * per_node
        targets = []
        while len(targets) < per_node:
            w = ends[int(draw() * len(ends))]
            if w not in targets:
                targets.append(w)
    return edges


def _edge(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)


def wiring(kind: str, nodes: int, seed: int, parameters: tuple[float, ...] = ()) -> list[tuple[int, int]]:
    """The edges of a random graph, sorted; the same for the same arguments, on every machine.

    ``kind`` is ws, er or ba, ``parameters`` as in the table above (empty: the defaults).
    """
    draw = random.Random(seed).random  # the one method whose sequence Python guarantees across versions
    if nodes < 2:
        raise GraphError(f"expected at least 2 nodes, got {nodes}")
    if kind == "ws":
        neighbours, rewiring = parameters or (4, 0.75)
        return sorted(watts_strogatz(nodes, int(neighbours), rewiring, draw))
    if kind == "er":
        (probability,) = parameters or (0.2,)
        return sorted(erdos_renyi(nodes, probability, draw))
    if kind == "ba":
        (per_node,) = parameters or (5,)
        return sorted(barabasi_albert(nodes, int(per_node), draw))
    raise GraphError(f"expected kind to be ws, er or ba, got {kind!r}")


def triplet(x: Wire, channels: int, stride: int, norm: str) -> Wire:
    """ReLU, 3 × 3 separable convolution, norm."""
    y = blocks.separable_conv(blocks.act(x, STYLE.act), channels, 3, stride=stride, weight=STYLE.weight)
    return blocks.norm(y, norm)


def weighted(x: Wire, place: int) -> Wire:
    """x times the sigmoid of a learned number, which starts at zero."""
    weight = x.builder.add(ops.Parameter((1,), laws.ZERO), name=f"weight{place}")
    return x * weight.then(ops.Activation("sigmoid"))


def add_stage(x: Wire, edges: list[tuple[int, int]], nodes: int, channels: int, norm: str) -> Wire:
    """A random graph as a stage that halves the image."""
    values: list[Wire] = []
    for v in range(nodes):
        sources = [a for a, b in edges if b == v]
        with x.scope("node#"):
            if not sources:
                values.append(triplet(x, channels, 2, norm))
                continue
            terms = [weighted(values[a], i) for i, a in enumerate(sources, 1)]
            y = terms[0] if len(terms) == 1 else terms[0].then(ops.Add(), *terms[1:])
            values.append(triplet(y, channels, 1, norm))
    feeding = {a for a, _ in edges}
    ends = [value for v, value in enumerate(values) if v not in feeding]
    if len(ends) == 1:
        return ends[0]
    return ends[0].then(ops.Add(), *ends[1:]).then(ops.Activation("affine", (("scale", 1 / len(ends)),)))


@sized
def randomly_wired(
    kind: str = "ws",
    seed: int = 0,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    image_size: Size = 224,
    small: bool | None = None,
    parameters: tuple[float, ...] = (),
    nodes: int = 32,
    width: int = 78,
    regular: bool = False,
    norm: str = "batch",
    dropout: float = 0.0,
) -> Graph:
    """RandWire of the small regime (78 channels, three random stages) or the ``regular`` one (109, four).

    Stage i draws its graph from 1000·seed + i. ``small`` (by default for images below 112 pixels): convolutions of
    stride 1 in front of the random stages.
    """
    stride = 1 if is_small(image_size, small) else 2
    net = Builder()
    x = image(net, in_channels, image_size)
    with net.scope("stem"):
        x = blocks.norm(blocks.conv(x, width // 2, stride=stride, weight=STYLE.weight), norm)
        if not regular:
            x = blocks.conv(blocks.act(x, STYLE.act), width, stride=stride, weight=STYLE.weight)
            x = blocks.norm(x, norm)
    counts = [nodes // 2, nodes, nodes, nodes] if regular else [nodes] * 3
    for i, count in enumerate(counts):
        with net.scope("stage#"):
            x = add_stage(x, wiring(kind, count, 1000 * seed + i, parameters), count, width * 2**i, norm)
    with net.scope("head"):
        x = blocks.norm(blocks.conv(blocks.act(x, STYLE.act), 1280, 1, weight=STYLE.weight), norm)
        return net.graph(blocks.classifier(blocks.act(x, STYLE.act), num_classes, drop=dropout))
