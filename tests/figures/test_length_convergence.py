import numpy as np
import pytest

from depthscale.figures import length_convergence


def made(factor=1.0, error=1e-4):
    rows = []
    for sw2, xi in ((1.3, 1.8), (2.0, 1.4)):
        gap = 0.4 * np.exp(-np.arange(10) / (factor * xi))
        rows.append(
            {"sw2": sw2, "q_star": 0.5, "xi_q": xi, "above": (0.5 * (1 + gap)).tolist(),
             "below": (0.5 * (1 - gap)).tolist(), "gap": gap.tolist(), "error": [0.0] + [error] * 9}
        )  # fmt: skip
    return {"width": 9, "networks": 9, "rows": rows}


HOLDS = made()
FAILS = [made(1.3), made(0.7)]


def test_rate_of_an_exponential():
    rate, error, layers = length_convergence.rate(HOLDS["rows"][0])
    assert rate == pytest.approx(1 / 1.8, rel=1e-6)
    assert 0 < error < 0.01
    assert layers >= 4


def test_noise_is_no_verdict():
    assert length_convergence.judge(made(error=0.2)).kind == "undecided"
