"""Edits of a network in training: wider, narrower, deeper, with another branch.

Growth leaves the network's function as it is. ``widen`` copies units and divides what reads them (Chen, Goodfellow &
Shlens 2016, Net2WiderNet); ``deepen`` and ``connect`` add a branch whose last weights are zero, which works behind any
activation; ``deepen_identity`` inserts a layer that is the identity (Net2DeeperNet), where the activation in front
is one that its own output passes unchanged. ``narrow`` takes units away and does not preserve the function, but for
units that nobody heard.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from depthscale.errors import GraphError
from depthscale.graph import Graph, Node, edit, laws, ops
from depthscale.grow.live import Edit, Source, Take
from depthscale.grow.spaces import Index, Label, Spaces

_OWN = ("weight", "bias", "running_mean", "running_var")  # what lies along a keeper's or maker's units
_UNCHANGED = ("relu", "identity", "threshold", "relu6", "hardtanh")  # φ(φ(x)) = φ(x)


def free_layers(graph: Graph) -> list[str]:
    """Layers whose width can be edited, one for every space of units that are edited together."""
    return Spaces(graph).free()


def widen(graph: Graph, layer: str, units: int, *, seed: int = 0, copied: Sequence[int] | None = None) -> Edit:
    """The edit that gives a layer (and all that share its units) ``units`` of them, the function unchanged.

    New units are copies of old ones: of those in ``copied`` (indices, one per new unit), else of ones drawn at random.
    Exact in evaluation, and in training wherever nothing random (dropout) acts on the copies. Raises GraphError for a
    layer whose width cannot change (the reason is said) and for fewer units than there are.
    """
    spaces = Spaces(graph)
    at = spaces.of(layer)
    have = spaces.space(at).size
    if not isinstance(units, int) or units <= have:
        raise GraphError(
            f"expected more units than the {have} that {layer!r} has, got {units!r}; narrow takes some away"
        )
    if copied is None:
        rng = np.random.default_rng(seed)
        rounds, rest = divmod(units - have, have)
        chosen = np.concatenate([np.tile(np.arange(have), rounds), rng.permutation(have)[:rest]])
    else:
        chosen = np.asarray(list(copied), dtype=np.intp)
        if len(chosen) != units - have or len(chosen) == 0 or chosen.min() < 0 or chosen.max() >= have:
            raise GraphError(f"expected {units - have} indices of units below {have} to copy, got {list(copied)}")
    index = np.concatenate([np.arange(have), chosen]).astype(np.intp)
    return _resized("widen", spaces, layer, at, index)


def narrow(graph: Graph, layer: str, keep: Iterable[int]) -> Edit:
    """The edit that leaves a layer (and all that share its units) only the units ``keep``, in this order.

    Raises GraphError for a layer whose width cannot change, and for indices that are none, double or nothing at all.
    """
    spaces = Spaces(graph)
    at = spaces.of(layer)
    have = spaces.space(at).size
    index = np.asarray(list(keep), dtype=np.intp)
    if len(index) == 0 or len(set(index.tolist())) != len(index) or index.min() < 0 or index.max() >= have:
        raise GraphError(
            f"expected at least one of the {have} units of {layer!r} to keep, each once, got {index.tolist()}"
        )
    return _resized("narrow", spaces, layer, at, index)


def _resized(kind: str, spaces: Spaces, layer: str, at: int, index: Index) -> Edit:
    """The units of a space become those at ``index``; a unit that is there k times counts a k-th where it is read."""
    graph, space = spaces.graph, spaces.space(at)
    copies = np.bincount(index, minlength=space.size)[index].astype(np.float64)
    takes: dict[str, list[Take]] = {}

    def own(node: str, label: Label) -> None:
        old, unit = spaces.entries(label, at, index)
        steps = np.where(unit >= 0, copies[unit], 1.0)
        for name in _OWN:
            takes.setdefault(f"{node}.{name}", []).append(Take(0, old, steps=steps))

    for maker in space.makers:
        own(maker, ((at, 1),))
    for keeper in space.keepers:
        own(keeper, spaces.kept[keeper])
    for reader in space.readers:
        old, unit = spaces.entries(spaces.read[reader], at, index)
        shares = np.where(unit >= 0, copies[unit], 1.0)
        takes.setdefault(f"{reader}.weight", []).append(Take(1, old, shares=shares))

    def op(node: Node) -> Any:
        if node.name in space.makers:
            size = "out_features" if isinstance(node.op, ops.Linear) else "out_channels"
            return replace(node.op, **{size: len(index)})
        if node.name in space.keepers and isinstance(node.op, ops.Conv):
            n = len(spaces.entries(spaces.kept[node.name], at, index)[0])
            return replace(node.op, out_channels=n, groups=n)
        return node.op

    new = edit.map_ops(graph, op)
    sources = {name: Source(tuple(found)) for name, found in takes.items()}
    return Edit(kind, f"{layer}: {space.size} → {len(index)} units", new, sources)


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
