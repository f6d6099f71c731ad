"""Edits of a layer's width: units copied, split, added, removed.

Growth leaves the network's function as it is. ``widen`` copies units and divides what reads them (Chen, Goodfellow &
Shlens 2016, Net2WiderNet); ``split`` copies chosen units and lets each copy be heard differently, the sum unchanged;
``add_units`` draws new ones that nobody hears yet. ``narrow`` takes units away and does not preserve the function, but
for units that nobody heard. All work on the whole space of units that a layer shares with others: through sums,
concatenations, normalisation over batch, layer or groups, and convolutions in groups.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from depthscale.errors import GraphError
from depthscale.graph import Graph, Node, Op, edit, ops
from depthscale.grow.live import Edit, Source, Take
from depthscale.grow.spaces import Index, Label, Spaces

_OWN = ("weight", "bias", "running_mean", "running_var")  # what lies along a keeper's or maker's units


def free_layers(graph: Graph) -> list[str]:
    """Layers whose width can be edited, one for every space of units that are edited together."""
    return Spaces(graph).free()


def widen(
    graph: Graph, layer: str, units: int, *, seed: int = 0, copied: Sequence[int] | None = None, tilt: float = 0.0
) -> Edit:
    """The edit that gives a layer (and all that share its units) ``units`` of them, the function unchanged.

    New units are copies of old ones: of those in ``copied`` (indices, one per new unit), else of ones drawn at random.
    ``tilt`` > 0 lets copies be heard differently: noise of that many root mean squares that sums to zero over the
    copies of a unit. Exact in evaluation, and in training wherever nothing random (dropout) acts on the copies. Raises
    GraphError for a layer whose width cannot change (the reason is said), for fewer units than there are, and for a
    number that groups or an average over the units do not allow.
    """
    spaces = Spaces(graph)
    at = spaces.of(layer)
    have = spaces.space(at).size
    if not isinstance(units, int) or units <= have:
        raise GraphError(
            f"expected more units than the {have} that {layer!r} has, got {units!r}; narrow takes some away"
        )
    if copied is None:
        index = _multiplied(spaces, at, layer, units, seed)
    else:
        chosen = np.asarray(list(copied), dtype=np.intp)
        if len(chosen) != units - have or len(chosen) == 0 or chosen.min() < 0 or chosen.max() >= have:
            raise GraphError(f"expected {units - have} indices of units below {have} to copy, got {list(copied)}")
        index = _with_copies(spaces, at, layer, chosen)
    return _resized("widen", spaces, layer, at, index, tilt=tilt)


def split(graph: Graph, layer: str, units: Sequence[int], *, tilt: float = 0.5) -> Edit:
    """The edit that makes two of each of these units: both compute the same, but are heard differently.

    What reads the pair sums to what read the one, so the function stays; ``tilt`` as in ``widen``, so that their
    gradients differ and they part ways. Raises GraphError as ``widen`` does.
    """
    have = Spaces(graph).space(Spaces(graph).of(layer)).size
    chosen = [int(u) for u in units]
    made = widen(graph, layer, have + len(chosen), copied=chosen, tilt=tilt)
    return replace(made, kind="split", where=f"{layer}: {have} → {have + len(chosen)} units")


def _multiplied(spaces: Spaces, at: int, layer: str, units: int, seed: int) -> Index:
    """Every unit, and copies drawn as evenly as possible, the same in every group."""
    space = spaces.space(at)
    have, wanted = space.size // space.groups, units // space.groups
    if units % space.groups:
        raise GraphError(
            f"expected a multiple of {space.groups} units for {layer!r}, which come in groups, got {units}"
        )
    if space.even and wanted % have:
        raise GraphError(
            f"expected a multiple of the {space.size} units of {layer!r}, got {units}: {space.even}, so the function "
            "stays only where all are copied alike"
        )
    rng = np.random.default_rng(seed)
    rounds, rest = divmod(wanted - have, have)
    chosen = np.concatenate([np.tile(np.arange(have), rounds), rng.permutation(have)[:rest]])
    return spaces.spread(at, np.concatenate([np.arange(have), chosen]).astype(np.intp))


def _with_copies(spaces: Spaces, at: int, layer: str, chosen: Index) -> Index:
    """Every unit, and copies of those chosen at the end of their groups."""
    space = spaces.space(at)
    each = space.size // space.groups
    parts = []
    for g in range(space.groups):
        own = chosen[(chosen >= g * each) & (chosen < (g + 1) * each)]
        parts += [np.arange(g * each, (g + 1) * each), own]
    index = np.concatenate(parts).astype(np.intp)
    if spaces.grouped(at, index) is None:
        raise GraphError(
            f"expected the same units of each of the {space.groups} groups of {layer!r}, got {list(chosen)}"
        )
    if space.even and len(set(np.bincount(index, minlength=space.size).tolist())) > 1:
        raise GraphError(
            f"expected all units of {layer!r} to be copied alike, got {list(chosen)}: {space.even}, so other copies "
            "would change the function"
        )
    return index


def add_units(
    graph: Graph, layer: str, count: int, *, rows: Mapping[str, Tensor] | None = None, zero: bool = True
) -> Edit:
    """The edit that gives a layer ``count`` new units that nobody hears yet, so that the function stays.

    They read by the layer's law, or by ``rows``: by the name of
    a layer that makes them, (count, *of one row of its weight). With ``zero=False`` they
    are heard by the readers' laws at once, and the function changes. Raises GraphError for a layer whose width cannot
    change, and where an average over the units would hear them.
    """
    spaces = Spaces(graph)
    at = spaces.of(layer)
    space = spaces.space(at)
    if not isinstance(count, int) or count < 1 or count % space.groups:
        kind = "" if space.groups == 1 else f" that is a multiple of {space.groups}"
        raise GraphError(f"expected a number of new units of {layer!r}{kind}, at least 1, got {count!r}")
    if space.even:
        raise GraphError(
            f"new units of {layer!r} would change the function: {space.even}; widen it to a multiple of {space.size}"
        )
    local = np.concatenate([np.arange(space.size // space.groups), np.full(count // space.groups, -1)])
    return _resized("add", spaces, layer, at, spaces.spread(at, local.astype(np.intp)), rows=rows, zero=zero)


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
    if spaces.grouped(at, index) is None:
        raise GraphError(
            f"expected the same units of each of the {spaces.space(at).groups} groups of {layer!r}, "
            f"got {index.tolist()}"
        )
    return _resized("narrow", spaces, layer, at, index)


def _resized(
    kind: str,
    spaces: Spaces,
    layer: str,
    at: int,
    index: Index,
    *,
    tilt: float = 0.0,
    rows: Mapping[str, Tensor] | None = None,
    zero: bool = True,
) -> Edit:
    op, sources = changes(spaces, at, index, tilt=tilt, rows=rows, zero=zero)
    where = f"{layer}: {spaces.space(at).size} → {len(index)} units"
    return Edit(kind, where, edit.map_ops(spaces.graph, op), sources)


def changes(
    spaces: Spaces,
    at: int,
    index: Index,
    *,
    tilt: float = 0.0,
    rows: Mapping[str, Tensor] | None = None,
    zero: bool = True,
) -> tuple[Callable[[Node], Op], dict[str, Source]]:
    """The new op of every node, and where parameters come from, when the units of a space become those at ``index``.

    A unit that is there k times counts a k-th where it is read.
    """
    graph, space = spaces.graph, spaces.space(at)
    counts = np.bincount(index[index >= 0], minlength=space.size)
    copies = np.ones(max(len(index), 1))
    copies[: len(index)] = np.where(index >= 0, counts[index], 1)
    takes: dict[str, list[Take]] = {}

    def own(node: str, label: Label) -> None:
        old, unit = spaces.entries(label, at, index)
        steps = np.where(unit >= 0, copies[unit], 1.0)
        for name in _OWN:
            fill: Tensor | str = rows[node] if rows is not None and name == "weight" and node in rows else "draw"
            takes.setdefault(f"{node}.{name}", []).append(Take(0, old, steps=steps, fill=fill))

    for maker in space.makers:
        own(maker, ((at, 1),))
    for keeper in space.keepers:
        own(keeper, spaces.kept[keeper])
    for reader in space.readers:
        old, unit = spaces.entries(spaces.read[reader], at, index)
        groups = getattr(graph[reader].op, "groups", 1)
        old, unit = old[: len(old) // groups], unit[: len(unit) // groups]  # of the first; the others take the same
        shares = np.where(unit >= 0, copies[unit], 1.0)
        fill = "zero" if zero else "draw"
        takes.setdefault(f"{reader}.weight", []).append(Take(1, old, shares=shares, fill=fill, tilt=tilt))

    def op(node: Node) -> Any:
        if node.name in space.makers:
            size = "out_features" if isinstance(node.op, ops.Linear) else "out_channels"
            return replace(node.op, **{size: len(index)})
        if node.name in space.keepers and isinstance(node.op, ops.Conv):
            n = len(spaces.entries(spaces.kept[node.name], at, index)[0])
            return replace(node.op, out_channels=n, groups=n)
        return node.op

    return op, {name: Source(tuple(found)) for name, found in takes.items()}
