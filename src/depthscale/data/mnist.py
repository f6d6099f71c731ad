"""MNIST (LeCun, Cortes & Burges): IDX files, plain or gzipped, from where the user keeps data; else from OpenML.

IDX: two zero bytes, one byte of type (8 = unsigned byte), one byte of rank, the sizes as big-endian 32-bit numbers,
then the values in row-major order.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from depthscale.data.raw import TEST, TRAIN, Raw
from depthscale.errors import DataError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
TRAIN_ROWS, TEST_ROWS = 60_000, 10_000


def cache_dir() -> Path:
    """The user's cache folder for depthscale, by the custom of the platform; it need not exist."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "depthscale"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "depthscale"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "depthscale"


def data_folders(name: str) -> list[Path]:
    """Where local copies of a data set are looked for, best first: $DEPTHSCALE_DATA, then the cache."""
    roots = [Path(os.environ["DEPTHSCALE_DATA"])] if os.environ.get("DEPTHSCALE_DATA") else []
    return [root.expanduser() / name for root in (*roots, cache_dir())]


def read_mnist() -> Raw:
    """All 70,000 digits as (N, 1, 28, 28) bytes; the official 10,000 test rows are the test split."""
    for folder in data_folders("mnist"):
        found = [_find(folder, name) for name in FILES]
        if all(path is not None for path in found):
            return _assemble([read_idx(path) for path in found if path is not None], f"read from {folder}.")
    return _assemble(_fetch(), "fetched from OpenML.")


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes; ``DataError`` where it is not one or is cut off."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); get the file again.") from error
    rank = data[3] if len(data) >= 4 else 0
    head = 4 + 4 * rank
    if data[:3] != b"\0\0\x08" or rank not in (1, 3) or len(data) < head:
        raise DataError(f"{path} is not an IDX file of bytes (it should begin with 00 00 08); get the file again.")
    shape = struct.unpack(f">{rank}I", data[4:head])
    expected = math.prod(shape)
    if len(data) - head != expected:
        raise DataError(f"{path} announces {expected} bytes for shape {shape} but holds {len(data) - head}.")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def _find(folder: Path, name: str) -> Path | None:
    """The file under one of the names it is distributed by."""
    stems = (name, name.replace("-idx", ".idx"))
    return next((p for stem in stems for p in (folder / stem, folder / f"{stem}.gz") if p.is_file()), None)


def _assemble(arrays: list[NDArray[np.uint8]], where: str) -> Raw:
    x_train, y_train, x_test, y_test = arrays
    for images, labels in ((x_train, y_train), (x_test, y_test)):
        if images.shape[1:] != (28, 28) or labels.shape != (len(images),) or labels.size == 0 or labels.max() > 9:
            raise DataError(
                f"MNIST needs 28 x 28 images with as many labels 0..9, but got images {images.shape} and labels "
                f"{labels.shape}; get the files again."
            )
    x = np.concatenate([x_train, x_test])[:, None]  # (70000, 1, 28, 28)
    y = np.concatenate([y_train, y_test]).astype(np.int64)
    part = np.repeat(np.array([TRAIN, TEST], np.int8), [len(x_train), len(x_test)])
    names = tuple(map(str, range(10)))
    return Raw("mnist", x, y, ("digit",), names, part, [f"mnist: {where} The official test rows are the test split."])


def _fetch() -> list[NDArray[np.uint8]]:
    """The four arrays from OpenML, whose order is the official one: training rows first."""
    from sklearn.datasets import fetch_openml

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a stale cache
            bunch = fetch_openml("mnist_784", version=1, as_frame=False, parser="liac-arff")
    except Exception as error:  # the network fails in many ways, and every one of them ends in the same advice
        folders = " or ".join(str(folder) for folder in data_folders("mnist"))
        unset = "" if os.environ.get("DEPTHSCALE_DATA") else ", or set DEPTHSCALE_DATA to the folder that has mnist/"
        raise DataError(
            f"MNIST was not found on this machine and OpenML cannot be reached ({_short(error)}); put the four files "
            f"{FILES[0]}.gz, {', '.join(f'{name}.gz' for name in FILES[1:])} into {folders}{unset}."
        ) from error
    x = np.asarray(bunch.data).astype(np.uint8).reshape(-1, 28, 28)
    y = np.asarray(bunch.target).astype(np.uint8)
    return [x[:TRAIN_ROWS], y[:TRAIN_ROWS], x[TRAIN_ROWS:], y[TRAIN_ROWS:]]


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:120]
