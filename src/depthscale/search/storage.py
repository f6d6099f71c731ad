"""Where studies are kept: in memory, in a journal file, or in a database that Optuna knows (SQLite, PostgreSQL …).

The journal is a file of JSON lines that many processes append to. A process that is killed leaves nothing behind that
stops the others: the kernel gives its lock back, and half a line at the end of the file is cut off by whoever comes
next. A line that is damaged anywhere else is an error, for what was finished cannot be guessed.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.storages.journal import BaseJournalBackend

from depthscale.errors import SearchError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNALS = (".journal", ".jsonl", ".log")
SYNC_SECONDS = 0.5  # between writes that are forced onto the disk
DATABASES = (".db", ".sqlite", ".sqlite3")


class Journal(BaseJournalBackend):
    """The lines of a journal file, appended under a lock that dies with its process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            raise SearchError(f"cannot write the journal {path}: {error.strerror}") from None
        self._starts = [0]  # byte at which line i begins
        self._synced = 0.0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Whole lines from one number on; half a line at the end is being written, or was torn by a kill.

        Raises SearchError, with the line's number, where a whole line is no JSON object.
        """
        with open(self.path, "rb") as file:
            number = min(log_number_from, len(self._starts) - 1)
            at = self._starts[number]
            file.seek(at)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                at += len(line)
                if number + 1 == len(self._starts):
                    self._starts.append(at)
                number += 1
                if number > log_number_from:
                    yield _parsed(line, number, self.path)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines, whole.

        Raises SearchError where the disk is full; what was written before is kept.
        """
        lines = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        with self._locked() as file:
            end = _mend(file)
            try:
                written = os.write(file, lines)
                while written < len(lines):
                    written += os.write(file, lines[written:])
                if time.monotonic() - self._synced > SYNC_SECONDS:  # a kill loses nothing either way
                    os.fsync(file)
                    self._synced = time.monotonic()
            except OSError as error:
                os.ftruncate(file, end)
                raise SearchError(
                    f"cannot write the journal {self.path}: {error.strerror}; what is finished is kept, "
                    "make room and go on with --resume"
                ) from None

    @contextmanager
    def _locked(self) -> Iterator[int]:
        file = os.open(self.path, os.O_RDWR | os.O_APPEND)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed, by whoever closes it
            yield file
        finally:
            os.close(file)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_starts": [0], "_synced": 0.0}


def _parsed(line: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(line)
        if isinstance(value, dict) and "op_code" in value:
            return value
    except ValueError:
        pass
    shown = line[:40].decode(errors="replace").strip()
    raise SearchError(
        f"the journal {path} is damaged in line {number} ({shown!r} …): expected one JSON object a line; "
        "restore the file, or begin a new search elsewhere"
    )


def _mend(file: int) -> int:
    """Cut half a line off the end; the length of the file then."""
    end = os.fstat(file).st_size
    while end:
        start = max(0, end - 65536)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            whole = start + found + 1
            break
        end = start
    else:
        whole = 0
    if whole != os.fstat(file).st_size:
        os.ftruncate(file, whole)
    return whole


def open_storage(where: "str | os.PathLike[str] | None") -> "BaseStorage":
    """The storage at a path or address; in memory for None.

    ``where`` is a journal (NAME.journal), an SQLite file (NAME.db, NAME.sqlite3) or a database address (postgresql://…,
    mysql://…, sqlite:///…). Raises SearchError for anything else, a damaged file, and a database out of reach.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if where is None:
        return optuna.storages.InMemoryStorage()
    text = os.fspath(where)
    if "://" in text:
        return _database(text)
    suffix = Path(text).suffix.lower()
    if suffix in DATABASES:
        return _database(f"sqlite:///{text}")
    if suffix in JOURNALS:
        return optuna.storages.JournalStorage(Journal(Path(text)))
    raise SearchError(
        f"expected --storage to be a journal (NAME.journal), an SQLite file (NAME.db) or a database's address "
        f"(postgresql://…), got {text!r}"
    )


def _database(address: str) -> "BaseStorage":
    import warnings

    import optuna
    import sqlalchemy

    file = address.removeprefix("sqlite:///") if address.startswith("sqlite:///") else None
    options: dict[str, Any] = {"connect_args": {"timeout": 120}} if file else {"pool_pre_ping": True}
    try:
        if file:
            _check_sqlite(Path(file))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return optuna.storages.RDBStorage(address, engine_kwargs=options)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise SearchError(
            f"cannot use the storage {_without_password(address)}: {reason}; check the address, and that the "
            "database and its driver are there"
        ) from None


def _check_sqlite(path: Path) -> None:
    """A file that SQLite itself finds damaged is said to be so at once, not in the middle of a search."""
    import sqlite3

    if not path.exists() or not path.stat().st_size:
        path.parent.mkdir(parents=True, exist_ok=True)
        return
    try:
        with sqlite3.connect(path, timeout=120) as connection:
            found = connection.execute("pragma quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise SearchError(
            f"the SQLite file {path} is damaged ({found}); restore it, or recover what there is with "
            f"'sqlite3 {path} .recover' and begin from that"
        )


def _without_password(address: str) -> str:
    import re

    return re.sub(r"(://[^:/@]+):[^@]*@", r"\1:…@", address)
