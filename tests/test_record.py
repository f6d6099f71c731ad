"""The run record: round trips, crashes, full disks."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from enum import Enum, StrEnum
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from depthscale.errors import DepthscaleError
from depthscale.record import VERSION, Record, dumps, loads, read

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text().filter("$float".__ne__), inner, max_size=3),
    max_leaves=10,
)


def same(a: object, b: object) -> bool:
    """Equality in which NaN is itself and 1 is not 1.0."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return type(a) is type(b) and a == b


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_values_survive_and_lines_are_strict_json(value: object) -> None:
    text = dumps(value)
    assert "\n" not in text
    assert same(loads(text), value)
    # any strict reader must manage: Python's own refuses NaN and Infinity when told to
    json.loads(text, parse_constant=lambda word: pytest.fail(f"not JSON: {word}"))


class Mode(StrEnum):
    FAST = "fast"


class Kind(int, Enum):
    ONE = 1


def test_foreign_values_become_plain() -> None:
    value = {
        "a": np.float32(0.5),
        "b": np.arange(3),
        "c": (1, 2),
        "d": Path("/x/y"),
        "e": np.float64("nan"),
        "f": Mode.FAST,
        "g": Kind.ONE,
        "h": np.array([math.inf]),
    }
    got = loads(dumps(value))
    assert math.isnan(got.pop("e"))
    assert got == {"a": 0.5, "b": [0, 1, 2], "c": [1, 2], "d": "/x/y", "f": "fast", "g": 1, "h": [math.inf]}


@pytest.mark.parametrize("bad", [{1: 2}, {"$float": "nan"}, Fraction(1, 2), {1, 2}, object()])
def test_what_cannot_be_kept_is_refused(bad: object, tmp_path: Path) -> None:
    with Record(tmp_path / "r.jsonl") as record:
        before = record.position
        with pytest.raises(DepthscaleError, match="record"):
            record.write("event", value=bad)
        assert record.position == before
    assert read(tmp_path / "r.jsonl").events == ()


def test_header_and_events(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.jsonl"
    with Record(path, seed=3, graph_key="abc", note="hello") as record:
        record.write("epoch", loss=math.inf)
        record.write("done")
    got = read(path)
    assert (got.header["seed"], got.header["graph_key"], got.header["note"]) == (3, "abc", "hello")
    assert got.header["versions"]["numpy"] == np.__version__
    assert [e["kind"] for e in got.events] == ["epoch", "done"]
    assert got.of("epoch")[0]["loss"] == math.inf
    assert not got.torn


def test_continuing_appends_and_keeps_the_header(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with Record(path, seed=1) as record:
        record.write("a")
        at = record.position
        record.write("b")
    with Record(path, seed=2) as record:
        record.write("c")
    assert [e["kind"] for e in read(path).events] == ["a", "b", "c"]
    with Record(path, position=at) as record:
        assert record.position == at
        record.write("d")
    assert [e["kind"] for e in read(path).events] == ["a", "d"]
    assert read(path).header["seed"] == 1
    for wrong in (0, at - 1, 10**6):
        with pytest.raises(DepthscaleError, match="line's end"):
            Record(path, position=wrong)
    assert [e["kind"] for e in read(path).events] == ["a", "d"]


def test_a_cut_anywhere_loses_only_the_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with Record(path, seed=1) as record:
        ends = [record.position]
        for i in range(4):
            record.write("event", i=i, text="é☃" * 3)
            ends.append(record.position)
    whole = path.read_bytes()
    for cut in range(ends[0], len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends) - 1
        got = read(path)
        assert [e["i"] for e in got.events] == list(range(kept))
        assert got.torn == (cut not in ends)
        with Record(path) as record:  # goes on right behind the last whole line
            record.write("more")
        assert [e.get("i") for e in read(path).events] == [*range(kept), None]


@pytest.mark.parametrize("cut", [0, 1, 20, 60, 200])
def test_a_header_cut_off_starts_anew(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "r.jsonl"
    Record(path, seed=1).close()
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DepthscaleError, match="header"):
        read(path)
    Record(path, seed=2).close()
    assert read(path).header["seed"] == 2


def test_a_line_of_zeros_at_the_end_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with Record(path) as record:
        record.write("a")
    path.write_bytes(path.read_bytes() + b"\0" * 50 + b"\n")
    assert [e["kind"] for e in read(path).events] == ["a"]
    assert read(path).torn


@pytest.mark.parametrize("damage", [b'{"kind": "x"', b"\0\0\0", b'{"no": "kind"}', b"[1]", b"\xff\xfe{"])
def test_a_damaged_middle_is_an_error_that_names_the_line(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "r.jsonl"
    with Record(path) as record:
        record.write("a")
        record.write("b")
    lines = path.read_bytes().split(b"\n")
    lines[1] = damage
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(DepthscaleError, match="line 2.*damaged"):
        read(path)
    with pytest.raises(DepthscaleError, match="line 2"):
        Record(path)
    assert path.read_bytes() == b"\n".join(lines)  # nothing was lost by trying


@pytest.mark.parametrize("text", ["some notes", "some\nnotes\n", '{"kind": "header", "schema": "other"}\n', "[]"])
def test_other_peoples_files_are_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(DepthscaleError):
        Record(path)
    assert path.read_text() == text


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    Record(path).close()
    path.write_text(path.read_text().replace(f'"version":{VERSION}', '"version":99'))
    with pytest.raises(DepthscaleError, match="version 99"):
        read(path)


def test_missing_and_unwritable(tmp_path: Path) -> None:
    with pytest.raises(DepthscaleError, match="No such file"):
        read(tmp_path / "none.jsonl")
    (tmp_path / "file").write_text("")
    with pytest.raises(DepthscaleError, match="cannot write"):
        Record(tmp_path / "file" / "r.jsonl")
    with pytest.raises(DepthscaleError, match="cannot write"):
        Record(tmp_path)


def test_writing_when_closed(tmp_path: Path) -> None:
    record = Record(tmp_path / "r.jsonl")
    record.close()
    record.close()
    with pytest.raises(DepthscaleError, match="closed"):
        record.write("a")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_from_the_start() -> None:
    with pytest.raises(DepthscaleError, match="No space left"):
        Record("/dev/full")


FULL = """
import resource, signal, sys
from depthscale.errors import DepthscaleError
from depthscale.record import Record
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
record = Record(sys.argv[1])
limit = record.position + 1000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
done = 0
try:
    while True:
        record.write("event", i=done, pad="x" * 100)
        done += 1
except DepthscaleError as error:
    print(done, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_disk_that_fills_up_keeps_every_finished_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    out = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=True).stdout
    done = int(out.split()[0])
    assert done >= 5
    assert "make room and resume" in out
    got = read(path)
    assert [e["i"] for e in got.events] == list(range(done))
    assert not got.torn  # the half-written line was taken back


WRITER = """
import sys
from depthscale.record import Record
record = Record(sys.argv[1])
for i in range(10**9):
    record.write("event", i=i, pad="x" * 50)
    print(i, flush=True)
"""


def test_a_killed_writer_loses_nothing_it_had_finished(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read().split()
    finished = int(said[-1])
    events = read(path).events
    assert [e["i"] for e in events] == list(range(len(events)))
    assert len(events) > finished


def test_the_record_needs_the_standard_library_only() -> None:
    code = "import sys, depthscale.record; print(sorted({'numpy', 'torch', 'scipy'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
