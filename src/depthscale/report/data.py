"""What a report is made from: plain frozen values, without tensors, that could be written as JSON as they are.

``to_json`` and ``from_json`` keep them, so that a page can be made again without the run. Numbers that do not exist
are None; text is shown as it is given (and escaped).
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from depthscale.errors import DepthscaleError

Task = Literal["classification", "regression"]
State = Literal["complete", "pruned", "diverged", "dropped", "invalid"]

STATES: dict[str, str] = {
    "complete": "trained to the end",
    "pruned": "stopped early",
    "diverged": "diverged",
    "dropped": "not trained",
    "invalid": "does not fit the data",
}


@dataclass(frozen=True)
class DataFacts:
    """The data: what they are, how many rows each split has, and what preprocessing decided."""

    name: str
    task: Task
    input_shape: tuple[int, ...]
    train: int
    validation: int
    test: int
    classes: tuple[str, ...] = ()  # () for regression
    target: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrialRow:
    """One candidate; ``score`` is on the validation split, larger is better, None where nothing was trained."""

    number: int
    words: str  # the architecture and its training in words
    state: State
    why: str = ""  # why it stopped or was not trained; begins with "theory" where theory dropped it
    parameters: int = 0
    budget: str = ""  # what was spent on it: "9 epochs, 3.1 s"
    score: float | None = None
    curve: tuple[tuple[float, float], ...] = ()  # (ReportData.curve_x, ReportData.curve_y)


@dataclass(frozen=True)
class Standing:
    """The test metrics of one model: accuracy, or rmse, mae and r2 in the target's units; and what it cost."""

    name: str
    metrics: Mapping[str, float]
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class Confusion:
    """Counts of test rows: ``counts[true][predicted]``, in the order of ``DataFacts.classes``."""

    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Predictions:
    """True and predicted values of the test rows, in the target's units."""

    truth: tuple[float, ...]
    predicted: tuple[float, ...]


@dataclass(frozen=True)
class LayerTheory:
    """Theory at one layer, in the order of data: second moment q, and second moment of the gradient."""

    name: str
    q: float
    gradient: float


@dataclass(frozen=True)
class TheoryFacts:
    """Theory's numbers for the winner at its initialisation; ``depth_scale`` in layers, infinite at criticality."""

    layers: tuple[LayerTheory, ...] = ()
    depth_scale: float | None = None
    trains: bool | None = None
    verdict: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Environment:
    """What the numbers were made with."""

    seed: int
    seconds: float
    command: str = ""
    hardware: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    finished: str = ""  # date and time, as text


@dataclass(frozen=True)
class ReportData:
    """Everything a report says.

    ``graph`` is the winner as ``Graph.to_json`` writes it; ``result`` its standing on the test split, ``baselines``
    those of the others on the same rows. ``winner`` is the number of a trial.
    """

    title: str
    data: DataFacts
    graph: str
    winner: int
    result: Standing
    trials: tuple[TrialRow, ...]
    environment: Environment
    baselines: tuple[Standing, ...] = ()
    outcome: Confusion | Predictions | None = None
    theory: TheoryFacts | None = None
    score_name: str = "validation score"
    curve_x: str = "epoch"
    curve_y: str = "validation score"
    final_curve: tuple[tuple[float, float], ...] = ()  # the winner's last training, where it was validated
    usage_python: str = ""  # how to load it; "" for the usual lines
    usage_command: str = ""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def won(self) -> TrialRow:
        """The winning trial."""
        return next(t for t in self.trials if t.number == self.winner)

    def to_json(self) -> str:
        """The data as JSON text."""
        return json.dumps(_plain(dataclasses.asdict(self)), ensure_ascii=False, indent=1)

    @staticmethod
    def from_json(text: str) -> ReportData:
        """The data that ``to_json`` wrote; DepthscaleError for anything else."""
        try:
            return typing.cast(ReportData, _read(ReportData, json.loads(text)))
        except (TypeError, KeyError, json.JSONDecodeError, RecursionError) as error:
            raise DepthscaleError(f"expected the JSON of a report, got text that is none ({error})") from None


def _check(data: ReportData) -> None:
    numbers = [t.number for t in data.trials]
    if data.winner not in numbers:
        raise DepthscaleError(f"expected the winner to be one of {len(numbers)} trials, got number {data.winner}")
    if unknown := {t.state for t in data.trials} - set(STATES):
        raise DepthscaleError(f"expected a trial's state to be one of {', '.join(STATES)}, got {sorted(unknown)[0]!r}")
    needed = "accuracy" if data.data.task == "classification" else "rmse"
    for standing in (data.result, *data.baselines):
        if needed not in standing.metrics:
            raise DepthscaleError(
                f"expected {needed} among the metrics of {standing.name!r}, got {[*standing.metrics]}"
            )
    if isinstance(data.outcome, Confusion):
        sizes = {len(data.outcome.counts), *map(len, data.outcome.counts)}
        if sizes != {len(data.data.classes)}:
            raise DepthscaleError(
                f"expected a confusion matrix of {len(data.data.classes)} classes, got sides {sorted(sizes)}"
            )
    if isinstance(data.outcome, Predictions) and len(data.outcome.truth) != len(data.outcome.predicted):
        raise DepthscaleError(
            f"expected as many predictions as true values, got {len(data.outcome.predicted)} "
            f"and {len(data.outcome.truth)}"
        )


def _plain(value: Any) -> Any:
    """JSON has no infinities; they are kept as words."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value - value != 0:
        return {"$float": str(value)}
    return value


def _read(hint: Any, value: Any) -> Any:
    """A value of the type that a field's hint names."""
    if isinstance(value, dict) and set(value) == {"$float"}:
        return float(value["$float"])
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise TypeError(f"{hint.__name__} is not an object")
        hints = typing.get_type_hints(hint)
        return hint(**{k: _read(hints[k], v) for k, v in value.items()})
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        options = [a for a in typing.get_args(hint) if a is not type(None)]
        if isinstance(value, dict):
            options = [o for o in options if set(value) <= {f.name for f in dataclasses.fields(o)}]
        return _read(options[0], value) if options else value
    if typing.get_origin(hint) is tuple:
        args = typing.get_args(hint)
        inner = args if args[-1] is not Ellipsis else (args[0],) * len(value)
        return tuple(_read(h, v) for h, v in zip(inner, value, strict=True))
    if isinstance(value, dict):
        return {k: _read(Any, v) for k, v in value.items()}
    return value
