import numpy as np
import pytest
from scipy import integrate, optimize

from depthscale.errors import TheoryError
from depthscale.numerics.gaussian import gaussian_mean
from depthscale.theory import PHASES, activation, critical_point, layer_map, phase_diagram, phase_point
from depthscale.theory.phase import CHAOTIC, CRITICAL, NO_FIXED_POINT, ORDERED


# (sw2, q*, chi1, c*, xi_c) at sb2 = 0.05: adaptive quadrature to the digits shown; Schoenholz et al. 2017, fig. 1
@pytest.mark.parametrize(
    ("sw2", "q", "chi1", "c", "xi_c"),
    [
        (1.0, 0.19359252, 0.75903165, 1.0, 3.62697562),
        (1.5, 0.41803720, 0.93863627, 1.0, 15.7909940),
        (2.0, 0.72176187, 1.04766600, 0.74408242, 25.2134148),
        (4.0, 2.19549393, 1.34240241, 0.16506496, 6.98027353),
    ],
)
def test_tanh_at_sb2_005(sw2, q, chi1, c, xi_c):
    p = phase_point("tanh", sw2, 0.05)
    assert float(p.q) == pytest.approx(q, abs=6e-9)
    assert float(p.chi1) == pytest.approx(chi1, abs=6e-9)
    assert float(p.c) == pytest.approx(c, abs=6e-9)
    assert float(p.xi_c) == pytest.approx(xi_c, rel=3e-9)
    assert p.phase == ("ordered" if chi1 < 1 else "chaotic")
    assert abs(float(p.q) - q) <= p.q.error + 6e-9
    assert p.trainable_depth == 6 * float(p.xi_c)


def test_selu_is_not_critical_at_its_own_fixed_point():
    p = phase_point("selu", 1.0, 0.0)  # Klambauer et al. 2017: q = 1 with sw2 = 1, sb2 = 0
    assert float(p.q) == pytest.approx(1, abs=1e-12)
    assert float(p.chi1) == pytest.approx(1.07157499, abs=6e-9)
    assert p.phase == "chaotic"


def test_pytorchs_own_choices():
    # torch.nn.init.calculate_gain("tanh") = 5/3
    p = phase_point("tanh", 25 / 9, 0.0)
    assert float(p.q) == pytest.approx(1.17848049, abs=6e-9)
    assert float(p.chi1) == pytest.approx(1.20983132, abs=6e-9)
    # nn.Linear's default: U(±1/√n) has sw2 = 1/3, and ReLU shrinks lengths by 1/6 a layer
    assert float(layer_map("relu", 1 / 3).length(1.0)) == pytest.approx(1 / 6, rel=1e-14)


def quad_cell(sw2, sb2):
    """q*, c*, chi1 and the slope at c* of tanh by adaptive quadrature and brentq."""

    def one(f, q):
        w = 1 / np.sqrt(2 * np.pi)
        return integrate.quad(lambda z: w * np.exp(-z * z / 2) * f(np.sqrt(q) * z), -11, 11, epsabs=0, epsrel=1e-12)[0]

    q = optimize.brentq(lambda q: sw2 * one(lambda x: np.tanh(x) ** 2, q) + sb2 - q, 1e-9, 50, xtol=1e-14, rtol=1e-14)
    chi1 = sw2 * one(lambda x: np.cosh(x) ** -4, q)
    if chi1 <= 1:
        return q, 1.0, chi1, chi1
    z, w = np.polynomial.hermite_e.hermegauss(180)
    w = w / np.sqrt(2 * np.pi)

    def two(f, c):
        u1 = np.sqrt(q) * z[:, None]
        u2 = np.sqrt(q) * (c * z[:, None] + np.sqrt(1 - c * c) * z[None, :])
        return float(np.sum(w[:, None] * w * f(u1) * f(u2)))

    c = optimize.brentq(lambda c: (sw2 * two(np.tanh, c) + sb2) / q - c, 0, 1 - 1e-6, xtol=1e-14)
    return q, c, chi1, sw2 * two(lambda x: np.cosh(x) ** -2, c)


def test_cells_of_a_diagram_against_quadrature():
    sw2, sb2 = np.array([0.6, 1.4, 1.9, 2.5, 3.0]), np.array([0.01, 0.08, 0.25])
    d = phase_diagram("tanh", sw2=sw2, sb2=sb2)
    assert d.q.shape == (3, 5)
    for i, b in enumerate(sb2):
        for j, w in enumerate(sw2):
            q, c, chi1, slope = quad_cell(w, b)
            assert d.q[i, j] == pytest.approx(q, rel=1e-10)
            assert d.chi1[i, j] == pytest.approx(chi1, rel=1e-10)
            assert d.c[i, j] == pytest.approx(c, abs=1e-9)
            assert d.slope[i, j] == pytest.approx(slope, abs=1e-8)
            assert d.xi_c[i, j] == pytest.approx(1 / abs(np.log(slope)), rel=1e-6)
            assert d.phase[i, j] == (ORDERED if chi1 < 1 else CHAOTIC)


def kinks_and_a_jump(x):
    return np.where(x < -0.7, x / 5 - 0.56, np.where(x < 0.4, x, np.where(x < 1.3, 0.4, np.tanh(x))))


@pytest.mark.parametrize("what", ["elu", "selu", "hardtanh", kinks_and_a_jump])
def test_cells_of_bent_activations_against_panels_over_sum_and_difference(what):
    act = activation(what)
    d = phase_diagram(act, sw2=np.array([0.8, 1.05, 1.5, 1.7, 2.2]), sb2=np.array([0.02, 0.2]))
    chaotic = np.argwhere((d.phase == CHAOTIC) & (d.c < 1 - 1e-6))
    assert len(chaotic) >= 1
    for i, j in chaotic:
        q, sw2 = d.q[i, j], d.sw2[j]
        assert q == pytest.approx(sw2 * float(gaussian_mean(lambda x: act.f(x) ** 2, q)) + d.sb2[i], rel=1e-10)

        def gap(c):
            return 1 - sw2 * float(act.secant(q, c))  # noqa: B023

        near = 1e-3 * (1 - d.c[i, j])
        c = optimize.brentq(gap, d.c[i, j] - near, d.c[i, j] + near, xtol=1e-15)
        assert d.c[i, j] == pytest.approx(c, abs=1e-9)


def erf_cell(sw2, sb2):
    """erf in closed form (Williams 1997)."""

    def pair(q, c):
        return 2 / np.pi * np.arcsin(2 * q * c / (1 + 2 * q))

    q = optimize.brentq(lambda q: sw2 * pair(q, 1.0) + sb2 - q, 1e-12, 50, xtol=1e-15, rtol=1e-15)
    chi1 = sw2 * 4 / np.pi / np.sqrt(1 + 4 * q)

    def gap(c):  # divided by 1 − c, whose root it is
        return ((sw2 * pair(q, c) + sb2) / q - c) / (1 - c)

    return q, chi1, (optimize.brentq(gap, 0.0, 1 - 1e-5, xtol=1e-15) if chi1 > 1 + 1e-3 else None)


def test_a_diagram_of_erf_against_closed_forms_beside_the_critical_line_too():
    near = 1.37583901 + np.array([-1e-3, -1e-6, 1e-6, 5e-3, 5e-2])
    d = phase_diagram("erf", sw2=near, sb2=[0.05])
    for j, w in enumerate(near):
        q, chi1, c = erf_cell(w, 0.05)
        assert d.q[0, j] == pytest.approx(q, rel=1e-11)
        assert d.chi1[0, j] == pytest.approx(chi1, rel=1e-11)
        if c is not None:
            assert d.c[0, j] == pytest.approx(c, abs=1e-8)
    assert d.phase[0].tolist() == [ORDERED, ORDERED, CHAOTIC, CHAOTIC, CHAOTIC]


def test_beside_the_critical_line_c_falls_as_the_expansion_says():
    # 1 − c' = chi1 (1 − c) − κ (1 − c)²/2 …, so 1 − c* ≈ 2 (chi1 − 1)/κ, κ = sw2 q E[φ''²]
    act, sb2 = activation("tanh"), 0.05
    for excess in (1e-4, 1e-6):
        sw2 = 1.76095464 * (1 + excess)
        p = phase_point("tanh", sw2, sb2)
        q = float(p.q)
        second = act.hermite(q, 120) ** 2
        n = np.arange(120)
        curvature = sw2 / q * float(np.sum(n * (n - 1) * second))
        expected = 2 * (float(p.chi1) - 1) / curvature
        assert 1 - float(p.c) == pytest.approx(expected, rel=20 * excess)
        assert 2 - float(p.chi1) == pytest.approx(float(p.slope), abs=20 * excess**2 + 1e-12)


def test_the_ordered_phase_without_bias_dies_out():
    d = phase_diagram("tanh", sw2=[0.5, 0.9, 1.0, 1.1], sb2=[0.0])
    assert d.q[0, :3].tolist() == [0, 0, 0]
    assert d.chi1[0, :3] == pytest.approx([0.5, 0.9, 1.0], rel=1e-14)
    assert d.xi_c[0, :2] == pytest.approx(-1 / np.log([0.5, 0.9]), rel=1e-13)
    assert d.phase[0].tolist() == [ORDERED, ORDERED, CRITICAL, CHAOTIC]
    assert d.c[0] == pytest.approx([1, 1, 1, 0], abs=1e-12)
    assert np.isinf(d.xi_c[0, 2])
    # q* = sw2 E tanh² with E tanh² = q − 2 q² + 17/3 q³ …
    assert 1 - 2 * d.q[0, 3] + 17 / 3 * d.q[0, 3] ** 2 == pytest.approx(1 / 1.1, abs=40 * d.q[0, 3] ** 3)


def test_relu_has_its_half_line():
    d = phase_diagram("relu", sw2=[1.0, 1.5, 2.0, 2.5], sb2=[0.0, 0.3])
    assert d.q[1, :2] == pytest.approx([0.3 / 0.5, 0.3 / 0.25], rel=1e-13)
    assert np.isinf(d.q[1, 2:]).all()
    assert d.phase.tolist() == [
        [ORDERED, ORDERED, CRITICAL, NO_FIXED_POINT],
        [ORDERED, ORDERED, NO_FIXED_POINT, NO_FIXED_POINT],
    ]
    assert d.chi1[0] == pytest.approx([0.5, 0.75, 1.0, 1.25])
    assert np.isnan(d.xi_c[1, 2])


def test_relu_at_criticality_decorrelates_as_a_power_of_depth():
    # 1 − c_l → 9π²/(2 l²) (Hayou et al. 2019)
    path = layer_map("relu", 2.0).trajectory(4000, q0=1.0, c0=0.5)
    assert (1 - path.c[-1]) * 4000**2 == pytest.approx(9 * np.pi**2 / 2, rel=1e-2)
    assert path.q == pytest.approx(np.ones(4001), rel=1e-9)
    assert path.gradient == pytest.approx(np.ones(4001), rel=1e-9)


def test_a_table_with_kinks_and_a_jump_agrees_with_direct_integration():
    def awkward(x):
        return np.where(x < -0.7, -0.3, np.where(x < 1.3, np.abs(x) * np.cos(x), x - 0.5))

    act = activation(awkward)
    d = phase_diagram(act, sw2=[0.8, 1.6, 2.2], sb2=[0.05, 0.2])
    assert np.isinf(d.chi1[np.isfinite(d.q)]).all()
    for i, b in enumerate(d.sb2):
        for j, w in enumerate(d.sw2):
            q, c = d.q[i, j], d.c[i, j]
            assert w * float(act.second_moment(q)) + b == pytest.approx(q, rel=1e-12)
            assert w * float(act.secant(q, c)) == pytest.approx(1, abs=1e-8)
            h = 1e-4
            around = act.correlation(q, [c - 2 * h, c - h, c + h, c + 2 * h])
            slope = w / q * float(around @ np.array([1, -8, 8, -1])) / (12 * h)
            assert d.slope[i, j] == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize("name", ["elu", "selu", "hardtanh", "relu6", "softsign", "gelu", "sin", "sign"])
def test_chaotic_cells_solve_the_correlation_map(name):
    act = activation(name)
    d = phase_diagram(act, sw2=[1.3, 2.1, 6.0], sb2=[0.0, 0.1, 0.4])
    chaotic = np.argwhere((d.phase == CHAOTIC) & (d.c > 1e-6))
    for i, j in chaotic:
        m = layer_map(act, d.sw2[j], d.sb2[i])
        q, c = d.q[i, j], d.c[i, j]
        assert float(m.length(q)) == pytest.approx(q, rel=1e-11)
        assert float(m.correlation(c, q)) == pytest.approx(c, abs=1e-9)
        if not act.jumps:
            exact = d.sw2[j] * float(act.derivative_correlation(q, c))
            assert d.slope[i, j] == pytest.approx(exact, abs=1e-8)
    assert name in ("gelu", "selu", "relu6") or len(chaotic)


def test_every_fixed_point_is_listed_with_its_stability():
    exp = phase_point("exp", 0.1, 0.0)  # q = 0.1 e^{2q}: Lambert's W, both branches
    low, high = exp.fixed_points
    from scipy.special import lambertw

    branches = sorted(-lambertw(-0.2, k).real / 2 for k in (0, -1))
    assert [float(low.q), float(high.q)] == pytest.approx(branches, rel=1e-12)
    assert (low.stable, high.stable) == (True, False)
    assert float(exp.q) == pytest.approx(branches[0], rel=1e-12)
    origin, stable = phase_point("tanh", 2.0, 0.0).fixed_points
    assert (float(origin.q), origin.stable, stable.stable) == (0.0, False, True)
    assert origin.chi_q == pytest.approx(2.0)
    assert phase_point("exp", 1.0, 0.0).fixed_points == ()


@pytest.mark.parametrize("act", ["exp", lambda x: np.exp(x * x)])
def test_overflow_is_no_fixed_point_and_is_said(act):
    p = phase_point(act, 1.0, 0.0)
    assert p.phase == "no fixed point"
    assert np.isinf(float(p.q))
    assert "grows without end" in p.note
    assert "no fixed point" in str(p)


def test_two_stable_lengths_are_both_named():
    def stairs(x):  # bistable: a small slope at 0, a steep rise further out, then flat
        return np.tanh(0.3 * x) + 3 * np.tanh((x / 3) ** 3)

    p = phase_point(stairs, 1.5, 0.0)
    stable = [float(f.q) for f in p.fixed_points if f.stable]
    assert len(stable) == 2
    assert stable[0] == 0
    assert "2 stable lengths" in p.note
    high = phase_point(stairs, 1.5, 0.0, q0=50.0)
    assert float(high.q) == pytest.approx(stable[1], rel=1e-9)


def test_dropout_opens_a_gap_at_c_1():
    p = phase_point("tanh", 1.5, 0.05, dropout=0.1)
    m = p.map
    assert float(p.c) < 1
    q, c = float(p.q), float(p.c)
    act = activation("tanh")
    assert 1.5 / 0.9 * float(act.second_moment(q)) + 0.05 == pytest.approx(q, rel=1e-12)
    assert float(m.correlation(c, q)) == pytest.approx(c, abs=1e-9)
    assert float(p.slope) == pytest.approx(1.5 * float(act.derivative_correlation(q, c)), abs=1e-8)
    assert float(p.xi_grad) == pytest.approx(1 / abs(np.log(1.5 / 0.9 * float(act.derivative_second_moment(q)))))
    assert "dropout" in p.note


def test_residual_chains():
    # at He initialisation the variance doubles per block; branches scaled by 1/√L keep it below e
    assert float(layer_map("relu", 2.0, skip=1.0).length(3.0)) == pytest.approx(6.0)
    chain = layer_map("relu", 2.0, skip=1.0, branch=1 / np.sqrt(50)).trajectory(50)
    assert chain.q[-1] == pytest.approx((1 + 1 / 50) ** 50)
    assert chain.gradient[0] == pytest.approx((1 + 1 / 50) ** 50)
    # a damped skip has a fixed point
    p = phase_point("tanh", 1.5, 0.05, skip=0.8)
    act, q, c = activation("tanh"), float(p.q), float(p.c)
    assert 0.64 * q + 1.5 * float(act.second_moment(q)) + 0.05 == pytest.approx(q, rel=1e-12)
    assert float(p.map.correlation(c, q)) == pytest.approx(c, abs=1e-9)
    assert float(p.slope) == pytest.approx(0.64 + 1.5 * float(act.derivative_correlation(q, c)), abs=1e-8)


def test_gradients_of_plain_relu_networks_shatter_as_the_product_of_kappa_0():
    depth, c0 = 24, 0.3
    path = layer_map("relu", 2.0).trajectory(depth, c0=c0)
    c, expected = c0, 1.0
    for _ in range(depth):  # κ0 and κ1 of Cho & Saul 2009
        theta = np.arccos(c)
        expected *= 1 - theta / np.pi
        c = (np.sin(theta) + (np.pi - theta) * c) / np.pi
    assert path.gradient_c[0] == pytest.approx(expected, rel=1e-10)
    assert path.gradient_c[-1] == 1
    # beside a network drawn at random: both inputs' gradients of one output, over many outputs
    rng = np.random.default_rng(0)
    n, layers = 400, 5
    x = rng.multivariate_normal([0, 0], [[1, c0], [c0, 1]], size=n).T  # (2, n)
    h, masks, weights = x @ (rng.normal(size=(n, n)) * np.sqrt(1 / n)), [], []
    for _ in range(layers):
        weights.append(rng.normal(size=(n, n)) * np.sqrt(2 / n))
        masks.append(h > 0)
        h = np.maximum(h, 0) @ weights[-1]
    g = [np.eye(n), np.eye(n)]
    for w, mask in zip(weights[::-1], masks[::-1], strict=True):
        g = [(a @ w.T) * m for a, m in zip(g, mask, strict=True)]
    measured = (g[0] * g[1]).sum() / np.sqrt((g[0] ** 2).sum() * (g[1] ** 2).sum())
    predicted = layer_map("relu", 2.0).trajectory(layers, c0=c0).gradient_c[0]
    assert measured == pytest.approx(predicted, rel=4 * np.sqrt(layers / n))


def test_gradients_of_residual_networks_shatter_more_slowly():
    # Balduzzi et al. 2017: a block keeps (1 + κ0)/2 of the correlation, 3/4 for independent activations
    block = layer_map("relu", 2.0, skip=1.0)
    assert float(block.gradient_correlation(0.0, 1.0)) == pytest.approx(3 / 4, abs=1e-14)
    # behind batch normalisation block l adds one part in l + 1: the product falls as 1/√L
    kept = [
        float(layer_map("relu", 2.0, skip=1.0, branch=k**-0.5).gradient_correlation(0.0, 1.0)) for k in range(1, 401)
    ]
    assert np.prod(kept) / np.prod(kept[:100]) == pytest.approx(np.sqrt(101 / 401), rel=3e-3)


def test_trajectories_approach_the_fixed_point_at_the_predicted_rate():
    p = phase_point("tanh", 2.0, 0.05)
    path = p.map.trajectory(400, q0=3.0, c0=0.1)
    assert path.q[-1] == pytest.approx(float(p.q), rel=1e-12)
    assert path.c[-1] == pytest.approx(float(p.c), abs=1e-5)
    near = np.abs(path.c[200:240] - float(p.c))
    rate = np.log(near[0] / near[-1]) / 39
    assert 1 / rate == pytest.approx(float(p.xi_c), rel=5e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: phase_diagram("tanh", sw2=[], sb2=[0.1]), "empty"),
        (lambda: phase_diagram("tanh", sw2=np.ones((2, 2)), sb2=[0.1]), "1-D"),
        (lambda: phase_diagram("tanh", sw2=[-1.0], sb2=[0.1]), "sw2 must be finite variances"),
        (lambda: phase_diagram("tanh", sw2=[np.nan], sb2=[0.1]), "variance"),
        (lambda: phase_diagram("tanh", q0=0.0), "q0"),
        (lambda: phase_point("tanh", 1.9, 0.05, q0=-1.0), "q0 must be a positive"),
        (lambda: phase_point("tanh", -1.0), "sw2"),
        (lambda: phase_point("tanh", "wide"), "sw2 must be a number"),
        (lambda: phase_point("tanh", None), "sw2 must be a number"),
        (lambda: phase_point("tanh", [1.0, 2.0]), "one number"),
        (lambda: phase_diagram("tanh", sw2="abc"), "sw2 must be a number"),
        (lambda: phase_point("tanh", 1.0, float("inf")), "sb2"),
        (lambda: phase_point("tanh", 1.0, dropout=1.0), "dropout"),
        (lambda: phase_point("tanh", 1.0, skip=float("nan")), "skip"),
        (lambda: layer_map("tanh", 1.0).trajectory(-1), "depth"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(TheoryError, match=message):
        call()


def test_phases_have_names():
    assert [PHASES[k] for k in (ORDERED, CRITICAL, CHAOTIC, NO_FIXED_POINT)] == list(PHASES)


def test_a_diagram_does_not_depend_on_what_was_asked_before():
    grid = {"sw2": np.linspace(1.2, 2.4, 7), "sb2": np.linspace(0.0, 0.2, 5)}
    one = phase_diagram(lambda x: np.tanh(x), **grid)
    act = activation(lambda x: np.tanh(x))
    phase_point(act, 2.0, 0.3)
    act.second_moment(1e5)
    two = phase_diagram(act, **grid)
    for field in ("q", "c", "chi1", "chi_q", "slope"):
        assert np.array_equal(getattr(one, field), getattr(two, field))


def test_a_steep_cusp_has_no_critical_point_and_says_so():
    def root(x):
        return np.sign(x) * np.sqrt(np.abs(x))

    p = phase_point(root, 1.5, 0.05)
    assert "slope is infinite at x = 0" in p.note
    assert "jumps" not in p.note
    assert np.isinf(float(p.chi1))
    q, act = float(p.q), p.map.activation
    # E|u| = √(2q/π)
    assert q == pytest.approx(1.5 * np.sqrt(2 * q / np.pi) + 0.05, rel=1e-12)
    c = optimize.brentq(lambda c: 1 - 1.5 * float(act.secant(q, c)), 0.0, 0.9, xtol=1e-14)
    assert float(p.c) == pytest.approx(c, abs=1e-9)
    with pytest.raises(TheoryError, match="cusp .at x = 0. where its slope is infinite"):
        critical_point(root, sb2=0.05)


def test_an_exponential_of_ones_own_has_no_fixed_point_where_none_exists():
    # q = sw2 e^(2q) + sb2 has a root only for small sw2
    p = phase_point(lambda x: np.exp(x), 1.5, 0.05)
    assert p.phase == "no fixed point"
    q = float(phase_point(lambda x: np.exp(x), 0.1, 0.05).q)
    assert q == pytest.approx(0.1 * np.exp(2 * q) + 0.05, rel=1e-10)
