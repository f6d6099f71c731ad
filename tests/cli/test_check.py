"""The verbs check and repair: what they print and write, and one sentence for what they cannot use."""

import json
import os
import pty
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from depthscale.cli import run

FACTORY = """
import torch
from torch import nn

def sick():
    layers = []
    for _ in range(24):
        layers += [nn.Linear(16, 16), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(16, 4))

def raises():
    raise RuntimeError("no such luck")

def wants(depth):
    return nn.Linear(2, 2)

def none():
    return 3

def poisoned():
    model = nn.Linear(4, 4)
    with torch.no_grad():
        model.weight[0, 0] = float("nan")
    return model
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "models.py"
    path.write_text(FACTORY)
    return path


def test_check_prints_a_table_and_json(file, capsys) -> None:
    assert run(["check", f"{file}:sick", "--shape", "16"]) == 0
    text = capsys.readouterr().out
    assert "vanish" in text
    assert "remedy: weights of standard deviation 0.25" in text
    assert run(["check", "zoo:resnet18", "--inputs", "images", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trains"] is True


def test_repair_writes_weights_that_fit_the_model(file, tmp_path, capsys) -> None:
    out = tmp_path / "mended" / "weights.safetensors"
    assert run(["repair", f"{file}:sick", "--shape", "16", "--out", str(out)]) == 0
    assert "→ trains" in capsys.readouterr().out
    weights = load_file(out)
    square = weights["4.weight"] @ weights["4.weight"].T
    assert torch.allclose(square, square[0, 0] * torch.eye(16), atol=1e-4)
    assert run(["repair", "zoo:lenet5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["changes"] == []
    assert "left alone" in told["message"]


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("FILE:raises", "raised RuntimeError: no such luck"),
        ("FILE:wants", "needs arguments (depth)"),
        ("FILE:none", "torch.nn.Module, got int"),
        ("FILE:absent", "to define a function or class"),
        ("FILE:poisoned", "holds NaN or infinite values"),
        ("nowhere.py:net", "there is none"),
        ("zoo:resnet19", "resnet18"),
        ("nonsense", "expected a model as"),
    ],
)
def test_bad_models_end_in_one_sentence_and_status_2(file, capsys, argument: str, says: str) -> None:
    spec = argument.replace("FILE", str(file))
    assert run(["check", spec, "--shape", "4", "--live"]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_a_shape_that_does_not_fit_is_said(file, capsys) -> None:
    assert run(["check", f"{file}:sick", "--shape", "5"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert run(["check", f"{file}:sick", "--shape", "big"]) == 2
    assert "expected a shape such as 3x224x224" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_check_says_that_it_goes_on_only_on_a_terminal(terminal: bool) -> None:
    seen, theirs = pty.openpty()
    command = [sys.executable, "-m", "depthscale", "check", "zoo:lenet5"]
    run = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=theirs if terminal else subprocess.PIPE, check=True,
        env={**os.environ, "TERM": "xterm"}, timeout=120,
    )  # fmt: skip
    os.close(theirs)
    if terminal:
        assert b"through zoo:lenet5" in os.read(seen, 100_000)
    else:
        assert run.stderr == b""
    os.close(seen)
    assert b"lenet5" in run.stdout
    assert b"following" not in run.stdout
