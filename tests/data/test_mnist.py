"""IDX files: written here by hand, and the real ones where $DEPTHSCALE_DATA has them."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets

from depthscale.data import load
from depthscale.data.mnist import FILES, read_idx
from depthscale.errors import DataError

REAL = Path(os.environ.get("DEPTHSCALE_DATA", "")) / "mnist"


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_small(folder: Path, *, gz: bool = True, train: int = 60, test: int = 20) -> None:
    r = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name, rows in zip(FILES, (train, train, test, test), strict=True):
        array = r.integers(0, 256, (rows, 28, 28)) if "images" in name else np.arange(rows) % 10
        data = idx(array.astype(np.uint8))
        (folder / (name + ".gz" * gz)).write_bytes(gzip.compress(data, mtime=0) if gz else data)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, and no user's cache."""

    def fetch(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DEPTHSCALE_DATA", raising=False)
    monkeypatch.setattr("sys.platform", "linux")


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("place", ["env", "cache"])
def test_files_are_found_in_both_places(tmp_path, monkeypatch, offline, gz, place):
    root = tmp_path / "cache" / "depthscale" if place == "cache" else tmp_path / "mine"
    write_small(root / "mnist", gz=gz)
    if place == "env":
        monkeypatch.setenv("DEPTHSCALE_DATA", str(root))
    data = load("mnist")
    assert data.sizes == (51, 9, 20)
    assert data.input_shape == (1, 28, 28)
    assert data.classes == tuple("0123456789")
    assert np.array_equal(data.test().y, np.arange(20) % 10)


def test_dotted_names_are_found_too(tmp_path, monkeypatch, offline):
    write_small(tmp_path / "mnist", gz=False)
    for name in FILES:
        (tmp_path / "mnist" / name).rename(tmp_path / "mnist" / name.replace("-idx", ".idx"))
    monkeypatch.setenv("DEPTHSCALE_DATA", str(tmp_path))
    assert sum(load("mnist").sizes) == 80


def test_offline_says_where_to_put_the_files(tmp_path, offline):
    with pytest.raises(DataError, match="OpenML cannot be reached") as caught:
        load("mnist")
    for part in (*FILES, str(tmp_path / "cache" / "depthscale" / "mnist"), "DEPTHSCALE_DATA"):
        assert part in str(caught.value)


def test_openml_rows_are_split_officially(monkeypatch, offline):
    import depthscale.data.mnist as module

    x = np.random.default_rng(0).integers(0, 256, (80, 784)).astype(float)
    bunch = sklearn.utils.Bunch(data=x, target=np.array([str(i % 10) for i in range(80)], object))
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda *a, **k: bunch)
    monkeypatch.setattr(module, "TRAIN_ROWS", 60)
    data = load("mnist")
    assert data.sizes == (51, 9, 20)
    np.testing.assert_allclose(data.preprocessing.apply(x[60:].reshape(-1, 28, 28)), data.test().x)


@pytest.mark.parametrize("shape", [(7,), (3, 28, 28)])
def test_idx_round_trip(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    (tmp_path / "f").write_bytes(idx(array))
    assert np.array_equal(read_idx(tmp_path / "f"), array)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f", b"", "not an IDX file"),
        ("f", b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "not an IDX file"),
        ("f", b"\0\0\x08\x03\0\0", "not an IDX file"),
        ("f", idx(np.zeros(9, np.uint8))[:-1], "announces 9 bytes.*holds 8"),
        ("f", idx(np.zeros(9, np.uint8)) + b"x", "announces 9 bytes"),
        ("f", struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3), "announces"),
        ("f.gz", b"no gzip", "cannot be read"),
        ("f.gz", gzip.compress(idx(np.zeros(99, np.uint8)), mtime=0)[:-12], "cannot be read"),
    ],
)
def test_broken_idx_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / name)


def test_files_that_do_not_belong_together_are_refused(tmp_path, monkeypatch, offline):
    write_small(tmp_path / "mnist")
    (tmp_path / "mnist" / f"{FILES[1]}.gz").write_bytes(gzip.compress(idx(np.zeros(7, np.uint8)), mtime=0))
    monkeypatch.setenv("DEPTHSCALE_DATA", str(tmp_path))
    with pytest.raises(DataError, match="as many labels"):
        load("mnist")


@pytest.mark.skipif(not REAL.is_dir(), reason="$DEPTHSCALE_DATA/mnist is not there")
def test_the_real_mnist():
    data = load("mnist", limit=5000)
    assert sum(data.sizes) == 5000
    full = read_idx(next(REAL.glob("t10k-images*")))
    assert full.shape == (10_000, 28, 28)
    labels = read_idx(next(REAL.glob("train-labels*")))
    # LeCun's own counts of the training labels
    assert np.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    # the published pixel mean and deviation of the training images
    images = read_idx(next(REAL.glob("train-images*"))) / 255
    assert images.mean() == pytest.approx(0.1307, abs=5e-5)
    assert images.std() == pytest.approx(0.3081, abs=5e-5)
