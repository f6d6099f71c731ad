"""The verb ``search`` as a person meets it: on a table and on digits, as words and as JSON, and what it refuses."""

import json

import pytest

from depthscale.cli import run
from tests.search import fakes

MINE = """
from depthscale import zoo

def small(decide):
    return zoo.mlp((64, decide("width", list(range(4, 20))), 10), "relu", input_shape=(1, 8, 8))

def broken(decide):
    return 1 / 0

def no_graph(decide):
    return decide("width", [4, 8])

def twice(decide):
    decide("width", [4, 8])
    decide("width", [4, 9])
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return str(fakes.table(tmp_path_factory.mktemp("t") / "table.csv"))


@pytest.fixture
def cwd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def test_a_table_in_words(cwd, capsys, table):
    assert run(["search", "nasbench201", table, "--trials", "8", "--seeds", "2"]) == 0
    said = capsys.readouterr()
    rows = {line.split("│")[1].strip(): line for line in said.err.splitlines() if line.startswith("│")}
    assert {"evolution", "random", "local", "largest"} <= set(rows)
    assert all("±" in row for row in rows.values())
    assert "nasbench201 on table.csv (cifar10), budget 8 networks" in said.err
    assert said.out == f"report: {cwd / 'out/search/report.html'}\n"
    assert "searching: evolution, random, local, largest" in said.err
    assert "best" in said.err
    assert (cwd / "out/search/report.html").read_text().count("<svg") >= 5


def test_digits_as_json(cwd, capsys):
    asked = ["search", "mine.py:small", "digits", "--epochs", "2", "--trial-epochs", "1", "--baselines", "random"]
    assert run([*asked, "--beside", "zoo:mlp", "--limit", "400", "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert said.err == ""
    assert list(found["strategies"]) == ["evolution", "random"]
    assert found["strategies"]["random"]["paired"]["n"] == 1
    assert found["selected_by"] == "validation accuracy"
    assert [b["name"] for b in found["beside"]] == ["zoo:mlp"]
    assert 0 <= found["test accuracy"] <= 1
    names = {"graph.json", "model.py", "model.safetensors", "preprocessing.json", "report.html", "search.json"}
    assert names <= {p.name for p in (cwd / "out/search").iterdir()}
    # more of the same goes on with what is there; without --resume it is not touched
    assert run(asked) == 2
    assert "--resume" in capsys.readouterr().err
    again = [*asked[:4], "3", *asked[5:], "--limit", "400", "--resume", "out/search", "--json"]
    assert run(again) == 0
    assert (
        json.loads(capsys.readouterr().out)["strategies"]["evolution"]["networks"]
        > found["strategies"]["evolution"]["networks"]
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["laierwise", "digits"], "did you mean 'layerwise'"),
        (["layerwise", "digits", "--strategy", "evolutoin"], "did you mean 'evolution'"),
        (["layerwise", "digits", "--baselines", "randm"], "did you mean 'random'"),
        (["layerwise", "digitss"], "digits"),
        (["layerwise", "nothing.csv"], "nothing.csv"),
        (["mine.py:broken", "digits", "--trials", "2"], "ZeroDivisionError: division by zero"),
        (["mine.py:no_graph", "digits", "--trials", "2"], "Graph"),
        (["mine.py:twice", "digits", "--trials", "2"], "width"),
        (["mine.py:none", "digits"], "has no 'none'"),
        (["none.py:none", "digits"], "no file none.py"),
        (["layerwise", "digits", "--budget", "0"], "budget"),
        (["layerwise", "digits", "--budget", "soon"], "budget"),
        (["layerwise", "digits", "--trials", "0"], "more than 0 trials"),
        (["layerwise", "digits", "--epochs", "-1"], "more than 0 epochs"),
        (["layerwise", "digits", "--seeds", "0"], "at least 1 seed"),
        (["layerwise", "digits", "--trials", "2", "--workers", "0"], "at least 1 worker"),
        (["layerwise", "digits", "--trials", "2", "--on", "moon"], "local or ray"),
        (["layerwise", "digits", "--trials", "2", "--pruner", "hatchet"], "expected a pruner"),
        (["layerwise", "digits", "--option", "width"], "NAME=VALUE"),
        (["layerwise", "digits", "--option", "breadth=3", "--trials", "2"], "breadth"),
        (["layerwise", "digits", "--max-parameters", "1", "--trials", "2"], "at most 1 parameters"),
        (["layerwise", "digits", "--beside", "lenet5"], "expected a network"),
        (["layerwise", "digits", "--storage", "x.txt", "--trials", "2"], "storage"),
        (["layerwise", "digits", "--resume", "nowhere"], "there is no nowhere"),
        (["mlp", "digits", "--strategy", "darts", "--trials", "2"], "nasbench201"),
        (["layerwise", "TABLE", "--trials", "2"], "search the space nasbench201"),
        (["nasbench201", "TABLE", "--beside", "zoo:lenet5"], "got a table"),
        (["nasbench201", "TABLE", "--table-data", "mnist"], "cifar10"),
    ],
)
def test_bad_words(cwd, capsys, table, words, said):
    assert run(["search", *(table if w == "TABLE" else w for w in words)]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    *before, last = err.strip().splitlines()
    assert last.startswith("depthscale: ")
    assert said in last
    assert not [line for line in before if " s  " not in line and not line.startswith("   ")]  # what was being done
