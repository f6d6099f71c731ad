"""Propagation over whole graphs: against closed forms of plain networks."""

import math

import numpy as np
import pytest

import depthscale as ds
from depthscale import zoo
from depthscale.errors import TheoryError
from depthscale.graph import Builder, Graph, Node, laws, ops
from depthscale.theory.backward import backward
from depthscale.theory.forward import forward


@pytest.mark.parametrize("rule", [forward, backward])
def test_every_op_has_a_rule(rule) -> None:  # type: ignore[no-untyped-def]
    missing = [name for name, kind in ops.OPS.items() if kind not in rule and kind is not ops.Input]
    assert missing == []


def test_relu_at_he_is_critical() -> None:
    graph = zoo.mlp([64, *[128] * 6, 10], first=laws.HE)
    p = ds.propagate(graph, q_input=1.5, c_input=0.3)
    lengths = [r.q for r in p.rows if r.kind == "Linear"][:-1]
    assert lengths == pytest.approx([3.0] * 6, rel=1e-9)
    # the arc-cosine kernel of Cho & Saul 2009, iterated
    c = 0.3
    for row in [r for r in p.rows if r.kind == "Linear"][:-1]:
        assert row.c == pytest.approx(c, abs=1e-9)
        theta = math.acos(c)
        c = (math.sin(theta) + (math.pi - theta) * c) / math.pi
    gradients = [r.energy for r in p.rows if r.kind == "Linear"][:-1]
    assert gradients == pytest.approx([gradients[0]] * 6, rel=1e-9)
    assert p.trains


def test_tanh_length_and_slope_at_a_known_point() -> None:
    """tanh at sw2 = 1.5, sb2 = 0.05: q* = 0.41803720, chi1 = 0.93863627 (adaptive quadrature)."""
    graph = zoo.mlp([64, *[100] * 40, 100], act="tanh", weight=laws.variance(1.5), bias=laws.Normal(math.sqrt(0.05)))
    p = ds.propagate(graph)
    rows = [r for r in p.rows if r.kind == "Linear"]
    assert rows[-2].q == pytest.approx(0.41803720, abs=2e-8)
    assert rows[-4].energy / rows[-3].energy == pytest.approx(0.93863627, abs=2e-8)


def test_a_missing_rule_names_the_op() -> None:
    from depthscale.errors import MissingRuleError
    from depthscale.graph.op import Op

    class Strange(Op):
        pass

    with pytest.raises(MissingRuleError, match="Strange"):
        forward(Strange(), None)


@pytest.mark.parametrize("way", ["_forward_rule", "Backward._rule"])
def test_what_a_rule_did_not_foresee_is_told_with_its_node(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from depthscale.errors import TheoryError

    def breaks(*args: object) -> None:
        raise IndexError("too many indices")

    monkeypatch.setattr(f"depthscale.theory.walk.{way}", breaks)
    with pytest.raises(TheoryError, match=r"node '\S+': the theory's rule for \w+ .*IndexError: too many indices.*"):
        ds.propagate(zoo.mlp([4, 4, 2]))


def test_bad_input() -> None:
    graph = zoo.mlp([4, 4, 2])
    with pytest.raises(ValueError, match="batch of at least 1"):
        ds.propagate(graph, batch=0)
    with pytest.raises(ValueError, match="second moment"):
        ds.propagate(graph, q_input=-1.0)
    with pytest.raises(ValueError, match="correlations"):
        ds.propagate(graph, c_input=2.0)


def test_verdicts() -> None:
    default = zoo.mlp([64, *[128] * 30, 10], weight=laws.TORCH_DEFAULT, bias=laws.Uniform(1.0, fan="in"))
    assert ds.propagate(default).verdict.kind in ("vanishing", "ordered")
    large = zoo.mlp([64, *[128] * 30, 10], weight=laws.Normal(2.0, fan="in"))
    assert ds.propagate(large).verdict.kind == "exploding"
    chaotic = zoo.mlp([64, *[128] * 60, 10], act="tanh", weight=laws.Normal(2.0, fan="in"))
    assert ds.propagate(chaotic).verdict.kind == "chaotic"
    assert ds.propagate(zoo.resnet(18, image_size=32)).trains


def test_repeats_are_cached_and_change_nothing() -> None:
    graph = zoo.resnet(18, image_size=32)
    first, second = ds.propagate(graph), ds.propagate(graph)
    assert [r.q for r in first.rows] == [r.q for r in second.rows]
    assert [r.g for r in first.rows] == [r.g for r in second.rows]


def test_square_activation_of_a_gaussian() -> None:
    net = Builder()
    x = net.input(8)
    graph: Graph = net.graph(x.then(ops.Activation("square")))
    p = ds.propagate(graph, q_input=2.0)
    assert p.rows[-1].q == pytest.approx(3 * 4.0)
    assert isinstance(graph.nodes[0], Node)
    assert np.isfinite(p.rows[-1].error)


def test_weights_in_mirrored_pairs_are_refused_with_the_node() -> None:
    graph = zoo.mlp([64, 128, 128, 10], weight=laws.Mirrored())
    with pytest.raises(TheoryError, match=r"node '.*': weights in mirrored pairs .* Orthogonal weights"):
        ds.propagate(graph)


@pytest.mark.parametrize(("act", "depth"), [("relu", 40), ("gelu", 12)])
def test_what_explodes_past_every_float_is_still_told(act: str, depth: int) -> None:
    """Mean squares grow 6e11-fold a layer, forward and back, and would leave double precision in 26 layers."""
    wide = laws.Normal(1e5)
    graph = zoo.mlp((64, *[128] * depth, 10), act, weight=wide, first=wide)
    p = ds.propagate(graph)
    assert all(math.isfinite(r.q) and math.isfinite(r.energy) for r in p.rows)
    assert p.verdict.kind == "exploding"
    linear = [r for r in p.rows if r.kind == "Linear"]
    first = next(r for r in linear if r.q > 9e75)
    assert first.name in p.verdict.reason  # single precision ends at a mean square of 1e77
    assert linear.index(first) in (6, 7)


def test_what_vanishes_past_every_float_is_still_told() -> None:
    """Gradients shrink 4e-6-fold a layer: their squares are zero long before they are."""
    graph = zoo.mlp((64, *[32] * 100, 10), "sigmoid", weight=laws.variance(1e-4), first=laws.variance(1e-4))
    p = ds.propagate(graph)
    assert all(math.isfinite(r.q) and math.isfinite(r.energy) for r in p.rows)
    assert not p.trains
