import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from depthscale.errors import DepthscaleError
from depthscale.foundations.approximator import approximate, sup_error


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.floats(-3, 0), st.floats(0.5, 4), st.integers(0, 2**32 - 1))
def test_relu_is_linear_interpolation(width, a, length, seed):
    c = np.random.default_rng(seed).normal(size=4)

    def f(x):
        return c[0] + c[1] * np.sin(3 * x) + c[2] * np.abs(x) + c[3] * x**2

    net = approximate(f, a, a + length, width)
    t = np.linspace(a, a + length, width + 1)
    x = np.linspace(a, a + length, 301)
    assert len(net.out) == width
    np.testing.assert_allclose(net(x), np.interp(x, t, f(t)), atol=1e-10)


@pytest.mark.parametrize("width", [4, 32, 256])
def test_errors_within_their_bounds(width):
    assert sup_error(np.sin, approximate(np.sin, 0, 6, width), 0, 6) <= (6 / width) ** 2 / 8
    steps = approximate(np.sin, 0, 6, width, "step")
    assert len(steps.out) == width
    assert sup_error(np.sin, steps, 0, 6) <= 6 / (width + 1) / 2  # |sin'| <= 1


def test_the_bound_is_reached_by_a_parabola():
    h = 2 / 10
    assert sup_error(np.square, approximate(np.square, -1, 1, 10), -1, 1, per_knot=65) == pytest.approx(h**2 / 4)


@pytest.mark.parametrize("options", [(1, 0, 5), (0, 1, 0), (0, 1, 5, "tanh")])
def test_bad_options(options):
    with pytest.raises(DepthscaleError, match="expected a < b"):
        approximate(np.sin, *options)


def test_a_function_that_is_not_finite():
    with pytest.raises(DepthscaleError, match="finite"), np.errstate(divide="ignore", invalid="ignore"):
        approximate(lambda x: 1 / x, 0, 1, 4)
