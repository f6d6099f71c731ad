"""The zoo's scales: what is measured against closed forms, what is judged and drawn from data made up here."""

import math

import numpy as np
import pytest
import torch

from depthscale import zoo
from depthscale.figures import zoo_scales as z
from depthscale.graph import Graph, Node, laws, ops


def network(off_forward: float, off_backward: float, ratio: float, name: str = "net") -> dict:
    """A network whose predictions are off by so many decades."""
    depth = [1, 2, 3, 4]
    energy = [8.0, 4.0, 2.0, 1.0]
    return {
        "name": name,
        "image": [3, 8, 8],
        "batch": 4,
        "depth": depth,
        "predicted": {"q": [1.0, 1.0, 1.0, 1.0], "energy": [energy[0] * 10 ** (2 * ratio), *energy[1:]]},
        "measured": {"q": [[1.0, 1.1, 0.9, 1.0]] * 2, "energy": [energy] * 2},
        "forward": errors(off_forward),
        "backward": errors(off_backward),
    }


def errors(off: float) -> dict:
    return {"nodes": 3, "median": off, "p90": off, "noise": 0.01, "noise_p90": 0.02, "all": [off] * 3}


HOLDS = {"seeds": 2, "networks": [network(0.004, 0.03, 0.1), network(0.008, 0.05, 0.0, "other")]}
FAILS = [
    {"seeds": 2, "networks": [network(0.02, 0.03, 0.1)]},
    {"seeds": 2, "networks": [network(0.004, 0.1, 0.1)]},
    {"seeds": 2, "networks": [network(0.004, 0.03, 0.5)]},
]


def linear(widths: tuple[int, ...], sw2: float) -> Graph:
    nodes = [Node("x", ops.Input((widths[0],)))]
    for k, n in enumerate(widths[1:], 1):
        op = ops.Linear(n, weight=laws.variance(sw2), bias=None)
        nodes.append(Node(f"l{k}", op, (nodes[-1].name,)))
    return Graph(tuple(nodes))


def test_simulation_of_a_linear_network_agrees_with_products_of_variances():
    widths, sw2 = (400, 300, 500, 200), 1.5
    graph = linear(widths, sw2)
    runs = [z.simulate(graph, s, 8) for s in range(6)]
    for k in range(1, 4):
        q = np.array([r[f"l{k}"][0] for r in runs])
        assert q.mean() == pytest.approx(sw2**k, abs=4 * q.std(ddof=1) / math.sqrt(6) + 0.01)
        # a gradient of unit variance at 200 outputs, back through layers of variance sw2/fan_in
        g = np.array([r[f"l{k}"][1] for r in runs])
        factor = math.prod(sw2 * widths[j + 1] / widths[j] for j in range(k, 3))
        assert g.mean() == pytest.approx(factor, abs=4 * g.std(ddof=1) / math.sqrt(6) + 0.01)
    assert all(r["l3"][1] == pytest.approx(1.0, rel=1e-5) for r in runs)


def test_simulation_is_repeatable_and_leaves_the_global_generator_alone():
    graph, batch = z.setting("resnet110_stochastic")[0], 2
    graph = zoo.get("resnet20", drop_path=0.5)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert z.simulate(graph, 0, batch) == z.simulate(graph, 0, batch)
    assert torch.equal(before, torch.get_rng_state())


def test_comparison_measures_what_it_says():
    graph = linear((64, 64, 64), 1.0)
    runs = [
        {"x": (1.0, 0.1), "l1": (2.0, 1.0), "l2": (4.0, 1.0)},
        {"x": (1.0, 0.3), "l1": (2.0, 1.0), "l2": (4.0, 1.0)},
    ]
    found = z.compare("line", runs, graph, 8)
    assert found["depth"] == [1, 2]
    assert found["measured"]["q"] == [[2.0, 4.0]] * 2
    assert found["measured"]["energy"] == [[64.0, 64.0]] * 2
    assert z.growth(found["predicted"]["q"], found["depth"]) == pytest.approx(1.0)
    assert z.growth(z.mean_curve(found, "q"), found["depth"]) == pytest.approx(2.0)
    assert found["forward"]["median"] == pytest.approx(math.log10(2))
    assert sorted(found["backward"]["all"])[-1] == pytest.approx(math.log10(5))  # predicted 1, measured 0.2


def test_growth_of_gradients_goes_the_other_way():
    assert z.growth([8.0, 4.0, 2.0, 1.0], [1, 2, 3, 4], back=True) == pytest.approx(2.0)
    assert z.decades([100.0, 1.0], back=True) == pytest.approx(2.0)
    assert math.isnan(z.growth([0.0, 1.0], [1, 2]))
    assert z.ratio_error(network(0.0, 0.0, 0.25)) == pytest.approx(0.25)


@pytest.mark.parametrize(("name", "half"), [("vgg16", True), ("resnet50", False), ("mlp", False), ("mixer_l32", False)])
def test_what_costs_too_much_is_measured_on_smaller_images(name, half):
    graph, batch = z.setting(name)
    full = zoo.get(name).shapes()[graph.inputs[0]]
    assert graph.shapes()[graph.inputs[0]][-1] == (full[-1] // 2 if half else full[-1])
    assert graph.cost().parameters == zoo.get(name).cost().parameters  # the network is the same
    assert 2 <= batch <= 8


def test_every_network_is_a_panel():
    picture = z.draw(HOLDS)
    assert [ax.get_title() for ax in picture.axes if ax.get_title()] == ["net", "other"]
