"""Every op: value against another way of writing it, shape rule, parameter count and multiply-adds against torch."""

import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from depthscale.build import build
from depthscale.build.expressions import expression
from depthscale.build.layers import layer
from depthscale.build.sampling import sample
from depthscale.graph import Builder, Graph, Node, functions, laws, ops
from tests.build.examples import CASES, B

IDS = [f"{i}-{case.op}"[:60] for i, case in enumerate(CASES)]


def test_every_op_has_rules_and_a_case():
    for kind in ops.OPS.values():
        assert kind in layer
        assert kind in expression or kind is ops.Input
    assert {type(c.op) for c in CASES} | {ops.Input, ops.Parameter, ops.Constant} == set(ops.OPS.values())
    assert all(kind in sample for kind in laws.LAWS.values())


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_op(case):
    graph, inputs = case.graph, case.inputs()
    net = build(graph, seed=1).eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as flops:
        out = net(*inputs)
    p = {name.removeprefix("node."): value for name, value in net.named_parameters()}
    with torch.no_grad():
        torch.testing.assert_close(out, case.reference(p, *inputs), rtol=1e-5, atol=1e-5)
    assert tuple(out.shape) == graph.shapes(B)["node"]
    cost = graph.cost(B)
    assert cost.parameters == sum(v.numel() for v in net.parameters())
    assert cost.multiply_adds == flops.get_total_flops() / 2
    assert tuple(net.train()(*inputs).shape) == tuple(out.shape)


# another formula for each; arguments at which the branches differ
X = torch.tensor([-30.0, -3.5, -1.0, -0.4, 0.0, 0.3, 1.0, 2.0, 7.0, 30.0], dtype=torch.float64)
POSITIVE = X.abs() + 0.1


def _sigmoid(x):
    return 1 / (1 + (-x).exp())


def _softplus(x):
    return torch.logaddexp(x, torch.zeros_like(x))


ACTIVATIONS = {
    "celu": ({"alpha": 0.7}, lambda x: torch.where(x > 0, x, 0.7 * (x / 0.7).expm1())),
    "elu": ({"alpha": 0.7}, lambda x: torch.where(x > 0, x, 0.7 * x.expm1())),
    "gelu": ({}, lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2),
    "hardshrink": ({"lambd": 0.4}, lambda x: x * (x.abs() > 0.4)),
    "hardsigmoid": ({}, lambda x: (x / 6 + 0.5).clip(0, 1)),
    "hardswish": ({}, lambda x: x * (x / 6 + 0.5).clip(0, 1)),
    "hardtanh": ({"min_val": -2.0, "max_val": 0.5}, lambda x: x.clip(-2, 0.5)),
    "identity": ({}, lambda x: x),
    "leaky_relu": ({"negative_slope": 0.3}, lambda x: torch.maximum(x, 0.3 * x)),
    "logsigmoid": ({}, lambda x: -_softplus(-x)),
    "mish": ({}, lambda x: x * _softplus(x).tanh()),
    "relu": ({}, lambda x: x.clip(0)),
    "relu6": ({}, lambda x: x.clip(0, 6)),
    "rrelu": ({"lower": 0.1, "upper": 0.3}, lambda x: torch.where(x > 0, x, 0.2 * x)),
    "selu": ({}, lambda x: 1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * x.expm1())),
    "sigmoid": ({}, _sigmoid),
    "silu": ({}, lambda x: x * _sigmoid(x)),
    "softplus": ({"beta": 2.0}, lambda x: _softplus(2 * x) / 2),
    "softshrink": ({"lambd": 0.4}, lambda x: x.sign() * (x.abs() - 0.4).clip(0)),
    "softsign": ({}, lambda x: x / (1 + x.abs())),
    "tanh": ({}, lambda x: 2 * _sigmoid(2 * x) - 1),
    "tanhshrink": ({}, lambda x: x - (2 * _sigmoid(2 * x) - 1)),
    "threshold": ({"threshold": 0.5, "value": -2.0}, lambda x: torch.where(x > 0.5, x, -2.0)),
    "abs": ({}, lambda x: torch.maximum(x, -x)),
    "affine": ({"scale": -0.5, "shift": -0.25}, lambda x: -x / 2 - 1 / 4),
    "clamp": ({"min": -1.5}, lambda x: torch.where(x < -1.5, -1.5, x)),
    "cos": ({}, lambda x: torch.sin(x + math.pi / 2)),
    "erf": ({}, lambda x: torch.tensor([math.erf(v) for v in x.tolist()], dtype=x.dtype)),
    "exp": ({}, lambda x: math.e**x),
    "log": ({}, lambda x: torch.tensor([math.log(v) for v in x.tolist()], dtype=x.dtype)),
    "neg": ({}, lambda x: 0 - x),
    "pow": ({"exponent": 3.0}, lambda x: x * x * x),
    "reciprocal": ({}, lambda x: 1 / x),
    "rsqrt": ({}, lambda x: x**-0.5),
    "sign": ({}, lambda x: (x > 0).double() - (x < 0).double()),
    "sin": ({}, lambda x: torch.tensor([math.sin(v) for v in x.tolist()], dtype=x.dtype)),
    "sqrt": ({}, lambda x: x**0.5),
    "square": ({}, lambda x: x * x),
    "step": ({}, lambda x: torch.where(x > 0, 1.0, 0.0).double()),
}


@pytest.mark.parametrize("name", sorted(functions.FUNCTIONS))
def test_activation(name):
    given, reference = ACTIVATIONS[name]
    x = POSITIVE if name in ("log", "sqrt", "rsqrt") else X[X != 0] if name == "reciprocal" else X
    net = build(one(ops.Activation(name, tuple(given.items())), len(x)), dtype=torch.float64).eval()
    torch.testing.assert_close(net(x[None])[0], reference(x), rtol=1e-12, atol=1e-12)


def test_activations_at_unusual_parameters():
    tanh = build(one(ops.Activation("gelu", (("approximate", "tanh"),)), len(X)), dtype=torch.float64)
    inner = math.sqrt(2 / math.pi) * (X + 0.044715 * X**3)
    torch.testing.assert_close(tanh(X[None])[0], X / 2 * (1 + inner.tanh()), rtol=1e-12, atol=1e-12)
    for name in ("affine", "clamp"):  # at their defaults they do nothing
        assert torch.equal(build(one(ops.Activation(name), len(X)), dtype=torch.float64)(X[None])[0], X)


def one(op: ops.Op, width: int) -> Graph:
    return Graph((Node("x", ops.Input((width,))), Node("y", op, ("x",))))


def test_fed_weights():
    """Weight standardisation and a factorised weight: the weight is computed by the graph."""
    net = Builder()
    x = net.input(4, 6, 6)
    w = net.add(ops.Parameter((8, 4, 3, 3), laws.UNIT), name="w").then(ops.LayerNorm(3, weight=None, bias=None))
    y = x.then(ops.Conv(8, 3, padding=1, weight=None, bias=laws.UNIT), w, name="conv").then(ops.Flatten())
    u, v = net.add(ops.Parameter((5, 2)), name="u"), net.add(ops.Parameter((2, 288)), name="v")
    graph = net.graph(y.then(ops.Linear(5, None, None), u.then(ops.MatMul(), v), name="out"))
    module = build(graph)
    state = module.state_dict()
    assert list(state) == ["w.weight", "conv.bias", "u.weight", "v.weight"]
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    standard = state["w.weight"].flatten(1)
    standard = (standard - standard.mean(1, True)) / standard.var(1, unbiased=False, keepdim=True).add(1e-5).sqrt()
    y = torch.conv2d(x, standard.view(8, 4, 3, 3), state["conv.bias"], padding=1).flatten(1)
    torch.testing.assert_close(module(x), y @ (state["u.weight"] @ state["v.weight"]).T, rtol=1e-4, atol=1e-4)


def test_constants_are_buffers_drawn_by_law():
    net = Builder()
    c = net.add(ops.Constant((6,), laws.Constant(2.5)), name="c")
    noise = net.add(ops.Constant((1000, 6), laws.Normal(3.0)), name="deep.noise")
    module = build(net.graph(net.input(6).then(ops.Multiply(), c), noise))
    assert list(module.state_dict()) == ["c.value", "deep.noise.value"]
    assert not list(module.parameters())
    y, noise_value = module(torch.ones(2, 6))
    assert torch.equal(y, torch.full((2, 6), 2.5))
    assert noise_value.std().item() == pytest.approx(3.0, abs=5 * 3 / math.sqrt(12000))


@pytest.mark.parametrize(("causal", "kind"), [(True, "bool"), (True, "float"), (False, "bool")])
def test_attention_masks(causal, kind):
    """A mask and causality together, against the softmax written out over the tokens that may be seen."""
    net = Builder()
    q, k, v = (net.input(2, 4, 3, name=n) for n in "qkv")
    mask = net.input(1, 4, 4, name="mask", dtype=kind)
    module = build(net.graph(q.then(ops.Attention(causal), k, v, mask)))
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, 4, 3, generator=g) for _ in range(3))
    seen = torch.tensor([[1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1]], dtype=torch.bool)
    additive = torch.randn(1, 1, 4, 4, generator=g).expand(2, 1, 4, 4)
    out = module(q, k, v, seen.expand(2, 1, 4, 4) if kind == "bool" else additive)
    for t in range(4):
        last = t if causal else 3
        tokens = [s for s in range(last + 1) if kind == "float" or seen[t, s]]
        scores = (q[:, :, t, None] * k[:, :, tokens]).sum(-1) / math.sqrt(3)
        if kind == "float":
            scores = scores + additive[:, :, t, tokens]
        expected = (scores.softmax(-1)[..., None] * v[:, :, tokens]).sum(2)
        torch.testing.assert_close(out[:, :, t], expected)


def test_drop_path_and_dropout_keep_the_mean():
    x = torch.ones(4000, 1)
    for op, p in ((ops.DropPath(0.3), 0.3), (ops.Dropout(0.4), 0.4), (ops.Dropout(0.4, channels=True), 0.4)):
        net = build(one(op, 1))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            y = net(x)
        assert set(y.flatten().tolist()) == {0.0, torch.tensor(1 / (1 - p)).item()}
        assert y.mean().item() == pytest.approx(1, abs=5 * math.sqrt(p / (1 - p) / 4000))
        assert torch.equal(net.eval()(x), x)


def test_dropped_channels_go_as_a_whole():
    for shape in ((5,), (5, 7), (5, 4, 4), (5, 2, 2, 2)):
        net = build(Graph((Node("x", ops.Input(shape)), Node("y", ops.Dropout(0.5, True), ("x",)))))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            y = net(torch.ones(20, *shape)).reshape(20, 5, -1)
        assert (y == y[..., :1]).all()
        assert 10 < (y[..., 0] == 0).sum() < 90
