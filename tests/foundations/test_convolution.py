"""Convolution and pooling by hand against torch's, over random shapes, in one to three dimensions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.nn import functional as F

from depthscale.errors import DepthscaleError
from depthscale.foundations.convolution import convolution_matrix, convolve, convolve_backward
from depthscale.foundations.pooling import max_pool, max_pool_backward
from depthscale.foundations.windows import Windows

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
TIGHT = {"rtol": 1e-10, "atol": 1e-10}


@st.composite
def cases(draw):
    """x, weight, bias and the options of a convolution that fits."""
    dims = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 3))
    each = {}
    for name, low, high in (("kernel", 1, 3), ("stride", 1, 3), ("padding", 0, 2), ("dilation", 1, 2)):
        each[name] = tuple(draw(st.integers(low, high)) for _ in range(dims))
    span = [d * (k - 1) + 1 - 2 * p for k, p, d in zip(each["kernel"], each["padding"], each["dilation"], strict=True)]
    size = tuple(max(1, s) + draw(st.integers(0, 3)) for s in span)
    inputs, outputs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.normal(size=(draw(st.integers(1, 3)), inputs, *size))
    weight = rng.normal(size=(outputs, inputs // groups, *each.pop("kernel")))
    return x, weight, rng.normal(size=outputs), each | {"groups": groups}


def torch_says(x, weight, bias, options, dy=None):
    parts = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    y = CONV[x.ndim - 2](*parts, **options)
    dy = torch.tensor(dy) if dy is not None else torch.ones_like(y)
    return y.detach().numpy(), [g.numpy() for g in torch.autograd.grad(y, parts, dy)]


@settings(max_examples=60, deadline=None)
@given(cases())
def test_forward_backward_and_matrix(case):
    x, weight, bias, options = case
    y = convolve(x, weight, bias, **options)
    dy = np.random.default_rng(0).normal(size=y.shape)
    expected, gradients = torch_says(x, weight, bias, options, dy)
    np.testing.assert_allclose(y, expected, **TIGHT)
    for found, oracle in zip(convolve_backward(x, weight, dy, **options), gradients, strict=True):
        np.testing.assert_allclose(found, oracle, **TIGHT)
    matrix = convolution_matrix(weight, x.shape[2:], **options)
    flat = (matrix @ x.reshape(len(x), -1).T).T.reshape(y.shape)
    np.testing.assert_allclose(flat + bias.reshape(-1, *(1,) * (x.ndim - 2)), expected, **TIGHT)


@settings(max_examples=20, deadline=None)
@given(cases())
def test_channels_last(case):
    x, weight, bias, options = case
    y = convolve(np.moveaxis(x, 1, -1), weight, bias, channels_last=True, **options)
    expected, gradients = torch_says(x, weight, bias, options)
    np.testing.assert_allclose(np.moveaxis(y, -1, 1), expected, **TIGHT)
    dx, dw, db = convolve_backward(np.moveaxis(x, 1, -1), weight, np.ones_like(y), channels_last=True, **options)
    for found, oracle in zip((np.moveaxis(dx, -1, 1), dw, db), gradients, strict=True):
        np.testing.assert_allclose(found, oracle, **TIGHT)


def test_gradients_are_finite_differences():
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, 4, 5, 4)), rng.normal(size=(6, 2, 3, 2))
    options = {"stride": (2, 1), "padding": 1, "dilation": (1, 2), "groups": 2}
    dy = rng.normal(size=convolve(x, weight, **options).shape)
    dx, dw, _ = convolve_backward(x, weight, dy, **options)
    # the output is linear in each of the two, so a central difference is exact but for rounding
    for array, gradient in ((x, dx), (weight, dw)):
        for place in zip(*[rng.integers(0, n, 20) for n in array.shape], strict=True):
            kept, ends = array[place], []
            for step in (0.5, -0.5):
                array[place] = kept + step
                ends.append((convolve(x, weight, **options) * dy).sum())
            array[place] = kept
            assert ends[0] - ends[1] == pytest.approx(gradient[place], abs=1e-10)


def test_many_images_in_chunks_as_at_once(monkeypatch):
    from depthscale.foundations import convolution

    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(7, 3, 6, 6)), rng.normal(size=(4, 3, 3, 3))
    whole = convolve(x, weight), convolve_backward(x, weight, rng.normal(size=(7, 4, 4, 4)))
    monkeypatch.setattr(convolution, "_BYTES", 1)
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(7, 3, 6, 6)), rng.normal(size=(4, 3, 3, 3))
    parts = convolve(x, weight), convolve_backward(x, weight, rng.normal(size=(7, 4, 4, 4)))
    np.testing.assert_allclose(parts[0], whole[0], **TIGHT)
    for a, b in zip(parts[1], whole[1], strict=True):
        np.testing.assert_allclose(a, b, **TIGHT)


@settings(max_examples=50, deadline=None)
@given(cases(), st.booleans())
def test_max_pooling(case, ties):
    x, weight, _, options = case
    kernel = weight.shape[2:]
    padding = tuple(min(p, k // 2) for p, k in zip(options["padding"], kernel, strict=True))
    rest = {"stride": options["stride"], "padding": padding, "dilation": options["dilation"]}
    if any(
        n + 2 * p < d * (k - 1) + 1 for n, p, k, d in zip(x.shape[2:], padding, kernel, rest["dilation"], strict=True)
    ):
        return
    x = np.round(x) if ties else x
    t = torch.tensor(x, requires_grad=True)
    expected = POOL[x.ndim - 2](t, kernel, **rest)
    if not bool(torch.isfinite(expected).all()):  # and torch's backward would crash
        with pytest.raises(DepthscaleError, match="nothing but margins"):
            max_pool(x, kernel, **rest)
        return
    y, winner = max_pool(x, kernel, **rest)
    np.testing.assert_array_equal(y, expected.detach().numpy())
    dy = np.random.default_rng(0).normal(size=y.shape)
    (oracle,) = torch.autograd.grad(expected, t, torch.tensor(dy))
    np.testing.assert_allclose(max_pool_backward(x, winner, dy, kernel, **rest), oracle.numpy(), **TIGHT)


def test_pooling_by_the_kernel_size_by_default():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    y, winner = max_pool(x, 2)
    np.testing.assert_array_equal(y[0, 0], [[5, 7], [13, 15]])
    assert (winner == 3).all()


@pytest.mark.parametrize(
    ("x", "weight", "options", "says"),
    [
        ((1, 3, 4, 4), (2, 2, 3, 3), {}, "got 3 channels"),
        ((1, 4, 4, 4), (3, 2, 3, 3), {"groups": 2}, "3 outputs"),
        ((1, 2, 2, 2), (2, 2, 3, 3), {}, "does not fit"),
        ((4, 4), (2, 2), {}, "one to three dimensions"),
        ((1, 1, 4, 4), (1, 1, 2, 2), {"stride": 0}, "from 1 up"),
        ((1, 1, 4, 4), (1, 1, 2, 2), {"padding": (1, 1, 1)}, "2 of them"),
    ],
)
def test_what_does_not_fit(x, weight, options, says):
    with pytest.raises(DepthscaleError, match=says):
        convolve(np.ones(x), np.ones(weight), **options)
    if says == "does not fit":
        with pytest.raises(DepthscaleError, match="padding of at most half"):
            max_pool(np.ones(x), 2, padding=2)


def test_windows_are_views():
    windows = Windows.over((4, 4), 2)
    padded = windows.pad(np.ones((1, 4, 4)))
    assert all(np.shares_memory(view, padded) for _, view in windows.views(padded))
