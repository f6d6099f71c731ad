"""Finding the figures, running one of them, and what is kept of it: NAME.json, NAME.png and NAME.svg in a folder.

The judge and the drawing see the data as they are read back from JSON, so that what a reader finds in NAME.json is all
that the verdict rests on.
"""

import difflib
import hashlib
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from depthscale import record
from depthscale.errors import DepthscaleError
from depthscale.figures.figure import Data, Figure, Say
from depthscale.figures.style import styled
from depthscale.report.plots import save_png

SECTIONS = (
    (0, "Foundations"),
    (100, "Networks"),
    (200, "Theory"),
    (300, "Trainability"),
    (400, "Search"),
    (500, "Structure"),
)
_SCHEMA = "depthscale.figure"
_TOOLS = ("figure", "gallery", "page", "style", "together")  # files of this room that are no figures


@dataclass(frozen=True)
class Entry:
    """A file of the gallery: its figure, or why it has none."""

    module: str
    figure: Figure | None
    error: str
    digest: str  # of the file, to know a result that another version of it made

    @property
    def name(self) -> str:
        """The figure's name, the file's where it could not be read."""
        return self.figure.name if self.figure is not None else self.module.replace("_", "-")

    @property
    def order(self) -> tuple[float, str]:
        """Where it stands."""
        return (float(self.figure.order) if self.figure is not None else float("inf"), self.name)


@dataclass(frozen=True)
class Outcome:
    """What a figure gave: ``kind`` is holds, fails, undecided, or error where it could not be run to its end."""

    name: str
    kind: str
    reason: str
    seconds: float  # that the experiment took
    quick: bool
    seed: int
    digest: str
    data: Data
    versions: dict[str, str]
    cached: bool = False  # found, not run again


def entries() -> list[Entry]:
    """All files of the gallery, in the order of its story; a file that cannot be imported is among them."""
    package = import_module("depthscale.figures")
    names = [m.name for m in iter_modules(package.__path__) if m.name not in _TOOLS and not m.name.startswith("_")]
    found = [entry(name) for name in names]
    return sorted((e for e in found if e is not None), key=lambda e: e.order)


def entry(module: str) -> Entry | None:
    """The entry of a file of this room; None for one that defines no FIGURE."""
    path = Path(__file__).with_name(f"{module}.py")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""
    try:
        figure = getattr(import_module(f"depthscale.figures.{module}"), "FIGURE", None)
    except Exception as error:
        return Entry(module, None, f"{type(error).__name__}: {error}", digest)
    return Entry(module, figure, "", digest) if isinstance(figure, Figure) else None


def find(name: str) -> Entry:
    """The figure of that name. Raises DepthscaleError, with names that are close, where there is none."""
    known = {e.name: e for e in entries()}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else "depthscale figure lists them"
    raise DepthscaleError(f"there is no figure {name!r}; {hint}")


def make(
    of: Entry, out: Path, *, quick: bool = False, seed: int = 0, fresh: bool = False, say: Say = lambda _: None
) -> Outcome:
    """Run a figure, or find what it gave earlier; its files are in ``out`` afterwards.

    An error inside the figure is an outcome like others. Raises DepthscaleError where ``out`` cannot be written.
    """
    check_folder(out)
    if of.figure is None:
        return keep(out, _failed(of, quick, seed, 0.0, f"the file cannot be imported: {of.error}"))
    known = None if fresh else load(of, out, quick=quick, seed=seed)
    began = time.perf_counter()
    try:
        data = known.data if known is not None else record.loads(record.dumps(of.figure.run(quick, seed, say)))
        seconds = known.seconds if known is not None else time.perf_counter() - began
        verdict = of.figure.judge(data)
        picture_there = all((out / f"{of.name}{s}").exists() for s in (".png", ".svg"))
        if known is None or not picture_there:
            say("drawing")
            draw(of.figure, data, out)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
        return keep(out, _failed(of, quick, seed, time.perf_counter() - began, reason))
    if known is not None and (known.kind, known.reason) == (verdict.kind, verdict.reason):
        return replace(known, cached=True)
    versions = record.versions()
    return keep(out, Outcome(of.name, verdict.kind, verdict.reason, seconds, quick, seed, of.digest, data, versions))


def _failed(of: Entry, quick: bool, seed: int, seconds: float, reason: str) -> Outcome:
    return Outcome(of.name, "error", reason, seconds, quick, seed, of.digest, {}, record.versions())


def load(of: Entry, out: Path, *, quick: bool, seed: int) -> Outcome | None:
    """What this very figure gave earlier with these settings; None where it did not, or could not be run."""
    outcome = read(out / f"{of.name}.json")
    if outcome is None or outcome.kind == "error":
        return None
    same = (outcome.quick, outcome.seed, outcome.digest, outcome.versions)
    return outcome if same == (quick, seed, of.digest, record.versions()) else None


def read(path: Path) -> Outcome | None:
    """The outcome in a file; None where there is none that this version wrote."""
    try:
        values = record.loads(path.read_text(encoding="utf-8"))
        if values.pop("schema") != _SCHEMA:
            return None
        return Outcome(**values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def keep(out: Path, outcome: Outcome) -> Outcome:
    """Write an outcome to ``out``, whole or not at all, and give it back."""
    values = {k: v for k, v in asdict(outcome).items() if k != "cached"}
    write(out / f"{outcome.name}.json", record.dumps({"schema": _SCHEMA, **values}) + "\n")
    return outcome


def draw(figure: Figure, data: Data, out: Path) -> None:
    """Draw a figure's picture into NAME.png and NAME.svg."""
    with styled():
        picture = figure.draw(data)
        out.mkdir(parents=True, exist_ok=True)
        save_png(picture, out / f"{figure.name}.png", dpi=160)
        options: dict[str, Any] = {"format": "svg", "facecolor": "white", "metadata": {"Date": None}}
        _whole(out / f"{figure.name}.svg", lambda part: picture.savefig(part, **options))


def check_folder(out: Path) -> None:
    """Make the folder; DepthscaleError, before an experiment and not after it, where nothing can be written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise DepthscaleError(f"cannot write to the folder {out}: {error.strerror or error}") from None


def write(path: Path, text: str) -> None:
    """Write a text file, whole or not at all. Raises DepthscaleError where that fails."""
    _whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def _whole(path: Path, make_part: Callable[[Path], object]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        make_part(part)
        part.replace(path)
    except OSError as error:
        raise DepthscaleError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            part.unlink()
