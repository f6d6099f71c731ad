"""Edits of depth and wiring: blocks and branches put in and taken out, connections made, moved and cut.

``deepen`` and ``connect`` add a branch whose last weights are zero, which works behind any activation;
``deepen_identity`` inserts a layer that is the identity (Net2DeeperNet, Chen et al. 2016), where the activation in
front is one that its own output passes unchanged; ``skip`` adds a node to another with a learned gain of zero. These
leave the function as it is. ``bypass``, ``drop_branch`` and ``rewire`` change it. None may change the shape of an
output or cut one off from the data.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from depthscale.errors import GraphError
from depthscale.graph import Graph, Node, Op, edit, laws, ops
from depthscale.grow.edits import changes
from depthscale.grow.live import Edit, Source
from depthscale.grow.spaces import Spaces

_UNCHANGED = ("relu", "identity", "threshold", "relu6", "hardtanh")  # φ(φ(x)) = φ(x)


def deepen_identity(graph: Graph, after: str, name: str | None = None) -> Edit:
    """The edit that puts a layer and the same activation behind activation ``after``, the layer being the identity.

    For activations that pass their own output unchanged (ReLU); for others use ``deepen``. The layer is linear behind
    vectors, a 3×3 convolution behind images. Raises GraphError where ``after`` is no such activation.
    """
    node = graph[after]
    if not (isinstance(node.op, ops.Activation) and node.op.function in _UNCHANGED):
        shown = getattr(node.op, "function", type(node.op).__name__)
        raise GraphError(f"expected an activation that passes its own output unchanged, such as relu, got {shown}; "
                         "deepen works behind any node")  # fmt: skip
    name = _fresh(graph, name or f"{after}_grown")
    shape = graph.shapes()[after]
    op, weight = _identity(shape)
    new = edit.insert(graph, after, f"{name}.layer", op)
    new = edit.insert(new, f"{name}.layer", f"{name}.act", node.op)
    return Edit("deepen", f"{name} behind {after}", new, {f"{name}.layer.weight": Source(values=weight)})


def _identity(shape: tuple[int, ...]) -> tuple[ops.Linear | ops.Conv, torch.Tensor]:
    if len(shape) == 4:
        n = shape[1]
        weight = torch.zeros(n, n, 3, 3, dtype=torch.float64)
        weight[torch.arange(n), torch.arange(n), 1, 1] = 1.0
        return ops.Conv(n, (3, 3), padding=(1, 1), weight=laws.HE), weight
    n = shape[-1]
    return ops.Linear(n, weight=laws.HE), torch.eye(n, dtype=torch.float64)


def deepen(graph: Graph, after: str, *, width: int | None = None, act: str = "relu", name: str | None = None) -> Edit:
    """The edit that adds a residual block behind node ``after``: x + W2 φ(W1 x) with W2 = 0.

    W1 is drawn by He's law, so that its first gradient reaches W2 at the scale of the rest; ``width`` is that of the
    block's inside (default: that of x). Layers are linear behind vectors and tokens, 3×3 convolutions behind images.
    Raises GraphError for a node that is neither.
    """
    return connect(graph, after, after, width=width, act=act, name=name or f"{after}_block")


def connect(
    graph: Graph, source: str, target: str, *, width: int | None = None, act: str = "relu", name: str | None = None
) -> Edit:
    """The edit that adds W2 φ(W1 x) of node ``source`` to node ``target``, with W2 = 0: a branch, or a skip connection.

    Images may be larger at the source by a whole factor: the branch strides. ``target`` may not come before ``source``.
    Raises GraphError where the shapes cannot be brought together or a cycle would arise.
    """
    shapes = graph.shapes()
    graph[source], graph[target]
    a, b = shapes[source], shapes[target]
    name = _fresh(graph, name or f"{target}_from_{source.replace('.', '_')}")
    if not isinstance(graph[source].op, ops.Input) and _reaches(graph, target, source) and source != target:
        raise GraphError(f"expected {source!r} to come before {target!r}, else their connection closes a cycle")
    if target in graph.inputs:
        raise GraphError(f"expected a branch to end behind a node of the network, got its input {target!r}")
    first, second = _branch(a, b, width)
    nodes = []
    for node in graph.nodes:
        inputs = tuple(f"{name}.sum" if i == target else i for i in node.inputs)
        nodes.append(replace(node, inputs=inputs))
    nodes += [
        Node(f"{name}.layer1", first, (source,)),
        Node(f"{name}.act", ops.Activation(act), (f"{name}.layer1",)),
        Node(f"{name}.layer2", second, (f"{name}.act",)),
        Node(f"{name}.sum", ops.Add(), (target, f"{name}.layer2")),
    ]
    outputs = tuple(f"{name}.sum" if o == target else o for o in graph.outputs)
    new = Graph(tuple(nodes), outputs, graph.inputs)
    new.shapes()
    kind = "deepen" if source == target else "connect"
    return Edit(kind, f"{name}: {source} to {target}", new)


def _branch(a: tuple[int, ...], b: tuple[int, ...], width: int | None) -> tuple[Any, Any]:
    """Two layers from shape a to shape b, the second of weight zero."""
    if len(a) == len(b) == 4:
        strides = [(n + 2 - 3) // s + 1 == m for n, m in zip(a[2:], b[2:], strict=True) for s in [max(1, n // m)]]
        if all(strides):
            stride = tuple(max(1, n // m) for n, m in zip(a[2:], b[2:], strict=True))
            inner = ops.Conv(width or b[1], (3, 3), stride, (1, 1), weight=laws.HE)
            return inner, ops.Conv(b[1], (3, 3), padding=(1, 1), weight=laws.ZERO)
    elif 2 <= len(a) == len(b) <= 3 and a[:-1] == b[:-1]:
        return ops.Linear(width or b[-1], weight=laws.HE), ops.Linear(b[-1], weight=laws.ZERO)
    raise GraphError(
        f"expected two images (the first as large or a whole times larger) or two vectors, got {a} and {b}"
    )


def _reaches(graph: Graph, start: str, goal: str) -> bool:
    seen = {start}
    for node in graph.nodes:
        if any(i in seen for i in node.inputs):
            seen.add(node.name)
    return goal in seen


def _fresh(graph: Graph, name: str) -> str:
    """The name, with a number behind it where nodes of that scope exist."""
    taken = {n.name for n in graph.nodes} | {n.name.rpartition(".")[0] for n in graph.nodes}
    taken |= {s for t in list(taken) for s in [t.partition(".")[0]]}
    found, k = name, 2
    while found in taken:
        found, k = f"{name}{k}", k + 1
    return found


def skip(graph: Graph, source: str, target: str, *, name: str | None = None) -> Edit:
    """The edit that adds node ``source`` to node ``target`` (of one shape) with a learned gain that begins at zero.

    Raises GraphError where the shapes differ or a cycle would arise.
    """
    shapes = graph.shapes()
    graph[source], graph[target]
    if shapes[source] != shapes[target]:
        raise GraphError(
            f"expected two nodes of one shape, got {source!r} of {shapes[source]} and {target!r} of {shapes[target]}; "
            "connect brings shapes together"
        )
    if source == target or _reaches(graph, target, source):
        raise GraphError(f"expected {source!r} to come before {target!r}, else their connection closes a cycle")
    name = _fresh(graph, name or f"{target}_skip")
    nodes = [replace(n, inputs=tuple(f"{name}.sum" if i == target else i for i in n.inputs)) for n in graph.nodes]
    nodes += [
        Node(f"{name}.gain", ops.Scale(None, laws.ZERO), (source,)),
        Node(f"{name}.sum", ops.Add(), (target, f"{name}.gain")),
    ]
    outputs = tuple(f"{name}.sum" if o == target else o for o in graph.outputs)
    return Edit("skip", f"{name}: {source} to {target}", checked(graph, Graph(tuple(nodes), outputs, graph.inputs)))


def bypass(graph: Graph, name: str) -> Edit:
    """The edit that takes node ``name`` out: its users read what it read first; what then feeds nothing goes too.

    Raises GraphError where shapes do not fit, an output would change its shape or lose the data.
    """
    return Edit("bypass", name, checked(graph, edit.delete(graph, name)))


def drop_branch(graph: Graph, join: str, branch: str) -> Edit:
    """The edit that takes what arrives from node ``branch`` out of a sum or a concatenation.

    A residual block without its branch is gone. Whatever reads a concatenation, through other concatenations,
    normalisation or flattening, gets narrower by what went: the network computes what it computed if nobody read that.
    Raises GraphError for a node that is neither, or is not fed by ``branch``, where nothing would be left, and where
    what comes out of a concatenation cannot be narrower (the reason is said).
    """
    node = graph[join]
    if not isinstance(node.op, ops.Add | ops.Concat):
        raise GraphError(
            f"expected a sum or a concatenation to take a branch out of, got {join!r}, which is "
            f"{type(node.op).__name__}"
        )
    if branch not in node.inputs:
        raise GraphError(f"expected one of {', '.join(node.inputs)}, which {join!r} joins, got {branch!r}")
    left = tuple(i for i in node.inputs if i != branch)
    if not left:
        raise GraphError(f"nothing would be left of {join!r} without {branch!r}; keep one of its branches")
    op, sources = (None, {}) if isinstance(node.op, ops.Add) else _narrower(graph, join, branch)
    alone = left[0] if len(left) == 1 else join

    def new(source: str) -> str:
        return alone if source == join else source

    nodes = []
    for n in graph.nodes:
        if n.name != join:
            nodes.append(Node(n.name, n.op if op is None else op(n), tuple(map(new, n.inputs))))
        elif alone == join:
            nodes.append(replace(n, inputs=left))
    smaller = edit.prune(Graph(tuple(nodes), tuple(map(new, graph.outputs)), graph.inputs))
    return Edit("drop", f"{branch} of {join}", checked(graph, smaller), sources)


def _narrower(graph: Graph, join: str, branch: str) -> tuple[Callable[[Node], Op], dict[str, Source]]:
    """What becomes of whoever reads a concatenation that does without one of its inputs."""
    spaces = Spaces(graph, (join, branch))
    space = spaces.space(spaces.part)
    why = space.locked or ", ".join(f"they are summed with those of {n}" for n in space.makers[:1])
    if why:
        raise GraphError(f"the units that {join!r} has from {branch!r} cannot be left out: {why}")
    return changes(spaces, spaces.root(spaces.part), np.zeros(0, dtype=np.intp))


def branches(graph: Graph) -> list[tuple[str, str]]:
    """(sum or concatenation, branch) of every branch that can be dropped with all others, and the data's way to the
    outputs, kept.
    """
    found = []
    for node in graph.nodes:
        if isinstance(node.op, ops.Add | ops.Concat):
            for source in dict.fromkeys(node.inputs):
                try:
                    smaller = drop_branch(graph, node.name, source).graph
                except GraphError:
                    continue
                if smaller.cost().parameters < graph.cost().parameters:
                    found.append((node.name, source))
    return found


def rewire(graph: Graph, node: str, old: str, new: str) -> Edit:
    """The edit that lets a node read ``new`` where it read ``old``; what then feeds nothing goes.

    Raises GraphError where shapes do not fit, a cycle would arise, an output would change its shape or lose the data.
    """
    if old not in graph[node].inputs:
        raise GraphError(f"expected one of {', '.join(graph[node].inputs)}, which {node!r} reads, got {old!r}")
    graph[new]
    if new == node or _reaches(graph, node, new):
        raise GraphError(f"expected {new!r} to come before {node!r}, else their connection closes a cycle")
    nodes = tuple(
        replace(n, inputs=tuple(new if i == old else i for i in n.inputs)) if n.name == node else n for n in graph.nodes
    )
    return Edit(
        "rewire", f"{node}: {old} → {new}", checked(graph, edit.prune(Graph(nodes, graph.outputs, graph.inputs)))
    )


def checked(old: Graph, new: Graph) -> Graph:
    """The new graph. Raises GraphError where an output has another shape, or no longer depends on the data."""
    before, after = old.shapes(), new.shapes()
    fed = new.fold(lambda op, *inputs: isinstance(op, ops.Input) or any(inputs))
    for a, b in zip(old.outputs, new.outputs, strict=True):
        if before[a] != after[b]:
            raise GraphError(
                f"the edit would change the shape of the output from {before[a]} to {after[b]}; edit a layer inside"
            )
        if not fed[b] or isinstance(new[b].op, ops.Input):
            raise GraphError(f"the edit would disconnect the output {b!r} from the data; leave a path between them")
    for node in old.nodes:
        gone = node.name not in new.by_name
        if gone and isinstance(node.op, ops.Input):
            raise GraphError(f"the edit would take the input {node.name!r} away; leave it in")
    return new
