"""From raw rows to a network's input and from its output back: fitted on the training split, plain JSON on disk.

The JSON is meant to be followed without this package:

image  x = (pixel - mean[channel]) / std[channel], in NCHW order; ``resize`` says that files of another size are
       scaled to cover ``shape`` and cropped at the centre.
table  each entry of ``columns`` turns one raw column into the next few of ``features``; the rules are at the head of
       ``depthscale.data.columns``.
target classification: output i stands for ``classes[i]``; regression: value = output * scale + mean.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from depthscale.data.columns import Column, column_from_dict, column_to_dict, fit_column
from depthscale.data.raw import take_rows
from depthscale.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA, VERSION = "depthscale.preprocessing", 1
_CHUNK = 4096  # images converted at a time, so that float copies stay small


@dataclass(frozen=True)
class ImageInputs:
    """Per-channel standardisation of images of one shape, in the units of the raw pixels."""

    shape: tuple[int, int, int]  # (C, H, W)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: bool = False

    def apply(self, raw: Any) -> NDArray[np.float32]:
        """Standardised images (N, C, H, W) from an array of one or many images, or from image files."""
        images = self._read(raw) if _is_path(raw) or _are_paths(raw) else self._nchw(np.asarray(raw))
        mean = np.asarray(self.mean, np.float32)[:, None, None]
        std = np.asarray(self.std, np.float32)[:, None, None]
        out = np.empty(images.shape, np.float32)
        for start in range(0, len(images), _CHUNK):
            part = slice(start, start + _CHUNK)
            out[part] = images[part]
            out[part] -= mean
            out[part] /= std
        return out

    def _read(self, raw: Any) -> NDArray[Any]:
        from depthscale.data.images import read_images

        return read_images([raw] if _is_path(raw) else list(raw), self.shape)

    def _nchw(self, raw: NDArray[Any]) -> NDArray[Any]:
        c, h, w = self.shape
        if raw.dtype.kind not in "biuf":
            raise DataError(f"Images must be arrays of numbers or paths to image files, but got {raw.dtype.name}.")
        if raw.shape[-3:] == (c, h, w) and raw.ndim in (3, 4):
            return raw.reshape(-1, c, h, w)
        if raw.shape[-3:] == (h, w, c) and raw.ndim in (3, 4):
            return np.moveaxis(raw.reshape(-1, h, w, c), -1, 1)
        if c == 1 and raw.shape[-2:] == (h, w) and raw.ndim in (2, 3):
            return raw.reshape(-1, 1, h, w)
        raise DataError(f"Images must have shape (N, {c}, {h}, {w}) or (N, {h}, {w}, {c}), but got {raw.shape}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": "image",
            "shape": list(self.shape),
            "mean": list(self.mean),
            "std": list(self.std),
            "resize": self.resize,
        }


@dataclass(frozen=True)
class TableInputs:
    """The encodings of a table's columns, in order; ``raw`` names all columns of the table as it was read."""

    columns: tuple[Column, ...]
    raw: tuple[str, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns of the encoded table."""
        return tuple(feature for column in self.columns for feature in column.features)

    def apply(self, raw: Any) -> NDArray[np.float32]:
        """The encoded table (N, F) from a DataFrame, a mapping or list of rows, or an array with the raw columns."""
        table = self._frame(raw)
        absent = [column.name for column in self.columns if column.name not in table.columns]
        if absent:
            raise DataError(f"The table lacks the column(s) {', '.join(map(repr, absent))} that preprocessing needs.")
        out = np.empty((len(table), len(self.features)), np.float32)
        start = 0
        for column in self.columns:
            encoded = column.apply(table[column.name])
            out[:, start : start + encoded.shape[1]] = encoded
            start += encoded.shape[1]
        return out

    def _frame(self, raw: Any) -> pd.DataFrame:
        import pandas as pd

        if isinstance(raw, np.ndarray):
            if raw.ndim == 1:
                raw = raw[None]
            if raw.ndim != 2 or raw.shape[1] != len(self.raw):
                raise DataError(f"An array of rows must have the {len(self.raw)} raw columns, but got {raw.shape}.")
            return pd.DataFrame(raw, columns=list(self.raw))
        if isinstance(raw, Mapping) and all(np.ndim(v) == 0 for v in raw.values()):
            raw = [raw]
        frame = pd.DataFrame(raw)
        frame.columns = frame.columns.map(str)
        return frame

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        columns = [column_to_dict(column) for column in self.columns]
        return {"kind": "table", "raw": list(self.raw), "columns": columns, "features": list(self.features)}


@dataclass(frozen=True)
class Target:
    """What a network's outputs mean: classes in order, or numbers to be scaled back."""

    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()  # () for regression
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        if self.classes:
            return {"kind": "classification", "names": list(self.names), "classes": list(self.classes)}
        return {
            "kind": "regression",
            "names": list(self.names),
            "mean": list(self.mean),
            "scale": list(self.scale),
        }


@dataclass(frozen=True)
class Preprocessing:
    """Everything needed to feed new raw rows to a network trained on a ``Dataset`` and to read its outputs."""

    inputs: ImageInputs | TableInputs
    target: Target

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the encoded columns of a table, () for images."""
        return self.inputs.features if isinstance(self.inputs, TableInputs) else ()

    def apply(self, raw: Any) -> NDArray[np.float32]:
        """Network inputs (N, C, H, W) or (N, F) float32 from new raw images, image files or table rows."""
        return self.inputs.apply(raw)

    def decode(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Labels (N,) from class scores (N, classes) or indices (N,); numbers (N, T) in the target's own units."""
        outputs = np.asarray(outputs)
        if not self.target.classes:
            numbers: NDArray[Any] = outputs * np.asarray(self.target.scale) + np.asarray(self.target.mean)
            return numbers
        index = outputs.argmax(axis=1) if outputs.ndim == 2 else outputs
        labels: NDArray[Any] = np.asarray(self.target.classes)[index]
        return labels

    def to_json(self) -> str:
        """A JSON document that ``from_json`` reads back to an equal object."""
        document = {
            "schema": SCHEMA,
            "version": VERSION,
            "inputs": self.inputs.to_dict(),
            "target": self.target.to_dict(),
        }
        return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> Preprocessing:
        """The preprocessing that ``to_json`` wrote; ``DataError`` where the text is anything else."""
        try:
            document = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"The preprocessing is not valid JSON ({error}).") from error
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise DataError(f'Expected a JSON object with "schema": "{SCHEMA}", but got something else.')
        if document.get("version") != VERSION:
            raise DataError(
                f"Preprocessing of version {VERSION} is understood, but this is version {document.get('version')!r}."
            )
        try:
            return Preprocessing(_inputs(document["inputs"]), _target(document["target"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"The preprocessing JSON is malformed: {type(error).__name__} {error}.") from error


def _inputs(fields: dict[str, Any]) -> ImageInputs | TableInputs:
    if fields["kind"] == "image":
        c, h, w = (int(v) for v in fields["shape"])
        mean, std = (tuple(float(v) for v in fields[k]) for k in ("mean", "std"))
        if len(mean) != c or len(std) != c or 0.0 in std:
            raise ValueError("mean and std must have one non-zero value per channel")
        return ImageInputs((c, h, w), mean, std, bool(fields["resize"]))
    if fields["kind"] == "table":
        return TableInputs(tuple(column_from_dict(c) for c in fields["columns"]), tuple(map(str, fields["raw"])))
    raise ValueError(f"unknown kind of inputs {fields['kind']!r}")


def _target(fields: dict[str, Any]) -> Target:
    names = tuple(map(str, fields["names"]))
    if fields["kind"] == "classification":
        return Target(names, classes=tuple(map(str, fields["classes"])))
    if fields["kind"] == "regression":
        return Target(names, mean=tuple(map(float, fields["mean"])), scale=tuple(map(float, fields["scale"])))
    raise ValueError(f"unknown kind of target {fields['kind']!r}")


def fit_inputs(
    x: NDArray[Any] | pd.DataFrame, train: NDArray[np.int64], *, resize: bool = False
) -> tuple[ImageInputs | TableInputs, list[str]]:
    """The preprocessing of raw images or of a table, from its training rows alone, and notes on what was decided."""
    if isinstance(x, np.ndarray):
        mean, std = _channel_statistics(x, train)
        return ImageInputs((int(x.shape[1]), int(x.shape[2]), int(x.shape[3])), mean, std, resize), []
    table = take_rows(x, train)
    columns, notes = [], []
    for name in table.columns:
        column, note = fit_column(table[name])
        if column is not None:
            columns.append(column)
        if note is not None:
            notes.append(f"{note}.")
    if not columns:
        raise DataError(f"No column is left to learn from: {' '.join(notes) or 'the table has only its target.'}")
    return TableInputs(tuple(columns), tuple(map(str, x.columns))), notes


def fit_target(
    values: NDArray[Any], train: NDArray[np.int64], classes: tuple[str, ...], names: tuple[str, ...]
) -> Target:
    """The meaning of the outputs; a regression target's mean and scale are those of its training rows."""
    if classes:
        return Target(names, classes)
    rows = values[train]
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    flat = np.flatnonzero(rows.min(axis=0) == rows.max(axis=0))
    if len(flat) or not np.isfinite(scale).all() or (scale == 0).any():
        raise DataError("The target is constant, or too large for its scale to be computed, in the training rows.")
    return Target(names, (), tuple(map(float, mean)), tuple(map(float, scale)))


def _channel_statistics(x: NDArray[Any], rows: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over the rows; exact for 8-bit pixels, by their histogram."""
    channels = x.shape[1]
    if x.dtype == np.uint8:
        counts = np.zeros((channels, 256), np.int64)
        for start in range(0, len(rows), _CHUNK):
            part = x[rows[start : start + _CHUNK]]
            for c in range(channels):
                counts[c] += np.bincount(part[:, c].ravel(), minlength=256)
        levels, total = np.arange(256.0), counts[0].sum()
        mean = counts @ levels / total
        variance = (counts * (levels - mean[:, None]) ** 2).sum(axis=1) / total
    else:
        total = len(rows) * x.shape[2] * x.shape[3]
        mean, variance = np.zeros(channels), np.zeros(channels)
        for start in range(0, len(rows), _CHUNK):
            mean += x[rows[start : start + _CHUNK]].sum(axis=(0, 2, 3), dtype=np.float64) / total
        for start in range(0, len(rows), _CHUNK):
            centred = x[rows[start : start + _CHUNK]].astype(np.float64) - mean[:, None, None]
            variance += (centred**2).sum(axis=(0, 2, 3)) / total
    std = np.sqrt(variance)
    return tuple(map(float, mean)), tuple(float(s) if s > 0 else 1.0 for s in std)


def _is_path(raw: Any) -> bool:
    return isinstance(raw, str | os.PathLike)


def _are_paths(raw: Any) -> bool:
    return isinstance(raw, list | tuple) and len(raw) > 0 and all(_is_path(item) for item in raw)
