"""What a network looks like at one moment, as plain data: its layers' units with who they are, its strongest links."""

from typing import Any

import numpy as np
import torch

from depthscale.graph import Graph, ops
from depthscale.grow.spaces import Spaces
from depthscale.grow.training import Training

COLUMNS, INPUTS = 10, 24  # layers shown, dots for the inputs
FEWEST, MOST = 10, 140  # links between two layers; in between they are as the root of the connections there are


def frame(training: Training, stage: str) -> dict[str, Any]:
    """The moment as it is recorded.

    columns: name, ids of the units (they keep theirs for life), how strong each is (0 to 1); the first are the inputs.
    links: column of the reader, id of the unit read, id of the reading unit, strength.
    """
    graph = training.graph
    spaces = Spaces(graph)
    names = shown(graph)
    named = dict(training.live.module.named_parameters())
    columns: list[dict[str, Any]] = []
    links: list[list[Any]] = []
    for k, name in enumerate(names):
        weight = named[f"{name}.weight"].detach().double()
        sizes = weight.abs().flatten(2).sum(2) if weight.dim() > 2 else weight.abs()  # (out, in)
        table, ids = _read(training, spaces, names, k, sizes.cpu())
        if k == 0:
            columns.append({"name": "data", "ids": list(range(table.shape[1])), "strength": [1.0] * table.shape[1]})
        own = training.who(name, len(table))
        total = table.sum(1)
        columns.append({"name": name, "ids": own, "strength": _rounded(total / max(float(total.max()), 1e-30))})
        if ids is not None:
            some = round(1.2 * np.sqrt(np.count_nonzero(sizes.numpy())))
            order = np.argsort(table, axis=None)[::-1][: min(max(some, FEWEST), MOST)]
            top = max(float(table.max()), 1e-30)
            for at in order:
                j, i = divmod(int(at), table.shape[1])
                if table[j, i] > 0.02 * top:
                    links.append([k + 1, int(ids[i]), int(own[j]), round(float(table[j, i] / top), 2)])
    point = training.points[-1] if training.points else None
    val = {} if point is None else {n: round(v, 5) for n, v in point.val.items()}
    return {
        "stage": stage,
        "used": round(training.used, 4),
        "val": val,
        "parameters": training.live.parameters,
        "columns": columns,
        "links": links,
    }


def shown(graph: Graph) -> list[str]:
    """The layers of a picture: all linear layers and convolutions, evenly thinned where they are many."""
    found = [n.name for n in graph.nodes if isinstance(n.op, ops.Linear | ops.Conv) and len(n.inputs) == 1]
    if len(found) <= COLUMNS:
        return found
    at = np.unique(np.linspace(0, len(found) - 1, COLUMNS).round().astype(int))
    return [found[i] for i in at]


def _read(
    training: Training, spaces: Spaces, names: list[str], k: int, sizes: torch.Tensor
) -> tuple[np.ndarray[Any, Any], list[int] | None]:
    """How strongly each unit reads each unit of the column before: (out, units before), and who those are.

    Nobody where the layer reads no layer that is shown.
    """
    name = names[k]
    label = spaces.read.get(name, ())
    before = names[k - 1] if k else None
    if before is not None and before in spaces.made and label:
        at = spaces.root(spaces.made[before])
        size = spaces.space(at).size
        _, unit = spaces.entries(label, at, np.arange(size))
        if (unit >= 0).any() and len(unit) == sizes.shape[1]:
            table = np.zeros((len(sizes), size))
            np.add.at(table.T, unit[unit >= 0], sizes.numpy().T[unit >= 0])
            return table, training.who(before, size)
    dots = min(INPUTS, sizes.shape[1])
    place = np.arange(sizes.shape[1]) * dots // sizes.shape[1]
    table = np.zeros((len(sizes), dots))
    np.add.at(table.T, place, sizes.numpy().T)
    return table, list(range(dots)) if k == 0 else None


def _rounded(values: np.ndarray[Any, Any]) -> list[float]:
    return [round(float(v), 2) for v in values]
