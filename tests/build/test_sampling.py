"""Draws against their laws: moments within their standard error, orthogonality exactly, and independence of context."""

import math

import pytest
import torch

from depthscale import zoo
from depthscale.build import build
from depthscale.build.sampling import draw, generator
from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Node, ParameterSpec, edit, laws, ops
from depthscale.graph.laws import Fans

LAWS = [
    laws.Normal(0.7, mean=0.3),
    laws.Normal(2.0, fan="in"),
    laws.Normal(2.0, fan="out"),
    laws.XAVIER,
    laws.TORCH_DEFAULT,
    laws.Uniform(0.5, mean=-1.0),
    laws.TruncatedNormal(0.02, cut=1.5),
    laws.TruncatedNormal(1.0, cut=100.0, fan="in"),
    laws.Constant(0.25),
    laws.Measured(0.2, 0.5),
    laws.Measured(0.0, 0.01, orthogonal=True),
    laws.Orthogonal(1.5),
    laws.Orthogonal(1.5, delta=True),
    laws.Mirrored(1.2),
    laws.Mirrored(1.2, inputs=False),
    laws.Mirrored(1.2, outputs=False, delta=True),
]


def spec(law, shape):
    fan_in = math.prod(shape[1:])
    return ParameterSpec(shape, law, Fans(fan_in, shape[0] * math.prod(shape[2:])))


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("shape", [(60, 100), (64, 32, 3, 3)], ids=str)
def test_moments(law, shape):
    one = spec(law, shape)
    draws = torch.stack([draw(one, seed, "w").double() for seed in range(12)])
    assert tuple(draws.shape[1:]) == shape
    n = draws.numel()
    error = draws.std().item() / math.sqrt(n)  # mirrored halves are equal: a little above for them
    assert draws.mean().item() == pytest.approx(one.moments.mean, abs=6 * error + 1e-7)
    square = (draws**2).mean().item()
    spread = (draws**2).std().item() / math.sqrt(n)
    assert square == pytest.approx(one.moments.mean_square, abs=6 * spread + 1e-7 * one.moments.mean_square)


def test_shapes_of_distributions():
    n, fans = 200_000, Fans(1, 1)
    u = draw(ParameterSpec((n,), laws.Uniform(2.0, mean=1.0), fans), 0, "u")
    assert -1 <= u.min() < -0.999
    assert 2.999 < u.max() <= 3
    t = draw(ParameterSpec((n,), laws.TruncatedNormal(0.5, cut=1.0), fans), 0, "t")
    assert 0.4999 < t.abs().max() <= 0.5
    inside = math.erf(0.5 / math.sqrt(2)) / math.erf(1 / math.sqrt(2))  # P(|z| < ½ | |z| < 1)
    share = (t.abs() < 0.25).double().mean().item()
    assert share == pytest.approx(inside, abs=5 * math.sqrt(inside * (1 - inside) / n))
    z = draw(ParameterSpec((n,), laws.UNIT, fans), 0, "z").double()
    assert (z**4).mean().item() == pytest.approx(3, abs=5 * math.sqrt(96 / n))


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (8, 8), (4, 3, 3, 3), (40, 3, 3, 3), (5,)])
def test_orthogonal(shape):
    w = draw(spec(laws.Orthogonal(1.7), shape), 0, "w")
    matrix = w.reshape(shape[0], -1)
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    torch.testing.assert_close(gram, 1.7**2 * torch.eye(len(gram), dtype=w.dtype), rtol=0, atol=1e-14 * 10)


def test_orthogonal_is_haar():
    """Under Haar measure on O(2) every entry has mean 0, and det is ±1 with equal odds; QR alone fixes signs."""
    draws = torch.stack([draw(spec(laws.Orthogonal(), (2, 2)), seed, "w") for seed in range(2000)])
    assert draws.mean(0).abs().max() < 5 * math.sqrt(0.5 / 2000)
    assert abs(torch.linalg.det(draws).mean()) < 5 / math.sqrt(2000)
    angle = torch.atan2(draws[:, 0, 1], draws[:, 0, 0])
    assert (angle.cos() ** 2).mean().item() == pytest.approx(0.5, abs=5 * math.sqrt(1 / 8 / 2000))


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (4, 6, 5), (4, 4, 2, 3)])
def test_delta_orthogonal_is_an_orthogonal_map_at_every_position(shape):
    w = draw(spec(laws.Orthogonal(1.3, delta=True), shape), 0, "w")
    centre = (slice(None), slice(None), *(k // 2 for k in shape[2:]))
    matrix = w[centre]
    gram = matrix @ matrix.T if shape[0] <= shape[1] else matrix.T @ matrix
    torch.testing.assert_close(gram, 1.69 * torch.eye(len(gram), dtype=w.dtype), rtol=0, atol=1e-13)
    w[centre] = 0
    assert not w.any()


@pytest.mark.parametrize("act", ["relu", "gelu", "silu", "softplus"])
@pytest.mark.parametrize("image", [False, True])
def test_mirrored_networks_start_linear(act, image):
    """Balduzzi et al. 2017: φ(h) − φ(−h) = h for these, so the network is an orthogonal linear map."""
    width, depth = 16, 6
    net = Builder()
    x = net.input(*((8, 4, 4) if image else (8,)))
    for i in range(depth):
        last = i == depth - 1
        law = laws.Mirrored(1.0, inputs=i > 0, outputs=not last, delta=image)
        size = 8 if last else width
        x = x.then(ops.Conv(size, 3, padding=1, weight=law, bias=None) if image else ops.Linear(size, law, None))
        if not last:
            x = x.then(ops.Activation(act))
    module = build(net.graph(x), dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(5, *((8, 4, 4) if image else (8,)), generator=g, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close(module(2 * a - 3 * b), 2 * module(a) - 3 * module(b), rtol=0, atol=1e-11)
    torch.testing.assert_close(module(a).norm(), a.norm())  # orthogonal: A is 8 × 8 in every layer


def test_mirrored_blocks():
    w = draw(spec(laws.Mirrored(2.0), (6, 4)), 0, "w")
    a = w[:3, :2]
    assert torch.equal(w, torch.cat((torch.cat((a, -a), 1), torch.cat((-a, a), 1))))
    torch.testing.assert_close(a.T @ a, 4 * torch.eye(2, dtype=a.dtype))
    w = draw(spec(laws.Mirrored(inputs=False), (6, 4)), 0, "w")
    assert torch.equal(w[:3], -w[3:])
    w = draw(spec(laws.Mirrored(outputs=False), (6, 4)), 0, "w")
    assert torch.equal(w[:, :2], -w[:, 2:])


def test_mirrored_needs_even_widths():
    graph = Graph((Node("x", ops.Input((4,))), Node("a.b", ops.Linear(5, laws.Mirrored()), ("x",))))
    with pytest.raises(GraphError, match=r"'a.b.weight'.*even number of outputs, got shape \(5, 4\).*outputs=False"):
        build(graph)


def test_a_draw_depends_on_seed_and_name_only():
    x = Node("x", ops.Input((4,)))
    a, b = Node("a", ops.Linear(4), ("x",)), Node("b", ops.Linear(4), ("x",))
    c = Node("c", ops.Add(), ("a", "b"))
    one, other = build(Graph((x, a, b, c)), seed=3), build(Graph((x, b, a, c)), seed=3)
    alone = build(Graph((x, a)), seed=3)
    assert torch.equal(one.a.weight, other.a.weight)
    assert torch.equal(one.a.weight, alone.a.weight)
    assert not torch.equal(one.a.weight, one.b.weight)
    assert not torch.equal(one.a.weight, build(Graph((x, a)), seed=4).a.weight)
    wider = edit.insert(Graph((x, a)), "x", "pre", ops.Linear(4))
    assert torch.equal(build(wider, seed=3).a.weight, alone.a.weight)


def test_generators_are_fixed_numbers():
    """The stream of a name must not change between versions: a seed in a paper would mean another network."""
    first = torch.randint(0, 2**31, (3,), generator=generator(0, "head.linear1.weight")).tolist()
    assert first == [1577577676, 845942075, 1226027065]


def test_the_same_network_in_every_dtype():
    graph = zoo.mlp((5, 8, 3), weight=laws.Orthogonal(1.0))
    double, single, half = (build(graph, 1, dtype=d).state_dict() for d in (torch.float64, torch.float32, torch.half))
    for name, value in double.items():
        assert torch.equal(single[name], value.float())
        assert torch.equal(half[name], value.half())
