"""What every reader hands over: rows as they were found, before splitting and preprocessing.

Images are one ``(N, C, H, W)`` array in their own units, tables a pandas ``DataFrame`` of their own columns, and
targets a NumPy array of labels or numbers. From here on it no longer matters where the rows came from.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

TRAIN, VAL, TEST = 0, 1, 2
PARTS = ("train", "val", "test")


@dataclass
class Raw:
    """Rows as a reader found them; ``part`` holds 0/1/2 (train/val/test) per row where the source splits itself."""

    name: str
    x: NDArray[Any] | pd.DataFrame  # images (N, C, H, W), or a table of N rows
    y: NDArray[Any]  # (N,) labels or numbers, or (N, T) numbers
    target_names: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None  # names of the classes, where y already holds class indices
    part: NDArray[np.int8] | None = None  # (N,)
    notes: list[str] = field(default_factory=list)

    @property
    def is_image(self) -> bool:
        """True when the rows are images rather than rows of a table."""
        return isinstance(self.x, np.ndarray)

    def take(self, rows: NDArray[np.int64]) -> Raw:
        """The same source with only these rows, in this order."""
        part = None if self.part is None else self.part[rows]
        return Raw(
            self.name, take_rows(self.x, rows), self.y[rows], self.target_names, self.labels, part, list(self.notes)
        )


def take_rows(x: NDArray[Any] | pd.DataFrame, rows: NDArray[np.int64]) -> Any:
    """The given rows of an array or of a data frame."""
    return x[rows] if isinstance(x, np.ndarray) else x.iloc[rows].reset_index(drop=True)


def as_text(value: Any) -> str:
    """A label as the user would write it: ``3`` for 3.0, so that a column read once as float still matches."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def fingerprint(raw: Raw, splits: tuple[NDArray[np.int64], ...], seed: int, task: str) -> str:
    """The sha256 of the content and of how it is split; equal exactly when a run may be resumed on these data."""
    digest = hashlib.sha256(f"depthscale.data/1 {task} seed={seed}".encode())
    if isinstance(raw.x, np.ndarray):
        _add_array(digest, raw.x)
    else:
        for name in raw.x.columns:
            digest.update(str(name).encode() + b"\0")
            _add_column(digest, raw.x[name])
    _add_array(digest, raw.y)
    for label in raw.labels or ():
        digest.update(label.encode() + b"\0")
    for rows in splits:
        _add_array(digest, rows)
    return digest.hexdigest()


def _add_array(digest: Any, array: NDArray[Any]) -> None:
    """Shape, type and bytes; texts are joined with their lengths, so that no two arrays collide."""
    digest.update(f"{array.shape}{array.dtype.kind}".encode())
    if array.dtype.kind in "OUS":
        for value in array.ravel():
            text = as_text(value).encode()
            digest.update(f"{len(text)}:".encode() + text)
    else:
        digest.update(np.ascontiguousarray(array).data)


def _add_column(digest: Any, column: pd.Series[Any]) -> None:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column.dtype):
        _add_array(digest, column.to_numpy(dtype=np.float64, na_value=np.nan))
        return
    missing = column.isna().to_numpy()
    _add_array(digest, missing)
    _add_array(digest, column.astype(object).to_numpy()[~missing])
