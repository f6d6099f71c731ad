import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from depthscale.errors import DepthscaleError
from depthscale.foundations.polynomial_curve import PolynomialCurve


def noisy(f, n=60, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-3, 5, n)
    return x[:, None], f(x) + noise * rng.normal(size=n)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_one_variable_as_numpy_fits_it(degree, seed):
    x, y = noisy(np.sin, seed=seed)
    model = PolynomialCurve(degree).fit(x, y)
    oracle = np.polynomial.Polynomial.fit(x[:, 0], y, degree)
    grid = np.linspace(-3, 5, 50)
    np.testing.assert_allclose(model.predict(grid[:, None]), oracle(grid), atol=1e-9)
    np.testing.assert_allclose(model.polynomial_(grid), oracle(grid), atol=1e-9)


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 100.0])
def test_a_ridge_solves_its_normal_equations(alpha):
    x, y = noisy(np.sin)
    weight = np.random.default_rng(1).uniform(0, 2, len(y))
    model = PolynomialCurve(5, alpha=alpha).fit(x, y, weight)
    a = ((x - model.box_.middle) / model.box_.half) ** np.arange(6)
    penalty = alpha * np.diag([0.0, 1, 1, 1, 1, 1])
    naive = np.linalg.solve(a.T @ (a * weight[:, None]) + penalty, a.T @ (weight * y))
    np.testing.assert_allclose(model.coef_, naive, rtol=1e-8, atol=1e-10)


def test_weights_are_repetitions():
    x, y = noisy(np.cos)
    times = np.random.default_rng(2).integers(0, 4, len(y))
    weighted = PolynomialCurve(3).fit(x, y, times)
    repeated = PolynomialCurve(3).fit(np.repeat(x, times, axis=0), np.repeat(y, times))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-9)


def test_two_variables_and_two_targets():
    x = np.random.default_rng(3).normal(size=(40, 2))
    y = np.column_stack([1 + x[:, 0] * x[:, 1], x[:, 1] ** 2])
    model = PolynomialCurve(2).fit(x, y)
    np.testing.assert_allclose(model.predict(x), y, atol=1e-12)


def test_cross_validation_finds_the_degree_of_the_truth():
    x, y = noisy(lambda t: t**3 - 5 * t, n=80, noise=1.0)
    model = PolynomialCurve("auto").fit(x, y)
    assert model.degree_ == 3
    assert min(model.validation_, key=model.validation_.get) == 3
    assert 0.6 < model.validation_[3] < 1.6  # the noise has variance 1


def test_a_bad_condition_is_named():
    x, y = noisy(np.sin, n=40)
    with pytest.warns(UserWarning, match=r"condition number of degree 25 on 40 rows is \d\.\de\+\d\d.*about \d digits"):
        PolynomialCurve(25).fit(x, y)
    with pytest.warns(UserWarning, match="is inf"):
        model = PolynomialCurve(3).fit(np.ones((5, 1)), [1.0, 2, 3, 4, 5])
    assert model.predict([[1.0]]) == pytest.approx(3)
    PolynomialCurve(25, alpha=1e-3).fit(x, y)


def test_few_rows():
    assert PolynomialCurve("auto").fit([[1.0]], [2.0]).predict([[5.0]]) == pytest.approx(2)
    assert PolynomialCurve("auto").fit([[1.0], [2.0]], [2.0, 2.0]).degree_ == 0
    assert PolynomialCurve(0).fit([[1.0], [2.0]], [2.0, 4.0]).predict([[9.0]]) == pytest.approx(3)


@pytest.mark.parametrize("options", [{"degree": -1}, {"alpha": -1.0}, {"alpha": float("nan")}, {"degree": "best"}])
def test_bad_options(options):
    with pytest.raises(DepthscaleError, match="expected"):
        PolynomialCurve(**options).fit(*noisy(np.sin))


def test_bad_weights_and_absurd_sizes():
    x, y = noisy(np.sin)
    with pytest.raises(ValueError, match="weight"):  # scikit-learn's own words, or ours
        PolynomialCurve().fit(x, y, np.zeros(len(y)))
    with pytest.raises(DepthscaleError, match="do not fit"):
        PolynomialCurve(20).fit(np.random.default_rng(0).normal(size=(5, 200)), np.arange(5))
