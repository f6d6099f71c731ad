"""Precision and processes: plain PyTorch where that is enough, accelerate where it is not."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from depthscale import zoo
from depthscale.build import build
from depthscale.errors import TrainingError
from depthscale.train import Augment, Budget, EpochReport, TrainConfig, Trainer, fit, predict
from tests.train.toys import convnet, images, mlp, numbers, same_weights

CONFIG = TrainConfig(Budget(epochs=3), batch=32, lr=0.01)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "nonsense:0"])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(TrainingError, match="expected device"):
        fit(mlp(), numbers(), config=CONFIG.with_(device=name), progress=False)


def test_float32_on_one_device_needs_no_accelerate() -> None:
    code = """
import sys
from depthscale.train import Budget, TrainConfig, fit
from tests.train.toys import mlp, numbers
fit(mlp(), numbers(), config=TrainConfig(Budget(steps=2)), progress=False)
print('accelerate' in sys.modules)
"""
    root = Path(__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"


def test_bf16_is_close_to_float32_and_not_the_same() -> None:
    full = fit(mlp(), numbers(), config=CONFIG, progress=False)
    model = mlp()
    half = fit(model, numbers(), config=CONFIG.with_(precision="bf16"), progress=False)
    assert half.status == "finished"
    assert half.val["loss"] != full.val["loss"]
    assert half.val["loss"] == pytest.approx(full.val["loss"], rel=0.1)
    # the wrapper is gone: the weights are float32, and the network computes in float32 again
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    plain = mlp()
    plain.load_state_dict(model.state_dict())
    x = numbers().val.x
    assert np.array_equal(predict(model, x), predict(plain, x))


def test_bf16_resumes_bit_for_bit(tmp_path: Path) -> None:
    config = CONFIG.with_(precision="bf16", clip=0.5)
    expected = fit(convnet(), images(), config=config, progress=False)
    trainer = Trainer(convnet(), images(), config, out=tmp_path, progress=False)
    trainer.run(until=Budget(steps=8))
    trainer.close()
    assert same_weights(
        fit(convnet(seed=3), images(), config=config, out=tmp_path, resume=True, progress=False).model, expected.model
    )


def test_precisions_may_follow_each_other_in_one_process() -> None:
    losses = [
        fit(mlp(), numbers(), config=CONFIG.with_(precision=p), progress=False).val["loss"]
        for p in ("bf16", "float32", "bf16")
    ]
    assert losses[0] == losses[2] != losses[1]


def test_a_divergence_in_bf16_is_found() -> None:
    model = mlp()
    model[2].register_forward_hook(lambda m, i, o: o * 1e30 * 1e30 if m.training else o)
    result = fit(model, numbers(), config=CONFIG.with_(precision="bf16"), progress=False)
    assert result.divergence is not None
    assert (result.divergence.step, result.divergence.kind, result.divergence.layer) == (0, "forward", "2")


def plain_convnet(seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        middle = torch.nn.Conv2d(4, 6, 3), torch.nn.Tanh()
        return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), *middle, torch.nn.Flatten(), torch.nn.Linear(96, 3))


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_channels_last_computes_the_same(kind: str) -> None:
    config = CONFIG.with_(budget=Budget(steps=8), optimiser=kind, lr=0.003)
    a = fit(plain_convnet(), images(), config=config, progress=False)
    b = fit(plain_convnet(), images(), config=config.with_(channels_last=True), progress=False)
    assert b.model[1].weight.is_contiguous()  # type: ignore[index, operator]  # as it was
    for x, y in zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-5)


def test_built_graphs_train_with_channels_last(tmp_path: Path) -> None:
    def layout(where: list[bool]) -> Callable[[EpochReport], None]:
        return lambda report: where.append(model.c3.conv1.weight.is_contiguous())

    toy = images(size=28)
    for option, contiguous in ((None, False), (False, True), (True, False)):
        seen: list[bool] = []
        model: Any = build(zoo.lenet5(3), seed=0)
        config = CONFIG.with_(budget=Budget(epochs=1), channels_last=option)
        trainer = Trainer(model, toy, config, on_epoch=layout(seen), progress=False)
        trainer.run(until=Budget(steps=3))
        assert model.c3.conv1.weight.is_contiguous()
        trainer.run()
        assert model.c3.conv1.weight.is_contiguous()
        assert seen == [contiguous]
        whole = build(zoo.lenet5(3), seed=0)
        fit(whole, toy, config=config, progress=False)
        assert same_weights(model, whole)


def test_modules_that_view_are_left_alone() -> None:
    class Viewing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = torch.nn.Conv2d(1, 4, 3), torch.nn.Linear(144, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.conv(x).view(len(x), -1))  # type: ignore[no-any-return]

    assert fit(Viewing(), images(), config=CONFIG, progress=False).status == "finished"


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_channels_last_resumes_bit_for_bit(kind: str, tmp_path: Path) -> None:
    """Files know no memory formats; kernels that walk through memory must find all tensors laid out alike."""
    config = CONFIG.with_(channels_last=True, optimiser=kind, lr=0.003)
    expected = fit(plain_convnet(), images(), config=config, progress=False)
    trainer = Trainer(plain_convnet(), images(), config, out=tmp_path, progress=False)
    trainer.run(until=Budget(steps=7))
    trainer.close()
    resumed = fit(plain_convnet(3), images(), config=config, out=tmp_path, resume=True, progress=False)
    assert same_weights(resumed.model, expected.model)


PROCESSES = """
import json, sys, torch
torch.set_num_threads(1)
from depthscale.train import Budget, TrainConfig, fit
from tests.train.test_devices import distributed_config
from tests.train.toys import images, mlp
net = torch.nn.Sequential(torch.nn.Flatten(), mlp((64, 16, 3)))
result = fit(net, images(), config=distributed_config(), out=sys.argv[1], resume=True, progress=False)
weights = torch.cat([p.detach().ravel() for p in result.model.parameters()]).tolist()
import os
if os.environ["RANK"] == "0":
    print(json.dumps([result.status, result.steps, result.val["loss"], weights]))
"""


def distributed_config() -> TrainConfig:
    return TrainConfig(Budget(epochs=3), batch=32, lr=0.01, device="cpu", clip=1.0, patience=9)


@pytest.mark.slow
def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESSES, tmp_path / "run"],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"RANK": str(r), "LOCAL_RANK": str(r), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
            | {"MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"},
        )
        for r in range(2)
    ]
    said = [p.communicate(timeout=120) for p in processes]
    assert [p.returncode for p in processes] == [0, 0], said[0][1][-2000:] + said[1][1][-2000:]
    status, steps, loss, weights = json.loads(said[0][0].splitlines()[-1])
    net = torch.nn.Sequential(torch.nn.Flatten(), mlp((64, 16, 3)))
    alone = fit(net, images(), config=distributed_config(), progress=False)
    assert (status, steps) == ("finished", alone.steps)
    assert loss == pytest.approx(alone.val["loss"], rel=1e-4)
    own = torch.cat([p.detach().ravel() for p in alone.model.parameters()])
    torch.testing.assert_close(torch.tensor(weights), own, rtol=1e-3, atol=1e-5)
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_noise_is_the_same_with_augmentation_off_and_on_zero() -> None:
    """Asking for no augmentation and for one that does nothing are the same run."""
    a = fit(convnet(), images(), config=CONFIG, progress=False)
    b = fit(convnet(), images(), config=CONFIG.with_(augment=Augment()), progress=False)
    assert same_weights(a.model, b.model)
