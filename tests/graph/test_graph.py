"""Graph: order, names, arity, cycles, fold, and what the errors say."""

import itertools
import re

import pytest

from depthscale import zoo
from depthscale.errors import GraphError, MissingRuleError
from depthscale.graph import Builder, Graph, Node, laws, ops
from depthscale.graph.op import Op
from depthscale.graph.rules import Rule

X = Node("x", ops.Input((4,)))


def chain(*names: str) -> tuple[Node, ...]:
    return (X, *(Node(n, ops.Activation("tanh"), (p,)) for p, n in zip(("x", *names), names, strict=False)))


def test_nodes_are_put_in_topological_order():
    nodes = chain("a", "b", "c")
    shuffled = Graph((nodes[3], nodes[1], nodes[2], nodes[0]), outputs=("c",))
    assert [n.name for n in shuffled.nodes] == ["x", "a", "b", "c"]
    assert shuffled == Graph(nodes)


def test_an_order_that_is_topological_is_kept():
    nodes = (X, Node("b", ops.Activation(), ("x",)), Node("a", ops.Activation(), ("x",)))
    assert Graph(nodes).nodes == nodes


def test_a_cycle_is_named_in_the_direction_of_the_data():
    nodes = (
        X,
        Node("a", ops.Add(), ("x", "c")),
        Node("b", ops.Activation(), ("a",)),
        Node("c", ops.Activation(), ("b",)),
    )
    with pytest.raises(GraphError, match="cycle: ") as caught:
        Graph(nodes)
    path = re.search("cycle: (.*)", str(caught.value)).group(1).split(" → ")
    assert path[0] == path[-1]
    edges = {(s, n.name) for n in nodes for s in n.inputs}
    assert all(edge in edges for edge in itertools.pairwise(path))
    assert set(path) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((), "at least one node"),
        ((X, X), "'x' twice"),
        ((Node("a b", ops.Input((1,))),), "letters, digits"),
        ((X, Node("a", ops.Activation(), ("y",))), "'a'.*got 'y'"),
        ((X, Node("a", ops.Activation(), ("x", "x"))), "'a'.*expected 1 input, got 2"),
        ((X, Node("a", ops.Add(), ("x",))), "'a'.*expected 2 or more inputs, got 1"),
        ((X, Node("x.a", ops.Activation(), ("x",))), "not also scopes.*'x' beside 'x.a'"),
        ((X, Node("w", ops.Linear(3, weight=None), ("x",))), "expected 2 inputs, got 1"),
    ],
)
def test_malformed_graphs_say_what_is_wrong(nodes, message):
    with pytest.raises(GraphError, match=message):
        Graph(nodes)


def test_unknown_outputs_and_inputs_are_refused():
    with pytest.raises(GraphError, match="output.*'z'"):
        Graph((X,), outputs=("z",))
    with pytest.raises(GraphError, match="inputs to list"):
        Graph((X,), inputs=("z",))


def test_fold_visits_in_order_and_names_the_node_in_errors():
    graph = Graph(chain("a", "b"))
    assert graph.fold(lambda op, *v: 1 + max(v, default=0)) == {"x": 1, "a": 2, "b": 3}

    def fails(op, *values):
        if isinstance(op, ops.Activation):
            raise GraphError("no good")
        return 0

    with pytest.raises(GraphError, match=r"^node 'a': no good$"):
        graph.fold(fails)


def test_a_missing_rule_names_op_rule_and_file():
    count = Rule("count", "somewhere.py")
    count.register(ops.Input)(lambda op: 0)
    with pytest.raises(MissingRuleError, match=r"node 'a'.*count rule for op Activation.*somewhere\.py"):
        Graph(chain("a")).fold(count)
    with pytest.raises(GraphError, match="second one for Input"):
        count.register(ops.Input)(lambda op: 1)


def test_graphs_are_hashable_values():
    assert zoo.lenet5() == zoo.lenet5()
    assert len({zoo.lenet5(), zoo.lenet5(), zoo.lenet5(num_classes=7)}) == 2


def test_builder_names_by_kind_and_scope_and_refuses_duplicates():
    net = Builder()
    x = net.input(3)
    with net.scope("block#"):
        a = x.then(ops.Linear(3))
        with net.scope("inner"):
            b = a.then(ops.Activation())
    with net.scope("block#"):
        c = b.then(ops.Linear(3))
    assert [w.name for w in (a, b, c)] == ["block1.linear1", "block1.inner.act1", "block2.linear1"]
    with pytest.raises(GraphError, match="'head' twice"):
        c.then(ops.Activation(), name="head").then(ops.Activation(), name="head")


def test_builder_points_at_the_op_that_does_not_fit():
    net = Builder()
    x = net.input(3, 8, 8)
    with pytest.raises(GraphError, match=r"node 'stem.conv1': Conv: .*groups=2.*\(1, 3, 8, 8\)"), net.scope("stem"):
        x.then(ops.Conv(4, (3, 3), groups=2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ops.Linear(0), "out_features.*at least 1, got 0"),
        (lambda: ops.Linear(2.5), "whole number"),
        (lambda: ops.Conv(4, (3, 3), stride=0), "stride.*at least 1, got 0"),
        (lambda: ops.Conv(4, (3, 3), stride=(1, 1, 1)), "2 values of stride"),
        (lambda: ops.Conv(4, (1,) * 4), "1 to 3 axes"),
        (lambda: ops.Conv(5, (3, 3), groups=2), "divisible by groups"),
        (lambda: ops.Dropout(1.0), r"\[0, 1\)"),
        (lambda: ops.Activation("reluu"), "did you mean 'relu'"),
        (lambda: ops.Activation("relu", (("slope", 1.0),)), "no parameter 'slope'"),
        (lambda: ops.Activation("elu", (("alpha", "one"),)), "alpha to be a number"),
        (lambda: ops.Reshape((-1, -1)), "at most one size of −1"),
        (lambda: laws.Normal(-1.0), "not negative"),
        (lambda: laws.Normal(1.0, fan="up"), "one of none, in, out, average"),
        (lambda: laws.Measured(2.0, 1.0), "at least mean"),
    ],
)
def test_ops_and_laws_check_themselves(make, message):
    with pytest.raises(GraphError, match=message):
        make()


def test_equal_activations_are_equal_however_they_are_written():
    assert ops.Activation("SiLU") == ops.Activation("swish")
    assert ops.Activation("gelu") == ops.Activation("gelu", (("approximate", "none"),))
    assert ops.Activation("elu", (("alpha", 1),)) == ops.Activation("elu")


def test_every_op_is_in_the_table():
    def below(cls):
        return {cls, *(c for s in cls.__subclasses__() for c in below(s))}

    assert set(ops.OPS.values()) == {c for c in below(Op) if c is not Op and c.__module__.startswith("depthscale")}
