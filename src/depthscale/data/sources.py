"""``load``: the one door. A name, a path or arrays go in, a ``Dataset`` comes out."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from depthscale.data.bundled import TABLES, read_bundled_table, read_digits
from depthscale.data.dataset import Dataset, Sealed, Split, Task
from depthscale.data.preprocess import Preprocessing, fit_inputs, fit_target
from depthscale.data.raw import PARTS, TRAIN, Raw, fingerprint, take_rows
from depthscale.data.split import check_fraction, split_rows, subsample
from depthscale.data.targets import TASKS, Resolved, resolve
from depthscale.errors import DataError

NAMES = ("digits", "mnist", *TABLES)
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".pq", ".npz")


def load(
    source: Any,
    *,
    target: str | Sequence[str] | None = None,
    task: str | None = None,
    seed: int = 0,
    val: float = 0.15,
    test: float = 0.2,
    skip_bad: bool = False,
    limit: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """The data as a ``Dataset``: split by ``seed``, preprocessed by its training rows, its test split sealed.

    ``source`` is "digits", "mnist", "iris", "wine", "breast_cancer", "diabetes", "openml:NAME[:VERSION]"; a path to
    a .csv, .tsv (or .gz of them), .parquet or .npz file or to a folder of images with one folder per class; a
    DataFrame; or a pair (X, y). ``target`` names the target column(s) of a table. ``task`` ("classification" or
    "regression") overrides what the target's type says. ``val`` and ``test`` are fractions of all rows; splits that
    the source brings along are kept instead, and ``val`` is then a fraction of its training rows. ``limit`` keeps at
    most so many rows, in proportion to classes and splits. ``skip_bad`` leaves out images that cannot be read;
    ``image_size`` (H, W) replaces their most frequent size; ``progress(done, total)`` is called while they are read.

    Raises ``DataError`` where the source cannot be found, read or learned from.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise DataError(f"seed must be a whole number from 0 up, but got {seed!r}.")
    check_fraction("val", val)
    check_fraction("test", test)
    if task is not None and task not in TASKS:
        raise DataError(f'task must be "classification" or "regression", but got {task!r}.')
    raw, resized = _read(source, target, task, skip_bad, limit, int(seed), image_size, progress)
    resolved = resolve(raw.y, names=raw.target_names, task=task, labels=raw.labels, image=raw.is_image)
    if limit is not None:
        rows = subsample(_strata(resolved), raw.part, limit, int(seed))
        if len(rows) < len(raw.y):
            raw.notes.append(f"{len(rows)} of {len(raw.y)} rows kept (limit).")
            raw, resolved = raw.take(rows), Resolved(resolved.values[rows], resolved.classes, resolved.notes)
    return _assemble(raw, resolved, resized, int(seed), val, test)


def _read(
    source: Any,
    target: str | Sequence[str] | None,
    task: str | None,
    skip_bad: bool,
    limit: int | None,
    seed: int,
    image_size: int | tuple[int, int] | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[Raw, bool]:
    """The raw rows of any source, and whether they are images that were resized."""
    if not isinstance(source, str | os.PathLike):
        from depthscale.data.arrays import read_memory

        return read_memory(source, target, task), False
    if isinstance(source, str) and source.lower().startswith("openml:"):
        from depthscale.data.openml import read_openml

        return read_openml(source, target, task), False
    if isinstance(source, str) and source in NAMES:
        _refuse_target(source, target)
        return _read_named(source), False
    path = _find(source)
    if path.is_dir():
        from depthscale.data.images import read_image_folder

        _refuse_target(str(source), target)
        return read_image_folder(
            path, skip_bad=skip_bad, limit=limit, seed=seed, image_size=image_size, progress=progress
        )
    if path.suffix.lower() == ".npz":
        from depthscale.data.arrays import read_npz

        _refuse_target(str(source), target)
        return read_npz(path), False
    if path.name.lower().endswith(SUFFIXES):
        from depthscale.data.tables import read_table_file

        return read_table_file(path, target, task), False
    raise DataError(f"{path} must be a folder of images or a file ending in {', '.join(SUFFIXES)}.")


def _read_named(name: str) -> Raw:
    if name == "digits":
        return read_digits()
    if name == "mnist":
        from depthscale.data.mnist import read_mnist

        return read_mnist()
    return read_bundled_table(name)


def _refuse_target(source: str, target: Any) -> None:
    if target is not None:
        raise DataError(f"{source} has its own target, but target={target!r} was given; leave it out.")


def _find(source: str | os.PathLike[str]) -> Path:
    """The path, or an error that tells a file that is not there from a name that is not known."""
    path = Path(source).expanduser()
    try:
        if path.exists():
            return path
        around = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError as error:
        raise DataError(f"{source} cannot be opened ({error.strerror or error}).") from error
    text = os.fspath(source)
    if path.name.lower().endswith(SUFFIXES) or os.sep in text or "/" in text or not isinstance(source, str):
        near = difflib.get_close_matches(path.name, around, n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else "."
        raise DataError(f"There is no file or folder {text}{hint}")
    near = difflib.get_close_matches(text.lower(), [*NAMES, *around], n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise DataError(
        f"Unknown data source {text!r}{hint}: expected {', '.join(NAMES)}, openml:NAME, a path to a "
        "CSV, Parquet or NPZ file, or a folder of images."
    )


def _strata(resolved: Resolved) -> NDArray[np.int64]:
    values: NDArray[np.int64] = resolved.values if resolved.classes else np.zeros(len(resolved.values), np.int64)
    return values


def _assemble(raw: Raw, resolved: Resolved, resized: bool, seed: int, val: float, test: float) -> Dataset:
    """Split, fit on the training rows, preprocess, and seal the test rows."""
    _check_own_splits(raw, resolved)
    splits = split_rows(_strata(resolved), seed=seed, val=val, test=test, part=raw.part)
    train, held_out, tested = splits
    inputs, notes = fit_inputs(raw.x, train, resize=resized)
    meaning = fit_target(resolved.values, train, resolved.classes, raw.target_names)
    preprocessing = Preprocessing(inputs, meaning)
    y = resolved.values
    if not resolved.classes:
        y = ((y - np.asarray(meaning.mean)) / np.asarray(meaning.scale)).astype(np.float32)
    x_train = preprocessing.apply(take_rows(raw.x, train))
    return Dataset(
        name=raw.name,
        task=cast(Task, resolved.task),
        kind="image" if raw.is_image else "table",
        train=Split(x_train, y[train]),
        val=Split(preprocessing.apply(take_rows(raw.x, held_out)), y[held_out]),
        sealed=Sealed(take_rows(raw.x, tested), y[tested], preprocessing),
        classes=resolved.classes,
        input_shape=tuple(int(s) for s in x_train.shape[1:]),
        outputs=len(resolved.classes) or int(y.shape[1]),
        preprocessing=preprocessing,
        fingerprint=fingerprint(raw, splits, seed, resolved.task),
        raw_columns=() if isinstance(raw.x, np.ndarray) else tuple(map(str, raw.x.columns)),
        target_names=raw.target_names,
        seed=seed,
        notes=(*raw.notes, *resolved.notes, *_rare_classes(resolved, splits[0]), *notes),
    )


def _check_own_splits(raw: Raw, resolved: Resolved) -> None:
    """A class that a given split has but the training rows lack cannot be learned."""
    if raw.part is None or not resolved.classes:
        return
    known = set(np.unique(resolved.values[raw.part == TRAIN]).tolist())
    for index in sorted(set(raw.part.tolist()) - {TRAIN}):
        unknown = sorted(set(np.unique(resolved.values[raw.part == index]).tolist()) - known)
        if unknown:
            raise DataError(
                f"The {PARTS[index]} split has the class {resolved.classes[unknown[0]]!r}, which no training row has."
            )


def _rare_classes(resolved: Resolved, train: NDArray[np.int64]) -> list[str]:
    """A note where some class is too rare to appear in all three splits."""
    if not resolved.classes:
        return []
    counts = np.bincount(resolved.values, minlength=len(resolved.classes))
    rare = [name for name, count in zip(resolved.classes, counts, strict=True) if count < 3]
    if not rare:
        return []
    shown = ", ".join(map(repr, rare[:5])) + (f" and {len(rare) - 5} more" if len(rare) > 5 else "")
    return [f"Classes with fewer than 3 rows cannot be in all three splits, and train first: {shown}."]
