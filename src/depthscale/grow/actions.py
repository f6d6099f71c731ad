"""What schedules do to a network: grow it to a size, prune it to a size, turn a share of it over."""

from collections.abc import Mapping, Sequence

import numpy as np

from depthscale.graph import Graph
from depthscale.grow.edits import add_units, narrow
from depthscale.grow.policies.policy import Grow, Proposal, Prune
from depthscale.grow.spaces import Spaces
from depthscale.grow.training import Training
from depthscale.grow.units import Units

LEAST = 2  # units that a layer keeps
_MOST = 1.0  # units that one event gives a layer at most, as a share of those it has
_ROUNDS = 4


def grow_to(training: Training, parameters: int, policy: Grow, *, most: float = _MOST) -> None:
    """Grow to at most so many parameters, where the policy expects most for each of them."""
    for _ in range(_ROUNDS):
        room = parameters - training.graph.cost().parameters
        wanted = _wanted(training.graph, room, most)
        if not wanted:
            return
        proposals = policy(training, wanted)
        if not _apply(training, proposals, parameters):
            return


def _wanted(graph: Graph, room: float, most: float) -> dict[str, int]:
    """How many new units each layer may get: a share of those it has, and what there is room for."""
    units = Units(graph)
    found = {}
    for layer in units.layers:
        groups = units.groups(layer)
        count = min(int(most * units.size(layer)), int(room / max(units.cost(layer).parameters, 1.0)))
        if units.grows(layer) and room > 0 and count // groups:
            found[layer] = count // groups * groups
    return found


def _apply(training: Training, proposals: Sequence[Proposal], parameters: int) -> bool:
    """Take the best by gain per parameter until there is no room; whether anything was done."""
    room = float(parameters - training.graph.cost().parameters)
    ranked = sorted(
        ((gain / max(p.parameters, 1.0), i) for i, p in enumerate(proposals) for gain in p.gains), reverse=True
    )
    counts = dict.fromkeys(range(len(proposals)), 0)
    for _, i in ranked:
        if proposals[i].parameters <= room:
            counts[i] += 1
            room -= proposals[i].parameters
    done = False
    for i, count in counts.items():
        p = proposals[i]
        if count and p.edit is not None and p.edit.graph.cost().parameters <= parameters and not done:
            training.edit(p.edit)  # made for the graph as it was, so the first alone can be
            return True
    for i, count in counts.items():
        p = proposals[i]
        if count and p.layer:
            done = _add(training, p, count, parameters) or done
    return done


def _add(training: Training, proposal: Proposal, count: int, parameters: int) -> bool:
    """Add the first units of a proposal, fewer where layers that grew meanwhile made them dearer."""
    units = Units(training.graph)
    groups = units.groups(proposal.layer)
    each = len(proposal.gains)
    while count:
        rows = {}
        for maker, values in proposal.rows.items():
            if values.shape[1:] == training.live.module.get_parameter(f"{maker}.weight").shape[1:]:
                rows[maker] = values.reshape(groups, each, *values.shape[1:])[:, :count].flatten(0, 1)
        change = add_units(training.graph, proposal.layer, count * groups, rows=rows)
        if change.graph.cost().parameters <= parameters:
            training.edit(change)
            return True
        count -= max(1, count // 8)
    return False


def shrink_to(training: Training, parameters: int, policy: Prune, *, least: int = LEAST) -> None:
    """Prune whole units down to at most so many parameters, those least important for their cost first."""
    if training.graph.cost().parameters <= parameters:
        return
    scores = policy(training)
    units = Units(training.graph)
    order: list[tuple[float, str, int]] = []
    for layer in units.layers:
        sets = units.together(layer, np.asarray(scores[layer], dtype=float))
        price = max(units.cost(layer).parameters * units.groups(layer), 1.0)
        order += [(float(s) / price, layer, k) for k, s in enumerate(sets)]
    order.sort()
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        if _pruned(training.graph, _keep(units, order[:middle], least)).cost().parameters <= parameters:
            high = middle
        else:
            low = middle + 1
    for layer, kept in _keep(units, order[:low], least).items():
        if len(kept) < units.size(layer):
            training.edit(narrow(training.graph, layer, kept))


def _keep(units: Units, gone: Sequence[tuple[float, str, int]], least: int) -> dict[str, list[int]]:
    """The units that stay, by layer; the first of those gone go first, until a layer is down to its least."""
    alive: dict[str, list[int]] = {n: list(range(units.size(n) // units.groups(n))) for n in units.layers}
    for _, layer, k in gone:
        if len(alive[layer]) > least:
            alive[layer].remove(k)
    spread = {}
    for n, kept in alive.items():
        local = np.asarray(kept, dtype=np.intp)
        spread[n] = units.spaces.spread(units.spaces.of(n), local).tolist()
    return spread


def _pruned(graph: Graph, keep: Mapping[str, list[int]]) -> Graph:
    for layer, kept in keep.items():
        spaces = Spaces(graph)
        if len(kept) < spaces.space(spaces.of(layer)).size:
            graph = narrow(graph, layer, kept).graph
    return graph


def turn_over(training: Training, share: float, prune: Prune, grow: Grow) -> None:
    """Replace this share of the parameters: the least important units go, as much grows where most is expected."""
    size = training.graph.cost().parameters
    shrink_to(training, int((1 - share) * size), prune)
    grow_to(training, size, grow)
