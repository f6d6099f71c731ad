"""The run record: what happened, one JSON object a line, only ever appended to.

The first line is the header (schema, versions, platform, seed, graph key); every line after it is an event with a
``kind`` and a ``time`` (Unix seconds). A line reaches the operating system in one write before ``write`` returns, so a
killed process loses nothing it has finished; it is forced to the disk every few seconds and on closing, so a power
cut loses no more than those. JSON knows no infinities and no NaN; they are written as ``{"$float": "nan"}``.
"""

import errno
import json
import math
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

from depthscale.errors import DepthscaleError

SCHEMA = "depthscale.record"
VERSION = 1
_FLOAT = "$float"
_NONFINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_PACKAGES = ("depthscale", "torch", "numpy", "scipy", "scikit-learn", "optuna", "accelerate")
_SYNC_SECONDS = 2.0
_UNSYNCABLE = (errno.EINVAL, errno.ENOTSUP, errno.EROFS)  # pipes and devices have nothing to force
_START = b'{"kind":"header","schema":"depthscale.record"'

Event = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """A record as read: its header, its events in order, and whether a torn last line was dropped."""

    header: Event
    events: tuple[Event, ...]
    torn: bool = False

    def of(self, *kinds: str) -> tuple[Event, ...]:
        """The events of these kinds."""
        return tuple(e for e in self.events if e["kind"] in kinds)


class Record:
    """An open run record; a new file gets a header, an existing one is continued.

    ``seed`` and ``graph_key`` and any further ``header`` fields go into the header of a new file. ``position``, an
    offset that ``record.position`` gave earlier, drops what was written after it: work that a resumed run does again.
    Raises DepthscaleError for a file that is no record, cannot be written, or when the disk is full.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        seed: int | None = None,
        graph_key: str | None = None,
        position: int | None = None,
        **header: Any,
    ) -> None:
        self.path = Path(path)
        self._synced = time.monotonic()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise DepthscaleError(f"cannot write the run record {self.path}: {error.strerror or error}") from None
        try:
            self._position = self._continue(position)
            if self._position == 0:
                self._append(_header(seed, graph_key, header))
        except BaseException:
            os.close(self._file)
            raise

    @property
    def position(self) -> int:
        """Bytes written so far; everything before it is whole."""
        return self._position

    def write(self, kind: str, **fields: Any) -> None:
        """Append one event; numbers, text, lists, mappings and anything with ``tolist`` are understood."""
        self._append({"kind": kind, "time": time.time(), **fields})

    def sync(self) -> None:
        """Force what is written onto the disk."""
        try:
            os.fsync(self._file)
        except OSError as error:
            if error.errno not in _UNSYNCABLE:
                raise self._failed(error) from None
        self._synced = time.monotonic()

    def close(self) -> None:
        """Force everything onto the disk and close; closing twice is harmless."""
        if self._file >= 0:
            file, self._file = self._file, -1
            try:
                os.fsync(file)
            except OSError as error:
                if error.errno not in _UNSYNCABLE:
                    raise self._failed(error) from None
            finally:
                os.close(file)

    def __enter__(self) -> "Record":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, event: Event) -> None:
        if self._file < 0:
            raise DepthscaleError(f"the run record {self.path} is closed; open it again to write to it")
        line = (dumps(event) + "\n").encode(errors="surrogatepass")
        try:
            written = os.write(self._file, line)
            while written < len(line):  # a short write is how a disk that fills up first shows
                written += os.write(self._file, line[written:])
        except OSError as error:
            self._cut(self._position)
            raise self._failed(error) from None
        self._position += len(line)
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()

    def _continue(self, position: int | None) -> int:
        """Where to go on writing: behind the last whole line, or at ``position``."""
        text = self.path.read_bytes() if self.path.is_file() else b""
        nothing = not text.strip(b"\0") or (b"\n" not in text and text[: len(_START)] == _START[: len(text)])
        whole = 0 if nothing else _parse(text, self.path)[1]  # nothing: empty, or killed while writing the header
        if position is not None:
            if not 0 < position <= whole or text[position - 1 : position] != b"\n":
                raise DepthscaleError(
                    f"expected to continue the run record {self.path} at a line's end of at most byte {whole}, "
                    f"got {position}; it is not the record that was being written"
                )
            whole = position
        if whole < len(text):
            self._cut(whole)
        return whole

    def _cut(self, length: int) -> None:
        try:
            os.ftruncate(self._file, length)
        except OSError:  # not a plain file (a pipe, /dev/full): nothing can be taken back
            return

    def _failed(self, error: OSError) -> DepthscaleError:
        return DepthscaleError(
            f"cannot write the run record {self.path}: {error.strerror or error}; "
            f"everything up to byte {self._position} is kept, so make room and resume"
        )


def read(path: str | os.PathLike[str]) -> Reading:
    """The record at ``path``; a last line that a crash tore is dropped.

    Raises DepthscaleError for a missing file, another schema or version, or a damaged line that is not the last.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise DepthscaleError(f"cannot read the run record {path}: {error.strerror or error}") from None
    return _parse(text, path)[0]


def _parse(text: bytes, path: str | os.PathLike[str]) -> tuple[Reading, int]:
    """The reading, and the length of the part that is whole."""
    lines = text.split(b"\n")
    tail = lines.pop()  # empty if the last line ends as it should
    events: list[Event] = []
    torn, whole = bool(tail), len(text) - len(tail)
    for number, line in enumerate(lines, 1):
        event = _event(line)
        if event is None:
            if number < len(lines) or tail:
                raise DepthscaleError(
                    f"{path}, line {number}: expected one JSON object with a kind, got {_brief(line)}; "
                    "the record is damaged in its middle, restore it or start a new one"
                )
            torn, whole = True, whole - len(line) - 1
            break
        events.append(event)
    if not events:
        raise DepthscaleError(f"{path}: expected a run record with a header line, got {_brief(text)}")
    head = events.pop(0)
    if head.get("schema") != SCHEMA or head.get("version") != VERSION:
        raise DepthscaleError(
            f"{path}: expected a run record of schema {SCHEMA!r} version {VERSION}, "
            f"got {head.get('schema')!r} version {head.get('version')!r}"
        )
    return Reading(head, tuple(events), torn), whole


def _event(line: bytes) -> Event | None:
    try:
        value = json.loads(line, object_hook=_revive)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("kind"), str) else None


def _brief(line: bytes) -> str:
    text = line.decode(errors="replace")
    return repr(text if len(text) <= 60 else text[:57] + "…")


def _header(seed: int | None, graph_key: str | None, more: Mapping[str, Any]) -> Event:
    return {
        "kind": "header",
        "schema": SCHEMA,
        "version": VERSION,
        "time": time.time(),
        "seed": seed,
        "graph_key": graph_key,
        "versions": versions(),
        "platform": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "threads": os.environ.get("OMP_NUM_THREADS"),
        },
        "command": list(sys.argv),
        **more,
    }


def versions() -> dict[str, str]:
    """The installed versions of the packages that decide a run's numbers, found without importing them."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def dumps(value: Any) -> str:
    """Strict one-line JSON in which non-finite floats survive; ``loads`` reads them back."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def loads(text: str | bytes) -> Any:
    """What ``dumps`` wrote, with tuples as lists."""
    return json.loads(text, object_hook=_revive)


def _plain(value: Any) -> Any:
    if value is None or type(value) in (str, bool, int):
        return value
    if isinstance(value, str | int):  # enumerations, as the plain value they hold
        return str.__str__(value) if isinstance(value, str) else int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {_FLOAT: repr(float(value))}
    if isinstance(value, Mapping):
        if not all(isinstance(k, str) and k != _FLOAT for k in value):
            raise DepthscaleError(f"a record's mappings need text keys other than {_FLOAT!r}, got {list(value)[:5]}")
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy and torch, without importing either
        return _plain(value.tolist())
    raise DepthscaleError(
        f"a record holds numbers, text, lists and mappings, got {type(value).__name__}; convert it before writing"
    )


def _revive(mapping: Event) -> Any:
    word = mapping.get(_FLOAT) if len(mapping) == 1 else None
    return _NONFINITE.get(word, mapping) if isinstance(word, str) else mapping
