"""Arrays in memory and NPZ files: whatever their shape says they are, images or rows of a table."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthscale.data.raw import PARTS, Raw
from depthscale.data.tables import check_finite_table, raw_from_frame
from depthscale.errors import DataError

CHANNELS = (1, 2, 3, 4)  # sizes that an axis of channels may have, when the layout must be guessed


def read_npz(path: Path) -> Raw:
    """The arrays x and y, or x_train, y_train, x_test, y_test (and x_val, y_val), of an NPZ file; never unpickled."""
    pieces: list[tuple[int, NDArray[Any], NDArray[Any]]] = []
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            keys = {key.lower(): key for key in archive.files}
            if {"x", "y"} <= set(keys):
                pieces.append((0, _member(archive, keys["x"], path), _member(archive, keys["y"], path)))
            elif {"x_train", "y_train"} <= set(keys):
                for index, part in enumerate(PARTS):
                    if f"x_{part}" in keys and f"y_{part}" in keys:
                        x, y = keys[f"x_{part}"], keys[f"y_{part}"]
                        pieces.append((index, _member(archive, x, path), _member(archive, y, path)))
            else:
                raise DataError(
                    f"{path} needs the arrays x and y, or x_train, y_train, x_test and y_test, but holds "
                    f"{', '.join(archive.files) or 'nothing'}."
                )
    except DataError:
        raise
    except (
        OSError,
        ValueError,
        TypeError,
        EOFError,
        KeyError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(f"{path} cannot be read as an NPZ file ({' '.join(str(error).split())[:160]}).") from error
    return _join(pieces, path.name)


def read_memory(source: Any, target: str | Sequence[str] | None, task: str | None) -> Raw:
    """A DataFrame with its target column, or a pair (X, y) of arrays, frames or lists."""
    if _is_frame(source):
        return raw_from_frame(source, target, name="the data frame", task=task, notes=[])
    if not isinstance(source, tuple | list) or len(source) != 2:
        raise DataError(
            "Data must be a name, a path, a DataFrame with target=, or a pair (X, y), but got "
            f"{type(source).__name__}{f' of length {len(source)}' if isinstance(source, tuple | list) else ''}."
        )
    x, y = source
    if hasattr(x, "toarray"):
        raise DataError("X is a sparse matrix; give it dense, as X.toarray(), if memory allows.")
    if _is_frame(x):
        return _frame_and_target(x, y, task)
    x = _as_array(x, "X")
    if x.dtype.kind in "OUS" and x.ndim == 2:
        import pandas as pd

        return _frame_and_target(pd.DataFrame(x.astype(object)).infer_objects(), y, task)
    return _join([(0, x, _as_array(y, "y"))], "arrays")


def to_nchw(x: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    """Images (N, H, W), (N, C, H, W) or (N, H, W, C) as (N, C, H, W); what was taken for what is noted."""
    if x.ndim == 3:
        notes.append(f"x of shape {x.shape} read as grey images (N, H, W).")
        return x[:, None]
    first, last = x.shape[1] in CHANNELS, x.shape[3] in CHANNELS
    if last and not first:
        notes.append(f"x of shape {x.shape} read as images (N, H, W, C).")
        return np.ascontiguousarray(np.moveaxis(x, -1, 1))
    sure = "" if first and not last else "; transpose it if the channels come last"
    notes.append(f"x of shape {x.shape} read as images (N, C, H, W){sure}.")
    return x


def _frame_and_target(x: Any, y: Any, task: str | None) -> Raw:
    import pandas as pd

    frame = x.copy(deep=False)
    frame.columns = frame.columns.map(str)
    if len(y) != len(frame):
        raise DataError(f"X and y must have the same number of rows, but X has {len(frame)} and y has {len(y)}.")
    name = str(getattr(y, "name", None) or "y")
    while name in frame.columns:
        name += "_"
    frame = frame.reset_index(drop=True)
    if not isinstance(y, pd.Series) and np.ndim(y) > 1:
        check_finite_table(frame, "X")
        return Raw("arrays", frame, _as_array(y, "y"))
    column = y.reset_index(drop=True) if isinstance(y, pd.Series) else pd.Series(list(y))
    return raw_from_frame(frame.assign(**{name: column}), name, name="arrays", task=task, notes=[])


def _member(archive: Any, key: str, path: Path) -> NDArray[Any]:
    try:
        value: NDArray[Any] = archive[key]
    except ValueError as error:
        if "pickle" in str(error):
            raise DataError(
                f"The array {key!r} of {path} holds Python objects, which are never unpickled; save it as numbers or "
                "as fixed-width text, say with x.astype(float) or y.astype(str)."
            ) from error
        raise
    except MemoryError as error:
        raise DataError(f"The array {key!r} of {path} is too large for this machine's memory.") from error
    return value


def _join(pieces: list[tuple[int, NDArray[Any], NDArray[Any]]], name: str) -> Raw:
    """One source from its splits, each checked: lengths, shapes, finite numbers."""
    for index, x, y in pieces:
        where = f"_{PARTS[index]}" if len(pieces) > 1 else ""
        _check_pair(x, y, f"x{where}", f"y{where}")
        if x.shape[1:] != pieces[0][1].shape[1:] or y.shape[1:] != pieces[0][2].shape[1:]:
            raise DataError(
                f"All splits of {name} must have rows of one shape, but got {x.shape[1:]} and {pieces[0][1].shape[1:]}."
            )
    notes: list[str] = []
    x = np.concatenate([p[1] for p in pieces]) if len(pieces) > 1 else pieces[0][1]
    y = np.concatenate([p[2] for p in pieces]) if len(pieces) > 1 else pieces[0][2]
    part = None
    if len(pieces) > 1:
        part = np.repeat(np.array([p[0] for p in pieces], np.int8), [len(p[1]) for p in pieces])
        notes.append(f"{name} has its own {' and '.join(PARTS[p[0]] for p in pieces)} splits, which are kept.")
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    if x.ndim > 2:
        return Raw(name, to_nchw(x, notes), y, part=part, notes=notes)
    import pandas as pd

    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])])
    return Raw(name, frame, y, part=part, notes=notes)


def _check_pair(x: NDArray[Any], y: NDArray[Any], x_name: str, y_name: str) -> None:
    if x.ndim not in (2, 3, 4):
        raise DataError(
            f"{x_name} must be a table (N, F) or images (N, H, W), (N, C, H, W) or (N, H, W, C), but has shape "
            f"{x.shape}."
        )
    if y.ndim == 0 or len(x) != len(y):
        rows = len(y) if y.ndim else 1
        raise DataError(
            f"{x_name} and {y_name} must have the same number of rows, but {x_name} has {len(x)} and {y_name} has "
            f"{rows}."
        )
    if 0 in x.shape:
        raise DataError(f"There are no rows to learn from: {x_name} has shape {x.shape}.")
    if x.dtype.kind not in "biuf":
        raise DataError(f"{x_name} must hold real numbers, but has type {x.dtype.name}.")
    if x.dtype.kind == "f":
        bad = ~np.isfinite(x)
        if bad.any():
            nan, place = int(np.isnan(x).sum()), tuple(int(i) for i in np.argwhere(bad)[0])
            raise DataError(
                f"{x_name} has {nan} NaN and {int(bad.sum()) - nan} infinite values, the first at {x_name}"
                f"[{', '.join(map(str, place))}]; replace them, or give a CSV file or DataFrame to have gaps imputed."
            )


def _as_array(value: Any, name: str) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{name} cannot be read as an array ({' '.join(str(error).split())[:160]}).") from error


def _is_frame(value: Any) -> bool:
    """True for a pandas DataFrame, without importing pandas for those who have none."""
    return hasattr(value, "columns") and hasattr(value, "iloc")
