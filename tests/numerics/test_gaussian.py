import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import special

from depthscale.errors import TheoryError
from depthscale.numerics import Estimate
from depthscale.numerics.gaussian import gaussian_mean, gaussian_pair

VARIANCES = np.array([1e-12, 1e-6, 1e-3, 1.0, 10.0, 1e3, 1e6])
CORRELATIONS = [-1.0, -0.999999, -0.5, 0.0, 0.3, 0.9, 0.999, 1 - 1e-6, 1 - 1e-10, 1.0]


def relu(x):
    return np.maximum(x, 0)


def erf_pair(q, c):
    """Williams 1997, by arctangent: the arcsine of a number beside 1 loses what the kernel keeps."""
    return 2 / np.pi * np.arctan2(2 * q * c, np.sqrt((1 + 2 * q * (1 - c)) * (1 + 2 * q * (1 + c))))


def relu_pair(q, c):
    """Cho & Saul 2009, the arc-cosine kernel of degree one."""
    theta = np.arctan2(np.sqrt((1 - c) * (1 + c)), c)
    return q / (2 * np.pi) * (np.sin(theta) + (np.pi - theta) * c)


def sign_pair(q, c):
    return 2 / np.pi * np.arcsin(c) + 0 * q


@pytest.mark.parametrize("c", CORRELATIONS)
@pytest.mark.parametrize(
    ("f", "exact"), [(special.erf, erf_pair), (relu, relu_pair), (np.sign, sign_pair)], ids=["erf", "relu", "sign"]
)
def test_pairs_match_closed_forms_from_smooth_to_jump_and_the_error_bounds_the_truth(f, exact, c):
    found = gaussian_pair(f, None, VARIANCES, c)
    truth, size = exact(VARIANCES, c), exact(VARIANCES, 1.0)
    conditioning = 4e-16 / np.sqrt(max(1 - abs(c), 1e-16)) * (abs(c) < 1)  # of the closed forms in c
    assert np.all(np.abs(found.value - truth) <= 3e-15 * size)
    assert np.all(np.abs(found.value - truth) <= found.error + (2e-15 + conditioning) * size)
    assert np.all(found.error <= 1e-13 * size)


def test_two_different_functions():
    c, q = np.array([-0.7, 0.0, 0.4, 1.0]), 2.0
    found = gaussian_pair(relu, np.sign, q, c)
    # Stein: E[relu(u1) sign(u2)] = q c E[relu'(u1) … ]; by direct integration it is √(q/2π) (1 + c)/2 · … = √(q/2π) c
    assert found.value == pytest.approx(np.sqrt(q / (2 * np.pi)) * c, abs=1e-14)


def test_pair_with_a_mean_matches_a_two_dimensional_sum():
    q, c, m = 0.8, 0.6, 0.7
    x, w = np.polynomial.hermite_e.hermegauss(80)
    w = w / np.sqrt(2 * np.pi)
    u1 = m + np.sqrt(q) * x[:, None]
    u2 = m + np.sqrt(q) * (c * x[:, None] + np.sqrt(1 - c * c) * x[None, :])
    direct = np.sum(w[:, None] * w[None, :] * np.tanh(u1) * np.tanh(u2))
    assert float(gaussian_pair(np.tanh, None, q, c, m)) == pytest.approx(direct, abs=1e-12)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(a=st.floats(-3, 3), b=st.floats(-3, 3), q=st.floats(1e-6, 1e4), m=st.floats(-3, 3))
def test_kinks_and_jumps_are_found_wherever_they_are(a, b, q, m):
    a, b = min(a, b), max(a, b)

    def f(x):
        return np.where(x < a, -1.0, np.where(x < b, 0.0, x - b))

    z = (b - m) / np.sqrt(q)
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    truth = -special.ndtr((a - m) / np.sqrt(q)) + (m - b) * special.ndtr(-z) + np.sqrt(q) * density
    found = gaussian_mean(f, q, m)
    assert abs(float(found) - truth) <= found.error + 1e-14 * (1 + np.sqrt(q))
    assert found.error <= 1e-9 * (1 + np.sqrt(q))


def test_growth_is_followed_until_it_diverges():
    found = gaussian_mean(np.exp, [1.0, 100.0, 1e4])
    assert found.value[:2] == pytest.approx(np.exp([0.5, 50.0]), rel=1e-12)
    assert np.isinf(found.value[2])
    assert np.isinf(found.error[2])
    heavy = gaussian_mean(lambda x: np.exp(x * x / 4), [1.0, 1.9, 3.0])
    assert heavy.value[:2] == pytest.approx(1 / np.sqrt(1 - np.array([0.5, 0.95])), rel=1e-11)
    assert np.isinf(heavy.value[2])
    assert "diverges" in heavy.how


def test_noise_is_reported_as_unresolved():
    def rough(x):
        return np.tanh(x) + 1e-4 * np.sin(1e9 * x * x)

    found = gaussian_mean(rough, 1.0)
    assert abs(float(found)) <= found.error
    assert found.error > 1e-9


@pytest.mark.parametrize("q", [-1e-9, np.nan, np.inf, []])
def test_a_variance_that_is_none_is_refused(q):
    with pytest.raises(TheoryError, match="variance"):
        gaussian_mean(np.tanh, q)


@pytest.mark.parametrize("c", [1.1, -2.0, np.nan, []])
def test_a_correlation_that_is_none_is_refused(c):
    with pytest.raises(TheoryError, match="correlation"):
        gaussian_pair(np.tanh, None, 1.0, c)


def test_estimates_print_and_convert():
    e = Estimate(1.25, 3e-9, "by hand")
    assert float(e) == 1.25
    assert str(e) == "1.25 ± 3e-09"
    assert f"{e:.1f}" == "1.2"
    assert np.asarray(Estimate(np.arange(3.0), np.zeros(3), "")).tolist() == [0.0, 1.0, 2.0]
