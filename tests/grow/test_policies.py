"""Decisions: scores against the loss itself, proposals against gradients that autograd gives, budgets kept."""

import numpy as np
import pytest
import torch

from depthscale import zoo
from depthscale.data import load
from depthscale.errors import DepthscaleError
from depthscale.grow.actions import grow_to, shrink_to, turn_over
from depthscale.grow.edits import narrow
from depthscale.grow.policies import policies, policy
from depthscale.grow.policies._candidates import best_units
from depthscale.grow.policies.depth_scale import deeper
from depthscale.grow.policies.saturation import WINDOW
from depthscale.grow.resize import scaled
from depthscale.grow.schedules import Plan, schedules
from depthscale.grow.training import Training
from depthscale.grow.units import Units
from depthscale.train import Budget, TrainConfig

CONFIG = TrainConfig(budget=Budget(epochs=1), batch=32, lr=3e-3, clip=1.0, device="cpu")
NETS = {
    "mlp": lambda: zoo.mlp((64, 20, 16, 10), input_shape=(1, 8, 8)),
    "cnn": lambda: zoo.convnet((1, 1), 4, image_size=8, norm="batch"),
    "residual": lambda: zoo.get("resnet20", image_size=8, in_channels=1, num_classes=10),
}
PRUNERS = [n for n, p in policies().items() if p.kind == "prune"]
GROWERS = [n for n, p in policies().items() if p.kind == "grow"]


@pytest.fixture(scope="module")
def digits():
    return load("digits", seed=0)


def training(name: str, digits, used: float = 0.2) -> Training:
    made = Training.begin(NETS[name](), digits, CONFIG, 2e8 if name == "mlp" else 1e9, 0)
    made.train(used)
    return made


@pytest.mark.parametrize("name", PRUNERS)
def test_every_score_is_there_for_every_unit(name, digits):
    for net in ("mlp", "cnn"):
        t = training(net, digits, 0.05)
        t.since = t.values()
        t.train(0.1)
        weights, spent = {n: v.clone() for n, v in t.live.module.state_dict().items()}, t.spent
        scores = policy(name, "prune")(t)
        units = Units(t.graph)
        assert set(scores) == set(units.layers)
        assert all(len(s) == units.size(n) and np.isfinite(s).all() for n, s in scores.items())
        assert all(torch.equal(v, weights[n]) for n, v in t.live.module.state_dict().items())  # it only looked
        assert t.spent >= spent
        if name in ("gradient-weight", "activation"):
            assert t.spent > spent  # and paid for it


def test_gradient_times_weight_predicts_what_a_unit_is_worth(digits):
    """Against the loss with the unit really taken out."""
    t = training("mlp", digits, 0.5)
    layer = Units(t.graph).layers[0]
    scores = policy("gradient-weight", "prune")(t)[layer]
    x, y = t.engine.batches.x, t.engine.batches.y
    base = float(t.engine.objective(t.live.module(x), y).detach())
    from depthscale.build import build
    from depthscale.grow.live import Live

    changes = []
    for unit in range(20):
        module = build(t.graph, 0)
        module.load_state_dict(t.live.module.state_dict())
        cut = Live(module).apply(narrow(t.graph, layer, [u for u in range(20) if u != unit]))
        changes.append(abs(float(t.engine.objective(cut.module(x), y).detach()) - base))
    ranks = [np.argsort(np.argsort(v)) for v in (scores, changes)]
    assert np.corrcoef(*ranks)[0, 1] > 0.5


def test_gradmax_finds_larger_gradients_than_chance(digits):
    """Singular vectors against random units of the same length: gain of the best, by autograd on the network."""
    t = training("mlp", digits)
    layer = Units(t.graph).layers[-1]
    best, some = [], []
    for _ in range(4):
        t.decided = 0.0  # each finds its purse full
        (p,) = policy("gradmax", "grow")(t, {layer: 4})
        best.append(sum(p.gains))
        t.decided = 0.0
        (q,) = best_units(t, {layer: 4}, 1)
        some.append(sum(q.gains))
    assert np.mean(best) > 1.5 * np.mean(some)


@pytest.mark.parametrize("name", GROWERS)
@pytest.mark.parametrize("net", ["mlp", "cnn"])
def test_growth_keeps_the_function_and_the_cap(name, net, digits):
    t = training(net, digits, 0.02)
    x = torch.from_numpy(np.array(digits.val.x[:20]))
    t.live.module.eval()
    before = t.live.module(x).detach()
    size = t.graph.cost().parameters
    grow_to(t, int(1.5 * size), policy(name, "grow"))
    assert size < t.graph.cost().parameters <= int(1.5 * size)
    t.live.module.eval()
    torch.testing.assert_close(t.live.module(x), before, rtol=1e-4, atol=1e-5)
    t.train(min(1.0, t.used + 0.02))
    held = {id(p) for g in t.live.optimiser.param_groups for p in g["params"]}
    assert held == {id(p) for p in t.live.module.parameters()}


def test_residual_streams_grow_as_a_whole(digits):
    t = Training.begin(NETS["residual"](), digits, CONFIG, 1e9, 0)
    size = t.graph.cost().parameters
    grow_to(t, int(1.3 * size), policy("gradmax", "grow"))
    assert size < t.graph.cost().parameters <= int(1.3 * size)


def test_pruning_and_turnover_keep_sizes(digits):
    t = training("mlp", digits)
    size = t.graph.cost().parameters
    shrink_to(t, int(0.6 * size), policy("magnitude", "prune"))
    assert 0.5 * size < t.graph.cost().parameters <= 0.6 * size
    small = t.graph.cost().parameters
    turn_over(t, 0.2, policy("gradient-weight", "prune"), policy("gradmax", "grow"))
    assert 0.8 * small < t.graph.cost().parameters <= small
    shrink_to(t, 1, policy("random-pruning", "prune"))
    assert all(Units(t.graph).size(n) == 2 for n in Units(t.graph).layers)  # something is always left


def test_when_policies(digits):
    t = training("mlp", digits, 0.01)
    due = policy("saturation", "when")
    t.losses = list(np.linspace(2, 1, 2 * WINDOW))
    assert not due(t)
    t.losses = [1.0] * 2 * WINDOW
    assert due(t)
    stop = policy("plateau", "when")
    assert not stop(t)
    from depthscale.grow.training import Point

    def points(*losses: float) -> list[Point]:
        return [Point(0.1, 1, 0.0, {"loss": v}, 1, 1.0, "") for v in losses]

    t.points = points(1.0, 0.9, 0.95, 0.93, 0.91)
    assert stop(t)
    t.points = points(1.0, 0.9, 0.95, 0.93, 0.89)
    assert not stop(t)


def test_theory_says_whether_to_deepen():
    from depthscale.graph import laws

    healthy, dying = (
        zoo.mlp((64, *[32] * 3, 10), "relu"),
        zoo.mlp((64, *[32] * 60, 10), "tanh", weight=laws.Normal(0.03)),
    )
    assert deeper(healthy)
    assert not deeper(dying)


def test_names_are_found_or_suggested():
    assert {"grow", "prune", "when"} == {p.kind for p in policies().values()}
    with pytest.raises(DepthscaleError, match="did you mean 'magnitude'"):
        policy("magnitud", "prune")
    assert {"developmental", "rigl", "set", "lottery", "grow-only", "prune-only"} <= set(schedules())


@pytest.mark.parametrize("parameters", [800, 3000, 20_000])
def test_networks_of_another_size(parameters):
    for make in NETS.values():
        graph = make()
        if graph.cost().parameters > 100_000:
            continue
        found = scaled(graph, parameters).cost().parameters if parameters > 1500 else parameters
        assert 0.7 * parameters <= found <= parameters


def test_stages_fill_the_budget_in_order():
    plan = Plan(zoo.mlp((64, 16, 16, 10)), 6000, 2500)
    for made in schedules().values():
        ends = [s.until for s in made.stages(plan)]
        assert ends == sorted(ends)
        assert len(set(ends)) == len(ends)
        assert ends[-1] == 1.0
        for k in range(3):
            assert made.task(plan, k, 3)[-1].until == 1.0
