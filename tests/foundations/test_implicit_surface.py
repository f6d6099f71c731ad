import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from depthscale.errors import DepthscaleError
from depthscale.foundations.implicit_surface import ImplicitSurface
from depthscale.foundations.monomials import gradients, monomials


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_gradients_are_central_differences(variables, degree, seed):
    x, h = np.random.default_rng(seed).uniform(-1, 1, (4, variables)), 1e-5
    found = gradients(x, degree)
    for k in range(variables):
        step = np.eye(variables)[k] * h
        naive = (monomials(x + step, degree) - monomials(x - step, degree)) / (2 * h)
        np.testing.assert_allclose(found[:, :, k], naive, atol=1e-8)


def circle(n, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    radius = 2 + noise * rng.normal(size=n)
    return np.column_stack([3 + radius * np.cos(angle), -1 + radius * np.sin(angle)])


def test_a_circle_is_found_and_distances_are_those_from_it():
    surface = ImplicitSurface(2).fit(circle(40))
    assert np.abs(surface.distance(circle(200, seed=1))).max() < 1e-12
    for off in (1e-2, 1e-3):  # first order: the error falls with the square
        near = np.array([[3 + 2 + off, -1.0], [3.0, -1 + 2 - off]])
        assert np.abs(surface.distance(near) - off).max() < 2 * off**2
    assert np.sign(surface.decision_function([[3.0, -1.0]])) != np.sign(surface.decision_function([[9.0, 9.0]]))


def test_w_is_the_smallest_eigenvector_and_its_value():
    x = circle(50, noise=0.1)
    surface = ImplicitSurface(3).fit(x)
    a = monomials(surface.box_.inside(x), 3)
    values, vectors = np.linalg.eigh(a.T @ a / len(a))
    assert abs(vectors[:, 0] @ surface.coef_) == pytest.approx(1, abs=1e-8)
    assert surface.singular_values_[-1] ** 2 == pytest.approx(values[0], rel=1e-6)
    assert np.linalg.norm(surface.coef_) == pytest.approx(1)
    assert surface.score(x) == pytest.approx(-(0.1**2), rel=0.5)


def test_points_that_do_not_determine_the_surface_are_told():
    with pytest.warns(UserWarning, match="3 independent surfaces"):
        surface = ImplicitSurface(2).fit(circle(3))
    assert surface.surfaces_ == 3
    with pytest.warns(UserWarning, match="2 independent surfaces of degree 1"):
        ImplicitSurface(1).fit(np.ones((5, 2)))


@pytest.mark.parametrize("degree", [0, -1, 1.5, "auto"])
def test_what_is_no_degree(degree):
    with pytest.raises(DepthscaleError, match="degree to be"):
        ImplicitSurface(degree).fit(circle(9))


def test_absurd_sizes_are_refused():
    with pytest.raises(DepthscaleError, match="largest degree"):
        ImplicitSurface(9).fit(np.random.default_rng(0).normal(size=(5, 500)))
