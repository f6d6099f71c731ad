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
    along = [[edges[i] for i in path] for path in ((3,), (0, 4), (1, 5), (0, 2, 5))]
    along = [path for path in along if "none" not in path]
    shut = 4 - len(along)  # paths that nothing passes count nothing
    large, small, pools = (
        [path.count(op) for path in along] + [0] * shut for op in ("nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
    )
    through = [len(along), max(large), sum(large), sum(small), max(small), sum(pools), min(pools)]
    windows = max(a + b for a, b in zip(large, small, strict=True))
    return np.array([*through, windows, *(edges.count(op) for op in OPS)], dtype=float)


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
    fixed: list[np.random.Generator] = []  # made where it is needed, for making one takes as long as all the rest

    def rest(name: str, domain: Domain) -> Value:
        if not fixed:
            fixed.append(np.random.default_rng(0))
        return domain.draw(fixed[0])

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
