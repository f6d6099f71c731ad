import numpy as np
import pytest
from scipy import integrate, optimize

from depthscale.errors import TheoryError
from depthscale.theory import activation, critical_line, critical_point, phase_point, weights_for_depth


def gauss(f, q):
    """Adaptive quadrature over z, so that narrow Gaussians are not missed."""
    weight = 1 / np.sqrt(2 * np.pi)
    value, _ = integrate.quad(
        lambda z: weight * np.exp(-z * z / 2) * f(np.sqrt(q) * z),
        -12,
        12,
        epsabs=0,
        epsrel=1e-12,
        limit=400,
        points=[0.0],
    )
    return value


# (sb2, sw2, q*): adaptive quadrature to the digits shown; Poole et al. 2016 and Schoenholz et al. 2017 draw the line
TANH = [
    (0.01, 1.42420529, 0.27330091),
    (0.05, 1.76095464, 0.57004788),
    (0.1, 1.98607264, 0.80579918),
    (0.25, 2.40148924, 1.31793900),
]


@pytest.mark.parametrize(("sb2", "sw2", "q"), TANH)
def test_the_critical_line_of_tanh(sb2, sw2, q):
    p = critical_point("tanh", sb2=sb2)
    assert float(p.sw2) == pytest.approx(sw2, abs=6e-9)
    assert float(p.q) == pytest.approx(q, abs=6e-9)
    assert (p.sb2.value, p.sb2.error) == (sb2, 0.0)
    # and the two equations themselves, by quadrature
    assert p.sw2.value * gauss(lambda x: np.cosh(x) ** -4, p.q.value) == pytest.approx(1, abs=1e-11)
    assert p.sw2.value * gauss(lambda x: np.tanh(x) ** 2, p.q.value) + sb2 == pytest.approx(p.q.value, rel=1e-11)
    assert p.sw2.error < 1e-12
    assert p.q.error < 1e-12


def test_tanh_without_bias_is_critical_at_the_origin():
    p = critical_point("tanh")
    assert (float(p.sw2), float(p.sb2), float(p.q)) == (pytest.approx(1, abs=1e-14), 0.0, 0.0)
    assert p.kind == "origin"
    assert float(p.chi_q) == pytest.approx(1, abs=1e-9)


def test_erf():
    # closed forms by arcsine (Williams 1997): sb2 = 0 at sw2 = π/4
    assert float(critical_point("erf", sb2=0).sw2) == pytest.approx(np.pi / 4, rel=1e-14)
    p = critical_point("erf", sb2=0.05)
    assert float(p.sw2) == pytest.approx(1.37583901, abs=6e-9)
    assert float(p.q) == pytest.approx(0.51717684, abs=6e-9)
    q = p.q.value
    assert p.sw2.value == pytest.approx(np.pi / 4 * np.sqrt(1 + 4 * q), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "sw2", "sb2", "q"),
    # Roberts, Yaida & Hanin 2022 give 1.98305826, 0.17292239, 3.56 and 1.988, 0.555, 14.32
    [("gelu", 1.9830583, 0.1729224, 3.561553), ("silu", 1.9880047, 0.5551432, 14.320174)],
)
def test_double_criticality(name, sw2, sb2, q):
    for p in (critical_point(name, double=True), critical_point(name)):
        assert p.kind == "double"
        assert float(p.sw2) == pytest.approx(sw2, abs=6e-8)
        assert float(p.sb2) == pytest.approx(sb2, abs=6e-8)
        assert float(p.q) == pytest.approx(q, abs=6e-7)
        assert float(p.chi_q) == pytest.approx(1, abs=1e-10)
        assert p.q.error < 1e-10
    act = activation(name)
    q, w, b = p.q.value, p.sw2.value, p.sb2.value
    assert w * gauss(lambda x: act(x) ** 2, q) + b == pytest.approx(q, rel=1e-11)
    assert w * gauss(lambda x: act.derivative(x) ** 2, q) == pytest.approx(1, abs=1e-11)
    h = 1e-3 * q
    slope = w * (gauss(lambda x: act(x) ** 2, q + h) - gauss(lambda x: act(x) ** 2, q - h)) / (2 * h)
    assert slope == pytest.approx(1, abs=1e-6)


def test_double_criticality_of_any_smooth_callable():
    def snake(x):
        return x / (1 + np.exp(-1.3 * x))

    p = critical_point(snake, double=True)
    # x σ(1.3 x) is SiLU in other units: φ(x) = silu(1.3 x)/1.3, so q scales by 1.3⁻² and sw2 stays
    silu = critical_point("silu")
    assert float(p.sw2) == pytest.approx(float(silu.sw2), rel=1e-8)
    assert float(p.q) * 1.3**2 == pytest.approx(float(silu.q), rel=1e-6)
    assert float(p.sb2) * 1.3**2 == pytest.approx(float(silu.sb2), rel=1e-6)


@pytest.mark.parametrize(("name", "slope"), [("relu", 0.0), ("leaky_relu", 0.01), ("prelu", 0.25), ("abs", -1.0)])
def test_scale_invariant_activations_have_a_half_line(name, slope):
    p = critical_point(name)
    assert p.kind == "half-line"
    assert float(p.sw2) == pytest.approx(2 / (1 + slope**2), rel=1e-14)  # He et al. 2015
    assert float(p.sb2) == 0
    assert float(critical_point(name, q=7.0).q) == 7
    with pytest.raises(TheoryError, match="half-line sb2 = 0 only"):
        critical_point(name, sb2=0.1)
    with pytest.raises(TheoryError, match="not a line but the half-line"):
        critical_line(name)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: critical_point("tanh", dropout=0.1), "c = 1 is no longer a fixed point"),
        (lambda: critical_line("tanh", dropout=0.1), "no critical point"),
        (lambda: critical_point("sign"), "jumps"),
        (lambda: critical_point("hardshrink", sb2=0.1), "jumps"),
        (lambda: critical_point("softplus"), "no critical line"),
        (lambda: critical_point("tanh", q=0.5, sb2=0.1), "not both"),
        (lambda: critical_point("tanh", sb2=-0.1), "at least 0"),
        (lambda: critical_point("tanh", sb2=float("nan")), "finite"),
        (lambda: critical_point("tanh", q=-1.0), "q must lie"),
        (lambda: critical_point("tanh", sb2="a"), "sb2 must be a number"),
        (lambda: critical_point("tanh", q=1e12), "q must lie"),
        (lambda: critical_point("softplus", q=1.0), "sb2 = .* < 0"),
        (lambda: critical_point("tanh", double=True, sb2=0.1), "alone"),
        (lambda: critical_point("tanh", dropout=1.5), r"\[0, 1\)"),
        (lambda: critical_line("tanh", q=[]), "empty"),
        (lambda: critical_line("tanh", q=[1.0], sb2=[0.1]), "not both"),
        (lambda: critical_line("tanh", sb2=[-0.1]), "at least 0"),
        (lambda: critical_point(lambda x: 0 * x + 1), "no slope"),
        (lambda: critical_point("sigmoid", double=True), "no doubly critical point"),
    ],
)
def test_what_does_not_exist_is_said(call, message):
    with pytest.raises(TheoryError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_exp_is_critical_in_closed_form():
    # E φ² = E φ'² = e^{2q}: sw2 = e^{−2q}, sb2 = q − 1, chi_q = 2
    p = critical_point("exp", sb2=0.5)
    assert float(p.q) == pytest.approx(1.5, rel=1e-12)
    assert float(p.sw2) == pytest.approx(np.exp(-3.0), rel=1e-12)
    assert float(p.chi_q) == pytest.approx(2, rel=1e-12)
    assert "not stable" in p.note


def test_a_line_over_q_and_over_sb2_is_the_same_line():
    line = critical_line("tanh", q=np.geomspace(0.01, 5, 30))
    back = critical_line("tanh", sb2=line.sb2.value)
    assert back.q == pytest.approx(line.q, rel=1e-10)
    assert back.sw2.value == pytest.approx(line.sw2.value, rel=1e-10)
    for q, sw2, sb2 in zip(line.q[::7], line.sw2.value[::7], line.sb2.value[::7], strict=True):
        slope = gauss(lambda x: np.cosh(x) ** -4, q)
        assert sw2 == pytest.approx(1 / slope, rel=1e-12)
        assert sb2 == pytest.approx(q - gauss(lambda x: np.tanh(x) ** 2, q) / slope, rel=1e-10, abs=1e-14)
    assert np.all(line.sw2.error < 1e-12)


def test_points_off_the_line_are_nan():
    line = critical_line("sigmoid", q=[1.0, 60.0])
    assert np.isnan(line.sb2.value[0])
    assert np.isnan(line.sw2.value[0])
    act = activation("sigmoid")
    sw2 = 1 / gauss(lambda x: act.derivative(x) ** 2, 60.0)
    assert line.sb2.value[1] == pytest.approx(60 - sw2 * gauss(lambda x: act(x) ** 2, 60.0), rel=1e-9)


def test_critical_points_are_critical_in_the_phase_diagram():
    for name, sb2 in (("tanh", 0.05), ("elu", 0.02), ("sin", 0.1), ("hardtanh", 0.05), ("softsign", 0.1)):
        p = critical_point(name, sb2=sb2)
        there = phase_point(name, float(p.sw2), sb2, q0=float(p.q))
        assert float(there.chi1) == pytest.approx(1, abs=1e-9)
        assert float(there.q) == pytest.approx(float(p.q), rel=1e-9)


def test_the_point_returned_is_stable_where_there_are_several():
    p = critical_point("mish", sb2=0.1)
    assert abs(float(p.chi_q)) <= 1 + 1e-9


def test_against_a_plain_root_finder():
    act = activation("mish")

    def sb2(q):
        return q - gauss(lambda x: act(x) ** 2, q) / gauss(lambda x: act.derivative(x) ** 2, q)

    q = optimize.brentq(lambda q: sb2(q) - 0.2, 2.0, 20.0, xtol=1e-12)
    found = [float(critical_point("mish", q=q).sb2), 0.2]
    assert found[0] == pytest.approx(found[1], abs=1e-10)


def test_weights_for_a_wanted_depth():
    for name, depth, sb2 in (("tanh", 100, 0.05), ("tanh", 50, 0.0), ("erf", 30, 0.05)):
        r = weights_for_depth(name, depth, sb2)
        assert r.ordered < r.critical < r.chaotic
        assert phase_point(name, r.ordered, sb2).trainable_depth == pytest.approx(depth, rel=1e-9)
        assert phase_point(name, r.chaotic, sb2).trainable_depth == pytest.approx(depth, rel=1e-7)
    relu = weights_for_depth("relu", 30)
    assert relu.ordered == pytest.approx(2 * np.exp(-6 / 30))
    with pytest.raises(TheoryError, match="positive"):
        weights_for_depth("tanh", 0)


def test_a_function_written_with_terms_that_cancel_is_judged():
    """Squareplus has no critical line: √(x² + 4) + x far to the left is nothing but rounding, and stays cheap there."""

    def squareplus(x):
        return (x + np.sqrt(x * x + 4)) / 2

    def slope(x):
        return (1 + x / np.sqrt(x * x + 4)) / 2

    def missing(q):
        return gauss(lambda u: squareplus(u) ** 2, q) / gauss(lambda u: slope(u) ** 2, q) - q

    assert all(missing(q) > 0 for q in (0.01, 0.3, 1.0, 10.0, 1e3))
    with pytest.raises(TheoryError, match="no critical line"):
        critical_point(squareplus)
