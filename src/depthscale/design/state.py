"""Where a design stands, kept in its run record: what is finished is never run again."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from depthscale.design.budget import Plan
from depthscale.design.search import Trial, from_fields, to_fields
from depthscale.errors import DepthscaleError
from depthscale.record import Record, read

if TYPE_CHECKING:
    from depthscale.data import Dataset

FILE = "run.jsonl"


@dataclass(frozen=True)
class Score:
    """Metrics on ``n`` test rows: accuracy, or rmse, mae and r2 in the target's units."""

    n: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Standing:
    """One baseline beside the network."""

    name: str
    score: Score
    seconds: float
    note: str


class State:
    """The record of a design, open for writing; without a folder it remembers nothing."""

    def __init__(self, folder: Path | None, record: Record | None, events: Sequence[Mapping[str, Any]]) -> None:
        self.folder, self._record = folder, record
        self.trials: list[Trial] = [from_fields(e) for e in events if e["kind"] == "trial"]
        self.searched = any(e["kind"] == "searched" for e in events)
        self.used = max((float(e["used"]) for e in events if "used" in e), default=0.0)
        self.resumed = bool(events)

    @staticmethod
    def open(
        folder: Path | None, dataset: "Dataset", seed: int, plan: Plan, *, resume: bool, overwrite: bool
    ) -> "State":
        """The state in a folder: a new one, or with ``resume`` the one that is there.

        Raises DepthscaleError where a run is in the way, or is of other data, seed or budget.
        """
        if folder is None:
            return State(None, None, ())
        path = folder / FILE
        header: dict[str, Any] = {"job": "design", "data": dataset.name, "fingerprint": dataset.fingerprint}
        if path.exists() and resume:
            reading = read(path)
            _check_same(reading.header, seed, header, path)
            searching = [e for e in reading.events if e["kind"] == "trial"]
            if plan.trials is not None and sum(int(e["rung"] > 0) for e in searching) < plan.trials:
                # more trials than the finished search had: go on searching
                events = [e for e in reading.events if e["kind"] != "searched"]
                _forget_final(folder)
                return State(folder, Record(path), events)
            return State(folder, Record(path), reading.events)
        if path.exists() and not overwrite:
            raise DepthscaleError(
                f"expected a new folder for --out, but {folder} holds a run; go on with it (--resume {folder}), "
                "give another folder, or --overwrite"
            )
        path.unlink(missing_ok=True)
        _forget_final(folder)
        return State(folder, Record(path, seed=seed, **header), ())

    def __enter__(self) -> "State":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._record is not None:
            self._record.close()

    def trial(self, trial: Trial, used: float) -> None:
        """A trial is finished."""
        self._write("trial", used=used, **to_fields(trial))

    def search_done(self, used: float) -> None:
        """The search is over; what follows uses its winner."""
        self.searched = True
        self._write("searched", used=used)

    def result(self, score: Score, standings: Sequence[Standing], used: float) -> None:
        """Everything is done."""
        self._write("result", used=used, score=asdict(score), baselines=[asdict(s) for s in standings])

    def _write(self, kind: str, **fields: Any) -> None:
        if self._record is not None:
            self._record.write(kind, **fields)
            self._record.sync()


def _forget_final(folder: Path) -> None:
    """Remove the checkpoints of a winner's training, which a longer search may replace."""
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)


def _check_same(header: Mapping[str, Any], seed: int, wanted: Mapping[str, Any], path: Path) -> None:
    for name, value in {"seed": seed, **wanted}.items():
        if header.get(name) != value:
            raise DepthscaleError(
                f"expected to resume with the {name} that {path} was begun with ({header.get(name)!r}), got {value!r}"
            )
