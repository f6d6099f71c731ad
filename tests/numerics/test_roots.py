import numpy as np
import pytest

from depthscale.numerics import safe
from depthscale.numerics.roots import all_roots, refine
from depthscale.numerics.table import LogTable


def test_refine_finds_a_batch_of_roots_to_rounding():
    target = np.linspace(0.1, 50, 40)

    def f(x):
        return x**3 + x - target

    lo, hi = np.zeros(40), np.full(40, 10.0)
    x = refine(f, lo, hi, f(lo), f(hi))
    assert np.max(np.abs(f(x))) < 1e-13 * 50


def test_all_roots_finds_crossings_and_touching_pairs():
    grid = np.linspace(0.1, 10, 50)
    roots = all_roots(np.sin, grid)
    assert roots == pytest.approx([np.pi, 2 * np.pi, 3 * np.pi], abs=1e-14)

    def double(x):
        return (x - 3.7) ** 2 - 1e-10

    pair = all_roots(double, grid)
    assert pair == pytest.approx([3.7 - 1e-5, 3.7 + 1e-5], abs=1e-9)
    assert len(all_roots(double, grid, touching=False)) == 0
    assert len(all_roots(lambda x: (x - 3.7) ** 2 + 0.1, grid)) == 0


def test_guarded_square_root_and_arccosine():
    assert safe.sqrt(-1e-17) == 0
    assert np.isnan(safe.sqrt(-1e-3))
    assert safe.arccos(1 + 1e-15) == 0
    assert safe.arccos(-1 - 1e-15) == pytest.approx(np.pi)
    assert np.isnan(safe.arccos(1.1))


def test_depth_scales_keep_their_digits_beside_one():
    assert safe.log_decay(1 - 1e-12) == pytest.approx(1e12, rel=2e-4)
    assert safe.log_decay(0.0) == 0
    assert np.isinf(safe.log_decay(1.0))
    assert safe.log_decay(-0.5) == pytest.approx(1 / np.log(2))


def test_the_table_follows_a_function_over_eighteen_decades_and_knows_its_error():
    def f(q):
        return np.stack([q / (1 + q), np.arctan(np.sqrt(q))], axis=1)

    table = LogTable(f)
    q = np.geomspace(1e-12, 1e6, 777)
    value, error = table.with_error(q)
    assert np.all(np.abs(value - f(q)) <= error)
    assert np.all(error <= 1e-13 * f(q))


def test_the_table_says_inf_where_a_function_overflows():
    with np.errstate(over="ignore"):
        table = LogTable(lambda q: np.exp(q)[:, None])
        assert np.isinf(table(np.array([1e4]))[0, 0])
        assert table(np.array([1.5]))[0, 0] == pytest.approx(np.exp(1.5), rel=1e-9)
