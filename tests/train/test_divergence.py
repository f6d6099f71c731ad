"""Runs that break: stopped at the right step, put down to the right layer, good weights kept."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from depthscale.build import build
from depthscale.graph import Builder, laws, ops
from depthscale.record import read
from depthscale.train import Budget, TrainConfig, Trainer, fit
from tests.train.toys import convnet, images, mlp, numbers, same_weights

CONFIG = TrainConfig(Budget(steps=60), batch=32, schedule="constant", warmup=0.0, lr=0.01)
BREAKS_AT = 23


class Counted(nn.Module):
    """Passes values on; in training, at its n-th call, it does something else."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__()
        self.at, self.what = at, what
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        self.calls += 1
        if int(self.calls) != self.at + 1:
            return x
        if self.what == "forward":
            return x / torch.zeros_like(x[:, :1])
        return _BrokenBackward.apply(x)  # type: ignore[no-any-return]


class _BrokenBackward(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(context: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad * math.nan


def network(what: str, at: int = BREAKS_AT) -> nn.Module:
    torch_net = mlp((5, 16, 16, 2))
    layers = list(torch_net.children())
    return nn.Sequential(*layers[:2], Counted(at, what), *layers[2:])


@pytest.mark.parametrize("look_every", [1, 20])
@pytest.mark.parametrize("what", ["forward", "gradient"])
def test_the_step_and_the_layer(what: str, look_every: int, tmp_path: Path) -> None:
    trainer = Trainer(network(what), numbers(), CONFIG, out=tmp_path, progress=False)
    trainer._look_every = look_every  # as on a device where looking costs
    result = trainer.run()
    trainer.close()
    assert result.status == "diverged"
    found = result.divergence
    assert found is not None
    assert (found.step, found.kind) == (BREAKS_AT, what)
    if what == "forward":
        assert found.layer == "2"
        assert not math.isfinite(found.loss)
    else:  # the gradient that arrives at the layer in front of the broken one
        assert found.layer == "1"
        assert "between there and layer '2'" in found.detail
        assert math.isfinite(found.loss)
    assert all(bool(torch.isfinite(v).all()) for v in result.model.state_dict().values())
    event = read(tmp_path / "run.jsonl").of("diverged")[0]
    assert (event["step"], event["how"], event["layer"]) == (found.step, found.kind, found.layer)
    assert f"diverged at step {BREAKS_AT}" in str(result)


def test_the_best_weights_so_far_are_given_back() -> None:
    broken, sound = network("forward"), network("forward", at=10**9)
    result = fit(broken, numbers(), config=CONFIG, progress=False)
    steps = len(result.history) * 7  # of the epochs before it broke; an epoch has 7
    assert len(result.history) == BREAKS_AT // 7
    until = fit(sound, numbers(), config=CONFIG.with_(budget=Budget(steps=steps)), progress=False)
    sound[2].calls.copy_(broken[2].calls)
    assert result.best == until.best or result.best is not None
    assert result.val["loss"] == until.val["loss"]
    assert same_weights(broken, sound)


def test_a_diverged_run_stays_diverged(tmp_path: Path) -> None:
    fit(network("forward"), numbers(), config=CONFIG, out=tmp_path, progress=False)
    again = fit(network("forward"), numbers(), config=CONFIG, out=tmp_path, resume=True, progress=False)
    assert again.status == "diverged"
    assert again.divergence is not None
    assert again.divergence.step == BREAKS_AT


def test_a_rate_that_is_too_large_explodes() -> None:
    """Linear regression by gradient descent multiplies its error by about 1 − lr·λ a step; at lr = 20 it explodes."""
    config = CONFIG.with_(optimiser="sgd", momentum=0.0, lr=20.0, weight_decay=0.0)
    result = fit(mlp((5, 8, 8, 2), act=nn.ReLU), numbers(), config=config, progress=False)
    found = result.divergence
    assert result.status == "diverged"
    assert found is not None
    assert found.kind == "exploding"
    assert found.loss > 1e4
    assert found.layer is not None
    assert "grew from" in found.detail
    assert found.step < 10
    assert bool(torch.isfinite(next(result.model.parameters())).all())


def test_the_first_layer_that_grew_is_named() -> None:
    class Growing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = mlp((5, 5)), mlp((5, 5), seed=1), mlp((5, 2), seed=2)
            self.second[0].weight.register_hook(lambda g: g * 1e8)  # only this one runs away

        def forward(self, x: Tensor) -> Tensor:
            return self.third(self.second(self.first(x)))  # type: ignore[no-any-return]

    config = CONFIG.with_(optimiser="sgd", momentum=0.0, lr=1e-3, weight_decay=0.0)
    found = fit(Growing(), numbers(), config=config, progress=False).divergence
    assert found is not None
    assert (found.step, found.kind, found.layer) == (1, "exploding", "second.0")


def test_a_real_pole() -> None:
    """The square root's slope at 0 is infinite, though its value is not."""

    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.square()

    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.square, self.outer = nn.Linear(5, 4), Square(), nn.Linear(4, 2)
            nn.init.zeros_(self.inner.weight)
            nn.init.zeros_(self.inner.bias)

        def forward(self, x: Tensor) -> Tensor:
            return self.outer(torch.sqrt(self.square(self.inner(x))))  # type: ignore[no-any-return]

    found = fit(Root(), numbers(), config=CONFIG, progress=False).divergence
    assert found is not None
    assert (found.kind, found.step) == ("gradient", 0)
    # sqrt′(0) = ∞ arrives at the output of the square; the layer behind the root is "outer"
    assert found.layer == "square"
    assert "'outer'" in found.detail


def test_an_update_that_overflows() -> None:
    config = CONFIG.with_(optimiser="sgd", lr=1e38, momentum=0.0)
    model = nn.Linear(5, 2)
    toy = numbers()
    toy.train.y *= 1e6
    found = fit(model, toy, config=config, progress=False).divergence
    assert found is not None
    assert (found.kind, found.step) == ("update", 0)
    assert "weight" in found.detail or "bias" in found.detail


def test_only_the_validation_breaks() -> None:
    class Fragile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.b(self.a(x))
            return self.c(h if self.training else h / 0.0)  # type: ignore[no-any-return]

    found = fit(Fragile(), numbers(), config=CONFIG, progress=False).divergence
    assert found is not None
    assert (found.kind, found.layer) == ("forward", "c")
    assert found.detail.startswith("in validation")


def test_the_last_step_of_all_is_looked_at_too() -> None:
    """A gradient that breaks in the very last step leaves a finite loss behind it."""
    toy = numbers()
    empty = SimpleNamespace(x=toy.val.x[:0], y=toy.val.y[:0])
    unvalidated = SimpleNamespace(task=toy.task, train=toy.train, val=empty)
    config = CONFIG.with_(budget=Budget(steps=BREAKS_AT + 1))
    for data in (toy, unvalidated):
        result = fit(network("gradient"), data, config=config, progress=False)
        assert result.status == "diverged"
        assert result.divergence is not None
        assert (result.divergence.step, result.divergence.kind) == (BREAKS_AT, "gradient")


def test_dropout_and_batch_norm_are_replayed_as_they_were() -> None:
    """The step that breaks depends on noise; going back must find the same one."""

    class Rare(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if self.training and float(torch.rand(())) < 0.04:
                return x * math.inf
            return x

    model = convnet()
    model.insert(5, Rare())
    config = CONFIG.with_(seed=1)
    traces = []
    for look_every in (1, 20):
        trainer = Trainer(convnet().insert(5, Rare()), images(), config, progress=False)  # type: ignore[arg-type]
        trainer._look_every = look_every
        traces.append(trainer.run().divergence)
    assert traces[0] is not None
    assert traces[1] is not None
    assert (traces[0].layer, traces[0].kind) == ("5", "forward")
    assert (traces[0].step, traces[0].layer, traces[0].detail) == (traces[1].step, traces[1].layer, traces[1].detail)


def test_healthy_runs_are_left_alone() -> None:
    toy = numbers()
    toy.train.y *= 100  # a large first loss is not an explosion
    result = fit(mlp(), toy, config=CONFIG, progress=False)
    assert result.status == "finished"
    assert result.divergence is None
    assert np.isfinite(result.val["loss"])


@pytest.mark.parametrize("look_every", [1, 20])
def test_built_graphs_name_their_nodes(look_every: int) -> None:
    net = Builder()
    x = net.input(5)
    with net.scope("body"):
        x = x.then(ops.Linear(4, weight=laws.ZERO, bias=laws.ZERO), name="flat")
        x = x.then(ops.Activation("square"), name="square").then(ops.Activation("sqrt"), name="root")
    graph = net.graph(x.then(ops.Linear(2), name="head"))
    trainer = Trainer(build(graph, seed=0), numbers(), CONFIG, progress=False)
    trainer._look_every = look_every
    found = trainer.run().divergence
    assert found is not None
    assert (found.step, found.kind, found.layer) == (0, "gradient", "body.square")
    assert "the backward pass of 'body.root' made it" in found.detail
    forward = x.builder.graph(x.then(ops.Activation("log"), name="log").then(ops.Linear(2), name="end"))
    seen = fit(forward, numbers(), config=CONFIG, progress=False).divergence
    assert seen is not None
    assert (seen.step, seen.kind, seen.layer) == (0, "forward", "log")
