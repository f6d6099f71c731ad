"""Weights on disk: whole or not at all, readable by plain safetensors, and never those of another network."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from depthscale import zoo
from depthscale.build import build, load_weights, save
from depthscale.errors import DepthscaleError
from depthscale.graph import Builder, ops


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a, b):
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_round_trip(tmp_path):
    net, other = (build(zoo.resnet(18, 10, image_size=8, width=4, stages=(1,)), seed) for seed in (0, 1))
    net(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    save(net, tmp_path / "deep" / "model.safetensors")
    assert same(load_file(tmp_path / "deep" / "model.safetensors"), net.state_dict())
    assert not same(net.state_dict(), other.state_dict())
    load_weights(other, tmp_path / "deep" / "model.safetensors")
    assert same(net.state_dict(), other.state_dict())
    assert os.listdir(tmp_path / "deep") == ["model.safetensors"]


def test_metadata(tmp_path):
    from safetensors import safe_open

    save(build(zoo.lenet5()), tmp_path / "w")
    with safe_open(tmp_path / "w", "pt") as file:
        metadata = file.metadata()
    assert metadata["schema"] == "depthscale.weights"
    assert len(metadata["architecture"]) == 32


def test_tied_tensors_are_written_once_and_tied_again(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Linear(300, 300), torch.nn.Linear(300, 300)
            self.b.weight = self.a.weight

    module, other = Tied(), Tied()
    save(module, tmp_path / "w")
    assert os.path.getsize(tmp_path / "w") < 1.2 * 300 * 300 * 4
    load_weights(other, tmp_path / "w")
    assert same(module.state_dict(), other.state_dict())
    assert other.a.weight is other.b.weight


def test_shared_parameters_of_a_graph(tmp_path):
    b = Builder()
    x = b.input(4, dtype="int").then(ops.Embedding(7, 5), name="embed")
    net = build(b.graph(x.then(ops.Linear(7, bias=None, shared="embed"))))
    save(net, tmp_path / "w")
    assert list(load_file(tmp_path / "w")) == ["embed.weight"]


def test_other_dtypes_are_converted(tmp_path):
    save(build(zoo.lenet5(), 1, dtype=torch.float64), tmp_path / "w")
    net = build(zoo.lenet5())
    load_weights(net, tmp_path / "w")
    assert same(net.state_dict(), build(zoo.lenet5(), 1).state_dict())


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (zoo.mlp((4, 5, 2)), r"of 4 tensors 2 missing \('layer1.linear1.weight' first\) and 8 unknown \('c1"),
        (zoo.lenet5(7), r"'head.linear1.weight' of shape \(7, 84\), got \(10, 84\)"),
    ],
)
def test_weights_of_another_network(tmp_path, other, said):
    save(build(zoo.lenet5()), tmp_path / "w")
    net = build(other)
    before = state(net)
    with pytest.raises(DepthscaleError, match=said):
        load_weights(net, tmp_path / "w")
    assert same(before, net.state_dict())


def test_files_that_are_no_weights(tmp_path):
    net = build(zoo.lenet5())
    with pytest.raises(DepthscaleError, match="cannot read weights"):
        load_weights(net, tmp_path / "nowhere")
    with pytest.raises(DepthscaleError, match="cannot read weights"):
        load_weights(net, tmp_path)
    save(net, tmp_path / "w")
    whole = (tmp_path / "w").read_bytes()
    for text in (b"", b"x" * 100, whole[: len(whole) // 2], json.dumps({}).encode()):
        (tmp_path / "bad").write_bytes(text)
        with pytest.raises(DepthscaleError, match="cannot read weights"):
            load_weights(net, tmp_path / "bad")
    save_file(dict(net.state_dict()), tmp_path / "future", {"schema": "depthscale.weights", "version": "99"})
    with pytest.raises(DepthscaleError, match="got version 99"):
        load_weights(net, tmp_path / "future")


def test_plain_safetensors_are_welcome(tmp_path):
    save_file(dict(build(zoo.lenet5(), 3).state_dict()), tmp_path / "plain")
    net = build(zoo.lenet5())
    load_weights(net, tmp_path / "plain")
    assert same(net.state_dict(), build(zoo.lenet5(), 3).state_dict())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    net = build(zoo.lenet5())
    save(net, tmp_path / "w")
    old = (tmp_path / "w").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DepthscaleError, match="No space left on device"):
        save(build(zoo.lenet5(), 1), tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == old
    assert os.listdir(tmp_path) == ["w"]


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DepthscaleError, match="cannot write"):
        save(build(zoo.lenet5()), tmp_path / "file" / "w")
    with pytest.raises(DepthscaleError, match="meta device"):
        save(build(zoo.lenet5(), device="meta"), tmp_path / "w")
