"""The gallery's machinery, on toy figures: what is kept, what is found again, what a failure leaves."""

import json
import os
import signal
import time
from html.parser import HTMLParser

import pytest
import typer
from typer.testing import CliRunner

from depthscale.cli.figure import figure as verb
from depthscale.errors import DepthscaleError
from depthscale.figures import Figure, Verdict, gallery, page, together
from depthscale.figures.gallery import Entry
from depthscale.figures.style import picture

app = typer.Typer()
app.command()(verb)


def draw(data):
    figure, (axes,) = picture(width=2, height=2)
    axes.plot(data["x"], data["y"])
    return figure


def toy(run=None, judge=None, name="toy", draw=draw):
    def measure(quick, seed, say):
        say("measuring")
        return {"x": [0.0, 1.0, 2.0], "y": [0.0, 1.0, float(seed)], "n": 3, "words": "<b>", "curves": {"a": [1]}}

    def decide(data):
        slope = data["y"][-1] / 2
        return Verdict("holds" if slope > 0.5 else "fails", f"slope {slope}, expected above 0.5")

    made = Figure(name, "A toy", "It rises.", "nobody", 0, run or measure, judge or decide, draw)
    return Entry(name.replace("-", "_"), made, "", "abc")


def explode(*_):
    raise RuntimeError("boom")


def test_files_and_verdict(tmp_path):
    heard = []
    outcome = gallery.make(toy(), tmp_path, seed=4, say=heard.append)
    assert (outcome.kind, outcome.reason) == ("holds", "slope 2.0, expected above 0.5")
    assert heard == ["measuring", "drawing"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["toy.json", "toy.png", "toy.svg"]
    assert json.loads((tmp_path / "toy.json").read_text())["data"]["y"] == [0, 1, 4]
    assert gallery.make(toy(), tmp_path, seed=0).kind == "fails"


def test_found_again_unless_something_differs(tmp_path):
    runs = []

    def run(quick, seed, say):
        runs.append((quick, seed))
        return {"x": [0, 1], "y": [float("nan"), 2.0]}

    again = [gallery.make(toy(run), tmp_path).cached for _ in range(2)]
    assert again == [False, True]
    gallery.make(toy(run), tmp_path, quick=True)
    gallery.make(toy(run), tmp_path, quick=True, seed=1)
    gallery.make(toy(run), tmp_path, quick=True, seed=1, fresh=True)
    other = Entry("toy", toy(run).figure, "", "another version of the file")
    gallery.make(other, tmp_path, quick=True, seed=1)
    assert runs == [(False, 0), (True, 0), (True, 1), (True, 1), (True, 1)]
    (tmp_path / "toy.json").write_text("{torn")
    assert not gallery.make(other, tmp_path, quick=True, seed=1).cached


def test_a_lost_picture_is_drawn_again(tmp_path):
    def drawable(quick, seed, say):
        return {"x": [0, 1], "y": [0, 2]}

    gallery.make(toy(drawable), tmp_path)
    (tmp_path / "toy.png").unlink()
    assert gallery.make(toy(drawable), tmp_path).cached
    assert (tmp_path / "toy.png").exists()


@pytest.mark.parametrize("part", ["run", "judge", "draw"])
def test_an_error_is_an_outcome_and_is_tried_again(tmp_path, part):
    outcome = gallery.make(toy(**{part: explode}), tmp_path)
    assert outcome.kind == "error"
    assert "RuntimeError: boom (test_gallery.py, line" in outcome.reason
    assert gallery.make(toy(), tmp_path, seed=4).kind == "holds"


def test_a_file_that_cannot_be_imported(tmp_path):
    outcome = gallery.make(Entry("toy", None, "SyntaxError: no", ""), tmp_path)
    assert (outcome.kind, outcome.name) == ("error", "toy")
    assert "SyntaxError" in outcome.reason


def test_a_folder_that_cannot_be_written_is_found_out_first(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DepthscaleError, match="cannot write"):
        gallery.make(toy(run=explode), tmp_path / "file" / "figures")


def test_unknown_names():
    with pytest.raises(DepthscaleError, match="did you mean coefficients"):
        gallery.find("coeficients")


def test_all_together(tmp_path, monkeypatch):
    """In processes: one that holds, one that raises, one that is killed, one found; with the page at the end."""
    ready = gallery.make(toy(name="ready"), tmp_path, seed=4)

    def work(module, *rest):
        messages = rest[-1]
        if module == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        entry = toy(run=explode if module == "raises" else None, name=module)
        messages.send(("done", gallery.make(entry, tmp_path, seed=4, say=lambda w: messages.send(("says", w)))))

    monkeypatch.setattr(together, "_work", work)
    monkeypatch.setattr(together, "get_all_start_methods", lambda: [])
    monkeypatch.setattr(together, "get_context", _forking)
    entries = [toy(name=n) for n in ("good", "raises", "killed", "ready")]
    heard, finished = [], []
    outcomes = together.make_all(
        entries, tmp_path, quick=False, seed=4, jobs=2, told=lambda n, w: heard.append((n, w)), done=finished.append
    )
    assert [o.kind for o in outcomes] == ["holds", "error", "error", "holds"]
    assert ("good", "measuring") in heard
    assert "signal 9" in outcomes[2].reason
    assert outcomes[3].cached
    assert outcomes[3].data == ready.data
    assert len(finished) == 4
    text = page.write_page(tmp_path, entries, outcomes, seconds=3.0).read_text()
    assert "2 of 4" in text
    assert text.count("data:image/png;base64,") == 2
    assert "depthscale figure good --seed 4" in text
    assert "&lt;b&gt;" in text
    Balanced().feed(text)


def _forking(_):
    import multiprocessing

    return multiprocessing.get_context("fork")


def test_an_interruption_ends_the_processes(tmp_path, monkeypatch):
    started = tmp_path / "pid"

    def work(module, *rest):
        rest[-1].send(("says", "sleeping"))
        started.write_text(str(os.getpid()))
        time.sleep(60)

    def told(name, words):
        if words == "sleeping":
            while not (started.exists() and started.read_text()):
                time.sleep(0.01)
            raise KeyboardInterrupt

    monkeypatch.setattr(together, "_work", work)
    monkeypatch.setattr(together, "get_all_start_methods", lambda: [])
    monkeypatch.setattr(together, "get_context", _forking)
    with pytest.raises(KeyboardInterrupt):
        together.make_all([toy()], tmp_path, quick=True, told=told)
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


class Balanced(HTMLParser):
    """Every tag that opens, closes."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_numbers_are_sorted_for_a_reader():
    found = page.numbers(
        {"n": 12345, "off": 1e-9, "yes": True, "x": list(range(100)), "y": [0.5] * 100, "z": [1], "deep": {"a": [[1]]}}
    )
    assert found.single == {"n": "12,345", "off": "1.000·10⁻⁹", "yes": "yes"}
    assert [t.names for t in found.tables] == [["x", "y"], ["z"]]
    assert len(found.tables[0].rows) + found.tables[0].left_out == 100
    assert found.rest == '{"deep":{"a":[[1]]}}'


def test_the_verb(tmp_path):
    out = str(tmp_path / "new")
    listed = CliRunner().invoke(app, [])
    assert listed.exit_code == 0
    assert "coefficients" in listed.stdout
    ran = CliRunner().invoke(app, ["coefficients", "--quick", "--out", out])
    assert ran.exit_code == 0
    assert "holds" in ran.stdout
    found = CliRunner().invoke(app, ["coefficients", "--quick", "--out", out, "--json"])
    (outcome,) = json.loads(found.stdout)["figures"]
    assert (outcome["kind"], outcome["cached"], len(outcome["files"])) == ("holds", True, 3)


def test_the_verb_runs_all_and_says_what_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "entries", lambda: [toy(name="a"), toy(name="b")])

    def make_all(entries, out, *, done, told, **options):
        outcomes = [gallery.make(e, out, seed=4) for e in entries[:1]]
        outcomes.append(gallery.make(Entry("b", None, "no", ""), out))
        for o in outcomes:
            told(o.name, "x")
            done(o)
        return outcomes

    monkeypatch.setattr(together, "make_all", make_all)
    ran = CliRunner().invoke(app, ["all", "--out", str(tmp_path)])
    assert ran.exit_code == 1
    assert "1 holds, 0 fails, 0 undecided, 1 error" in ran.stdout
    assert "could not be run" in (tmp_path / "index.html").read_text()
