"""The gallery's page: one HTML file that needs nothing else, with each figure's picture, claim, verdict and numbers."""

import base64
import math
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthscale import record
from depthscale.figures.figure import Data
from depthscale.figures.gallery import SECTIONS, Entry, Outcome, write
from depthscale.report import words

MOST_ROWS = 40  # of a table of numbers
MOST_COLUMNS = 8
MOST_TEXT = 4000  # characters of what is no table
KINDS = {"holds": "holds", "fails": "fails", "undecided": "undecided", "error": "could not be run"}


@dataclass(frozen=True)
class Table:
    """Lists of one length, side by side."""

    names: list[str]
    rows: list[list[str]]
    left_out: int


@dataclass(frozen=True)
class Numbers:
    """Data as a reader sees them: single values, tables, and the rest as text."""

    single: dict[str, str]
    tables: list[Table]
    rest: str


@dataclass(frozen=True)
class Shown:
    """A figure and what it gave; None where it has not been run yet."""

    entry: Entry
    outcome: Outcome | None
    picture: str  # data URI, empty where there is none
    numbers: Numbers
    command: str


def write_page(out: Path, entries: Sequence[Entry], outcomes: Sequence[Outcome], *, seconds: float) -> Path:
    """Write ``index.html`` into ``out`` for what has been run so far; returns its path."""
    path = out / "index.html"
    write(path, render(out, entries, outcomes, seconds=seconds))
    return path


def render(out: Path, entries: Sequence[Entry], outcomes: Sequence[Outcome], *, seconds: float) -> str:
    """The page as HTML text; pictures are read from ``out``."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader("depthscale.figures"), PackageLoader("depthscale.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(w=words, kinds=KINDS)
    by_name = {o.name: o for o in outcomes}
    shown = [_shown(out, e, by_name.get(e.name)) for e in entries]
    return environment.get_template("gallery.html.j2").render(
        sections=_sections(shown),
        counts=Counter(o.kind for o in outcomes),
        total=len(entries),
        seconds=seconds,
        quick=any(o.quick for o in outcomes),
        versions=record.versions(),
    )


def _sections(shown: Sequence[Shown]) -> list[tuple[str, list[Shown]]]:
    found: dict[str, list[Shown]] = {}
    for one in shown:
        order = one.entry.order[0]
        title = next((t for start, t in reversed(SECTIONS) if start <= order < math.inf), "Not readable")
        found.setdefault(title, []).append(one)
    return list(found.items())


def _shown(out: Path, entry: Entry, outcome: Outcome | None) -> Shown:
    picture, path = "", out / f"{entry.name}.png"
    if outcome is not None and outcome.kind != "error" and path.exists():
        picture = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    data = outcome.data if outcome is not None else {}
    return Shown(entry, outcome, picture, numbers(data), command(entry.name, outcome))


def command(name: str, outcome: Outcome | None) -> str:
    """What makes this figure again."""
    line = ["depthscale", "figure", name]
    if outcome is not None:
        line += ["--quick"] * outcome.quick + ([] if outcome.seed == 0 else ["--seed", str(outcome.seed)])
    return shlex.join(line)


def numbers(data: Data) -> Numbers:
    """Data sorted into what can be read at a glance, tables and the rest."""
    single: dict[str, str] = {}
    columns: dict[str, list[Any]] = {}
    rest: Data = {}
    for name, value in data.items():
        if not isinstance(value, dict | list):
            single[name] = _cell(value)
        elif isinstance(value, list) and value and not any(isinstance(v, dict | list) for v in value):
            columns[name] = value
        else:
            rest[name] = value
    by_length: dict[int, list[str]] = {}
    for name, values in columns.items():
        by_length.setdefault(len(values), []).append(name)
    tables = [
        _table({n: columns[n] for n in names[i : i + MOST_COLUMNS]}, length)
        for length, names in by_length.items()
        for i in range(0, len(names), MOST_COLUMNS)
    ]
    text = record.dumps(rest) if rest else ""
    return Numbers(single, tables, text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + " …")


def _table(columns: dict[str, list[Any]], length: int) -> Table:
    step = max(1, -(-length // MOST_ROWS))
    rows = [[_cell(values[i]) for values in columns.values()] for i in range(0, length, step)]
    return Table(list(columns), rows, length - len(rows))


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, str):
        return value if value is not None else "–"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    return words.number(float(value))
