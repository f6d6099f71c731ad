"""Critical laws: the published numbers where they belong, and signals that keep their size in real networks."""

import math

import pytest
import torch

from depthscale import zoo
from depthscale.build import build
from depthscale.graph import all_parameters, laws, ops
from depthscale.theory.initialise import critical
from depthscale.theory.propagate import propagate

# Roberts, Yaida & Hanin 2022 (GELU, SiLU); He et al. 2015 (ReLU); Poole et al. 2016 (tanh): sw2, sb2, q*
POINTS = {
    "relu": (2.0, 0.0, 1.0),
    "tanh": (1.0, 0.0, 1.0),
    "gelu": (1.9830583, 0.1729224, 3.561553),
    "silu": (1.9880047, 0.5551432, 14.320174),
}


def lengths(graph, x):
    """Mean squares of every node's value in one built network."""
    with torch.no_grad():
        values = build(graph, 0).intermediates(x)
    return {name: float(v.double().square().mean()) for name, v in values.items()}


@pytest.mark.parametrize("act", POINTS)
def test_layers_of_a_chain_get_the_published_numbers(act):
    sw2, sb2, q = POINTS[act]
    graph = critical(zoo.mlp((64, *[256] * 4, 10), act))
    specs = all_parameters(graph)
    for i in (2, 3, 4):
        spec = specs[f"layer{i}.linear1.weight"]
        assert spec.moments.mean_square * spec.fans.fan_in == pytest.approx(sw2, rel=1e-6)
        assert specs[f"layer{i}.linear1.bias"].moments.mean_square == pytest.approx(sb2, rel=1e-6, abs=1e-12)
    first = specs["layer1.linear1.weight"]
    assert first.moments.mean_square * 64 == pytest.approx(q - sb2, rel=1e-6)  # unit data are brought to q*
    assert specs["head.linear1.weight"].moments.mean_square * 256 == pytest.approx(1.0)


@pytest.mark.parametrize("act", ["relu", "gelu", "silu"])
def test_lengths_stay_at_q_in_a_real_network(act):
    graph = critical(zoo.mlp((64, *[512] * 20, 10), act))
    q = lengths(graph, torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))
    for layer in (1, 10, 20):  # five per cent a layer at width 512, added up like a random walk
        assert q[f"layer{layer}.linear1"] == pytest.approx(POINTS[act][2], rel=0.5)


def test_residual_branches_add_up_to_a_factor_and_not_to_a_power_of_two():
    blocks = 12
    plain = zoo.resnet(18, 10, image_size=16, stages=(blocks,), width=32, norm="none")
    x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def growth(graph):
        q = lengths(graph, x)
        return q[f"stage1.block{blocks}.act2"] / q["stem.act1"]

    assert growth(plain) > 50  # He's law doubles the length in every block, less at the borders
    assert 0.3 < growth(critical(plain)) < 10  # (1 + 1/12)^12 is e; means that do not vanish add to it


def test_gradients_reach_the_first_layer_of_what_could_not_train():
    deep = zoo.mlp((64, *[256] * 50, 10), "gelu")
    assert not propagate(deep).trains
    assert propagate(critical(deep)).trains
    assert abs(math.log(propagate(critical(deep)).totals.gradient_ratio)) < 2


def test_layers_in_front_of_a_normalisation_are_left_alone():
    graph = zoo.resnet(18, 10, image_size=32)
    for node, other in zip(graph.nodes, critical(graph).nodes, strict=True):
        if isinstance(node.op, ops.Conv):
            assert node.op == other.op


def test_shapes_architecture_and_absent_biases_stay():
    graph = zoo.resnet(18, 10, image_size=32, norm="none")
    new = critical(graph)
    assert new.shapes() == graph.shapes()
    assert new.cost() == graph.cost()
    assert [n.name for n in new.nodes] == [n.name for n in graph.nodes]


def test_isometric_weights_are_orthogonal_and_of_the_same_size():
    graph = zoo.mlp((256, *[256] * 3, 10), "relu")
    gaussian, isometric = critical(graph), critical(graph, isometric=True)
    for name, spec in all_parameters(isometric).items():
        if name.endswith("weight"):
            assert isinstance(spec.law, laws.Orthogonal)
            assert spec.moments.mean_square == pytest.approx(all_parameters(gaussian)[name].moments.mean_square)
    w = build(isometric, 0).state_dict()["layer2.linear1.weight"].double()
    assert torch.allclose(w @ w.T, 2 * torch.eye(256, dtype=torch.float64), atol=1e-5)


def test_an_activation_without_a_critical_point_keeps_its_laws():
    graph = zoo.mlp((64, 128, 128, 10), "step", weight=laws.Normal(0.3))
    kept = critical(graph)
    assert kept["layer2.linear1"].op == graph["layer2.linear1"].op
