import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from depthscale.errors import DepthscaleError
from depthscale.foundations.descent import descend


def quadratic(eigenvalues):
    h = np.asarray(eigenvalues, float)
    return lambda w: (0.5 * float(w @ (h * w)), h * w)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 0.3), st.floats(0, 0.95), st.none() | st.floats(0.1, 3), st.integers(0, 2**32 - 1))
def test_the_path_is_that_of_torchs_sgd(rate, momentum, clip, seed):
    start = np.random.default_rng(seed).normal(size=5)

    def ours(w):
        return float(np.cosh(w).sum()), np.sinh(w)

    found = descend(ours, start, rate=rate, momentum=momentum, clip=clip, steps=20, tolerance=0)
    w = torch.tensor(start, requires_grad=True)
    optimiser = torch.optim.SGD([w], lr=rate, momentum=momentum)
    losses = []
    for _ in range(21):
        optimiser.zero_grad()
        loss = torch.cosh(w).sum()
        loss.backward()
        losses.append(loss.item())
        if clip is not None:  # torch adds 1e-6 to the length, so its own function is not exact
            length = float(w.grad.norm())
            w.grad *= min(1.0, clip / length)
        optimiser.step()
    np.testing.assert_allclose(found.losses, losses[: len(found.losses)], rtol=1e-10)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_largest_rate_that_converges(momentum):
    loss, start = quadratic([0.1, 1.0, 4.0]), np.ones(3)
    bound = 2 * (1 + momentum) / 4.0
    below = descend(loss, start, rate=0.97 * bound, momentum=momentum, steps=5000)
    assert below.status == "converged"
    assert below.losses[-1] < 1e-6
    assert descend(loss, start, rate=1.03 * bound, momentum=momentum, steps=5000).status == "diverged"


def test_each_direction_shrinks_by_its_own_factor():
    h, rate = np.array([0.5, 1.5, 3.0]), 0.4
    found = descend(quadratic(h), np.ones(3), rate=rate, steps=7, tolerance=0)
    np.testing.assert_allclose(found.w, (1 - rate * h) ** 7, rtol=1e-12)
    assert (found.steps, found.status) == (7, "out of steps")


def test_it_stops_by_the_rule():
    found = descend(quadratic([1.0]), np.ones(1), rate=0.5, tolerance=1e-3)
    drops = -np.diff(found.losses)
    assert found.status == "converged"
    assert drops[-1] <= 1e-3 < drops[-2]


def test_clipping_keeps_a_cliff_from_throwing_it_off():
    def cliff(w):
        return float(np.exp(5 * w[0]) - w[0]), 5 * np.exp(5 * w) - 1

    start = np.array([3.0])
    assert descend(cliff, start, rate=0.1).status != "converged"
    clipped = descend(cliff, start, rate=0.01, clip=1.0, steps=5000)
    assert clipped.w[0] == pytest.approx(-np.log(5) / 5, abs=1e-3)


def test_a_loss_that_is_not_a_number_has_diverged():
    assert descend(lambda w: (float("nan"), w), np.ones(1), rate=0.1).status == "diverged"


@pytest.mark.parametrize("options", [{"rate": 0}, {"rate": 1, "momentum": 1}, {"rate": 1, "clip": 0}])
def test_bad_options(options):
    with pytest.raises(DepthscaleError, match="expected rate"):
        descend(quadratic([1.0]), np.ones(1), **options)
