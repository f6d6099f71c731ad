"""Edits of attention: heads taken away, and new ones that nobody hears yet.

A head is a block of columns of the layers that make queries, keys and values, and of the one that reads what attention
gives. Both layouts are known: one layer for all three (the zoo's), and a layer each.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from depthscale.errors import GraphError
from depthscale.graph import Graph, Node, edit, ops
from depthscale.grow.live import Edit, Source, Take
from depthscale.grow.spaces import Index

_ON_THE_WAY = (ops.Permute, ops.Select)


@dataclass(frozen=True)
class Heads:
    """The heads of an attention node: layers that make them (with how many parts each), the one that reads them."""

    count: int
    width: int
    makers: dict[str, int]
    splits: dict[str, tuple[int, ...]]
    reader: str


def heads_of(graph: Graph, attention: str) -> Heads:
    """How the heads of an Attention node are laid out. Raises GraphError for a layout that is none of those known."""
    node = graph[attention]
    if not isinstance(node.op, ops.Attention):
        raise GraphError(f"expected an attention node, got {attention!r}, which is {type(node.op).__name__}")
    count, width = graph.shapes()[node.inputs[0]][1], graph.shapes()[node.inputs[0]][3]
    makers: dict[str, int] = {}
    splits: dict[str, tuple[int, ...]] = {}
    for source in node.inputs[:3]:
        split = _back(graph, attention, source)
        op = graph[split].op
        assert isinstance(op, ops.Unflatten)
        maker = graph[split].inputs[0]
        if not isinstance(graph[maker].op, ops.Linear) or graph.consumers[maker] != (split,):
            raise _unknown(attention)
        parts = 1 if len(op.sizes) == 2 else op.sizes[0]
        if tuple(op.sizes[-2:]) not in {(count, width), (count, -1), (-1, width)}:
            raise _unknown(attention)
        makers[maker], splits[split] = parts, op.sizes
    return Heads(count, width, makers, splits, _reader(graph, attention))


def _unknown(attention: str) -> GraphError:
    return GraphError(f"the heads of {attention!r} are not laid out in a way whose number can be changed")


def _back(graph: Graph, attention: str, name: str) -> str:
    while isinstance(graph[name].op, _ON_THE_WAY):
        name = graph[name].inputs[0]
    if not isinstance(graph[name].op, ops.Unflatten):
        raise _unknown(attention)
    return name


def _reader(graph: Graph, attention: str) -> str:
    name = attention
    while True:
        users = graph.consumers[name]
        if len(users) != 1:
            raise _unknown(attention)
        name = users[0]
        if isinstance(graph[name].op, ops.Linear):
            return name
        if not isinstance(graph[name].op, ops.Permute | ops.Flatten | ops.Dropout):
            raise _unknown(attention)


def keep_heads(graph: Graph, attention: str, keep: Iterable[int]) -> Edit:
    """The edit that leaves an attention node only the heads ``keep``.

    Raises GraphError for indices that are none, double or nothing at all, and for a layout that is not known.
    """
    found = heads_of(graph, attention)
    index = np.asarray(list(keep), dtype=np.intp)
    if len(index) == 0 or len(set(index.tolist())) != len(index) or index.min() < 0 or index.max() >= found.count:
        raise GraphError(
            f"expected at least one of the {found.count} heads of {attention!r} to keep, each once, "
            f"got {index.tolist()}"
        )
    return _resized("narrow", graph, attention, found, index)


def add_heads(graph: Graph, attention: str, count: int) -> Edit:
    """The edit that gives an attention node ``count`` new heads by its layers' laws, which nobody hears yet."""
    found = heads_of(graph, attention)
    if not isinstance(count, int) or count < 1:
        raise GraphError(f"expected at least 1 new head, got {count!r}")
    index = np.concatenate([np.arange(found.count), np.full(count, -1)]).astype(np.intp)
    return _resized("add", graph, attention, found, index)


def _entries(index: Index, width: int, parts: int, count: int) -> Index:
    block = np.where(index[:, None] < 0, -1, index[:, None] * width + np.arange(width)).ravel()
    steps = np.arange(parts)[:, None] * count * width
    return np.where(block < 0, -1, block + steps).ravel().astype(np.intp)


def _resized(kind: str, graph: Graph, attention: str, found: Heads, index: Index) -> Edit:
    sources: dict[str, Source] = {}
    for maker, parts in found.makers.items():
        take = Take(0, _entries(index, found.width, parts, found.count))
        sources |= {f"{maker}.{leaf}": Source((take,)) for leaf in ("weight", "bias")}
    take = Take(1, _entries(index, found.width, 1, found.count), fill="zero")
    sources[f"{found.reader}.weight"] = Source((take,))

    def op(node: Node) -> Any:
        if isinstance(node.op, ops.Linear) and node.name in found.makers:
            return replace(node.op, out_features=found.makers[node.name] * len(index) * found.width)
        if isinstance(node.op, ops.Unflatten) and node.name in found.splits:
            return replace(node.op, sizes=(*found.splits[node.name][:-2], len(index), found.width))
        return node.op

    where = f"{attention}: {found.count} → {len(index)} heads"
    return Edit(kind, where, edit.map_ops(graph, op), sources)
