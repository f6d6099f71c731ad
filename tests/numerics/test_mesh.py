import numpy as np
import pytest

from depthscale.numerics.mesh import Mesh, series_derivative


def places(f, reach=8.0):
    return [(b.x, b.order) for b in Mesh(f).breaks(reach)]


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (np.tanh, []),
        (lambda x: x / (1 + np.exp(-x)), []),
        (lambda x: np.maximum(x, 0), [(0.0, 1)]),
        (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), [(0.0, 2)]),
        (lambda x: np.clip(x, -1, 1), [(-1.0, 1), (1.0, 1)]),
        (lambda x: np.where(np.abs(x) > 0.5, x, 0), [(-0.5, 0), (0.5, 0)]),
        (lambda x: np.where(x < 2.123456, 0.1 * x, x - 1), [(2.123456, 0)]),
        (lambda x: np.maximum(x - np.sqrt(2), 0), [(np.sqrt(2), 1)]),
        (lambda x: np.where(x > 3.7, x, x) + np.maximum(np.abs(x - 3.7) - 0.05, 0) * 0, []),
    ],
)
def test_breaks_are_found_with_their_order(f, expected):
    found = places(f)
    assert [order for _, order in found] == [order for _, order in expected]
    assert [x for x, _ in found] == pytest.approx([x for x, _ in expected], abs=1e-11)


def test_the_size_of_a_break():
    (one,) = Mesh(lambda x: np.where(x > 0.3, 2 + x, 3 * x)).breaks(8.0)
    assert one.size == pytest.approx(2.3 - 0.9, abs=1e-10)


def test_a_narrow_bump_between_coarse_cuts_is_seen():
    def bump(x):
        return x + np.exp(-0.5 * ((x - 5.31) / 0.03) ** 2)

    cuts = Mesh(bump).cuts(8.0)
    near = cuts[(cuts > 5.1) & (cuts < 5.5)]
    assert len(near) > 3


def test_the_mesh_reaches_as_far_as_asked_and_does_not_depend_on_the_order_of_asking():
    one, two = Mesh(np.sin), Mesh(np.sin)
    far = one.cuts(100.0)
    one.cuts(8.0)
    two.cuts(8.0)
    assert np.array_equal(two.cuts(100.0), far)
    assert far[0] <= -100 <= 100 <= far[-1]


def test_what_never_resolves_is_reported():
    noise = Mesh(lambda x: np.sin(1e9 * x * x))
    noise.cuts(8.0)
    assert noise.unresolved > 1e-3
    smooth = Mesh(np.tanh)
    smooth.cuts(100.0)
    assert smooth.unresolved == 0


def test_the_derivative_of_the_series():
    mesh = Mesh(lambda x: np.where(x > 0, np.sin(x), x + 0.1 * np.exp(-x * x) - 0.1))
    df = series_derivative(mesh.f, mesh.cuts(8.0))
    x = np.linspace(-7.9, 7.9, 401) + 1e-3
    truth = np.where(x > 0, np.cos(x), 1 - 0.2 * x * np.exp(-x * x))
    assert df(x) == pytest.approx(truth, abs=2e-10)


@pytest.mark.parametrize("f", [lambda x: 1 + np.tanh(x), lambda x: 0.5 * x * (1 + np.tanh(0.8 * (x + 0.0447 * x**3)))])
def test_rounding_inside_a_function_is_not_taken_for_structure(f):
    mesh = Mesh(f)
    assert len(mesh.cuts(8.0)) < 100
    assert mesh.unresolved == 0
    assert not mesh.breaks(8.0)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: (x + np.sqrt(x * x + 4.0)) / 2,
        lambda x: x * (1 + np.tanh(x)),
        lambda x: np.sqrt(1 + x * x) - 1 - x,
    ],
)
def test_what_cancels_far_out_takes_few_panels_and_has_no_breaks(f):
    mesh = Mesh(f)
    reach = 8.0 * 4.0**9
    assert len(mesh.cuts(reach)) < 150
    assert mesh.breaks(reach) == ()
    assert mesh.unresolved == 0.0


def test_a_kink_far_out_is_still_found():
    (one,) = Mesh(lambda x: x + 0.01 * np.maximum(x - 50_000.0, 0.0)).breaks(8.0 * 4.0**7)
    assert (one.x, one.order) == (pytest.approx(50_000.0), 1)
