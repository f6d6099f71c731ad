"""Backward rules against closed forms."""

import math
import pickle

import numpy as np
import pytest
import torch

import depthscale as ds
from depthscale import zoo
from depthscale.graph import Builder, laws, ops
from depthscale.theory.axes import Axis
from depthscale.theory.backward import backward
from depthscale.theory.backward_attention import response
from depthscale.theory.forward import Setting, forward
from depthscale.theory.moments import independent, state
from depthscale.theory.propagate import Propagation


def _growth(p: Propagation) -> float:
    """Growth of gradient energy per block in the middle of the network."""
    rows = [r for r in p.rows if r.kind == "Linear"]
    return rows[2].energy / rows[3].energy


def test_batch_norm_makes_relu_gradients_explode() -> None:
    """Yang et al. 2019: π/(π − 1) a layer for large batches."""
    p = ds.propagate(zoo.mlp([64, *[64] * 8, 10], norm="batch"), batch=20_000)
    assert _growth(p) == pytest.approx(math.pi / (math.pi - 1), rel=1e-3)


@pytest.mark.parametrize("batch", [6, 10, 40])
def test_batch_norm_makes_linear_gradients_explode(batch: int) -> None:
    """Yang et al. 2019: (B − 2)/(B − 3) a layer; the width adds its own 1/n, here of 4,000 units."""
    p = ds.propagate(zoo.mlp([64, *[64] * 6, 10], act="identity", norm="batch", weight=laws.LECUN), batch=batch)
    assert _growth(p) == pytest.approx((batch - 2) / (batch - 3), rel=2e-2 if batch < 10 else 3e-3)


def test_chi1_of_named_activations() -> None:
    """Gradient energy per layer is chi1 = sw2 E[φ'²] where the length map rests."""
    for name in ("tanh", "gelu", "silu", "softplus"):
        graph = zoo.mlp([64, *[64] * 60, 64], act=name, weight=laws.variance(1.5), bias=laws.Normal(0.3))
        p = ds.propagate(graph)
        q = [r.q for r in p.rows if r.kind == "Linear"][40]
        chi1 = 1.5 * float(ds.activation(name).derivative_second_moment(q))
        rows = [r for r in p.rows if r.kind == "Linear"]
        assert rows[40].energy / rows[41].energy == pytest.approx(chi1, rel=1e-3)


@pytest.mark.parametrize(("n", "variance"), [(4, 0.5), (16, 2.0), (16, 20.0)])
def test_softmax_jacobian_against_samples(n: int, variance: float) -> None:
    rng = np.random.default_rng(0)
    a = np.exp(math.sqrt(variance) * rng.normal(size=(60_000, n)))
    a /= a.sum(axis=1, keepdims=True)
    g = rng.normal(size=a.shape)
    pulled = ((a * (g - (a * g).sum(axis=1, keepdims=True))) ** 2).sum(axis=1)
    assert response(n, variance) == pytest.approx(pulled.mean(), abs=4 * pulled.std() / math.sqrt(60_000))


def test_slices_of_one_tensor_give_back_its_whole_gradient() -> None:
    b = Builder()
    x = b.input(96).then(ops.Linear(96))
    parts = [x.then(ops.Slice(1, 32 * k, 32 * (k + 1))) for k in range(3)]
    p = ds.propagate(b.graph(parts[0].then(ops.Concat(), *parts[1:])))
    assert p["linear1"].g == pytest.approx(1.0)
    assert p.gradient_states["linear1"].part_axis is None


def test_a_selected_token_alone_has_a_gradient() -> None:
    b = Builder()
    x = b.input(8, 16).then(ops.Linear(16)).then(ops.Select(1, 0))
    p = ds.propagate(b.graph(x))
    g = p.gradient_states["linear1"]
    assert g.axes[1].parts == (1, 7)
    assert g.q[0, 0, 0] == pytest.approx(1.0)
    assert g.q[0, 1, 0] == 0.0
    assert p["linear1"].g == pytest.approx(1 / 8)


def test_a_token_of_a_joined_sequence_collects_its_own_inputs() -> None:
    """A class token four times as long in front of patches; the first patch is read: Σ_b g² E[x²] of the patches."""
    b = Builder()
    token, patches = b.input(1, 16, name="token"), b.input(7, 16, name="patches")
    token = token.then(ops.Activation("affine", (("scale", 2.0),)))
    x = token.then(ops.Concat(1), patches).then(ops.Linear(16))
    p = ds.propagate(b.graph(x.then(ops.Select(1, 1))), batch=4)
    assert p.gradients["linear1.weight"] == pytest.approx(4.0)
    first = ds.propagate(b.graph(x.then(ops.Select(1, 0))), batch=4)
    assert first.gradients["linear1.weight"] == pytest.approx(4 * 4.0)


@pytest.mark.parametrize(
    "channels", [Axis(16, factors=(4, 4)), Axis(16, 3), Axis(16, 3, edge=True), Axis(16, parts=(4, 12))]
)
@pytest.mark.parametrize("op", [ops.Conv, ops.ConvTranspose])
def test_depthwise_convolutions_of_channels_that_are_told_apart(
    op: type[ops.Conv] | type[ops.ConvTranspose], channels: Axis
) -> None:
    """y and ∂/∂x are w x and w g channel by channel, so their mean squares are E[w²] times those of x and g.

    Other channels' weights are independent: whatever x and g share across channels, nothing of it is left.
    """
    layer = op(16, 1, groups=16, weight=laws.Normal(3.0), bias=None)
    classes = np.full((2, channels.classes, 2, 2), 0.25)
    classes[:, : channels.same] = 1.0  # all examples and positions of a channel have one value
    x = state((Axis(4), channels, Axis(3), Axis(3)), classes, np.zeros(len(channels.parts)) if channels.parts else 0.0)
    y = forward(layer, Setting(4), x)
    gx = backward(layer, Setting(4), x, y, x).inputs[0]
    assert gx is not None
    for made in (y, gx):
        assert made.length == pytest.approx(9.0)
        np.testing.assert_allclose(made.q[:, : made.axes[1].same], 9.0)
        np.testing.assert_allclose(made.q[:, made.axes[1].same :], 0.0, atol=1e-12)


def test_axes_survive_a_copy() -> None:
    axis = Axis(16, factors=(4, 4))
    assert pickle.loads(pickle.dumps(axis)) is axis


def test_weight_gradients_sum_over_pairs() -> None:
    """One linear layer: Σ_b g_b x_b over a batch whose examples correlate at c; independent g leave B E[x²]."""
    b = Builder()
    p = ds.propagate(b.graph(b.input(32).then(ops.Linear(8, bias=laws.ZERO))), c_input=0.7, batch=10)
    assert p.gradients["linear1.weight"] == pytest.approx(10.0)
    assert p.gradients["linear1.bias"] == pytest.approx(10.0)


def test_shared_parameters_collect_from_all_users() -> None:
    b = Builder()
    x = b.input(32)
    for _ in range(3):
        x = x.then(ops.Linear(32, laws.LECUN, shared="tied"))
    p = ds.propagate(b.graph(x), batch=4)
    assert set(p.gradients) == {"tied.weight", "tied.bias"}
    assert p.gradients["tied.weight"] == pytest.approx(3 * 4.0)


def test_biases_in_front_of_batch_norm_have_no_gradient() -> None:
    b = Builder()
    x = b.input(16).then(ops.Linear(16)).then(ops.BatchNorm()).then(ops.Activation("tanh"))
    p = ds.propagate(b.graph(x))
    assert p.gradients["linear1.bias"] == 0.0
    assert p.gradients["linear1.weight"] > 0


def test_zero_gains_stop_the_branch_and_not_the_shortcut() -> None:
    p = ds.propagate(zoo.resnet(18, image_size=32, num_classes=10, zero_gain=True))
    assert p["stage1.block1.conv1"].g == 0.0
    assert p["stem.conv1"].g > 0
    assert p.trains


def test_average_pooling_spreads_and_global_pooling_divides() -> None:
    x = independent((Axis(2), Axis(3), Axis(4), Axis(4)), 1.0)
    op = ops.Reduce("mean", (2, 3))
    y = forward(op, Setting(2), x)
    g = independent(y.axes, 1.0)
    (gx,) = backward(op, Setting(2), g, y, x).inputs
    assert gx is not None
    np.testing.assert_allclose(gx.q[0, 0], 1 / 256)


def test_masks_along_a_shortcut_agree() -> None:
    """E[1(x' > 0) 1(h > 0)]/(P P) for x' = relu(h) + b, by sampling."""
    from depthscale.theory.masks import slope_agreement

    rng = np.random.default_rng(1)
    h, branch = rng.normal(size=2_000_000), rng.normal(size=2_000_000)
    total = np.maximum(h, 0) + branch
    sampled = ((total > 0) & (h > 0)).mean() / ((total > 0).mean() * (h > 0).mean())
    relu = ops.Activation("relu")
    inner = independent((Axis(4), Axis(8)), 1.0)
    setting = Setting(4)
    x = forward(relu, setting, inner)
    both = forward(ops.Add(), setting, x, independent((Axis(4), Axis(8)), 1.0))
    found = slope_agreement(relu, both, relu, inner, x)
    assert found[0, 0] == pytest.approx(sampled, rel=5e-3)
    assert found[1, 1] == pytest.approx(sampled**2, rel=1e-2)


@pytest.mark.parametrize(("name", "kurtosis"), [("hardswish", 3.0), ("silu", 3.0), ("gelu", 1.8)])
def test_slopes_around_a_depthwise_convolution_agree(name: str, kurtosis: float) -> None:
    """E[K a² φ'(h)² ψ'(y)²]/(E φ'² E ψ'²), y = a φ̃(h) + √(1 − a²) ξ, by sampling weights, activations and the rest."""
    from depthscale.theory.masks import depthwise_agreement

    rng, taps, n = np.random.default_rng(2), 9, 1_000_000
    f = getattr(torch.nn.functional, name)

    def slopes(x: np.ndarray) -> np.ndarray:
        x = torch.tensor(x, requires_grad=True)
        return np.asarray(torch.autograd.grad(f(x).sum(), x)[0])

    h, rest = rng.normal(size=n), rng.normal(size=n)
    w = rng.normal(size=(n, taps)) if kurtosis == 3.0 else rng.uniform(-1, 1, size=(n, taps))
    a = w[:, 0] / np.sqrt((w**2).sum(axis=1))
    shown = np.asarray(f(torch.tensor(h)))
    y = a * (shown - shown.mean()) / shown.std() + np.sqrt(1 - a * a) * rest
    both, own, next_one = slopes(y), slopes(h), slopes(rest)
    terms = taps * a**2 * (own * both) ** 2
    sampled = terms.mean() / ((own**2).mean() * (next_one**2).mean())
    error = 3 * terms.std() / math.sqrt(n) / terms.mean() + 0.01  # the law of a is matched in two moments
    act = ops.Activation(name)
    found = depthwise_agreement(act, act, independent((Axis(4), Axis(8)), 1.0), taps, kurtosis)
    assert sampled > 1.02  # there is something to be seen
    assert found[0, 0] == pytest.approx(sampled, rel=error)


def test_masks_around_a_depthwise_convolution_do_not_agree() -> None:
    """Of ReLUs: half of the signs of a weight favour the one slope, half the other."""
    from depthscale.theory.masks import depthwise_agreement

    relu = ops.Activation("relu")
    found = depthwise_agreement(relu, relu, independent((Axis(4), Axis(8)), 1.0), 9, 3.0)
    assert found[0, 0] == pytest.approx(1.0, abs=1e-3)


def test_a_gate_in_front_of_a_maximum_may_stand_behind_it() -> None:
    """max(s a) = s max(a) for s > 0: the same moments, and the same gradients, of both networks."""

    def gated(pool_first: bool) -> Propagation:
        b = Builder()
        x = b.input(8, 8, 8).then(ops.Conv(32, (3, 3), 1, 1, weight=laws.LECUN)).then(ops.Activation("relu"))
        gate = x.then(ops.Reduce("mean", (2, 3), keep=True)).then(ops.Conv(32, (1, 1)))
        gate = gate.then(ops.Activation("sigmoid"))
        pool = ops.MaxPool(2)
        x = x.then(pool).then(ops.Multiply(), gate) if pool_first else x.then(ops.Multiply(), gate).then(pool)
        return ds.propagate(b.graph(x.then(ops.Conv(16, (1, 1), weight=laws.LECUN))), batch=4)

    before, behind = gated(False), gated(True)
    for name in ("input", "conv1", "conv2", "conv3"):
        assert before[name].q == pytest.approx(behind[name].q, rel=1e-9)
        assert before[name].g == pytest.approx(behind[name].g, rel=1e-9)
    # the product, which is not pooled any more, still shows the gradient of the largest of each window
    (product,), (pool,) = ([r for r in before.rows if r.kind == kind] for kind in ("Multiply", "MaxPool"))
    assert product.energy == pytest.approx(pool.energy, rel=1e-6)
    assert pool.chi == pytest.approx(1.0, rel=1e-6)
