"""Classes or numbers? The target's type decides, as scikit-learn's users expect; ``task=`` overrides it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthscale.data.raw import as_text
from depthscale.errors import DataError

TASKS = ("classification", "regression")
MAX_INTEGER_CLASSES = 20  # whole numbers with more values than this are read as a quantity
MIN_ROWS_PER_INTEGER = 5  # ... or with fewer rows per value than this


@dataclass(frozen=True)
class Resolved:
    """A target that is understood: class indices (N,) int64 with their names, or numbers (N, T) float64."""

    values: NDArray[Any]
    classes: tuple[str, ...]  # () for regression
    notes: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """``"classification"`` or ``"regression"``."""
        return "classification" if self.classes else "regression"


def resolve(
    y: NDArray[Any],
    *,
    names: tuple[str, ...] = (),
    task: str | None = None,
    labels: tuple[str, ...] | None = None,
    image: bool = False,
) -> Resolved:
    """The target as class indices or as numbers; raises ``DataError`` where nothing can be learned from it.

    ``y`` is (N,) of any type or (N, T) of numbers; ``labels`` names the classes where y already holds their indices.
    With images, whole numbers are always classes.
    """
    if task is not None and task not in TASKS:
        raise DataError(f'task must be "classification" or "regression", but got {task!r}.')
    what = f"the target {', '.join(map(repr, names))}" if names else "the target y"
    if len(y) == 0:
        raise DataError(f"There are no rows to learn from: {what} is empty.")
    if labels is not None:
        if task == "regression":
            raise DataError('These data have classes, not numbers, as their target; leave out task="regression".')
        return _check_classes(Resolved(y.astype(np.int64), labels), what)
    y, notes = _simplify(y, what, task)
    if notes:  # one-hot rows can only mean classes
        task = "classification"
    if y.ndim == 2:
        return _numbers(y, what, notes)
    numeric = y.dtype.kind in "iuf"
    if task == "regression" and not numeric:
        raise DataError(f'task="regression" needs numbers, but {what} holds {y.dtype.name} such as {as_text(y[0])!r}.')
    if not numeric:
        return _labelled(y, what, notes)
    whole, distinct = _whole(y)
    if task is None:
        if not whole or (distinct == 1 and not image):
            task = "regression"
        else:
            few = distinct == 2 or (distinct <= MAX_INTEGER_CLASSES and distinct * MIN_ROWS_PER_INTEGER <= len(y))
            task = "classification" if few or image else "regression"
            other = "regression" if task == "classification" else "classification"
            if not image:
                said = f'{what} has {distinct} whole-number values: read as {task}; task="{other}" overrides.'
                notes = (*notes, said)
    return _numbers(y[:, None], what, notes) if task == "regression" else _labelled(y, what, notes)


def _simplify(y: NDArray[Any], what: str, task: str | None) -> tuple[NDArray[Any], tuple[str, ...]]:
    """``y`` as (N,), or as (N, T) floats; columns of one-hot rows become labels, object arrays of numbers floats."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.dtype.kind == "O" and all(isinstance(v, int | float | np.number) for v in y.flat):
        y = y.astype(np.bool_ if all(isinstance(v, bool | np.bool_) for v in y.flat) else np.float64)
    if y.dtype.kind not in "biufOUS":
        raise DataError(f"{what} must hold labels or numbers, but has type {y.dtype.name}.")
    if y.ndim not in (1, 2):
        raise DataError(f"{what} must have one value (or one row of numbers) per row of x, but has shape {y.shape}.")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = int(np.argwhere(~np.isfinite(y))[0][0])
        raise DataError(
            f"{what} has {int((~np.isfinite(y)).sum())} NaN or infinite values, the first in row {row}; "
            "remove or mend these rows."
        )
    if y.ndim == 1:
        return y, ()
    if y.dtype.kind not in "biuf":
        raise DataError(f"{what} has {y.shape[1]} columns, which must be numbers, but has type {y.dtype.name}.")
    one_hot = bool(np.isin(y, (0, 1)).all()) and bool((y.sum(axis=1) == 1).all())
    if one_hot and task != "regression":
        return y.argmax(axis=1), (f"{what} is one-hot in {y.shape[1]} columns: read as class indices.",)
    if task == "classification":
        raise DataError(f'task="classification" needs one label per row, but {what} has {y.shape[1]} columns.')
    return y.astype(np.float64), ()


def _whole(y: NDArray[Any]) -> tuple[bool, int]:
    """Whether all values are whole numbers, and how many distinct values there are."""
    whole = y.dtype.kind in "iu" or bool((y == np.round(y)).all())
    return whole, len(np.unique(y))


def _numbers(y: NDArray[Any], what: str, notes: tuple[str, ...]) -> Resolved:
    values = y.astype(np.float64)
    for column in range(values.shape[1]):
        if values[:, column].min() == values[:, column].max():
            which = what if values.shape[1] == 1 else f"column {column} of {what}"
            raise DataError(
                f"A target must vary to be learned, but {which} is constant ({values[0, column]:g} in every row)."
            )
    return Resolved(values, (), notes)


def _labelled(y: NDArray[Any], what: str, notes: tuple[str, ...]) -> Resolved:
    if y.dtype.kind in "iufb":
        distinct, index = np.unique(y, return_inverse=True)
        classes = tuple(as_text(v) for v in distinct)
    else:
        texts, index = np.unique(np.array([as_text(v) for v in y]), return_inverse=True)
        classes = tuple(str(v) for v in texts)
    return _check_classes(Resolved(index.astype(np.int64), classes, notes), what)


def _check_classes(resolved: Resolved, what: str) -> Resolved:
    """The same target, or an error where there is one class only or nearly as many classes as rows."""
    rows, present = len(resolved.values), len(np.unique(resolved.values))
    if present == 1:
        only = resolved.classes[int(resolved.values[0])]
        raise DataError(f"A classifier needs at least two classes, but {what} has one class only, {only!r}.")
    if rows < 2 * present:
        raise DataError(
            f"{what} has {present} classes in {rows} rows, fewer than two rows for each; give more rows, or a target "
            'that repeats (for numbers, task="regression").'
        )
    return resolved
