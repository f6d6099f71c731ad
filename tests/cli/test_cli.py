"""The command as a person meets it: bad input is one sentence and exit status 2, help is quick, JSON is JSON."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from depthscale.cli import run

BLOBS = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)


@pytest.fixture
def cwd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEPTHSCALE_DATA", str(tmp_path / "nowhere"))
    return tmp_path


def npz(path, x=BLOBS, y=None):
    np.savez(path, X=x, y=np.arange(len(x)) % 2 if y is None else y)


def csv(path, rows, header="size,colour,price"):
    path.write_text("\n".join([header, *rows]) + "\n")


def refused(capsys, *argv):
    """The one sentence that the command refuses these arguments with."""
    assert run(argv) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    *before, said = err.strip().splitlines()
    assert said.startswith("depthscale: ")
    assert not [line for line in before if " s  " not in line]  # what was being done may stand before it
    return said


def test_unknown_data(cwd, capsys):
    assert "digits" in refused(capsys, "design", "digitss")


def test_missing_file(cwd, capsys):
    assert "nothing.csv" in refused(capsys, "design", "nothing.csv", "--target", "price")


def test_missing_target(cwd, capsys):
    csv(cwd / "a.csv", [f"{i},red,{i * 2}" for i in range(50)])
    said = refused(capsys, "design", "a.csv", "--target", "prize")
    assert "'prize'" in said
    assert "price" in said
    assert "colour" in refused(capsys, "design", "a.csv")


def test_constant_target(cwd, capsys):
    csv(cwd / "a.csv", [f"{i},red,5" for i in range(50)])
    assert "price" in refused(capsys, "design", "a.csv", "--target", "price")


def test_one_class(cwd, capsys):
    npz(cwd / "a.npz", y=np.zeros(120, dtype=int))
    assert "constant" in refused(capsys, "design", "a.npz")


def test_nan_features(cwd, capsys):
    x = BLOBS.copy()
    x[3, 1] = np.nan
    npz(cwd / "a.npz", x)
    assert "NaN" in refused(capsys, "design", "a.npz")


def test_corrupt_image_is_named(cwd, capsys):
    from PIL import Image

    for label in ("cat", "dog"):
        (cwd / "pets" / label).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(cwd / "pets" / label / f"{i}.png")
    (cwd / "pets" / "cat" / "bad.png").write_bytes(b"not an image")
    said = refused(capsys, "design", "pets")
    assert "bad.png" in said
    assert "--skip-bad" in said


@pytest.mark.parametrize("budget", ["0", "0s", "-3s", "soon"])
def test_unusable_budget(cwd, capsys, budget):
    assert "budget" in refused(capsys, "design", "digits", f"--budget={budget}")


def test_no_trials(cwd, capsys):
    assert "at least 1 trial" in refused(capsys, "design", "digits", "--trials", "0")


def test_unwritable_out(cwd, capsys):
    (cwd / "file").write_text("in the way")
    assert "file" in refused(capsys, "design", "digits", "--out", "file/out")


def test_nothing_to_resume(cwd, capsys):
    assert "nowhere" in refused(capsys, "design", "digits", "--resume", "nowhere")
    assert not (cwd / "nowhere").exists()


def test_a_run_in_the_way(cwd, capsys):
    (cwd / "out").mkdir()
    (cwd / "out" / "run.jsonl").write_text("{}\n")
    said = refused(capsys, "design", "digits", "--out", "out")
    assert "--resume" in said
    assert "--overwrite" in said


def graph_json(cwd, change):
    from depthscale import zoo

    data = json.loads(zoo.mlp((64, 32, 10), input_shape=(1, 8, 8)).to_json())
    change({n["name"]: n for n in data["nodes"]})
    (cwd / "net.json").write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n: n["layer1.linear1"].update(inputs=["layer1.act1"]), "cycle"),
        (
            lambda n: n["layer1.linear1"].update(op="Conv", out_channels=4) or n["layer1.linear1"].pop("out_features"),
            "4 axes",
        ),
        (lambda n: n["input"].update(shape=[1, 9, 9]), "shape"),
        (lambda n: n["head.linear1"].update(out_features=11), "10 outputs"),
        (lambda n: n["layer1.linear1"].update(out_features=10**9), "memory"),
    ],
)
def test_graphs_that_cannot_be_trained(cwd, capsys, change, words):
    graph_json(cwd, change)
    assert words in refused(capsys, "train", "net.json", "digits", "--epochs", "1")


def test_graph_files_that_are_none(cwd, capsys):
    (cwd / "cut.json").write_text('{"schema": "depthscale.graph", "ver')
    assert "cut.json" in refused(capsys, "train", "cut.json", "digits")
    assert "missing.json" in refused(capsys, "train", "missing.json", "digits")
    assert "zoo:NAME" in refused(capsys, "train", "lenet", "digits")


def test_unknown_network(cwd, capsys):
    assert "lenet5" in refused(capsys, "train", "zoo:lenet-5", "digits")


def test_unknown_option_is_exit_2(cwd, capsys):
    assert run(["design", "digits", "--bugdet", "60s"]) == 2
    assert "--bugdet" in capsys.readouterr().err


def test_train_end_to_end_as_json(cwd, capsys):
    npz(cwd / "a.npz", y=(BLOBS[:, 0] > 0).astype(int))
    assert run(["train", "zoo:mlp", "a.npz", "--epochs", "15", "--batch", "16", "--out", "out", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "finished"
    assert found["test"]["accuracy"] > 0.7
    assert {"model.py", "model.safetensors", "graph.json", "run.jsonl"} <= {p.name for p in (cwd / "out").iterdir()}


def test_version_and_help(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("depthscale 0.")
    assert run(["--help"]) == 0
    assert "design" in capsys.readouterr().out


def test_importing_loads_nothing_heavy():
    code = "import sys, depthscale, depthscale.cli.app; print({'torch', 'scipy', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_help_is_quick():
    """Processor time, which a busy machine does not stretch; 0.3 s is what a person does not notice."""
    before = os.times()
    for _ in range(3):
        subprocess.run([sys.executable, "-m", "depthscale", "--help"], capture_output=True, check=True)
    after = os.times()
    used = (after.children_user - before.children_user + after.children_system - before.children_system) / 3
    assert used < 0.5
