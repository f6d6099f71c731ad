"""Keys of graphs made of equal parts: whatever their order the key is one; tied parts that differ in wiring are not."""

import random

import pytest

from depthscale.graph import Builder, Graph, Node, ops
from depthscale.graph.canonical import _Refiner


def twins(depth: int, branches: int) -> Graph:
    """``depth`` blocks of equal parallel branches, summed."""
    net = Builder()
    x = net.input(4)
    for _ in range(depth):
        ends = [x.then(ops.Linear(4)).then(ops.Activation("tanh")) for _ in range(branches)]
        x = ends[0].then(ops.Add(), *ends[1:])
    return net.graph(x)


def shuffled(graph: Graph, seed: int) -> Graph:
    order = random.Random(seed)
    names = {n.name: f"n{i}" for i, n in enumerate(order.sample(list(graph.nodes), len(graph)))}
    nodes = []
    for node in graph.nodes:
        inputs = [names[i] for i in node.inputs]
        if node.op.commutative:
            order.shuffle(inputs)
        nodes.append(Node(names[node.name], node.op, tuple(inputs)))
    order.shuffle(nodes)
    return Graph(tuple(nodes), tuple(names[o] for o in graph.outputs))


@pytest.mark.parametrize(("depth", "branches"), [(1, 2), (6, 2), (3, 5)])
def test_key_of_equal_branches_knows_no_order(depth: int, branches: int) -> None:
    graph = twins(depth, branches)
    assert {shuffled(graph, seed).key for seed in range(5)} == {graph.key}


def test_equal_branches_need_no_search() -> None:
    refiner = _Refiner(twins(15, 3), True)
    colours = refiner.tell_parts_apart(refiner.refine(refiner.start))
    assert len(set(colours)) == len(colours)


def crossed(cross: bool) -> Graph:
    """Two branches that join twice; ``cross`` exchanges one wire between them, which no colouring sees."""
    net = Builder()
    x = net.input(4)
    tops = [x.then(ops.Linear(4)) for _ in range(4)]  # a ring of four sums, or two rings of two
    pairs = [(0, 1), (1, 2), (2, 3), (3, 0)] if cross else [(0, 1), (0, 1), (2, 3), (2, 3)]
    sums = [tops[i] + tops[j] for i, j in pairs]
    return net.graph(sums[0].then(ops.Add(), *sums[1:]))


def test_tied_parts_with_other_wiring_have_other_keys() -> None:
    keys = {cross: {shuffled(crossed(cross), seed).key for seed in range(6)} for cross in (False, True)}
    assert len(keys[False]) == len(keys[True]) == 1
    assert keys[False] != keys[True]


def test_order_in_a_concat_is_no_symmetry() -> None:
    def joined(first: str, second: str) -> Graph:
        net = Builder()
        x = net.input(4)
        branches = [x.then(ops.Linear(4)).then(ops.Activation(f)) for f in ("tanh", "tanh", "relu")]
        named = {"a": branches[0], "b": branches[1], "c": branches[2]}
        return net.graph(named[first].then(ops.Concat(), named[second], named["c"]))

    assert joined("a", "b").key == joined("b", "a").key  # the same graph: a and b differ in nothing
    assert joined("a", "c").key != joined("c", "a").key


def test_parts_that_share_parameters_are_not_swapped_alone() -> None:
    def network(names: tuple[str, ...]) -> Graph:
        net = Builder()
        x = net.input(4)
        ends = [x.then(ops.Linear(4, shared=n)) for n in names]
        return net.graph(ends[0].then(ops.Add(), *ends[1:]))

    assert network(("p", "p", "q", "q")).key == network(("q", "p", "q", "p")).key
    assert network(("p", "p", "q", "q")).key != network(("p", "p", "p", "q")).key
