"""What a target's type means, and what cannot be learned."""

import numpy as np
import pytest

from depthscale.data.targets import resolve
from depthscale.errors import DataError


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.array(["b", "a", "b", "a"]), ("a", "b")),
        (np.array([True, False, True, False]), ("False", "True")),
        (np.array([3, 1, 3, 1]), ("1", "3")),
        (np.array([1.0, 0.0, 1.0, 0.0]), ("0", "1")),
        (np.array(["x", "y", "x", "y"], object), ("x", "y")),
        (np.array([True, False, True, False], object), ("False", "True")),
        (np.arange(100) % 20, tuple(map(str, range(20)))),
    ],
)
def test_labels_are_classes_in_sorted_order(y, classes):
    got = resolve(y)
    assert got.task == "classification"
    assert got.classes == classes
    assert got.values.dtype == np.int64
    assert [got.classes[i] for i in got.values] == [str(v) if not isinstance(v, float) else str(int(v)) for v in y]


@pytest.mark.parametrize(
    "y",
    [
        np.array([0.5, 1.0, 2.0, 3.0]),
        np.arange(200),
        np.arange(100) % 21,  # more than 20 values
        np.array([1, 2, 3, 4, 5, 6]),  # one row a value
        np.array([1, 2.5, 3], object),
    ],
)
def test_quantities_are_regression(y):
    got = resolve(y)
    assert got.task == "regression"
    assert got.classes == ()
    assert np.array_equal(got.values, y.astype(float)[:, None])


def test_task_overrides_in_both_directions():
    y = np.arange(100) % 10
    assert resolve(y).task == "classification"
    assert resolve(y, task="regression").task == "regression"
    assert len(resolve(np.arange(100) % 40, task="classification").classes) == 40


def test_the_choice_between_classes_and_numbers_is_said():
    (note,) = resolve(np.arange(100) % 10, names=("grade",)).notes
    assert "'grade' has 10 whole-number values" in note
    assert 'task="regression"' in note


def test_whole_numbers_of_images_are_always_classes():
    assert len(resolve(np.arange(200) % 100, image=True).classes) == 100


def test_one_hot_rows_become_indices_and_numbers_become_several_targets():
    index = np.arange(12) % 3
    got = resolve(np.eye(3)[index])
    assert np.array_equal(got.values, index)
    many = np.random.default_rng(0).normal(size=(12, 3))
    assert np.array_equal(resolve(many).values, many)
    assert resolve(np.eye(3)[index], task="regression").values.shape == (12, 3)


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        (np.ones(9), {}, "constant"),
        (np.full(9, 2), {}, "constant"),
        (np.full(9, 2), {"image": True}, "one class only, '2'"),
        (np.full(9, "cat"), {}, "one class only, 'cat'"),
        (np.zeros(9, np.int64), {"labels": ("a", "b")}, "one class only, 'a'"),
        (np.array(["a", "b", "c"]), {}, "fewer than two rows for each"),
        (np.array([]), {}, "no rows"),
        (np.array([1.0, np.nan, 2.5]), {}, "the first in row 1"),
        (np.array([1.5, np.inf, 2.5]), {}, "NaN or infinite"),
        (np.array(["a", "b"] * 5), {"task": "regression"}, "needs numbers"),
        (np.array([1, 2] * 5), {"task": "ranking"}, '"classification" or "regression"'),
        (np.ones((4, 2)) * [[1], [2], [3], [4]] + [0, 0.5], {"task": "classification"}, "one label per row"),
        (np.array([1j, 2]), {}, "labels or numbers"),
        (np.zeros((4, 2, 2)), {}, "one value"),
        (np.array([["a", "b"]] * 4), {}, "must be numbers"),
        (np.stack([np.arange(5.0) + 0.5, np.ones(5)], 1), {}, "column 1 of"),
        (np.zeros(4, np.int64), {"labels": ("a",), "task": "regression"}, "have classes"),
    ],
)
def test_what_cannot_be_learned_is_refused(y, options, message):
    with pytest.raises(DataError, match=message):
        resolve(y, **options)
