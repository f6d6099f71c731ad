"""The step: against a loop written by hand, and which parameters decay."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from depthscale.errors import TrainingError
from depthscale.train import Budget, TrainConfig, fit
from depthscale.train.batches import Batches
from depthscale.train.engine import Engine
from depthscale.train.objective import Objective
from depthscale.train.optimise import (
    Average,
    load_model,
    load_optimiser,
    make_optimiser,
    model_tensors,
    optimiser_tensors,
    penalised_parameters,
)
from tests.train.toys import images, mlp, numbers


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.LayerNorm((4, 6, 6))  # parameters of three axes
        self.batch = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4, 2)
        self.gain = nn.Parameter(torch.ones(()))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_decay_spares_biases_norms_and_scalars() -> None:
    model = Odd()
    names = {id(p): n for n, p in model.named_parameters()}
    decay, spared = penalised_parameters(model)
    assert {names[id(p)] for p in decay} == {"conv.weight", "linear.weight"}
    assert {names[id(p)] for p in spared} == {
        *("conv.bias", "norm.weight", "norm.bias", "batch.weight", "batch.bias", "linear.bias", "gain")
    }


def by_hand(
    model: nn.Module, toy: Any, config: TrainConfig, optimiser: torch.optim.Optimizer, steps: int, schedule: Any = None
) -> None:
    x, y = torch.from_numpy(toy.train.x), torch.from_numpy(toy.train.y)
    rows = Batches(x, y, config.batch, config.seed)
    for step in range(steps):
        i = rows.rows_of(step)
        out = model(x[i])
        loss = F.mse_loss(out, y[i]) if toy.task == "regression" else F.cross_entropy(out, y[i])
        optimiser.zero_grad()
        loss.backward()
        if config.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimiser.step()
        if schedule is not None:
            schedule.step()


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_training_is_what_one_writes_by_hand(kind: str, clip: float | None) -> None:
    toy, model = numbers(), mlp()
    other = copy.deepcopy(model)
    config = TrainConfig(
        Budget(steps=30),
        batch=32,
        optimiser=kind,
        lr=0.01,
        weight_decay=0.1,
        schedule="constant",
        warmup=0.0,
        clip=clip,
    )
    groups = [
        {"params": [p for p in other.parameters() if p.dim() == 2], "weight_decay": 0.1},
        {"params": [p for p in other.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    if kind == "sgd":
        optimiser: torch.optim.Optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True, foreach=False)
    else:
        optimiser = torch.optim.AdamW(groups, lr=0.01, foreach=False)
    by_hand(other, toy, config, optimiser, 30)
    fit(model, toy, config=config.with_(keep_best=False), progress=False)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)  # fused and unfused kernels round differently


def test_the_schedule_reaches_the_optimiser() -> None:
    toy, model = numbers(), mlp()
    other = copy.deepcopy(model)
    config = TrainConfig(Budget(steps=30), batch=32, optimiser="sgd", lr=0.1, weight_decay=0.0, keep_best=False)
    config = config.with_(schedule="cosine", warmup=0.0, final_lr=0.1)
    optimiser = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 30, eta_min=0.01)
    by_hand(other, toy, config, optimiser, 30, cosine)
    result = fit(model, toy, config=config, progress=False)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    last = 0.01 + 0.09 * (1 + math.cos(math.pi * 29 / 30)) / 2
    assert result.history[-1].lr == pytest.approx(last, rel=1e-9)


def test_average_in_closed_form() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = Average(model, 0.5)
    want = model.weight.detach().clone()
    for step in range(1, 8):
        with torch.no_grad():
            model.weight += 1.0
        average.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        want = decay * want + (1 - decay) * model.weight.detach()
        torch.testing.assert_close(average.tensors["weight"], want)


def test_the_average_is_what_is_validated_and_returned() -> None:
    toy = numbers()
    config = TrainConfig(Budget(steps=20), batch=32, ema=0.9, lr=0.05)
    engine = Engine(mlp(), toy, config)
    for _ in range(20):
        engine.advance(1.0)
    raw, mean = engine.state().part("model."), engine.state().part("average.")
    assert any(not torch.equal(raw[k], mean[k]) for k in raw)
    validated = engine.validate()
    assert all(torch.equal(v, raw[k]) for k, v in model_tensors(engine.model).items())  # put back
    load_model(engine.model, mean)
    engine.average = None
    direct = engine.validate()
    assert validated is not None
    assert direct is not None
    assert validated.loss == direct.loss
    result = fit(mlp(), toy, config=config.with_(schedule="constant", warmup=0.0, keep_best=False), progress=False)
    assert all(torch.equal(v, mean[k]) for k, v in result.model.state_dict().items())


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_optimiser_state_goes_through_tensors(kind: str) -> None:
    def grads(model: nn.Module, step: int) -> None:
        for i, p in enumerate(model.parameters()):
            p.grad = torch.full_like(p, 0.1 * (i + 1) * (step + 1))

    config = TrainConfig(optimiser=kind)
    a, b = mlp(), mlp()
    first = make_optimiser(a, config)
    for step in range(3):
        grads(a, step)
        first.step()
    second = make_optimiser(b, config)
    load_model(b, model_tensors(a))
    stored = {k: v.clone() for k, v in optimiser_tensors(first).items()}
    load_optimiser(second, stored)
    for model, optimiser in ((a, first), (b, second)):
        grads(model, 3)
        optimiser.step()
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_losses_against_torch() -> None:
    out, y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 1])
    smooth = Objective("classification", TrainConfig(label_smoothing=0.2))
    log_p = out.log_softmax(1)
    target = torch.full((6, 4), 0.05).scatter(1, y[:, None], 0.85)
    torch.testing.assert_close(smooth(out, y), -(target * log_p).sum(1).mean())
    partner, share = torch.tensor([1, 0, 3, 2, 5, 4]), 0.3
    plain = Objective("classification", TrainConfig())
    soft = 0.3 * F.one_hot(y, 4) + 0.7 * F.one_hot(y[partner], 4)
    torch.testing.assert_close(plain.mixed(out, y, partner, share), -(soft * log_p).sum(1).mean())
    heads = Objective("classification", TrainConfig(aux_weight=0.5))
    torch.testing.assert_close(heads((out, 2 * out), y), F.cross_entropy(out, y) + 0.5 * F.cross_entropy(2 * out, y))
    huber = Objective("regression", TrainConfig(loss="huber"))
    error = torch.tensor([[0.5, 3.0]])
    torch.testing.assert_close(huber(error, torch.zeros(1, 2)), torch.tensor((0.125 + 2.5) / 2))


def test_what_does_not_fit() -> None:
    with pytest.raises(TrainingError, match="3 or more"):
        fit(mlp((64, 2)), images_flat(), config=TrainConfig(), progress=False)
    with pytest.raises(TrainingError, match="one a target"):
        fit(mlp((5, 3)), numbers(), config=TrainConfig(), progress=False)
    with pytest.raises(TrainingError, match="cannot read rows of shape"):
        fit(mlp((7, 2)), numbers(), config=TrainConfig(), progress=False)
    with pytest.raises(TrainingError, match="a loss that fits regression"):
        fit(mlp(), numbers(), config=TrainConfig(loss="cross_entropy"), progress=False)
    with pytest.raises(TrainingError, match="label_smoothing"):
        fit(mlp(), numbers(), config=TrainConfig(label_smoothing=0.1), progress=False)
    with pytest.raises(TrainingError, match="monitor"):
        fit(mlp(), numbers(), config=TrainConfig(monitor="accuracy"), progress=False)
    with pytest.raises(TrainingError, match="parameters that require gradients"):
        fit(mlp().requires_grad_(False), numbers(), config=TrainConfig(), progress=False)
    with pytest.raises(TrainingError, match="Graph or a torch"):
        fit("lenet5", numbers(), config=TrainConfig(), progress=False)  # type: ignore[arg-type]


def images_flat() -> Any:
    toy = images()
    for split in (toy.train, toy.val):
        split.x = split.x.reshape(len(split.x), -1)
    return toy
