"""What a run spends: budgets are kept at every size of them, decisions cost a tenth, absent connections nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from depthscale import zoo
from depthscale.errors import TrainingError
from depthscale.grow.course import follow, trained
from depthscale.grow.policies import policies, policy
from depthscale.grow.schedules import Plan, schedule, schedules
from depthscale.grow.training import AHEAD, DECIDING, STEP, Training, work
from depthscale.train import Budget, TrainConfig

BATCH = 16
CONFIG = TrainConfig(budget=Budget(epochs=1), batch=BATCH, lr=3e-3, clip=1.0, device="cpu")
NETS = {
    "mlp": (zoo.mlp((12, 6, 6, 3)), (12,), 900, 320),
    "cnn": (zoo.convnet((1, 1), 3, image_size=6, norm="batch"), (1, 6, 6), 1800, 700),
}


def data(shape: tuple[int, ...], classes: int, n: int = 200) -> SimpleNamespace:
    rng = np.random.default_rng(0)
    y = rng.integers(classes, size=n)
    x = (rng.normal(size=(n, *shape)) + y.reshape(-1, *[1] * len(shape))).astype(np.float32)
    parts = [SimpleNamespace(x=x[a:b], y=y[a:b]) for a, b in ((0, 160), (160, n))]
    return SimpleNamespace(train=parts[0], val=parts[1], task="classification")


def made(net: str) -> tuple[Plan, SimpleNamespace]:
    graph, shape, cap, final = NETS[net]
    return Plan(graph, cap, final), data(shape, graph.shapes()[graph.outputs[0]][-1])


@pytest.mark.parametrize("steps", [10, 40, 160])
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", schedules())
def test_no_schedule_spends_more_than_its_budget_and_a_step(name, net, steps):
    plan, rows = made(net)
    dense = work(schedule("fixed-large").begins(plan, 0), {}) * STEP * BATCH  # a step of the largest network there is
    t = trained(schedule(name), plan, rows, CONFIG, steps * dense)
    assert t.budget <= t.spent <= t.budget + dense
    assert t.decided <= DECIDING * (1 + AHEAD) * t.budget
    assert t.live.parameters <= (plan.cap if name == "fixed-large" else plan.final)


@pytest.mark.parametrize("name", [n for n, p in policies().items() if p.kind != "when"])
def test_a_policy_that_cannot_pay_decides_without_looking(name):
    plan, rows = made("mlp")
    t = Training.begin(plan.start, rows, CONFIG, 1e7)
    t.train(0.2)
    t.decided = t.spent  # the purse is empty
    spent, kind = t.spent, policies()[name].kind
    layers = dict.fromkeys(policy("random-pruning", "prune")(t), 2)
    found = policy(name, kind)(t, layers) if kind == "grow" else policy(name, kind)(t)
    assert t.spent == spent
    assert len(found) >= len(layers)


@pytest.mark.parametrize("kind", ["grow", "prune"])
def test_a_policy_pays_from_half_of_the_purse(kind):
    plan, rows = made("mlp")
    t = Training.begin(plan.start, rows, CONFIG, 1e7)
    t.train(0.2)
    purse, spent = t.purse, t.spent
    assert purse == pytest.approx(DECIDING * (spent + AHEAD * 1e7))
    call = policy("functional-gradient" if kind == "grow" else "gradient-weight", kind)
    call(t, {"layer1.linear1": 2}) if kind == "grow" else call(t)
    assert 0 < t.decided == t.spent - spent <= purse


def test_absent_connections_have_a_gradient_only_for_those_who_pay():
    """Against autograd on the weights and the batch of the last step; the price is a third of a dense step less a
    third of a sparse one.
    """
    plan, rows = made("mlp")
    rigl = schedule("rigl")
    t = Training.begin(rigl.begins(plan, 0), rows, CONFIG, 1e7)
    follow(t, rigl.stages(plan)[:1])
    assert t.absent() is not None
    before = {n: p.detach().clone().requires_grad_() for n, p in t.live.module.named_parameters()}
    x, y, _ = t.engine.batch(t.engine.step)
    t.train(t.used + 1e-9)  # one step
    out = torch.func.functional_call(t.live.module, before, (x,))
    names = list(t.live.masks)
    exact = torch.autograd.grad(F.cross_entropy(out, y), [before[n] for n in names])
    spent, found = t.spent, t.absent()
    assert any(g[~t.live.masks[n]].any() for n, g in found.items())
    for n, g in zip(names, exact, strict=True):
        torch.testing.assert_close(found[n], g)
        state = t.live.optimiser.state[t.live.module.get_parameter(n)]
        assert not state["exp_avg_sq"][~t.live.masks[n]].any()  # the optimiser has never heard of them
    sparse = sum(int(m.sum()) for m in t.live.masks.values())
    whole = sum(m.numel() for m in t.live.masks.values())
    assert t.spent - spent == pytest.approx(len(y) * 2 * (whole - sparse))
    t.decided = t.spent
    assert t.absent() is None


def test_a_budget_pays_for_a_row_at_least():
    plan, rows = made("mlp")
    with pytest.raises(TrainingError, match="at least one row"):
        Training.begin(plan.start, rows, CONFIG, 10.0)
