"""Weights of other libraries: small stand-ins with their names and order; the libraries themselves are compared in
benchmarks/zoo_parity.py.
"""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from depthscale import zoo
from depthscale.build import build
from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, all_parameters, blocks, ops
from depthscale.zoo.vit import with_class_token
from depthscale.zoo.weights import _in_order


class Block(nn.Module):
    """A bottleneck as torchvision orders it; ``first`` makes the projection before the rest, as timm does in places."""

    def __init__(self, into: int, width: int, stride: int, first: bool) -> None:
        super().__init__()
        if first:
            self._project(into, width, stride)
        self.conv1, self.bn1 = nn.Conv2d(into, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        if not first:
            self._project(into, width, stride)

    def _project(self, into: int, width: int, stride: int) -> None:
        convolution = nn.Conv2d(into, 4 * width, 1, stride, bias=False)
        self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(y)))))
        return torch.relu(y + self.downsample(x))


class Net(nn.Module):
    """A ResNet of one block per stage."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        self.layer1 = nn.ModuleList([Block(64, 64, 1, first), Block(256, 128, 2, first)])
        self.fc = nn.Conv2d(512, 5, 1) if first else nn.Linear(512, 5)  # some classifiers are 1 × 1 convolutions

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        for block in self.layer1:
            x = block(x)
        x = x.mean((2, 3), keepdim=isinstance(self.fc, nn.Conv2d))
        return self.fc(x).flatten(1)


def network() -> Graph:
    return zoo.resnet(50, 5, image_size=16, stages=(1, 1))


@pytest.mark.parametrize(("load", "first"), [(zoo.load_torchvision, False), (zoo.load_timm, True)])
def test_the_same_weights_give_the_same_numbers(load, first: bool) -> None:
    torch.manual_seed(0)
    theirs = Net(first).double()
    with torch.no_grad():
        for t in (*theirs.parameters(), *(b for b in theirs.buffers() if b.is_floating_point())):
            t.mul_(1 + 0.3 * torch.rand_like(t)).add_(0.02 * torch.rand_like(t))  # no two alike
    ours = build(network(), dtype=torch.float64)
    state = load(network(), theirs.state_dict())
    left, unknown = ours.load_state_dict(state, strict=False)
    assert not unknown
    assert all(name.endswith("num_batches_tracked") for name in left)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    for mode in (True, False):
        torch.testing.assert_close(ours.train(mode)(x), theirs.train(mode)(x), rtol=1e-12, atol=1e-12)


def numpy_state(graph: Graph) -> dict[str, np.ndarray]:
    """Arrays, each filled with its own number, under foreign names."""
    out = {}
    for i, (name, spec) in enumerate(all_parameters(graph).items()):
        out[f"m{i}.{name.rpartition('.')[2]}"] = np.full(spec.shape, float(i))
    for i, node in enumerate(n for n in graph.nodes if isinstance(n.op, ops.BatchNorm)):
        for statistic in ("running_mean", "running_var"):
            out[f"n{i}.{statistic}"] = np.full(graph.shapes()[node.name][1], float(i))
        out[f"n{i}.num_batches_tracked"] = np.array(0)
    return out


@pytest.mark.parametrize("name", ["resnet18", "alexnet", "inception_v1", "dpn68", "vit_ti_16", "nasnetamobile"])
def test_tensors_come_in_order_and_need_no_torch(name: str) -> None:
    graph = zoo.get(name, num_classes=3)
    state = zoo.load_timm(name, numpy_state(graph), num_classes=3)
    specs = all_parameters(graph)
    for i, (parameter, spec) in enumerate(specs.items()):
        assert state[parameter].shape == spec.shape
        assert state[parameter].flat[0] == i
    assert len(state) == len(specs) + 2 * sum(isinstance(n.op, ops.BatchNorm) for n in graph.nodes)


def test_late_modules_go_behind_their_block_and_no_further() -> None:
    names = ["s.downsample.0.weight", "s.conv1.weight", "s.bn1.weight", "t.downsample.0.weight", "t.conv1.weight", "fc"]
    assert _in_order(names) == [names[1], names[2], names[0], names[4], names[3], names[5]]


def test_what_has_no_counterpart_is_named() -> None:
    graph = zoo.lenet5()
    state = numpy_state(graph)
    with pytest.raises(GraphError, match=r"got none for 'extra\.weight' of \(7, 7\)"):
        zoo.load_timm(graph, {**state, "extra.weight": np.zeros((7, 7))})
    del state["m0.weight"]
    with pytest.raises(GraphError, match=r"expected a tensor for 'c1\.conv1\.weight' of shape \(6, 1, 5, 5\)"):
        zoo.load_torchvision(graph, state)


def test_class_token_is_a_concatenation_for_any_batch() -> None:
    net = Builder()
    module = build(net.graph(with_class_token(net.input(4, 6))), dtype=torch.float64)
    (token,) = module.parameters()
    with torch.no_grad():
        token.normal_()
    x = torch.randn(3, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(module(x), torch.cat([token.expand(3, 1, 6), x], 1), rtol=0, atol=0)


def test_attention_is_torchs() -> None:
    net = Builder()
    module = build(net.graph(blocks.attention(net.input(5, 12), 3)), dtype=torch.float64)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True, dtype=torch.float64)
    graph_state = zoo.load_torchvision(module.graph, theirs.state_dict())
    module.load_state_dict(graph_state)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    torch.testing.assert_close(module(x), theirs(x, x, x)[0], rtol=1e-12, atol=1e-12)


def test_heads_must_share_the_width() -> None:
    net = Builder()
    with pytest.raises(GraphError, match="multiple of 5 heads, got 12"):
        blocks.attention(net.input(4, 12), 5)
