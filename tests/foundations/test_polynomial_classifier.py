"""Separating polynomials and proofs that there are none; on a line, counting sign changes decides which it must be."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import linprog
from sklearn.datasets import load_iris

from depthscale.errors import DepthscaleError
from depthscale.foundations.monomials import monomials
from depthscale.foundations.polynomial_classifier import InfeasibleError, PolynomialClassifier
from depthscale.foundations.separation import Certificate, least_violation, separate

XOR = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])


def naive(model, x):
    """f_w at points by the definition, exponent by exponent."""
    z = (x - model.box_.middle) / model.box_.half
    return np.prod(z[:, None, :] ** model.exponents_[None], axis=2) @ model.coef_[0]


def check(certificate, x, y, degree):
    """A certificate is a proof: one point in both hulls, of monomials up to the degree, of the points as they are."""
    up, down = certificate.positive, certificate.negative
    assert (y[up] == 1).all()
    assert (y[down] == 0).all()
    for weights in (certificate.positive_weights, certificate.negative_weights):
        assert (weights > 0).all()
        assert weights.sum() == pytest.approx(1, abs=1e-12)
    for power in np.ndindex(*(degree + 1,) * x.shape[1]):
        if sum(power) <= degree:
            values = np.prod(x ** np.array(power), axis=1)
            gap = certificate.positive_weights @ values[up] - certificate.negative_weights @ values[down]
            assert abs(gap) < 1e-9 * np.abs(values).max()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=14), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_on_a_line_sign_changes_decide(labels, degree, seed):
    y = np.array(labels, int)
    if y.min() == y.max():
        y[0] = 1 - y[0]
    rng = np.random.default_rng(seed)
    x = np.sort(np.arange(len(y)) + rng.uniform(-0.3, 0.3, len(y)))[:, None]
    changes = int((np.diff(y) != 0).sum())
    model = PolynomialClassifier(degree).fit(x, y)
    assert model.feasible_ == (changes <= degree)
    if model.feasible_:
        assert ((naive(model, x) > 0) == (y == 1)).all()
        assert model.margins_[0] > 0
    else:
        check(model.certificates_[0], x, y, degree)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=10))
def test_auto_is_the_number_of_sign_changes(labels):
    y = np.array(labels, int)
    x = np.arange(len(y), dtype=float)[:, None]
    model = PolynomialClassifier("auto").fit(x, y)
    assert model.degree_ == (np.diff(y) != 0).sum()
    assert model.score(x, y) == 1


def test_margin_is_that_of_the_naive_polynomial():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    model = PolynomialClassifier(2).fit(x, y)
    f = naive(model, x)
    assert np.mean(f**2) == pytest.approx(1)
    assert model.margins_[0] == pytest.approx((np.where(y, 1, -1) * f).min())
    np.testing.assert_allclose(model.decision_function(x), f, atol=1e-9)


def test_least_violation_is_the_primal_optimum():
    rng = np.random.default_rng(1)
    features, signs = monomials(rng.uniform(-1, 1, (400, 3)), 2), np.sign(rng.normal(size=400))
    assert isinstance(separate(features, signs), Certificate)
    w = least_violation(features, signs)
    a = features * signs[:, None]
    primal = linprog(
        np.concatenate([np.zeros(10), np.ones(400)]),
        A_ub=-np.hstack([a, np.eye(400)]),
        b_ub=-np.ones(400),
        bounds=[(None, None)] * 10 + [(0, None)] * 400,
    )
    assert np.maximum(0, 1 - a @ w).sum() == pytest.approx(primal.fun, rel=1e-7)


def test_xor_needs_degree_two():
    y = np.array([0, 0, 1, 1])
    linear = PolynomialClassifier(1).fit(XOR, y)
    check(linear.certificates_[0], XOR, y, 1)
    assert np.isnan(linear.margins_[0])
    assert PolynomialClassifier("auto").fit(XOR, y).degree_ == 2


def test_equal_points_of_both_classes_are_a_proof_at_any_degree():
    x, y = np.vstack([XOR, XOR[:1]]), np.array([0, 0, 1, 1, 1])
    for degree in (0, 2, 6):
        model = PolynomialClassifier(degree).fit(x, y)
        assert not model.feasible_
        assert "equal points of different classes" in str(model.certificates_[0])
        assert {int(model.certificates_[0].positive[0]), int(model.certificates_[0].negative[0])} == {4, 0}
    auto = PolynomialClassifier("auto").fit(x, y)
    assert auto.degree_ == 1  # with either label of the doubtful point taken back, a line will do
    assert auto.score(x, y) == 0.8
    with pytest.raises(InfeasibleError, match="rows 4 and 0 are equal") as caught:
        PolynomialClassifier("auto", infeasible="raise").fit(x, y)
    assert caught.value.certificate.any_degree


def test_all_points_equal():
    x = np.full((6, 3), 7.0)
    model = PolynomialClassifier("auto").fit(x, [0, 0, 0, 0, 1, 1])
    assert (model.predict(x) == 0).all()
    assert PolynomialClassifier().fit(x, ["a"] * 6).predict(x[:1]) == "a"


def test_degree_zero_is_the_majority():
    x = np.arange(9.0)[:, None]
    assert set(PolynomialClassifier(0).fit(x, [0, 1, 1] * 3).predict(x)) == {1}


def test_three_classes_one_against_the_rest():
    x, y = load_iris(return_X_y=True)
    model = PolynomialClassifier(2).fit(x, y)
    assert model.coef_.shape == (3, 15)
    assert model.certificates_[0] is None  # setosa stands apart
    assert model.score(x, y) > 0.97
    assert PolynomialClassifier("auto").fit(x, y).score(x, y) == 1


def test_nothing_changes_when_points_are_shifted_and_stretched():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(50, 2))
    y = (np.hypot(*x.T) < 1).astype(int)
    plain, moved = (PolynomialClassifier(2).fit(z, y) for z in (x, x * [1e9, 1e-9] + [1e9, 5.0]))
    assert plain.feasible_
    assert moved.feasible_


@pytest.mark.parametrize("degree", [-1, 2.5, "aut", None, True])
def test_what_is_no_degree(degree):
    with pytest.raises(DepthscaleError, match="whole number of at least 0"):
        PolynomialClassifier(degree).fit(XOR, [0, 0, 1, 1])


def test_absurd_sizes_and_other_words_are_refused():
    wide = np.random.default_rng(0).normal(size=(4, 2000))
    with pytest.raises(DepthscaleError, match="coefficients, which with 4 rows do not fit"):
        PolynomialClassifier(6).fit(wide, [0, 0, 1, 1])
    assert PolynomialClassifier("auto").fit(wide, [0, 0, 1, 1]).degree_ == 1
    with pytest.raises(DepthscaleError, match="relax"):
        PolynomialClassifier(infeasible="no").fit(XOR, [0, 0, 1, 1])
