"""States and index algebra against the dense matrix of all pairs."""

import numpy as np
import pytest

from depthscale.graph import ops
from depthscale.graph.op import Op
from depthscale.theory.align import add_states, aligned, coarse, refine, unbroadcast
from depthscale.theory.axes import Axis, class_map, describe, lookup, projection, refinement, types
from depthscale.theory.backward import backward
from depthscale.theory.forward import Setting, forward
from depthscale.theory.index_algebra import cut, join, permute, reshape, simplify
from depthscale.theory.moments import State, average_pairs, centred, modulated, rounded, state, stationary
from depthscale.theory.windows import Window, every_sums, same_sums, taps
from tests.theory.dense import classes_of, linear_matrix, matrix_of, random_state

AXES = [
    Axis(1),
    Axis(2),
    Axis(7),
    Axis(3, 3),
    Axis(8, 3),
    Axis(3, 3, edge=True),
    Axis(4, 3, edge=True),
    Axis(9, 3, edge=True),
    Axis(6, parts=(1, 3, 2)),
]


@pytest.mark.parametrize("axis", AXES, ids=str)
def test_classes_partition_all_pairs(axis: Axis) -> None:
    classes = class_map(axis)
    assert classes.min() >= 0
    np.testing.assert_array_equal(np.bincount(classes.ravel(), minlength=axis.classes), axis.pairs)
    assert axis.pairs.sum() == axis.n**2
    np.testing.assert_array_equal(classes, classes.T)
    assert set(np.diag(classes)) == set(range(axis.same))
    for k, ((s, t, _), _) in enumerate(describe(axis)):
        i, j = np.nonzero(classes == k)
        found = {tuple(sorted((types(axis)[a], types(axis)[b]))) for a, b in zip(i, j, strict=True)}
        assert found <= {(s, t)}
    assert lookup(axis).shape == (axis.same, axis.same, axis.reach + 1)


def test_axes_that_mean_the_same_are_equal() -> None:
    assert Axis(2, 3, edge=True) == Axis(2)
    assert Axis(1, 3) == Axis(1)


def test_projection_averages_what_refinement_copies() -> None:
    fine, to = Axis(7, 3, edge=True), Axis(7, 3)
    np.testing.assert_allclose(projection(fine, to)[:, :].sum(axis=1), 1.0)
    copied = np.arange(to.classes, dtype=float)[refinement(to, fine)]
    np.testing.assert_allclose(projection(fine, to) @ copied, np.arange(to.classes))


def _axes(*kinds: Axis) -> tuple[Axis, ...]:
    return kinds


LAYOUT: list[tuple[Op, tuple[Axis, ...]]] = [
    (ops.Flatten(), _axes(Axis(2), Axis(3), Axis(4, 3), Axis(3, 3, edge=True))),
    (ops.Flatten(1, 2), _axes(Axis(2), Axis(6, parts=(1, 3, 2)), Axis(3))),
    (ops.Unflatten(1, (2, 3)), _axes(Axis(2), Axis(6))),
    (ops.Unflatten(1, (2, -1)), _axes(Axis(2), Axis(8, 3))),
    (ops.Permute((0, 2, 1)), _axes(Axis(2), Axis(3), Axis(5, 3))),
    (ops.Expand((-1, 4, -1)), _axes(Axis(2), Axis(1), Axis(3))),
    (ops.Slice(1, 1, 5), _axes(Axis(2), Axis(6, 3))),
    (ops.Slice(1, 0, 6, 2), _axes(Axis(2), Axis(6, 3))),
    (ops.Slice(1, 0, 4), _axes(Axis(2), Axis(6, parts=(1, 3, 2)))),
    (ops.Select(1, 0), _axes(Axis(2), Axis(6, parts=(1, 3, 2)), Axis(3))),
    (ops.Resize((5,)), _axes(Axis(2), Axis(2), Axis(7, 3))),
    (ops.Resize((5,), "nearest"), _axes(Axis(2), Axis(2), Axis(3, 3))),
    (ops.Resize((4, 5), "bicubic"), _axes(Axis(1), Axis(2), Axis(6, 3), Axis(3, 3))),
    (ops.Resize((4, 7), "bilinear", corners=True), _axes(Axis(1), Axis(2), Axis(6, 3), Axis(3, 3))),
    (ops.Take(1, (2, 0, 2, 3)), _axes(Axis(2), Axis(6))),
    (ops.Take(-1, (1,)), _axes(Axis(2), Axis(6, 3))),
    (ops.Pad((1, 2)), _axes(Axis(2), Axis(4))),
    (ops.Pad((1, 1)), _axes(Axis(2), Axis(2), Axis(5, 3))),
    (ops.Reduce("mean", (2, 3)), _axes(Axis(2), Axis(2), Axis(4, 3, edge=True), Axis(3, 3))),
    (ops.Reduce("sum", (1,), keep=True), _axes(Axis(2), Axis(6, parts=(1, 3, 2)), Axis(2))),
    (ops.AvgPool((3,), 2, 1), _axes(Axis(2), Axis(2), Axis(7, 3))),
    (ops.AvgPool((3,), 2, 1, count_padding=False), _axes(Axis(2), Axis(2), Axis(7, 3, edge=True))),
    (ops.AvgPool((2, 2), 2), _axes(Axis(1), Axis(2), Axis(4, 3, edge=True), Axis(4, 3))),
    (ops.AdaptivePool((3,)), _axes(Axis(2), Axis(2), Axis(7, 3))),
    (ops.Upsample((2,)), _axes(Axis(2), Axis(2), Axis(4, 3))),
    (ops.Upsample((2, 2), "bilinear"), _axes(Axis(1), Axis(2), Axis(4, 3), Axis(3, 3))),
]


@pytest.mark.parametrize(("op", "axes"), LAYOUT, ids=lambda v: str(v)[:40])
def test_linear_ops_against_the_dense_matrix(op: Op, axes: tuple[Axis, ...]) -> None:
    """Forward is A C Aᵀ, backward Aᵀ G A, averaged over classes."""
    rng = np.random.default_rng(0)
    x = random_state(axes, rng)
    a = linear_matrix(op, x.shape)
    y = forward(op, Setting(axes[0].n), x)
    expected = classes_of(a @ matrix_of(x) @ a.T, y.axes)
    _same_where_pairs(y, expected)
    g = random_state(tuple(Axis(ax.n, ax.reach) for ax in y.axes), rng)
    (gx,) = backward(op, Setting(axes[0].n), g, y, x).inputs
    assert gx is not None
    _same_where_pairs(gx, classes_of(a.T @ matrix_of(g) @ a, gx.axes))


def _same_where_pairs(y: State, expected: np.ndarray) -> None:
    exist = ~np.isnan(expected)
    np.testing.assert_allclose(y.q[exist], expected[exist], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
def test_taps_are_counted_exactly(kernel: int, stride: int, padding: int) -> None:
    for n, out_kind, in_kind in ((9, True, False), (9, True, True), (6, False, True), (12, False, False)):
        if n + 2 * padding < kernel:
            continue
        out = (n + 2 * padding - kernel) // stride + 1
        window = Window(n, out, kernel, stride, padding)
        o, i = Axis(out, 3, edge=out_kind), Axis(n, 3, edge=in_kind)
        same, every = np.zeros((o.classes, i.classes)), np.zeros((o.classes, i.classes))
        d, e = class_map(o), class_map(i)
        for a, (rows_a, columns_a) in enumerate(taps(window)):
            for b, (rows_b, columns_b) in enumerate(taps(window)):
                for p, q in zip(rows_a, columns_a, strict=True):
                    for r, s in zip(rows_b, columns_b, strict=True):
                        every[d[p, r], e[q, s]] += 1
                        same[d[p, r], e[q, s]] += a == b
        np.testing.assert_array_equal(same_sums(window, o, i), same)
        np.testing.assert_allclose(every_sums(window, o, i), every)


def test_reshapes_there_and_back() -> None:
    x = random_state((Axis(2), Axis(6), Axis(4)), np.random.default_rng(1))
    y = reshape(reshape(x, (2, 24)), (2, 6, 4))
    c = coarse(x)
    # merging forgets which axis differed, so only agreement and the average of the rest survive
    assert y.q[0, 0, 0] == pytest.approx(c.q[0, 0, 0])
    n = c.q.reshape(2, -1) @ np.multiply.outer([1, 5], [1, 3]).ravel()
    m = y.q.reshape(2, -1) @ np.multiply.outer([1, 5], [1, 3]).ravel()
    np.testing.assert_allclose(n, m)


def test_joining_and_cutting_are_inverse() -> None:
    rng = np.random.default_rng(2)
    a, b = random_state((Axis(3), Axis(4)), rng), random_state((Axis(3), Axis(5)), rng)
    both = join([a, b], 1)
    assert both.axes[1].parts == (4, 5)
    np.testing.assert_allclose(cut(both, 1, 0, 4).q, a.q)
    np.testing.assert_allclose(cut(both, 1, 4, 5).q, b.q)
    assert both.length == pytest.approx((4 * a.length + 5 * b.length) / 9)
    # parts that are alike are one
    assert simplify(refine(a, 1, (1, 3))).axes == a.axes


def test_many_parts_keep_their_averages() -> None:
    rng = np.random.default_rng(3)
    pieces = [random_state((Axis(3), Axis(k + 1)), rng) for k in range(12)]
    both = join(pieces, 1)
    assert len(both.axes[1].parts) <= 8
    sizes = np.arange(1, 13)
    assert both.length == pytest.approx(float(np.array([p.length for p in pieces]) @ sizes / sizes.sum()))


def test_sums_of_gradients_align_what_they_tell_apart() -> None:
    rng = np.random.default_rng(4)
    a = random_state((Axis(2), Axis(9, 3)), rng)
    b = random_state((Axis(2), Axis(9, 3, edge=True)), rng)
    total = add_states(a, b)
    np.testing.assert_allclose(matrix_of(total), matrix_of(a) + matrix_of(b), rtol=1e-9)
    parts = random_state((Axis(2), Axis(9, parts=(1, 8))), rng)
    plain = random_state((Axis(2), Axis(9)), rng)
    np.testing.assert_allclose(matrix_of(add_states(parts, plain)), matrix_of(parts) + matrix_of(plain), rtol=1e-9)


def test_broadcasting_and_its_adjoint() -> None:
    rng = np.random.default_rng(5)
    small, large = random_state((Axis(1), Axis(3)), rng), random_state((Axis(4), Axis(3)), rng)
    a, b = aligned(small, large)
    assert np.broadcast_shapes(a.q.shape, b.q.shape) == large.q.shape
    copy = np.kron(np.ones((4, 1)), np.eye(3))  # (4·3, 3)
    back = unbroadcast(large, small.axes)
    np.testing.assert_allclose(matrix_of(back), copy.T @ matrix_of(large) @ copy, rtol=1e-9)


@pytest.mark.parametrize("axis", [Axis(5), Axis(6, parts=(2, 4)), Axis(6, 3, edge=True)], ids=str)
def test_centring_against_the_dense_matrix(axis: Axis) -> None:
    x = random_state((axis, Axis(3)), np.random.default_rng(6))
    p = np.kron(np.eye(axis.n) - 1 / axis.n, np.eye(3))
    expected = classes_of(p @ matrix_of(x) @ p.T, x.axes)
    found = centred(x.q, x.axes, (0,))
    np.testing.assert_allclose(found[: axis.same], expected[: axis.same], atol=1e-9)
    # inside, rows near an edge have other averages than those in the middle
    np.testing.assert_allclose(found, expected, atol=0.06 if axis.edge else 1e-9)
    np.testing.assert_allclose(average_pairs(centred(x.q, x.axes, (0,)), x.axes, (0,)), 0.0, atol=1e-9)


def test_sizes_of_edges_divide_out_and_come_back() -> None:
    x = random_state((Axis(2), Axis(2), Axis(8, 3, edge=True), Axis(8, 3, edge=True)), np.random.default_rng(7))
    inner = stationary(x)
    assert inner.length == pytest.approx(x.length)
    same = inner.q[(0, 0, slice(0, 2), slice(0, 2))]
    np.testing.assert_allclose(same, x.length, rtol=1e-9)
    np.testing.assert_allclose(modulated(inner, x).q, x.q, rtol=1e-9)


def test_rounding_is_idempotent_and_small() -> None:
    x = np.random.default_rng(8).normal(size=100) * 10.0 ** np.arange(-50, 50)
    y = rounded(x)
    np.testing.assert_array_equal(rounded(y), y)
    np.testing.assert_allclose(x, y, rtol=2e-11)
    assert state((Axis(2),), np.array([np.inf, 1.0])).q[0] == np.inf


def test_axes_that_were_merged_come_apart_as_they_were() -> None:
    """Windows of an image: reshape, permute, merge and all the way back, with nothing averaged away."""
    rng = np.random.default_rng(0)
    x = random_state((Axis(4), Axis(6), Axis(6), Axis(5)), rng)
    cut = reshape(x, (4, 2, 3, 2, 3, 5))
    windows = reshape(permute(cut, (0, 1, 3, 2, 4, 5)), (16, 9, 5))
    assert windows.axes[0].factors == (4, 2, 2)
    # the same by the dense matrix, elements moved as numpy moves them
    order = np.arange(4 * 6 * 6 * 5).reshape(4, 2, 3, 2, 3, 5).transpose(0, 1, 3, 2, 4, 5).ravel()
    dense = matrix_of(x)[np.ix_(order, order)]
    assert matrix_of(windows) == pytest.approx(dense, abs=1e-9)
    back = reshape(permute(reshape(windows, (4, 2, 2, 3, 3, 5)), (0, 1, 3, 2, 4, 5)), (4, 6, 6, 5))
    assert matrix_of(back) == pytest.approx(matrix_of(x), abs=1e-9)


def test_a_merged_axis_is_cut_through_one_of_its_factors() -> None:
    x = random_state((Axis(8), Axis(6)), np.random.default_rng(1))
    merged = reshape(x, (48,))
    assert merged.axes[0].factors == (8, 6)
    assert reshape(merged, (4, 12)).axes[1].factors == (2, 6)
    assert matrix_of(reshape(merged, (4, 12))) == pytest.approx(matrix_of(x), abs=1e-9)
    assert reshape(merged, (3, 16)).axes[1].factors == ()  # does not fit: exchangeable


def test_the_maximum_over_an_axis_beside_one_that_tells_distances_apart() -> None:
    """Against sampling; gradients go to one entry each, so that their energy is kept."""
    axes = (Axis(1), Axis(4), Axis(6, 3))
    near = np.exp(-0.5 * np.abs(np.subtract.outer(np.arange(6), np.arange(6))))
    covariance = np.kron(0.7 * np.eye(4) + 0.3, near)
    x = state(axes, classes_of(covariance, axes), 0.0)
    op = ops.Reduce("max", (1,))
    y = forward(op, Setting(1), x)
    rng = np.random.default_rng(0)
    drawn = rng.multivariate_normal(np.zeros(24), covariance, 100_000).reshape(-1, 4, 6).max(1)
    expected = classes_of(drawn.T @ drawn / len(drawn), y.axes)
    exist = ~np.isnan(expected)
    np.testing.assert_allclose(y.q[exist], expected[exist], rtol=0.02)
    g = random_state((Axis(1), Axis(6, 3)), rng)
    (gx,) = backward(op, Setting(1), g, y, x).inputs
    assert gx is not None
    assert 4 * gx.q[0, 0, 0] == pytest.approx(np.trace(matrix_of(g)) / 6)
