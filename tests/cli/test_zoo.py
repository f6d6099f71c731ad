"""``depthscale zoo`` and ``build``: tables that sort, networks by name with arguments, refusals in one sentence."""

import json

import pytest

from depthscale import zoo
from depthscale.cli import run
from tests.cli.test_cli import refused

NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


@pytest.fixture
def few(monkeypatch):
    """A zoo of three, so that listing it takes no time."""
    monkeypatch.setattr(zoo, "names", lambda: ("lenet5", "mlp", "resnet20"))


@pytest.mark.parametrize("column", ["parameters", "multiply_adds", "depth", "memory", "year", "name", "paper"])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_list_sorts_by_every_column(few, capsys, column, reverse):
    assert run(["zoo", "--sort", column, "--json", *(["--reverse"] if reverse else [])]) == 0
    rows = json.loads(capsys.readouterr().out)["networks"]
    values = [r[column] for r in rows]
    assert values == sorted(values, reverse=reverse)
    assert {r["name"]: r["parameters"] for r in rows}["lenet5"] == 61_706


def test_the_list_as_a_table(few, capsys):
    assert run(["zoo"]) == 0
    out = capsys.readouterr().out
    assert "61,706" in out
    assert "LeCun et al." in out


def test_one_network_with_arguments(capsys):
    assert run(["zoo", "zoo:resnet18", "--set", "image_size=32", "--set", "num_classes=10", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["parameters"] == zoo.resnet(18, 10, image_size=32).cost().parameters
    assert row["trains"] is True


def test_one_network_says_whether_it_trains(capsys):
    assert run(["zoo", f"nasbench201:{NOTHING}"]) == 0
    out = capsys.readouterr().out
    assert "Dong & Yang" in out
    assert "73,306 parameters" in out
    assert "will not train" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["zoo", "resnet5"], "resnet50"),
        (["zoo", "--sort", "size"], "parameters"),
        (["zoo", "--set", "aux=true"], "name of a network"),
        (["zoo", "lenet5", "--set", "classes=3"], "num_classes"),
        (["zoo", "lenet5", "--set", "classes"], "NAME=VALUE"),
        (["zoo", "lenet5", "--set", "image_size=4"], "at least 12 pixels"),
        (["build", "lenet6"], "lenet5"),
        (["build", "none.json", "--set", "aux=true"], "--set with a network of the zoo"),
    ],
)
def test_refusals(capsys, arguments, words):
    assert words in refused(capsys, *arguments)


def test_build_by_name_with_arguments(tmp_path, capsys):
    file = tmp_path / "model.py"
    assert run(["build", "lenet5", "--set", "num_classes=3", "--source", str(file)]) == 0
    names: dict[str, object] = {}
    exec(compile(file.read_text(), str(file), "exec"), names)
    model = names["Model"]()  # type: ignore[operator]
    assert sum(p.numel() for p in model.parameters()) == 61_706 - 7 * 85  # ten classes less seven
