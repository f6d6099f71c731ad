"""Tables: CSV and its kin, Parquet, and data frames, up to the point where rows and target are told apart."""

from __future__ import annotations

import csv
import difflib
import gzip
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from depthscale.data.columns import date_formats
from depthscale.data.raw import Raw
from depthscale.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

CSV_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
SEPARATORS = (",", ";", "\t", "|")
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")
_PIXEL = re.compile(r"pixel_?\d+", re.IGNORECASE)


def read_table_file(path: Path, target: str | Sequence[str] | None, task: str | None) -> Raw:
    """The rows of a CSV, TSV or Parquet file, its target column(s) set apart."""
    notes: list[str] = []
    frame = _read_parquet(path) if path.suffix in PARQUET_SUFFIXES else _read_csv(path, notes)
    return raw_from_frame(frame, target, name=path.name, task=task, notes=notes)


def raw_from_frame(
    frame: pd.DataFrame, target: str | Sequence[str] | None, *, name: str, task: str | None, notes: list[str]
) -> Raw:
    """A data frame split into features and target; rows without a target are dropped and said."""
    frame = frame.copy(deep=False)
    frame.columns = frame.columns.map(str)
    if len(frame) == 0:
        raise DataError(f"{name} has no rows to learn from.")
    twice = [column for column, count in Counter(frame.columns).items() if count > 1]
    if twice:
        raise DataError(f"{name} has more than one column named {twice[0]!r}; rename them.")
    names = _target_columns(frame, target, name)
    absent = frame[names].isna().any(axis=1).to_numpy()
    if absent.any():
        notes.append(f"{int(absent.sum())} of {len(frame)} rows dropped: their target is missing.")
        frame = frame[~absent]
    if len(frame) == 0:
        raise DataError(f"{name} has no row in which the target {', '.join(map(repr, names))} is not missing.")
    if len(names) == len(frame.columns):
        raise DataError(f"{name} has no column beside the target {', '.join(map(repr, names))} to learn from.")
    y = np.stack([_column_values(frame[c], task) for c in names], axis=1)
    x = frame.drop(columns=names).reset_index(drop=True)
    check_finite_table(x, name)
    return Raw(name, x, y[:, 0] if len(names) == 1 else y, tuple(names), notes=notes)


def check_finite_table(x: pd.DataFrame, name: str) -> None:
    """Raise where a numeric column holds an infinite value; a missing value is fine and imputed later."""
    for column in x.columns:
        if x[column].dtype.kind == "f":
            infinite = np.isinf(x[column].to_numpy(dtype=np.float64, na_value=np.nan))
            if infinite.any():
                raise DataError(
                    f"Column {column!r} of {name} has {int(infinite.sum())} infinite value(s), the first in row "
                    f"{int(infinite.argmax())}; replace them, or leave the cells empty to have them imputed."
                )


def pixels_as_images(raw: Raw) -> Raw:
    """The same rows as square grey images, where all columns are named pixel1, pixel2, ...; else unchanged."""
    if isinstance(raw.x, np.ndarray) or not all(_PIXEL.fullmatch(column) for column in raw.x.columns):
        return raw
    side = round(len(raw.x.columns) ** 0.5)
    if side < 4 or side * side != len(raw.x.columns) or raw.x.isna().to_numpy().any():
        return raw
    pixels = raw.x.to_numpy(dtype=np.float32).reshape(-1, 1, side, side)
    raw.notes.append(f"{len(raw.x.columns)} columns named pixel1, pixel2, ... read as images of {side} x {side}.")
    raw.x = pixels
    return raw


def _target_columns(frame: pd.DataFrame, target: str | Sequence[str] | None, name: str) -> list[str]:
    columns = [str(column) for column in frame.columns]
    shown = ", ".join(map(repr, columns[:20])) + (f" and {len(columns) - 20} more" if len(columns) > 20 else "")
    if target is None or not target:
        raise DataError(f"{name} needs the name of its target column (--target NAME, target=...), one of {shown}.")
    names = [target] if isinstance(target, str) else [str(t) for t in target]
    for wanted in names:
        if wanted not in columns:
            near = _nearest(wanted, columns)
            hint = f"; did you mean {near!r}?" if near else "."
            if any(map(_looks_like_value, columns)):
                hint = "; the first row, which must hold the columns' names, looks like data."
            raise DataError(f"{name} has no column {wanted!r}; its columns are {shown}{hint}")
    return names


def _looks_like_value(column: str) -> bool:
    """True for a column name such as 5.1, which is rather a cell of a file without a header."""
    return re.fullmatch(r"[-+]?\d*\.\d+(e[-+]?\d+)?", column, re.IGNORECASE) is not None


def _nearest(wanted: str, columns: list[str]) -> str | None:
    lower = {column.strip().lower(): column for column in reversed(columns)}
    near = difflib.get_close_matches(wanted.strip().lower(), list(lower), n=1)
    return lower[near[0]] if near else None


def _column_values(column: pd.Series[Any], task: str | None) -> NDArray[Any]:
    """A target column without missing values, as numbers where it holds numbers and as objects otherwise."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(column.dtype):
        return column.to_numpy(dtype=np.bool_)
    if pd.api.types.is_integer_dtype(column.dtype):
        return column.to_numpy(dtype=np.int64)
    if pd.api.types.is_float_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64)
    if pd.api.types.is_datetime64_any_dtype(column.dtype) or pd.api.types.is_timedelta64_dtype(column.dtype):
        raise DataError(f"The target {str(column.name)!r} holds dates or times; give it as a number, say of days.")
    values: NDArray[Any] = column.astype(object).to_numpy()
    if isinstance(column.dtype, pd.CategoricalDtype) or all(isinstance(v, bool) for v in values):
        return values
    numbers = pd.to_numeric(column.astype(object), errors="coerce").to_numpy(dtype=np.float64)
    stray = values[np.isnan(numbers)]
    if len(stray) == 0:
        return numbers
    if len(stray) == len(values) and date_formats(column):
        raise DataError(f"The target {str(column.name)!r} holds dates; give it as a number, say of days.")
    if len(stray) <= 0.1 * len(values) and task != "classification":
        raise DataError(
            f"The target {str(column.name)!r} holds numbers but for {len(stray)} text(s) such as {str(stray[0])!r}; "
            'empty these cells, or say task="classification".'
        )
    return values


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise DataError(
            f"Reading {path.name} needs pyarrow, which is not installed: pip install 'depthscale[tables]'."
        ) from error
    except Exception as error:  # pyarrow's own exception types cannot be named without importing it
        raise DataError(f"{path} cannot be read as Parquet ({_one_line(error)}).") from error


def _read_csv(path: Path, notes: list[str]) -> pd.DataFrame:
    """The table, its separator, encoding and decimal mark found out; what is unusual is noted."""
    head = _head(path)
    if not head.strip():
        raise DataError(f"{path} is empty; a CSV file with a header row and rows below it was expected.")
    encoding = _encoding(head)
    if b"\0" in head and encoding != "utf-16":
        raise DataError(f"{path} is not a text file; a CSV file was expected.")
    separator = "\t" if ".tsv" in path.suffixes else _separator(head.decode(encoding, errors="ignore"))
    try:
        frame = _parse(path, separator, encoding, ".")
    except UnicodeDecodeError:
        encoding = "cp1252" if encoding == "utf-8-sig" else "latin-1"
        frame = _parse(path, separator, encoding, ".", errors="replace")
    if separator == ";" and _has_decimal_comma(frame):
        frame = _parse(path, separator, encoding, ",", errors="replace")
        notes.append("Numbers are read with a decimal comma.")
    if separator != "," and ".tsv" not in path.suffixes:
        notes.append(f"Columns are separated by {separator!r}.")
    if encoding not in ("utf-8-sig", "utf-16"):
        notes.append(f"The file is not UTF-8 and was read as {encoding}.")
    odd = next((str(column) for column in frame.columns if _looks_like_value(str(column))), None)
    if odd is not None:
        notes.append(f"The first row is read as the columns' names, though {odd!r} looks like data; add a header row.")
    return frame


def _parse(path: Path, separator: str, encoding: str, decimal: str, errors: str = "strict") -> pd.DataFrame:
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # it loses cells beyond the header's
            return pd.read_csv(
                path,
                sep=separator,
                encoding=encoding,
                decimal=decimal,
                encoding_errors=errors,
                index_col=False,
                skipinitialspace=True,
                na_values=["?"],
                low_memory=False,
            )
    except UnicodeDecodeError:
        raise
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning) as error:
        raise DataError(f"{path} cannot be read as a table separated by {separator!r} ({_one_line(error)}).") from error
    except (OSError, EOFError, zlib.error, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({_one_line(error)}).") from error


def _head(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(1 << 16)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({_one_line(error)}).") from error


def _encoding(head: bytes) -> str:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    try:
        head[: head.rfind(b"\n") + 1 or None].decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _separator(text: str) -> str:
    """The separator that splits the first lines into the same number of cells, most cells winning."""
    lines = [re.sub(r'"[^"]*"', "", line) for line in text.splitlines()[:50] if line.strip()]
    lines = lines[:-1] if len(lines) > 2 else lines  # the last may be cut off
    best, cells = ",", 0
    for separator in SEPARATORS:
        counts = {line.count(separator) for line in lines}
        if len(counts) == 1 and max(counts) > cells:
            best, cells = separator, max(counts)
    if not cells and lines:  # nothing is regular: go by the header alone
        best = max(SEPARATORS, key=lines[0].count)
    return best


def _has_decimal_comma(frame: pd.DataFrame) -> bool:
    """True where some text column holds nothing but numbers like 3,5."""
    for name in frame.columns:
        if frame[name].dtype.kind not in "biufM":
            values = frame[name].dropna().astype(str)
            if len(values) and values.str.fullmatch(_DECIMAL_COMMA).mean() > 0.5:
                return True
    return False


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
