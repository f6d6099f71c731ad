"""Forward and backward by hand against torch's autograd and finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.nn import functional as F

from depthscale.errors import DepthscaleError
from depthscale.foundations import multilayer as m

TORCH = {
    "RELU": torch.relu,
    "TANH": torch.tanh,
    "SIGMOID": torch.sigmoid,
    "SOFTPLUS": F.softplus,
    "SINE": torch.sin,
    "IDENTITY": lambda z: z,
}
TIGHT = {"rtol": 1e-10, "atol": 1e-10}


def torch_forward(layers, function, x):
    a = x
    for i, (weight, bias, residual) in enumerate(layers):
        z = F.linear(a, weight, bias)
        f = z if i == len(layers) - 1 else function(z)
        a = a + f if residual else f
    return a


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=6),
    st.sampled_from(sorted(TORCH)),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_every_gradient_is_autograds(widths, name, residual, classify, seed):
    rng = np.random.default_rng(seed)
    layers = m.make(widths, getattr(m, name), rng, residual=residual)
    layers = [m.Layer(y.weight, rng.normal(size=y.bias.shape), y.activation, y.residual) for y in layers]
    x, rows = rng.normal(size=(4, widths[0])), 4
    parts = [(torch.tensor(y.weight), torch.tensor(y.bias)) for y in layers]
    leaves = [torch.tensor(x), *[p for pair in parts for p in pair]]
    for leaf in leaves:
        leaf.requires_grad_()
    triples = [(w, b, y.residual) for (w, b), y in zip(parts, layers, strict=True)]
    out = torch_forward(triples, TORCH[name], leaves[0])
    output, kept = m.forward(layers, x)
    if classify:
        labels = rng.integers(0, widths[-1], rows)
        loss, delta = m.cross_entropy(output, labels)
        expected = F.cross_entropy(out, torch.tensor(labels))
    else:
        target = rng.normal(size=output.shape)
        loss, delta = m.square_loss(output, target)
        expected = 0.5 * F.mse_loss(out, torch.tensor(target), reduction="sum") / rows
    assert loss == pytest.approx(expected.item(), rel=1e-12, abs=1e-12)
    gradients, dx = m.backward(layers, kept, delta)
    found = [dx, *[g for pair in gradients for g in pair]]
    for ours, theirs in zip(found, torch.autograd.grad(expected, leaves), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), **TIGHT)


def test_an_activation_of_ones_own_against_finite_differences():
    bump = m.Activation(lambda z: z * np.exp(-(z**2)), lambda z: (1 - 2 * z**2) * np.exp(-(z**2)))
    rng = np.random.default_rng(0)
    layers = m.make((3, 4, 4, 2), bump, rng, residual=True)
    assert [y.residual for y in layers] == [False, True, False]
    x, target = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))

    def loss():
        return m.square_loss(m.forward(layers, x)[0], target)[0]

    output, kept = m.forward(layers, x)
    gradients, _ = m.backward(layers, kept, m.square_loss(output, target)[1])
    h = 1e-4
    for layer, (dw, db) in zip(layers, gradients, strict=True):
        for array, gradient in ((layer.weight, dw), (layer.bias, db)):
            for place in np.ndindex(array.shape):
                was, values = array[place], {}
                for k in (-2, -1, 1, 2):
                    array[place] = was + k * h
                    values[k] = loss()
                array[place] = was
                slope = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * h)  # fourth order
                assert slope == pytest.approx(gradient[place], abs=1e-10)


def test_variances_and_biases_at_the_start():
    layers = m.make((1000, 800, 800, 10), m.RELU, np.random.default_rng(0), sw2=2.0)
    for layer, sw2 in zip(layers, (2, 2, 1), strict=True):
        n = layer.weight.shape[1]
        assert layer.weight.var() * n == pytest.approx(sw2, rel=5 * (2 / layer.weight.size) ** 0.5)
        assert (layer.bias == 0).all()


def test_extreme_logits():
    loss, gradient = m.cross_entropy(np.array([[1e4, 0.0], [-1e4, 0.0]]), np.array([0, 0]))
    assert loss == pytest.approx(5000)
    np.testing.assert_allclose(gradient, [[0, 0], [-0.5, 0.5]], atol=1e-300)
    assert m.SIGMOID.value(np.array([-1e4, 1e4])).tolist() == [0, 1]


def test_widths_that_are_none():
    for widths in ((3,), (3, 0, 2)):
        with pytest.raises(DepthscaleError, match="widths"):
            m.make(widths, m.RELU, np.random.default_rng(0))
