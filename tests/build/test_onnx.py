"""ONNX against the module, run by onnxruntime at batch sizes that the export never saw."""

import importlib.util

import pytest
import torch

from depthscale import zoo
from depthscale.build import build, to_onnx
from depthscale.errors import DepthscaleError
from depthscale.graph import Builder, Graph, Node, ops

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def run(path, *inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return session, session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))


def test_a_network_with_batch_norm_and_skips(tmp_path):
    net = build(zoo.resnet(18, 10, image_size=8, width=4, stages=(1, 1)))
    g = torch.Generator().manual_seed(0)
    net(torch.randn(8, 3, 8, 8, generator=g))  # running statistics that are not the initial ones
    net.stem.eval()
    to_onnx(net, tmp_path / "net.onnx")
    assert net.training
    assert not net.stem.training
    x = torch.randn(5, 3, 8, 8, generator=g)
    session, (y,) = run(tmp_path / "net.onnx", x)
    torch.testing.assert_close(torch.from_numpy(y), net.eval()(x), rtol=1e-4, atol=1e-5)
    assert session.get_inputs()[0].name == "input"
    assert session.get_outputs()[0].name == "head_linear1"
    assert not isinstance(session.get_inputs()[0].shape[0], int)


def test_a_graph_with_several_inputs_and_outputs(tmp_path):
    b = Builder()
    words, bias = b.input(4, dtype="int", name="words"), b.input(3, name="bias")
    x = words.then(ops.Embedding(7, 3)).then(ops.Reduce("mean", (1,)))
    graph = b.graph(x + bias, x * bias)
    to_onnx(graph, tmp_path / "net.onnx", seed=4)
    inputs = torch.tensor([[0, 1, 2, 6]]), torch.tensor([[0.5, -1.0, 2.0]])
    _, outs = run(tmp_path / "net.onnx", *inputs)
    for got, want in zip(outs, build(graph, 4)(*inputs), strict=True):
        torch.testing.assert_close(torch.from_numpy(got), want)


def test_without_the_extra(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(DepthscaleError, match=r"needs the package onnxscript; .*depthscale\[onnx\]"):
        to_onnx(zoo.lenet5(), tmp_path / "net.onnx")


def test_what_cannot_be_written(tmp_path):
    fixed = Graph((Node("x", ops.Input((4,))), Node("y", ops.Reshape((1, 4)), ("x",))))  # the batch is in the shape
    with pytest.raises(DepthscaleError, match="cannot be written as ONNX"):
        to_onnx(fixed, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
    to_onnx(fixed, tmp_path / "net.onnx", dynamic_batch=False)
    with pytest.raises(DepthscaleError, match="expected a Graph or a built module"):
        to_onnx(torch.nn.Linear(2, 2), tmp_path / "net.onnx")


def test_a_difference_is_noticed(tmp_path):
    with pytest.raises(DepthscaleError, match="outputs that differ"):
        to_onnx(zoo.lenet5(), tmp_path / "net.onnx", tolerance=-1.0)
