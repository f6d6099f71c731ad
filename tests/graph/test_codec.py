"""JSON: equal graphs come back, and nothing else is accepted."""

import json

import pytest
from hypothesis import given, settings, strategies as st

from depthscale import zoo
from depthscale.errors import GraphError
from depthscale.graph import Graph, Node, ops
from tests.strategies import graphs

TEXT = zoo.lenet5().to_json()


@settings(deadline=None, max_examples=80)
@given(graphs())
def test_a_graph_comes_back_equal(graph):
    assert Graph.from_json(graph.to_json()) == graph


@pytest.mark.parametrize(
    "make", [zoo.lenet5, lambda: zoo.resnet(50), lambda: zoo.mlp((8, 8, 2), "gelu", residual=True)]
)
def test_named_networks_come_back_equal(make):
    assert Graph.from_json(make().to_json()) == make()


def test_every_op_comes_back_equal():
    for cls in ops.OPS.values():
        given_ = {"out_features": 3, "out_channels": 4, "entries": 7, "width": 5}
        op = cls(**{k: v for k, v in given_.items() if k in cls.__dataclass_fields__})
        least = op.inputs_wanted[0]
        sources = tuple(Node(f"x{i}", ops.Input((1,))) for i in range(least))
        graph = Graph((*sources, Node("y", op, tuple(n.name for n in sources))), outputs=("y",))
        assert Graph.from_json(graph.to_json()) == graph, cls


def test_infinite_parameters_survive():
    graph = Graph((Node("x", ops.Input((1,))), Node("y", ops.Activation("clamp", (("min", 0.0),)), ("x",))))
    assert "Infinity" not in graph.to_json()
    assert Graph.from_json(graph.to_json()) == graph


@given(st.integers(0, len(TEXT) - 4))
def test_text_cut_off_anywhere_is_a_clear_error(length):
    with pytest.raises(GraphError, match="cut off"):
        Graph.from_json(TEXT[:length])


def change(**fields):
    return json.dumps({**json.loads(TEXT), **fields})


def change_node(i, **fields):
    data = json.loads(TEXT)
    data["nodes"][i].update(fields)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "schema 'depthscale.graph'"),
        ("3", "schema"),
        ("[" * 100_000, "not JSON"),
        ('{"a": NaN}', "finite numbers"),
        (change(version=2), "version 1, got 2.*depthscale version that wrote it"),
        (change(version="1"), "version 1"),
        (change(schema="x"), "schema"),
        (change(nodes=3), "'nodes' to be a list"),
        (change(nodes=[3]), "node with a name, got 3"),
        (change(nodes=[]), "at least one node"),
        (change(outputs="x"), "'outputs' to be a list of names"),
        (change(extra=1), "no field 'extra'"),
        (change_node(1, op="Convv"), "node 'c1.conv1': expected a known op, got 'Convv'"),
        (change_node(1, op=None), "known op"),
        (change_node(1, stride="two"), "Conv: expected stride to be a list of whole numbers"),
        (change_node(1, stride=[True, True]), "stride"),
        (change_node(1, out_channels=1.5), "out_channels to be a whole number"),
        (change_node(1, out_channels=-1), "at least 1, got -1"),
        (change_node(1, weight={"law": "Cauchy"}), "known law, got 'Cauchy'"),
        (change_node(1, weight={"law": "Normal", "std": "big"}), "Normal: expected std to be a number"),
        (change_node(1, surprise=1), "no field 'surprise'"),
        (change_node(1, inputs=["c1.conv1"]), "cycle"),
        (change_node(1, inputs=["nowhere"]), "nowhere"),
        (change_node(1, name="../etc"), "letters, digits"),
        (change_node(1, name="input"), "'input' twice"),
    ],
)
def test_hostile_json_is_a_clear_error(text, message):
    with pytest.raises(GraphError, match=message):
        Graph.from_json(text)


def test_a_missing_field_is_named():
    data = json.loads(TEXT)
    del data["nodes"][1]["out_channels"]
    with pytest.raises(GraphError, match="expected a field 'out_channels'"):
        Graph.from_json(json.dumps(data))
