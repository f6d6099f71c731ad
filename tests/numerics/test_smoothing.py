import numpy as np
import pytest

from depthscale.numerics.gaussian import pair_mean
from depthscale.numerics.mesh import Mesh
from depthscale.numerics.smoothing import mean_variance

THETA = np.array([1e-6, 1e-3, 0.05, 0.3, 1.0, 1.5])
GAP = 2 * np.sin(THETA / 2) ** 2


@pytest.mark.parametrize("q", [1e-6, 1e-2, 1.0, 40.0, 1e4])
def test_what_relu_and_sign_lose_in_closed_form(q):
    # Cho & Saul 2009: E φφ' = q (sin θ + (π − θ) cos θ)/2π for ReLU, 1 − 2θ/π for the sign
    relu = Mesh(lambda x: np.maximum(x, 0.0))
    # π (1 − cos θ) − (sin θ − θ cos θ), whose bracket is θ³/3 for small θ
    bracket = np.where(THETA < 1e-2, THETA**3 / 3 - THETA**5 / 30, np.sin(THETA) - THETA * np.cos(THETA))
    truth = q * (np.pi * GAP - bracket) / (2 * np.pi)
    qs = np.full_like(GAP, q)
    assert mean_variance(relu.f, qs, GAP, relu) == pytest.approx(truth, rel=2e-11)
    sign = Mesh(np.sign)
    assert mean_variance(sign.f, qs, GAP, sign) == pytest.approx(2 * THETA / np.pi, rel=1e-10)


def stairs(x):
    return np.where(x < -0.7, x / 5 - 0.56, np.where(x < 0.4, x, np.where(x < 1.3, 0.4, np.tanh(x))))


@pytest.mark.parametrize(
    "f", [np.tanh, stairs, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), lambda x: x / (1 + np.exp(-x))]
)
@pytest.mark.parametrize("q", [1e-3, 0.3, 3.0, 60.0])
def test_windows_agree_with_sums_and_differences(f, q):
    mesh = Mesh(f)
    gap = GAP[1:]
    qs = np.full_like(gap, q)

    def squared(u1, u2):
        return (f(u1) - f(u2)) ** 2 / 2

    truth = pair_mean(squared, qs, 1 - gap, np.zeros_like(qs), mesh)
    exact = 1 - (1 - gap)  # pairs know the gap through c only
    with np.errstate(over="ignore"):
        assert mean_variance(f, qs, exact, mesh) == pytest.approx(truth, rel=1e-10)
