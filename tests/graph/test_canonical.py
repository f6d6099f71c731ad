"""The key: the same under renaming and reordering, different under any real change."""

import itertools
import random
from dataclasses import fields, replace

import networkx as nx
import pytest
from hypothesis import given, settings, strategies as st

from depthscale import zoo
from depthscale.graph import Graph, Node, canonical_key, edit, laws, ops
from tests.strategies import graphs

RELU = ops.Activation("relu")


def disguised(graph: Graph, seed: int) -> Graph:
    """The same network with other names, another node order, and sums written the other way round."""
    rng = random.Random(seed)
    names = {n.name: f"n{i}" for i, n in enumerate(rng.sample(graph.nodes, len(graph)))}
    nodes, left = [], list(graph.nodes)
    done: set[str] = set()
    while left:
        node = rng.choice([n for n in left if set(n.inputs) <= done])
        left.remove(node)
        done.add(node.name)
        inputs = [names[i] for i in node.inputs]
        if node.op.commutative:
            rng.shuffle(inputs)
        nodes.append(Node(names[node.name], node.op, tuple(inputs)))
    return Graph(tuple(nodes), tuple(names[o] for o in graph.outputs), tuple(names[i] for i in graph.inputs))


@settings(deadline=None, max_examples=60)
@given(graphs(), st.integers(0, 2**16))
def test_key_ignores_names_and_order(graph, seed):
    assert disguised(graph, seed).key == graph.key


@settings(deadline=None, max_examples=60)
@given(graphs(), st.data())
def test_key_changes_with_any_op(graph, data):
    node = data.draw(st.sampled_from([n for n in graph.nodes if n.inputs]))
    changed = Graph(
        tuple(replace(n, op=_other(n.op)) if n is node else n for n in graph.nodes), graph.outputs, graph.inputs
    )
    assert changed.key != graph.key


def _other(op):
    """The op with one field changed (or another op of the same arity)."""
    if isinstance(op, ops.Activation):
        return ops.Activation("sin")
    for f in fields(op):
        value = getattr(op, f.name)
        if isinstance(value, laws.Law):
            return replace(op, **{f.name: laws.Normal(0.123)})
        if isinstance(value, float) and f.name in ("eps", "p", "value"):
            return replace(op, **{f.name: value / 2 + 1e-3})
        if f.name == "axis" and isinstance(value, int):
            return replace(op, axis=value + 1)
        if f.name in ("ceil",):
            return replace(op, ceil=not value)
        if f.name in ("stop", "factors", "start"):
            return replace(op, **{f.name: 7 if isinstance(value, int | None) else (3, 3)})
    return ops.Multiply() if isinstance(op, ops.Add) else ops.Add() if isinstance(op, ops.Multiply) else ops.Softmax(0)


@settings(deadline=None, max_examples=60)
@given(graphs(), st.data())
def test_key_changes_with_any_edge(graph, data):
    """Feeding an input from another node gives another key unless the graphs are isomorphic (networkx decides)."""
    node = data.draw(st.sampled_from([n for n in graph.nodes if n.inputs]))
    before = [n.name for n in itertools.takewhile(lambda n: n is not node, graph.nodes)]
    inputs = list(node.inputs)
    inputs[data.draw(st.integers(0, len(inputs) - 1))] = data.draw(st.sampled_from(before))
    changed = Graph(
        tuple(replace(n, inputs=tuple(inputs)) if n is node else n for n in graph.nodes), graph.outputs, graph.inputs
    )
    assert (changed.key == graph.key) == isomorphic(changed, graph)


def isomorphic(a: Graph, b: Graph) -> bool:
    """An independent judge: networkx's VF2 on the labelled multigraph."""

    def picture(graph: Graph) -> nx.MultiDiGraph:
        g = nx.MultiDiGraph()
        for n in graph.nodes:
            place = (graph.inputs.index(n.name) if n.name in graph.inputs else -1, [o == n.name for o in graph.outputs])
            g.add_node(n.name, label=repr((n.op, place)))
            for i, source in enumerate(n.inputs):
                g.add_edge(source, n.name, place=0 if n.op.commutative else i)
        return g

    def edges_match(x, y):
        return sorted(e["place"] for e in x.values()) == sorted(e["place"] for e in y.values())

    return nx.is_isomorphic(picture(a), picture(b), lambda x, y: x["label"] == y["label"], edges_match)


def pairs_graph(pairs) -> Graph:
    """Equal branches summed in pairs, the pair sums summed: a graph whose symmetries colours alone cannot split."""
    units = sorted({u for pair in pairs for u in pair})
    nodes = [Node("x", ops.Input((4,)))]
    nodes += [Node(f"b{u}", ops.Linear(4), ("x",)) for u in units]
    nodes += [Node(f"s{i}", ops.Add(), (f"b{a}", f"b{b}")) for i, (a, b) in enumerate(pairs)]
    nodes += [Node(f"r{i}", RELU, (f"s{i}",)) for i in range(len(pairs))]
    nodes += [Node("out", ops.Add(), tuple(f"r{i}" for i in range(len(pairs))))]
    return Graph(tuple(nodes))


def test_one_six_cycle_is_not_two_three_cycles():
    hexagon = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0)]
    triangles = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)]
    a, b = pairs_graph(hexagon), pairs_graph(triangles)
    assert a.key != b.key
    assert all(disguised(g, s).key == g.key for g in (a, b) for s in range(5))


def test_many_equal_branches_are_quick_and_right():
    wide = [Node("x", ops.Input((4,)))] + [Node(f"b{i}", ops.Linear(4), ("x",)) for i in range(24)]
    graph = Graph((*wide, Node("out", ops.Add(), tuple(f"b{i}" for i in range(24)))))
    fewer = Graph((*wide[:-1], Node("out", ops.Add(), tuple(f"b{i}" for i in range(23)))))
    assert disguised(graph, 1).key == graph.key != fewer.key


def test_one_branch_used_twice_is_not_two_equal_branches():
    x, a, b = Node("x", ops.Input((4,))), Node("a", ops.Linear(4), ("x",)), Node("b", ops.Linear(4), ("x",))
    once = Graph((x, a, Node("y", ops.Add(), ("a", "a"))))
    twice = Graph((x, a, b, Node("y", ops.Add(), ("a", "b"))))
    assert once.key != twice.key


def test_sharing_is_structure_and_its_name_is_not():
    def net(*shared):
        nodes = [Node("x", ops.Input((4,)))]
        for i, s in enumerate(shared):
            nodes.append(Node(f"l{i}", ops.Linear(4, shared=s), (nodes[-1].name,)))
        return Graph(tuple(nodes))

    assert net("a", "b", "a").key == net("u", "v", "u").key
    assert (
        len({net(None, None, None).key, net("a", "a", None).key, net("a", None, "a").key, net("a", "a", "a").key}) == 4
    )


def test_the_order_of_operands_counts_where_it_matters():
    x, a = Node("x", ops.Input((4,))), Node("a", RELU, ("x",))
    for op, same in ((ops.Subtract(), False), (ops.Concat(), False), (ops.Add(), True)):
        one, other = Graph((x, a, Node("y", op, ("x", "a")))), Graph((x, a, Node("y", op, ("a", "x"))))
        assert (one.key == other.key) is same


def test_laws_can_be_left_out_but_which_parameters_exist_cannot():
    he, lecun = zoo.mlp((8, 8, 2), weight=laws.HE), zoo.mlp((8, 8, 2), weight=laws.LECUN, first=laws.HE)
    assert he.key != lecun.key
    assert canonical_key(he, laws=False) == canonical_key(lecun, laws=False)
    bare = edit.replace(he, "layer1.linear1", ops.Linear(8, laws.HE, None))
    assert canonical_key(bare, laws=False) != canonical_key(he, laws=False)


@pytest.mark.parametrize("make", [zoo.lenet5, lambda: zoo.resnet(18), lambda: zoo.vgg(11)])
def test_named_networks_keep_their_key(make):
    graph = make()
    assert disguised(graph, 3).key == graph.key
