import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from depthscale.errors import TheoryError
from depthscale.numerics.gaussian import gaussian_mean, gaussian_pair
from depthscale.theory import activation, activation_names

WITH_PARAMETERS = {"threshold": {"threshold": 0.3, "value": -0.2}}
X = np.concatenate([np.linspace(-9, 9, 181) + 1e-3, [-40.0, 35.0, 1e-7, -1e-7]])


def made(name):
    return activation(name, **WITH_PARAMETERS.get(name, {}))


def awkward(x):
    """Kinks at −0.7 and 0.4, a jump at 1.3; the same as in make_reference."""
    middle = np.where(x < 1.3, 0.4 * np.cos(x - 0.4), np.tanh(x))
    return np.where(x < -0.7, x / 5 - 0.56, np.where(x < 0.4, x, middle))


def reference():
    with (Path(__file__).parent / "data" / "averages.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [(r["activation"], float(r["q"]), r["average"], float(r["value"])) for r in rows]


def by_reference_name(name):
    if name == "awkward":
        return activation(awkward)
    return activation("gelu", approximate="tanh") if name == "gelu_tanh" else activation(name)


@pytest.mark.parametrize("name", sorted({r[0] for r in reference()}))
def test_averages_match_mpmath_from_q_1e_minus_12_to_1e6_and_the_error_bounds_the_truth(name):
    act = by_reference_name(name)
    quantity = {"second": "second_moment", "slope": "derivative_second_moment"}
    rows = [r for r in reference() if r[0] == name]
    assert len(rows) == 20
    for _, q, average, truth in rows:
        found = act.estimate(quantity[average], q)
        off = abs(float(found) - truth)
        assert off <= 1e-10 * truth, (q, average)
        assert off <= found.error + 2e-16 * truth, (q, average)
        assert found.error <= (1e-7 if name == "awkward" else 1e-11) * truth, (q, average)  # its slope is numeric
        fast = float(getattr(act, quantity[average])(q))
        assert fast == pytest.approx(truth, rel=1e-10), (q, average)


@pytest.mark.parametrize("name", sorted(set(activation_names()) - {"exp"}))
def test_closed_forms_tables_and_panels_agree(name):
    act = made(name)
    for q, m in ((1e-3, 0.0), (0.7, 0.0), (30.0, 0.0), (0.7, 0.9), (2.0, -1.3)):
        size = math.sqrt(float(gaussian_mean(lambda x: act.f(x) ** 2, q, m, act.kinks))) + 1e-300
        assert float(act.mean(q, m)) == pytest.approx(float(gaussian_mean(act.f, q, m, act.kinks)), abs=1e-12 * size)
        assert float(act.second_moment(q, m)) == pytest.approx(size**2, rel=1e-11)
        slopes = float(gaussian_mean(lambda x: act.derivative(x) ** 2, q, m, act.kinks))
        assert float(act.derivative_second_moment(q, m)) == pytest.approx(slopes, rel=1e-11, abs=1e-15)


@pytest.mark.parametrize(
    "name",
    ["relu", "leaky_relu", "abs", "step", "sign", "erf", "gelu", "sin", "cos", "square", "hardtanh", "relu6",
     "hardsigmoid", "hardshrink", "threshold"],
)  # fmt: skip
def test_closed_pairs_agree_with_panels(name):
    act = made(name)
    for q, m in ((1e-6, 0.0), (0.7, 0.0), (12.0, 0.0), (0.7, 0.9), (2.0, -1.3)):
        c = np.array([-1.0, -0.6, 0.0, 0.35, 0.99, 1.0])
        size = float(act.second_moment(q, m))
        panels = gaussian_pair(act.f, None, q, c, m, act.kinks)
        assert act.correlation(q, c, m) == pytest.approx(panels.value, abs=1e-12 * size)
        slopes = gaussian_pair(act.derivative, None, q, c, m, act.kinks)
        size = float(act.derivative_second_moment(q, m))
        assert act.derivative_correlation(q, c, m) == pytest.approx(slopes.value, abs=1e-12 * size + 1e-300)


@pytest.mark.parametrize("name", ["tanh", "silu", "elu", "hardswish", "sigmoid", "hardshrink"])
@pytest.mark.parametrize(("q", "m"), [(0.01, 0.0), (1.3, 0.0), (1.3, 0.4), (40.0, 0.0)])
def test_hermite_series_and_panels_give_one_correlation(name, q, m):
    act = activation(name)
    c = np.array([-1.0, -0.9, -0.3, 0.0, 0.2, 0.7, 0.95, 0.9999, 1.0])
    panels = gaussian_pair(act.f, None, q, c, m, act.kinks)
    size = float(act.second_moment(q, m))
    assert act.correlation(q, c, m) == pytest.approx(panels.value, abs=2e-13 * size + 1e-16)
    slopes = gaussian_pair(act.derivative, None, q, c, m, act.kinks)
    size = float(act.derivative_second_moment(q, m))
    assert act.derivative_correlation(q, c, m) == pytest.approx(slopes.value, abs=2e-13 * size + 1e-15)


@pytest.mark.parametrize("c", [-1.0, -0.3, 0.0, 0.6, 1.0])
def test_relu_has_the_arc_cosine_kernels(c):
    # Cho & Saul 2009: κ0 = 1 − θ/π, κ1 = (sin θ + (π − θ) cos θ)/π, for sw2 = 2
    theta, q = np.arccos(c), 3.0
    relu = activation("relu")
    assert 2 * float(relu.derivative_correlation(q, c)) == pytest.approx(1 - theta / np.pi, abs=1e-15)
    kappa1 = (np.sin(theta) + (np.pi - theta) * np.cos(theta)) / np.pi
    assert 2 * float(relu.correlation(q, c)) == pytest.approx(q * kappa1, abs=1e-15)


def test_hermite_coefficients_of_polynomials_and_of_the_sign():
    square = activation("square").hermite(2.0, 4, m=0.5)  # (m + √q z)² = (m² + q) + 2 m √q z + q (z² − 1)
    assert square == pytest.approx([2.25, np.sqrt(2.0), 2 * np.sqrt(2.0), 0.0], abs=1e-13)
    sign = activation("sign").hermite(1.0, 4)
    assert sign == pytest.approx([0, np.sqrt(2 / np.pi), 0, -np.sqrt(2 / np.pi) / np.sqrt(6)], abs=1e-13)


@pytest.mark.parametrize("name", sorted(set(activation_names()) - {"exp"}))
def test_the_slope_of_the_second_moment_is_its_derivative(name):
    act = made(name)
    for q, m in ((0.4, 0.0), (3.0, 0.0), (0.8, 0.6)):
        h = 2e-3 * q
        # five points: error of order h⁴
        values = act.second_moment(q + h * np.array([-2, -1, 1, 2]), m)
        numeric = float(values @ np.array([1, -8, 8, -1])) / (12 * h)
        assert float(act.second_moment_slope(q, m)) == pytest.approx(numeric, rel=2e-8, abs=1e-9)


@pytest.mark.parametrize("name", ["tanh", "elu", "relu", "gelu", "hardswish"])
@pytest.mark.parametrize("c", [-0.8, 0.0, 0.5, 0.99])
def test_the_secant_is_what_the_correlation_says(name, c):
    act = activation(name)
    q = 1.7
    expected = (float(act.second_moment(q)) - float(act.correlation(q, c))) / (q * (1 - c))
    assert float(act.secant(q, c)) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("name", ["tanh", "silu", "relu", "elu"])
def test_the_secant_tends_to_the_slope_without_cancelling(name):
    act = activation(name)
    found = float(act.secant(0.9, 1 - 1e-9))
    # the next term is of order θ = 4e-5 for kinks, θ² for smooth functions
    assert found == pytest.approx(float(act.derivative_second_moment(0.9)), rel=1e-4)
    assert abs(found / float(act.secant(0.9, 1 - 1.1e-9)) - 1) < 1e-5


TORCH = {
    "identity": torch.nn.Identity(), "relu": torch.nn.ReLU(), "leaky_relu": torch.nn.LeakyReLU(),
    "prelu": torch.nn.PReLU(), "rrelu": torch.nn.RReLU().eval(), "relu6": torch.nn.ReLU6(), "elu": torch.nn.ELU(),
    "celu": torch.nn.CELU(0.7), "selu": torch.nn.SELU(), "gelu": torch.nn.GELU(), "silu": torch.nn.SiLU(),
    "mish": torch.nn.Mish(), "sigmoid": torch.nn.Sigmoid(), "logsigmoid": torch.nn.LogSigmoid(),
    "tanh": torch.nn.Tanh(), "hardtanh": torch.nn.Hardtanh(-0.5, 2.0), "hardsigmoid": torch.nn.Hardsigmoid(),
    "hardswish": torch.nn.Hardswish(), "softsign": torch.nn.Softsign(), "tanhshrink": torch.nn.Tanhshrink(),
    "softshrink": torch.nn.Softshrink(), "hardshrink": torch.nn.Hardshrink(), "softplus": torch.nn.Softplus(2.0),
    "threshold": torch.nn.Threshold(0.3, -0.2),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCH)
def test_torch_modules_are_recognised_and_the_formulas_are_torchs(name):
    module = TORCH[name]
    act = activation(module)
    assert act.name == name
    t = torch.from_numpy(X).requires_grad_()
    y = module.double()(t)
    (slope,) = torch.autograd.grad(y.sum(), t)
    # torch cuts softplus off at 20, and keeps some constants of its derivatives in single precision
    tolerance = {"softplus": 4e-9, "celu": 3e-8, "hardsigmoid": 3e-9}.get(name, 1e-13)
    assert act(X) == pytest.approx(y.detach().numpy(), rel=tolerance, abs=tolerance)
    assert act.derivative(X) == pytest.approx(slope.numpy(), rel=10 * tolerance, abs=10 * tolerance)


@pytest.mark.parametrize("name", ["tanh", "silu", "erf", "sin", "relu_squared", "quick_gelu", "mish", "celu"])
def test_derivatives_are_those_of_finite_differences(name):
    act, h = activation(name), 1e-4
    x = X[np.abs(X) < 9]
    numeric = (act(x - 2 * h) - 8 * act(x - h) + 8 * act(x + h) - act(x + 2 * h)) / (12 * h)
    smooth = np.abs(x) > 3 * h
    assert act.derivative(x)[smooth] == pytest.approx(numeric[smooth], rel=1e-8, abs=1e-9)


def test_tanhshrink_keeps_its_digits_at_zero():
    x = np.array([1e-9, 1e-3, 0.0499999, 0.0500001])
    series = x**3 / 3 - 2 * x**5 / 15 + 17 * x**7 / 315 - 62 * x**9 / 2835
    assert activation("tanhshrink")(x) == pytest.approx(series, rel=1e-12)


def test_names_are_forgiving_and_unknown_ones_are_not():
    assert activation("LeakyReLU").name == "leaky_relu"
    assert activation(" hard-swish ").name == "hardswish"
    assert activation("gelu") is activation("gelu")
    assert str(activation("gelu", approximate="tanh")) == "gelu(approximate=tanh)"
    with pytest.raises(TheoryError, match="did you mean 'tanh'"):
        activation("tahn")
    with pytest.raises(TheoryError, match="does not take"):
        activation("relu", slope=2)
    with pytest.raises(TheoryError, match="approximate"):
        activation("gelu", approximate="quick")
    with pytest.raises(TheoryError, match="finite"):
        activation("elu", alpha=float("nan"))
    with pytest.raises(TheoryError, match="name or a callable"):
        activation(3)


@pytest.mark.parametrize(
    "what",
    [
        np.tanh,
        lambda x: np.tanh(x),
        torch.tanh,
        torch.nn.Tanh(),
        torch.nn.functional.tanh,
        lambda x: torch.tanh(x),
        torch.nn.Sequential(torch.nn.Tanh()),
        np.vectorize(math.tanh),
    ],
)
def test_a_callable_of_any_make_is_the_same_activation(what):
    act, named = activation(what), activation("tanh")
    q = np.array([1e-6, 0.3, 20.0])
    assert act.second_moment(q) == pytest.approx(named.second_moment(q), rel=1e-12)
    assert act.derivative_second_moment(q) == pytest.approx(named.derivative_second_moment(q), rel=1e-10)
    assert act.correlation(0.9, [0.3, 0.999]) == pytest.approx(named.correlation(0.9, [0.3, 0.999]), rel=1e-12)


def test_a_torch_module_is_left_as_it_was():
    module = torch.nn.Sequential(torch.nn.PReLU(3), torch.nn.Dropout(0.5)).train()
    with pytest.raises(TheoryError, match="could not be called|elementwise|each number"):
        activation(module).second_moment(1.0)
    scaled = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.PReLU()).train()
    assert float(activation(scaled).second_moment(2.0)) == pytest.approx(2.0 * (1 + 0.25**2) / 2, rel=1e-7)
    assert scaled.training
    assert scaled[1].weight.dtype == torch.float32


RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda x: np.where(x < -3, np.nan, x), "returned nan at x = -8"),
        (lambda x: np.log(x), "finite"),
        (lambda x: x + 1j, "complex"),
        (lambda x: np.sqrt(x.astype(complex)), "complex"),
        (lambda x: x[:-1], "shape"),
        (lambda x: np.sum(x), "shape"),
        (lambda x: x + RANDOM.random(x.shape), "random"),
        (lambda x: x - x.mean(), "other company"),
        (lambda x: x / np.abs(x).max(), "other company"),
        (math.tanh, "vectorize"),
        (lambda x: "text", "not an array"),
        (lambda x: None, "not an array"),
        (lambda: 1.0, "could not be called"),
        (torch.nn.Softmax(dim=-1), "other company"),
    ],
)
def test_bad_callables_are_refused_in_one_sentence(bad, message):
    with pytest.raises(TheoryError, match=message) as caught, np.errstate(all="ignore"):
        activation(bad)
    assert "\n" not in str(caught.value)


def test_a_callable_that_changes_its_argument_does_no_harm():
    def inplace(x):
        np.tanh(x, out=x)
        return x

    assert float(activation(inplace).second_moment(1.0)) == pytest.approx(float(activation("tanh").second_moment(1.0)))


@pytest.mark.parametrize("at", [0.0, 0.4, -1.7])
def test_a_cusp_is_told_from_a_jump_and_its_slope_has_no_second_moment(at):
    act = activation(lambda x: np.sign(x - at) * np.sqrt(np.abs(x - at)))
    (found,) = act.breaks()
    assert (found.x, found.order) == (at, 1)
    assert found.power == pytest.approx(0.5, abs=1e-3)
    assert act.jumps == ()
    assert np.isinf(float(act.derivative_second_moment(0.7)))
    assert np.isinf(act.estimate("derivative_second_moment", 0.7).error)
    # E |u − at| for u ~ N(0, q)
    q, z = 0.7, at / np.sqrt(0.7)
    truth = np.sqrt(q) * (2 * np.exp(-z * z / 2) / np.sqrt(2 * np.pi) + z * math.erf(z / np.sqrt(2)))
    assert float(act.second_moment(q)) == pytest.approx(truth, rel=1e-12)


def test_what_is_no_steep_cusp_is_left_alone():
    mild = activation(lambda x: np.abs(x) ** 0.75)  # E φ'² = (9/16) E |u|^(−1/2), which exists
    q = 0.5
    truth = 9 / 16 * (2 * q) ** -0.25 * math.gamma(0.25) / math.sqrt(math.pi)
    found = mild.estimate("derivative_second_moment", q)
    assert abs(float(found) - truth) <= found.error <= 1e-7
    both = activation(lambda x: np.where(x > 0.3, 1 + np.sqrt(np.abs(x - 0.3)), 0.0))
    assert [(b.order, round(b.size, 9)) for b in both.breaks()] == [(0, 1.0)]
    assert activation(lambda x: x * np.log(np.abs(x) + 1e-300)).jumps == ()
    assert [b.size for b in activation(lambda x: x + 1e-5 * (x > 1.3)).jumps] == [pytest.approx(1e-5, rel=1e-6)]


def test_a_wrong_request_for_an_estimate():
    act = activation("tanh")
    with pytest.raises(TheoryError, match="with c"):
        act.estimate("correlation", 1.0)
    with pytest.raises(TheoryError, match="Expected one of"):
        act.estimate("third_moment", 1.0)
    with pytest.raises(TheoryError, match="variance"):
        act.second_moment(-1.0)


def test_estimates_of_pairs_bound_the_truth():
    gelu, panels = activation("gelu"), activation(activation("gelu").f)
    for q in (1e-6, 1.0, 1e4):
        for c in (-1.0, 0.0, 0.5, 1.0):
            truth = float(gelu.correlation(q, c))
            found = panels.estimate("correlation", q, c=c)
            assert abs(float(found) - truth) <= found.error + 1e-14 * float(gelu.second_moment(q))


def test_homogeneous_and_jumps_are_recognised():
    assert activation("relu").homogeneous
    assert activation("leaky_relu", negative_slope=-0.4).homogeneous
    assert not activation("elu").homogeneous
    assert [b.x for b in activation("hardshrink").jumps] == [-0.5, 0.5]
    assert activation("tanh").jumps == ()
    assert [(b.x, b.order) for b in activation("hardswish").breaks()] == [(-3.0, 1), (3.0, 1)]
