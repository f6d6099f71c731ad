"""NPZ files and arrays in memory."""

import numpy as np
import pandas as pd
import pytest

from depthscale.data import load
from depthscale.errors import DataError

R = np.random.default_rng(0)
X, Y = R.normal(size=(60, 5)), np.arange(60) % 3
IMAGES = R.integers(0, 256, (60, 3, 8, 6)).astype(np.uint8)


def save(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


@pytest.mark.parametrize("keys", ["xy", "XY", "Xy"])
def test_npz_and_memory_give_the_same(tmp_path, keys):
    stored = load(save(tmp_path, **{keys[0]: X, keys[1]: Y}))
    memory = load((X, Y))
    assert stored.fingerprint == memory.fingerprint
    assert (stored.kind, stored.task, stored.input_shape, stored.outputs) == ("table", "classification", (5,), 3)
    assert stored.raw_columns == ("x0", "x1", "x2", "x3", "x4")


def test_own_splits_are_kept(tmp_path):
    path = save(tmp_path, x_train=X[:40], y_train=Y[:40], x_test=X[40:], y_test=Y[40:])
    data = load(path)
    assert data.sizes == (34, 6, 20)
    assert np.array_equal(data.test().y, Y[40:])
    np.testing.assert_allclose(data.preprocessing.apply(X[40:]), data.test().x)
    path = save(tmp_path, x_train=X[:30], y_train=Y[:30], x_val=X[30:45], y_val=Y[30:45], x_test=X[45:], y_test=Y[45:])
    data = load(path)
    assert data.sizes == (30, 15, 15)
    assert np.array_equal(data.val.y, Y[30:45])
    assert "kept" in data.notes[0]


def test_image_layouts_are_detected_and_said(tmp_path):
    first = load(save(tmp_path, x=IMAGES, y=Y))
    last = load(save(tmp_path, x=np.moveaxis(IMAGES, 1, -1), y=Y))
    assert first.input_shape == last.input_shape == (3, 8, 6)
    assert np.array_equal(first.train.x, last.train.x)
    assert "(N, H, W, C)" in last.notes[0]
    grey = load((IMAGES[:, 0], Y))
    assert grey.input_shape == (1, 8, 6)
    assert grey.kind == "image"
    unsure = load((IMAGES[:, :, :, :3], Y))
    assert "transpose it" in unsure.notes[0]


def test_float_targets_of_images_are_regression():
    y = R.normal(size=(60, 2))
    data = load((IMAGES, y))
    assert (data.task, data.outputs) == ("regression", 2)


def test_text_labels(tmp_path):
    labels = np.array(["cat", "dog", "owl"])[Y]
    for y in (labels, labels.astype("S")):
        assert load(save(tmp_path, x=X, y=y)).classes == ("cat", "dog", "owl")


def test_lists_frames_and_mixed_arrays():
    assert load((X.tolist(), Y.tolist())).fingerprint == load((X, Y)).fingerprint
    frame = pd.DataFrame(X, columns=list("abcde")).assign(town=np.array(["u", "v"])[np.arange(60) % 2])
    for y in (pd.Series(Y, name="a"), Y, Y.tolist(), Y[:, None]):
        data = load((frame, y))
        assert data.input_shape == (6,)
        assert data.outputs == 3
    mixed = frame.to_numpy(dtype=object)
    assert load((mixed, Y)).input_shape == (6,)
    gaps = pd.Series(Y.astype(float))
    gaps[3] = None
    assert sum(load((frame, gaps)).sizes) == 59


def test_a_frame_with_gaps_is_imputed():
    frame = pd.DataFrame(X)
    frame.iloc[::7, 2] = np.nan
    data = load((frame, Y))
    assert "2 is missing" in data.preprocessing.features
    assert np.isfinite(data.train.x).all()


def nan_at(row, column):
    x = X.copy()
    x[row, column] = np.nan
    return x


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": nan_at(5, 2), "y": Y}, r"1 NaN and 0 infinite values, the first at x\[5, 2\]"),
        ({"x": X[:50], "y": Y}, "x has 50 and y has 60"),
        ({"a": X, "b": Y}, "needs the arrays x and y.*holds a, b"),
        ({"x": X.astype(object), "y": Y}, "'x'.*never unpickled"),
        ({"x": X, "y": Y.astype(object)}, "'y'.*never unpickled"),
        ({"x": X[0], "y": Y[:5]}, "must be a table"),
        ({"x": X[:0], "y": Y[:0]}, "no rows"),
        ({"x": X.astype(str), "y": Y}, "real numbers"),
        ({"x": X, "y": 3}, "y has 1"),
        ({"x": X, "y": np.where(Y == 0, np.nan, Y)}, "target y has 20 NaN"),
        ({"x": X, "y": np.zeros(60)}, "constant"),
        ({"x": np.ones((60, 3)), "y": Y}, "No column is left"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :3], "y_test": Y}, "rows of one shape"),
        ({"x_train": X, "y_train": Y * 0 + Y % 2, "x_test": X, "y_test": Y}, "test split has the class '2'"),
        ({"x_train": X, "y_train": Y, "x_test": nan_at(0, 1), "y_test": Y}, r"x_test\[0, 1\]"),
    ],
)
def test_npz_files_that_cannot_be_used_are_refused(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        load(save(tmp_path, **arrays))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x80\x04K\x01.", b"plain text"])
def test_files_that_are_no_npz_are_refused_and_never_unpickled(tmp_path, content):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as an NPZ"):
        load(path)


def test_a_lone_npy_named_npz_is_refused(tmp_path):
    with open(tmp_path / "data.npz", "wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match="cannot be read as an NPZ"):
        load(tmp_path / "data.npz")


class _Sparse:
    def toarray(self):
        raise AssertionError("must not be made dense in silence")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((X,), "pair"),
        (5, "but got int"),
        ((X, Y[:10]), "same number of rows"),
        ((pd.DataFrame(X), Y[:10]), "same number of rows"),
        (([[1, 2], [3]], [1, 2]), "cannot be read as an array"),
        ((_Sparse(), Y), "sparse"),
        ((X * np.inf, Y), "infinite"),
    ],
)
def test_memory_that_cannot_be_used_is_refused(source, message):
    with pytest.raises(DataError, match=message):
        load(source)
