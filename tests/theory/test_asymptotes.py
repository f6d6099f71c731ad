"""Laws so wide that an activation is a ramp: against panels, which know nothing of it, and where it must not be."""

import numpy as np
import pytest

from depthscale.numerics.gaussian import pair_mean
from depthscale.theory import activation
from depthscale.theory.asymptotes import WIDE, ramp_far_out

C = np.array([-0.9, 0.0, 0.5, 0.99])


@pytest.mark.parametrize("name", ["silu", "mish", "softplus", "elu", "gelu", "hardswish", "leaky_relu"])
@pytest.mark.parametrize(("q", "m"), [(1e24, 0.0), (1e30, 0.0), (1e30, 4e14)])
def test_pairs_are_those_of_a_ramp(name: str, q: float, m: float) -> None:
    act = activation(name)
    assert ramp_far_out(act.f, q, m) is not None
    for function, slope in ((act.f, False), (act.derivative, True)):
        n = len(C)
        panels = pair_mean(lambda a, b, f=function: f(a) * f(b), np.full(n, q), C, np.full(n, m), act.mesh)
        found = act.derivative_correlation(q, C, m) if slope else act.correlation(q, C, m)
        size = act.derivative_second_moment(q, m) if slope else act.second_moment(q, m)
        assert np.allclose(found, panels, rtol=0, atol=1e-9 * float(size))


@pytest.mark.parametrize(
    ("slopes", "f"),
    [
        ((1.0, 1.0), lambda x: x + np.sin(x)),
        ((-0.25, 2.0), lambda x: np.where(x > 0, 2 * x - 3, -0.25 * x + np.tanh(x))),
        ((0.0, -1.0), lambda x: -np.logaddexp(0, x)),
        ((-1.0, 0.0), lambda x: np.logaddexp(0, -x)),
    ],
)
def test_slopes_far_out(slopes, f) -> None:
    wide = ramp_far_out(f, 1e25)
    assert wide is not None
    q, zero = np.array(1e25), np.array(0.0)
    # E f'² = (a₋² + a₊²)/2 and E f² = q times that, for m = 0
    assert float(wide.slope_second(q, zero)) == pytest.approx((slopes[0] ** 2 + slopes[1] ** 2) / 2, rel=1e-6)
    assert float(wide.second(q, zero)) == pytest.approx(1e25 * (slopes[0] ** 2 + slopes[1] ** 2) / 2, rel=1e-6)


@pytest.mark.parametrize("f", [np.tanh, np.sin, np.square, np.exp, lambda x: x * np.sin(np.log1p(np.abs(x)))])
def test_what_is_no_ramp(f) -> None:
    assert ramp_far_out(f, 1e26) is None


def test_narrow_laws_are_left_to_exact_averages() -> None:
    assert ramp_far_out(activation("silu").f, WIDE / 2) is None


def test_no_step_where_the_asymptote_begins() -> None:
    act = activation("mish")
    below, above = (act.correlation(WIDE * k, C) / (WIDE * k) for k in (1 - 1e-9, 1.0))
    assert np.allclose(below, above, rtol=0, atol=1e-9)
