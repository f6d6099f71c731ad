"""Canonical forms of NAS-Bench-101 cells, and the count of all different ones: 423,624.

Two cells are the same where a renumbering of the inner vertices turns one into the other. The form of a cell is the
least code over all renumberings: first that of its edges (a bit each), then, among the renumberings that reach it,
that of its operations (base three). At most 5! renumberings exist, so all are tried; counting does the edges of all
matrices at once and the operations once per unlabelled form.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Wire, ops
from depthscale.zoo.nasbench101 import MOST_EDGES, MOST_VERTICES, OPS, Cell

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]  # codes stay below 2^42, which doubles hold exactly and multiply fast


@lru_cache(maxsize=8)
def _weights(vertices: int) -> tuple[Floats, Ints, Ints]:
    """Per renumbering: the weight of every edge's bit (E, P), and of every operation's digit (k, P); edges (E, 2)."""
    inner = range(1, vertices - 1)
    edges = np.argwhere(np.triu(np.ones((vertices, vertices)), 1))  # (E, 2)
    bits, digits = [], []
    for order in permutations(inner):
        new = np.array([0, *order, vertices - 1])  # where each vertex goes
        source, target = new[edges[:, 0]], new[edges[:, 1]]
        # no edge leaves the output or enters the input: (V−1)² places
        bits.append(np.ldexp(1.0, source * (vertices - 1) + target - 1))
        digits.append(3 ** (new[1:-1] - 1))
    return np.array(bits).T, np.array(digits, dtype=np.int64).T.reshape(vertices - 2, len(bits)), edges


def canonical(cell: Cell) -> tuple[int, int, int]:
    """(vertices, edges, operations) as whole numbers, equal exactly for cells that differ in numbering only."""
    size = len(cell.matrix)
    bits, digits, edges = _weights(size)
    there = np.array(cell.matrix)[edges[:, 0], edges[:, 1]]
    codes = there @ bits  # (P,)
    best = codes.min()
    labels = np.array([OPS.index(op) for op in cell.ops], dtype=np.int64) @ digits[:, codes == best]
    return size, int(best), int(labels.min())


def matrices(vertices: int, most_edges: int = MOST_EDGES) -> Iterator[NDArray[np.bool_]]:
    """All edge sets (N, E) in which every vertex lies on a path from input to output, in chunks."""
    if not 2 <= vertices <= MOST_VERTICES:
        raise GraphError(f"expected 2 to {MOST_VERTICES} vertices, got {vertices}")
    _, _, edges = _weights(vertices)
    count = 1 << len(edges)
    for start in range(0, count, 1 << 16):
        numbers = np.arange(start, min(start + (1 << 16), count))
        there = (numbers[:, None] >> np.arange(len(edges)) & 1).astype(bool)
        there = there[there.sum(1) <= most_edges]
        for v in range(vertices):
            # edges run upwards, so an edge in and an edge out for all is a path for all
            if v > 0:
                there = there[there[:, edges[:, 1] == v].any(1)]
            if v < vertices - 1:
                there = there[there[:, edges[:, 0] == v].any(1)]
        yield there


def count_unique(vertices: int) -> int:
    """Number of different cells of exactly this many vertices."""
    bits, digits, _ = _weights(vertices)
    seen: dict[float, NDArray[np.bool_]] = {}
    for there in matrices(vertices):
        for part in np.array_split(there, max(len(there) // 4096, 1)):
            codes = (part.astype(float) @ bits).min(1)
            found, first = np.unique(codes, return_index=True)
            for code, i in zip(found.tolist(), first, strict=True):
                seen.setdefault(code, part[i])
    k = vertices - 2
    labels = np.arange(3**k)[:, None] // 3 ** np.arange(k) % 3  # (3^k, k), every choice of operations
    total = 0
    for code, there in seen.items():
        same = there.astype(float) @ bits == code
        total += len(np.unique((labels @ digits[:, same]).min(1)))
    return total


def cell_graph(cell: Cell) -> Graph:
    """The cell as a small graph whose key ``graph.canonical`` can compare: operations stand in as activations."""
    stand_ins = dict(zip(OPS, ("relu", "tanh", "sigmoid"), strict=True))
    net = Builder()
    values: list[Wire] = [net.input(1)]
    for v in range(1, len(cell.matrix)):
        fed = [values[i] for i in cell.sources(v)]
        y = fed[0] if len(fed) == 1 else fed[0].then(ops.Add(), *fed[1:])
        name = "identity" if v == len(cell.matrix) - 1 else stand_ins[cell.ops[v - 1]]
        values.append(y.then(ops.Activation(name)))
    return net.graph(values[-1])
