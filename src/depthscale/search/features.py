"""What a predictor is told about a network: paths, depths and sizes, as a short row of numbers.

After the path encoding of White, Neiswanger & Savani 2021 ("BANANAS"), but with paths summed up (how many, how long,
through what) instead of listed, so that the row is as short for a large network as for a cell.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from depthscale.errors import DepthscaleError
from depthscale.graph import Graph, ops
from depthscale.graph.op import Op
from depthscale.search.space import Domain, Script, Space, Value
from depthscale.search.strategies.surrogate import Features
from depthscale.zoo.nasbench201 import OPS, parse

KINDS = (ops.Conv, ops.Linear, ops.MaxPool, ops.AvgPool, ops.Add, ops.Concat, ops.Dropout, ops.BatchNorm, ops.LayerNorm)


def graph_features(graph: Graph) -> np.ndarray:
    """Size, work, depth, kinds of ops, and paths from input to output (how many, how wide the windows on them)."""
    cost = graph.cost()
    reach = graph.fold(_reach)
    paths, widest, narrowest = reach[graph.outputs[0]]
    kinds = Counter(type(n.op) for n in graph.nodes)
    large = sum(isinstance(n.op, ops.Conv) and math.prod(n.op.kernel) > 1 for n in graph.nodes)
    numbers = [cost.parameters, cost.multiply_adds, cost.activation_bytes, cost.depth, widest + 1, narrowest + 1]
    numbers += [large + 1, *(kinds[k] + 1 for k in KINDS)]
    return np.array([*map(math.log, (max(n, 1) for n in numbers)), paths])


def _reach(op: Op, *sources: tuple[float, int, int]) -> tuple[float, int, int]:
    """log of the number of paths that lead here, and the largest and smallest sum of window sides minus 1 on them."""
    kernel = op.kernel if isinstance(op, ops.Conv | ops.MaxPool | ops.AvgPool) else (1,)
    side = max(kernel) - 1
    if not sources:
        return 0.0, 0, 0
    most = max(s[0] for s in sources)
    paths = most + math.log(sum(math.exp(s[0] - most) for s in sources))
    return paths, max(s[1] for s in sources) + side, min(s[2] for s in sources) + side


@lru_cache(maxsize=20_000)
def cell_features(cell: str) -> np.ndarray:
    """The same of one cell of NAS-Bench-201: its four paths, and the operations on them; from the string alone."""
    edges = parse(cell)
    rows = []
    for path in ((3,), (0, 4), (1, 5), (0, 2, 5)):
        along = Counter(edges[i] for i in path)
        open_ = along["none"] == 0
        rows.append([open_ * n for n in (1, along["nor_conv_3x3"], along["nor_conv_1x1"], along["avg_pool_3x3"])])
    paths, large, small, pools = np.array(rows, dtype=float).T
    through = [paths.sum(), large.max(), large.sum(), small.sum(), small.max(), pools.sum(), pools.min()]
    return np.array([*through, (large + small).max(), *(float(edges.count(op)) for op in OPS)])


def of_decisions(space: Space, most: int = 5_000) -> Features:
    """Features by decisions: those of the space's own, or of the graph; None where the decisions make no network.

    Decisions that are missing are drawn as a fixed generator would, so that the answer depends on the decisions alone.
    """
    known: dict[tuple[tuple[str, Value], ...], np.ndarray | None] = {}

    def features(decisions: Mapping[str, Value]) -> np.ndarray | None:
        point = tuple(sorted(decisions.items()))
        if point not in known:
            if len(known) >= most:
                known.clear()
            known[point] = _features(space, decisions)
        return known[point]

    return features


def _features(space: Space, decisions: Mapping[str, Value]) -> np.ndarray | None:
    rng = np.random.default_rng(0)

    def rest(name: str, domain: Domain) -> Value:
        return domain.draw(rng)

    try:
        found = space.draw(Script(decisions, rest)).architecture
        return space.features(found) if space.features is not None else graph_features(space.graph(found))
    except DepthscaleError:
        return None


def scores_of_decisions(space: Space, names: Sequence[str], most: int = 5_000) -> Features:
    """Scores without training by decisions, one column each; None where the decisions make no network."""
    from depthscale.search.scores import score

    def scored(architecture: Any) -> np.ndarray:
        found = score(space.graph(architecture), names)
        return np.array([found[n] if math.isfinite(found[n]) else -1e30 for n in names])

    return of_decisions(replace(space, features=scored, _keys={}), most)
