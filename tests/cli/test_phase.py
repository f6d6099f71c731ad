import json

import pytest
import typer
from typer.testing import CliRunner

from depthscale.cli.phase import phase
from depthscale.errors import DepthscaleError

app = typer.Typer()
app.command()(phase)


def run(*words):
    result = CliRunner().invoke(app, list(words))
    if isinstance(result.exception, DepthscaleError):
        raise result.exception
    return result


def test_words_and_files(tmp_path):
    result = run("tanh", "--cells", "12", "--out", str(tmp_path / "new"))
    assert result.exit_code == 0
    assert "critical at sw2 = 1" in result.stdout
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["phase.csv", "phase.json", "phase.png", "phase.svg"]
    assert json.loads((tmp_path / "new" / "phase.json").read_text())["activation"] == "tanh"


def test_json_alone_on_standard_output():
    result = run("leaky_relu", "--param", "negative_slope=0.2", "--cells", "3", "--json")
    found = json.loads(result.stdout)
    assert found["critical_point"]["sw2"]["value"] == pytest.approx(2 / 1.04)


def test_a_function_from_a_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import numpy as np\ndef bent(x):\n    return np.tanh(2 * x)\n")
    result = run(f"{file}:bent", "--cells", "3", "--sw2", "0.1", "1")
    assert "critical at sw2 = 0.25" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tahn"], "did you mean"),
        (["tanh", "--param", "x"], "NAME=VALUE"),
        (["nowhere.py:f"], "no file"),
        (["tanh", "--sw2", "3", "1"], "range of sw2"),
    ],
)
def test_bad_words(words, message):
    with pytest.raises(DepthscaleError, match=message):
        run(*words)


def test_a_file_that_cannot_be_run(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("1/0")
    with pytest.raises(DepthscaleError, match="ZeroDivisionError"):
        run(f"{file}:f")
    file.write_text("a = 1")
    with pytest.raises(DepthscaleError, match="has no 'f'"):
        run(f"{file}:f")
