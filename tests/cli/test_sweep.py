import json

import pytest
import typer
from typer.testing import CliRunner

from depthscale.cli.sweep import sweep
from depthscale.errors import DepthscaleError

app = typer.Typer()
app.command()(sweep)
SMALL = ["tanh", "--depths", "1,4", "--sw2", "1:3:3", "--widths", "8", "--steps", "20", "--workers", "1", "--lr", "0.1"]


def run(*words):
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_files_words_and_resume(tmp_path):
    out = tmp_path / "new"
    result = run(*SMALL, "--out", str(out))
    assert result.exit_code == 0
    assert "6 networks on digits, 20 steps each" in result.stdout
    names = ["run.jsonl", "sweep.csv", "sweep.json", "sweep.png", "sweep.svg"]
    assert sorted(p.name for p in out.iterdir()) == names
    table = (out / "sweep.csv").read_bytes()
    found = json.loads((out / "sweep.json").read_text())
    assert found["maps"][0]["theory"]["critical_sw2"] == pytest.approx(1.760955, rel=1e-6)
    run(*SMALL, "--out", str(out), "--resume")
    assert (out / "sweep.csv").read_bytes() == table


def test_json_alone_on_standard_output(tmp_path):
    result = run(*SMALL, "--out", str(tmp_path), "--json", "--residual", "plain,0.3", "--metric", "val")
    found = json.loads(result.stdout)
    assert [m["axes"]["residual"] for m in found["maps"]] == [None, 0.3]
    assert (tmp_path / "sweep_2.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tahn"], "did you mean"),
        (["tanh", "--depths", "0"], "depth of at least 1"),
        (["tanh", "--depths", "1000000", "--memory", "4GB"], "needs|takes about"),
        (["tanh", "--budget", "soon"], "budget such as"),
        (["tanh", "--budget", "1m", "--steps", "3"], "got both"),
        (["tanh", "--metric", "test"], "train or val"),
        (["tanh", "--memory", "much"], "memory such as"),
    ],
)
def test_bad_words(words, message, tmp_path):
    with pytest.raises(DepthscaleError, match=message):
        run(*words, "--out", str(tmp_path / "o"))
