"""Random graphs: the same for a seed, and with the statistics of the models they are named after."""

import hashlib
import math

import pytest

from depthscale import zoo
from depthscale.errors import GraphError
from depthscale.graph import ops
from depthscale.zoo.random_wiring import wiring


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        ("ws", "88a3"),
        ("er", "bf0e"),
        ("ba", "5880"),
    ],
)
def test_the_same_seed_gives_the_same_graph_for_ever(kind: str, digest: str) -> None:
    edges = wiring(kind, 32, 5)
    assert edges == wiring(kind, 32, 5)
    assert edges != wiring(kind, 32, 6)
    assert hashlib.sha256(repr(edges).encode()).hexdigest()[:4] == digest


def degrees(edges: list[tuple[int, int]], nodes: int) -> list[int]:
    return [sum(v in edge for edge in edges) for v in range(nodes)]


def test_watts_strogatz_without_rewiring_is_a_ring() -> None:
    edges = wiring("ws", 10, 0, (4, 0.0))
    assert degrees(edges, 10) == [4] * 10
    assert all(min(b - a, 10 - b + a) in (1, 2) for a, b in edges)


def test_watts_strogatz_keeps_its_edges_and_rewires_the_given_fraction() -> None:
    kept = []
    for seed in range(200):
        edges = wiring("ws", 32, seed, (4, 0.75))
        assert len(set(edges)) == 64
        assert all(a < b for a, b in edges)
        kept.append(sum(min(b - a, 32 - b + a) in (1, 2) for a, b in edges) / 64)
    mean, error = sum(kept) / 200, math.sqrt(0.25 * 0.75 / 64 / 200)
    # an edge stays with probability 1/4; a rewired one lands on a free place of the ring with one of a few per cent
    assert 0.25 - 4 * error < mean < 0.25 + 0.75 * 4 / 28


def test_erdos_renyi_has_the_expected_number_of_edges() -> None:
    counts = [len(wiring("er", 32, seed, (0.2,))) for seed in range(200)]
    possible = 32 * 31 / 2
    assert sum(counts) / 200 == pytest.approx(0.2 * possible, abs=4 * math.sqrt(possible * 0.16 / 200))
    assert wiring("er", 6, 0, (1.0,)) == [(a, b) for a in range(6) for b in range(a + 1, 6)]


def test_barabasi_albert_prefers_those_who_have() -> None:
    rich = poor = 0.0
    for seed in range(50):
        edges = wiring("ba", 60, seed, (3,))
        assert len(set(edges)) == 3 * (60 - 3)
        degree = degrees(edges, 60)
        assert min(degree) >= 3 or min(degree[:3]) >= 1
        rich += sum(degree[:6]) / 6 / 50
        poor += sum(degree[-20:]) / 20 / 50
    assert rich > 3 * poor


def test_a_stage_reads_its_input_at_stride_two_and_averages_its_ends() -> None:
    graph = zoo.randomly_wired("ws", 3, nodes=8, image_size=64, small=False)
    edges = wiring("ws", 8, 3000)
    shapes = graph.shapes()
    starts = {v for v in range(8) if all(b != v for _, b in edges)}
    ends = {v for v in range(8) if all(a != v for a, _ in edges)}
    strided = {
        int(n.name.split(".")[1][4:]) - 1
        for n in graph.nodes
        if n.name.startswith("stage1.node") and isinstance(n.op, ops.Conv) and n.op.stride == (2, 2)
    }
    assert strided == starts
    gates = [n for n in graph.nodes if n.name.startswith("stage1.") and isinstance(n.op, ops.Parameter)]
    assert len(gates) == len(edges)
    if len(ends) > 1:
        assert graph["stage1.affine1" if "stage1.affine1" in graph.by_name else "stage1.act1"].op.given == {
            "scale": 1 / len(ends)
        }
    assert [shapes[f"stage{i}.node1.norm1"][2] for i in (1, 2, 3)] == [8, 4, 2]


@pytest.mark.parametrize(
    ("kind", "parameters", "nodes"),
    [("ws", (3, 0.5), 32), ("ws", (4, 1.5), 32), ("ws", (4, 0.5), 4), ("er", (2.0,), 32), ("ba", (0,), 32),
     ("ba", (32,), 32), ("xx", (), 32), ("ws", (), 1)],
)  # fmt: skip
def test_bad_parameters(kind: str, parameters: tuple[float, ...], nodes: int) -> None:
    with pytest.raises(GraphError, match="expected"):
        wiring(kind, nodes, 0, parameters)
