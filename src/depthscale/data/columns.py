"""How each column of a table becomes numbers: fitted on the training rows, written as plain JSON, applied anywhere.

Number    z = clip((g(v) - mean) / std, -10, 10), where g(v) = asinh((v - centre) / scale) for a heavy-tailed column
          and g(v) = v otherwise; a missing v is replaced by ``fill`` first, and where the training rows had missing
          values a 0/1 column tells which rows did.
Category  one 0/1 column per level. Levels that are rare are pooled into one "other" column, and a missing value is a
          level of its own. Two columns say the same thing twice, so then only the second is kept.
Date      days since 1970-01-01 (UTC) as a Number, then sine and cosine of 2 pi days / period for each cycle (year,
          week, day) that the training rows cover twice.
"""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from depthscale.data.raw import as_text
from depthscale.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

HUGE = 1e150  # values are cut here first, so that their squares are still finite
CLIP = 10.0  # in standard deviations: no single new value may swamp a network
HEAVY_TAIL = 8.0  # a training value further out than this many standard deviations makes a column heavy-tailed
MAX_LEVELS = 32
RARE = 0.005  # a level in a smaller share of the training rows than this is pooled,
RARE_ROWS = 10  # ... unless that share is more rows than this
ID_ROWS = 20  # texts that never repeat in at least so many rows identify rows
STRAY_TEXT = 0.1  # a text column is one of numbers when at most this share of its values is not
CYCLES = {"year": 365.2425, "week": 7.0, "day": 1.0}  # in days
DATE_FORMATS = ("ISO8601", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y")
ID_NAME = re.compile(r"(?i:unnamed: \d+|index|row|row_?number|id|.*[_ .-]id)|.*[a-z0-9]I[dD]")


@dataclass(frozen=True)
class Number:
    """A numeric column, imputed with the training median and standardised."""

    name: str
    fill: float
    missing: bool
    mean: float
    std: float
    asinh: tuple[float, float] | None = None  # (centre, scale)
    kind: str = "number"

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns it becomes."""
        return (self.name, f"{self.name} is missing") if self.missing else (self.name,)

    def apply(self, column: pd.Series[Any]) -> NDArray[np.float64]:
        """The column standardised, (N, 1), or (N, 2) with its missing indicator."""
        return self.scale(to_numbers(column))

    def scale(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Imputed and standardised values, (N, 1 or 2); NaN is missing."""
        gone = np.isnan(values)
        z = (_tame(np.where(gone, self.fill, values), self.asinh) - self.mean) / self.std
        z = np.clip(z, -CLIP, CLIP)
        return np.stack([z, gone.astype(np.float64)] if self.missing else [z], axis=1)


@dataclass(frozen=True)
class Category:
    """A column of labels, one-hot; rare levels pooled, missing a level of its own."""

    name: str
    levels: tuple[str, ...]
    other: bool
    missing: bool
    kind: str = "category"

    @property
    def _all(self) -> tuple[str, ...]:
        extra = [label for label, there in (("(other)", self.other), ("(missing)", self.missing)) if there]
        return tuple(f"{self.name}={level}" for level in (*self.levels, *extra))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns it becomes."""
        return self._all[1:] if len(self._all) == 2 else self._all

    def apply(self, column: pd.Series[Any]) -> NDArray[np.float64]:
        """The column one-hot, (N, levels); an unknown level is "other" where there is one, else all zeros."""
        width = len(self._all)
        position = {level: i for i, level in enumerate(self.levels)}
        unknown = len(self.levels) if self.other else width
        gone = column.isna().to_numpy()
        values = column.astype(object).to_numpy()
        code = np.array([position.get(as_text(v), unknown) for v in values], dtype=np.int64)
        code[gone] = width - 1 if self.missing else unknown
        one_hot = np.zeros((len(code), width + 1))  # the last column catches what is unknown
        one_hot[np.arange(len(code)), code] = 1.0
        return one_hot[:, 1:width] if width == 2 else one_hot[:, :width]


@dataclass(frozen=True)
class Date:
    """A column of dates: days since 1970-01-01 UTC, and the cycles of the calendar."""

    name: str
    format: str
    days: Number
    cycles: tuple[str, ...]
    kind: str = "date"

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns it becomes."""
        waves = (f"{f} of {cycle}({self.name})" for cycle in self.cycles for f in ("sin", "cos"))
        return (*self.days.features, *waves)

    def apply(self, column: pd.Series[Any]) -> NDArray[np.float64]:
        """Standardised days and the cycles' sines and cosines, (N, features); a missing date has all waves 0."""
        days = to_days(column, self.format)
        parts = [self.days.scale(days)]
        for cycle in self.cycles:
            phase = 2 * np.pi * np.nan_to_num(days) / CYCLES[cycle]
            waves = np.stack([np.sin(phase), np.cos(phase)], axis=1)
            parts.append(np.where(np.isnan(days)[:, None], 0.0, waves))
        return np.concatenate(parts, axis=1)


Column = Number | Category | Date


def column_to_dict(column: Column) -> dict[str, Any]:
    """The column as plain JSON values."""
    return asdict(column)


def column_from_dict(fields: dict[str, Any]) -> Column:
    """The column that ``column_to_dict`` described; KeyError, TypeError or ValueError where it is malformed."""
    fields = dict(fields)
    kind = fields.pop("kind")
    if kind == "number":
        tails = fields.pop("asinh")
        return Number(**fields, asinh=None if tails is None else (float(tails[0]), float(tails[1])))
    if kind == "category":
        return Category(fields["name"], tuple(fields["levels"]), bool(fields["other"]), bool(fields["missing"]))
    if kind == "date":
        days = column_from_dict(fields["days"])
        if not isinstance(days, Number) or not set(fields["cycles"]) <= set(CYCLES):
            raise ValueError("a date column is malformed")
        return Date(fields["name"], fields["format"], days, tuple(fields["cycles"]))
    raise ValueError(f"unknown kind of column {kind!r}")


def fit_column(column: pd.Series[Any]) -> tuple[Column | None, str | None]:
    """The encoding of one training column, or None where it is dropped; and a note where something was decided."""
    import pandas as pd

    name = str(column.name)
    present = column.dropna()
    if len(present) == 0:
        return None, f"column {name!r} dropped: it has no values in the training rows"
    if pd.api.types.is_bool_dtype(present.dtype):
        return _fit_category(column, present)
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return _fit_date(name, to_days(column, "ISO8601"), "ISO8601")
    if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_timedelta64_dtype(column.dtype):
        return _fit_number(column, to_numbers(column))
    if isinstance(column.dtype, pd.CategoricalDtype):
        return _fit_category(column, present)
    return _fit_text(column, present)


def to_numbers(column: pd.Series[Any]) -> NDArray[np.float64]:
    """The column as floats, NaN where it is missing or not a number; time spans are in days."""
    import pandas as pd

    if pd.api.types.is_timedelta64_dtype(column.dtype):
        return np.asarray(column.dt.total_seconds(), dtype=np.float64) / 86400.0
    if not pd.api.types.is_numeric_dtype(column.dtype):
        column = pd.to_numeric(column.astype(object), errors="coerce")
    if column.dtype.kind == "c":
        raise DataError(f"Column {str(column.name)!r} holds complex numbers; give real and imaginary parts as columns.")
    values: NDArray[np.float64] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return values


def to_days(column: pd.Series[Any], form: str) -> NDArray[np.float64]:
    """The dates as days since 1970-01-01 UTC, NaN where missing or not a date."""
    import pandas as pd

    if not pd.api.types.is_datetime64_any_dtype(column.dtype):
        column = column.astype(object)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        when = pd.to_datetime(column, format=form, errors="coerce", utc=True)
    seconds = (when - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    return np.asarray(seconds, dtype=np.float64) / 86400.0


def _tame(values: NDArray[np.float64], asinh: tuple[float, float] | None) -> NDArray[np.float64]:
    values = np.clip(values, -HUGE, HUGE)
    return values if asinh is None else np.arcsinh((values - asinh[0]) / asinh[1])


def _fit_number(column: pd.Series[Any], values: NDArray[np.float64]) -> tuple[Column | None, str | None]:
    name = str(column.name)
    present = values[~np.isnan(values)]
    infinite = int(np.isinf(present).sum())
    if infinite:
        raise DataError(
            f"Column {name!r} has {infinite} infinite value(s) in the training rows; remove or replace them."
        )
    low, high = present.min(), present.max()
    if low == high:
        if len(present) == len(values):
            return None, f"column {name!r} dropped: it is constant ({low:g})"
        return Category(name, (as_text(low),), False, True), None  # only whether it is there tells anything
    whole = bool((present == np.round(present)).all())
    if whole and ID_NAME.fullmatch(name) and len(np.unique(present)) == len(values):
        return None, f"column {name!r} dropped: a different whole number in every row identifies rows"
    number, note = _number(name, values)
    return number, note


def _number(name: str, values: NDArray[np.float64]) -> tuple[Number, str | None]:
    """Imputation and scale of a numeric column that varies."""
    gone = np.isnan(values)
    fill = float(np.median(values[~gone]))
    filled = np.clip(np.where(gone, fill, values), -HUGE, HUGE)
    tails, note = None, None
    spread = float(filled.std())
    far = float(np.abs(filled - filled.mean()).max()) / spread if spread > 0 else math.inf
    if far > HEAVY_TAIL and len(np.unique(values[~gone])) > 2:
        quarter, three = np.percentile(filled[~gone], (25, 75))
        scale = float(three - quarter) or spread or 1.0
        tails, note = (fill, scale), f"column {name!r} is heavy-tailed: taken as asinh((v - {fill:g}) / {scale:g})"
    tamed = _tame(filled, tails)
    std = float(tamed.std())
    return Number(name, fill, bool(gone.any()), float(tamed.mean()), std if std > 0 else 1.0, tails), note


def _fit_category(column: pd.Series[Any], present: pd.Series[Any]) -> tuple[Column | None, str | None]:
    """One-hot levels by falling frequency, so that the text order of ties is the only order that is arbitrary."""
    name, rows = str(column.name), len(column)
    texts = np.array([as_text(v) for v in present.astype(object)])
    levels, counts = np.unique(texts, return_counts=True)
    missing = len(present) < rows
    if len(levels) == 1 and not missing:
        return None, f"column {name!r} dropped: it is constant ({str(levels[0])!r})"
    order = np.lexsort((levels, -counts))
    enough = counts[order] >= min(RARE * rows, RARE_ROWS)
    kept = [str(v) for v in levels[order][enough][:MAX_LEVELS]]
    pooled = len(levels) - len(kept)
    if not kept:
        return None, f"column {name!r} dropped: {len(levels)} different texts in {rows} rows are too few of each"
    if pooled == 1:  # pooling a single level would only rename it
        kept, pooled = [str(v) for v in levels[order]], 0
    note = None
    if pooled:
        note = f"column {name!r} has {len(levels)} categories: the {len(kept)} most frequent kept, {pooled} rare pooled"
    return Category(name, tuple(kept), pooled > 0, missing), note


def _fit_text(column: pd.Series[Any], present: pd.Series[Any]) -> tuple[Column | None, str | None]:
    """Text may be numbers with a stray word, dates, identifiers, free prose or, most often, categories."""
    name = str(column.name)
    nested = next((v for v in present if isinstance(v, list | tuple | dict | set | np.ndarray)), None)
    if nested is not None:
        raise DataError(
            f"Column {name!r} holds {type(nested).__name__} values; give one number or text per cell, or drop it."
        )
    if all(isinstance(v, bool | np.bool_) for v in present):
        return _fit_category(column, present)
    numbers = to_numbers(column)
    stray = present[np.isnan(numbers[column.notna().to_numpy()])]
    if len(stray) <= STRAY_TEXT * len(present):
        fitted, note = _fit_number(column, numbers)
        if len(stray):
            few = f"{len(stray)} text value(s) such as {str(stray.iloc[0])!r}"
            note = f"column {name!r} read as numbers; {few} are taken as missing"
        return fitted, note
    for form in date_formats(present):
        return _fit_date(name, to_days(column, form), form)
    distinct = int(present.astype(str).nunique())
    if len(present) >= ID_ROWS and distinct == len(present):
        return None, f"column {name!r} dropped: a different text in every row identifies rows"
    if len(present) >= ID_ROWS and distinct > 0.5 * len(present) and distinct > MAX_LEVELS:
        return None, f"column {name!r} dropped: {distinct} different texts in {len(present)} rows are too few of each"
    return _fit_category(column, present)


def date_formats(present: pd.Series[Any]) -> list[str]:
    """The formats under which every value is a date, the first few values deciding quickly that it is not."""
    head = present.iloc[:20]
    return [
        form
        for form in DATE_FORMATS
        if not np.isnan(to_days(head, form)).any() and not np.isnan(to_days(present, form)).any()
    ]


def _fit_date(name: str, days: NDArray[np.float64], form: str) -> tuple[Column | None, str | None]:
    present = days[~np.isnan(days)]
    low, high = float(present.min()), float(present.max())
    if low == high:
        return None, f"column {name!r} dropped: it is one constant date"
    clock = bool((present != np.floor(present)).any())
    cycles = tuple(c for c, period in CYCLES.items() if high - low >= 2 * period and (c != "day" or clock))
    number, _ = _number(name, days)
    order = {"%m/%d/%Y": " as month/day/year", "%d/%m/%Y": " as day/month/year"}.get(form, "")
    note = f"column {name!r} read as dates{order}: days since 1970 and the cycles of {', '.join(cycles) or 'none'}"
    return Date(name, form, number, cycles), note
