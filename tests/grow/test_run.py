"""The whole job: files, resume after a kill, Ctrl-C, the cap, and one sentence for what cannot be used."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import depthscale as ds
from depthscale import zoo
from depthscale.cli import run as command
from depthscale.data import load
from depthscale.errors import DepthscaleError
from depthscale.graph import Graph
from depthscale.grow.run import Watcher, _check_budget, grow, operations
from depthscale.grow.schedules import Stage, schedules
from depthscale.record import read

SMALL = {"flops": 1.2e8, "max_parameters": 6000, "theory": False, "device": "cpu"}


def net() -> Graph:
    return zoo.mlp((64, 16, 16, 10), input_shape=(1, 8, 8))


@pytest.fixture(scope="module")
def digits():
    return load("digits", seed=0)


@pytest.mark.parametrize("name", schedules())
def test_every_schedule_keeps_its_budget_its_cap_and_its_final_size(name, digits):
    found = ds.grow(net(), digits, schedule=name, final_parameters=2500, **SMALL)
    assert found.status == "finished"
    assert max(p.parameters for p in found.points) <= 6000
    limit = 6000 if name == "fixed-large" else 2500
    assert 0.75 * limit <= found.parameters <= limit
    assert found.flops <= SMALL["flops"] + 6 * 6000 * 32  # the last step
    assert found.test["accuracy"] > 0.3
    there = sum(int((p != 0).sum()) for p in found.module.parameters())
    assert there <= found.parameters  # what masks leave out is zero


def test_a_killed_run_ends_as_it_would_have(tmp_path, digits):
    """Killed behind a stage (as by kill -9: nothing is closed), then resumed: bit for bit the same network."""

    class Killed(Exception):
        pass

    class Killer(Watcher):
        def point(self, point, seen):
            if point.stage == "pruning 2":
                raise Killed

    options = {**SMALL, "seed": 3, "schedule": "developmental"}
    whole = grow(net(), digits, out=tmp_path / "whole", **options)
    with pytest.raises(Killed):
        grow(net(), digits, out=tmp_path / "half", watcher=Killer(), **options)
    rest = grow(net(), digits, out=tmp_path / "half", resume=True, **options)
    assert rest.graph.key == whole.graph.key
    assert [vars(s) for s in rest.lineage] == [vars(s) for s in whole.lineage]
    a, b = whole.module.state_dict(), rest.module.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert [p.stage for p in rest.points] == [p.stage for p in whole.points]
    stages = [e["name"] for e in read(tmp_path / "half" / "run.jsonl").of("stage")]
    assert stages == [p.stage for p in whole.points]  # each once


def test_units_resume_bit_for_bit_too(tmp_path, digits):
    class Killer(Watcher):
        def point(self, point, seen):
            if point.stage == "turnover 1":
                raise ZeroDivisionError

    options = {**SMALL, "schedule": "developmental-units", "final_parameters": 3000}
    whole = grow(net(), digits, **options)
    with pytest.raises(ZeroDivisionError):
        grow(net(), digits, out=tmp_path / "half", watcher=Killer(), **options)
    rest = grow(net(), digits, out=tmp_path / "half", resume=True, **options)
    assert rest.graph.key == whole.graph.key
    a, b = whole.module.state_dict(), rest.module.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert len({s.after for s in rest.lineage}) > 5
    assert all(x.after == y.before for x, y in zip(rest.lineage, rest.lineage[1:], strict=False))


def test_what_is_written(tmp_path, digits):
    found = grow(net(), digits, out=tmp_path, schedule="developmental-units", **{**SMALL, "theory": True})
    names = {p.name for p in tmp_path.iterdir()}
    files = "graph.json model.py model.safetensors preprocessing.json lineage.json film.svg report.html run.jsonl"
    assert set(files.split()) <= names
    assert Graph.from_json((tmp_path / "graph.json").read_text()).key == found.graph.key
    weights = load_file(tmp_path / "model.safetensors")
    assert sum(w.numel() for n, w in weights.items()) == found.parameters
    space: dict = {}
    exec(compile((tmp_path / "model.py").read_text(), "model.py", "exec"), space)
    model = space["load"](tmp_path / "model.safetensors")
    x = torch.from_numpy(np.array(digits.val.x[:20]))
    torch.testing.assert_close(model.eval()(x), found.module(x))
    ElementTree.fromstring((tmp_path / "film.svg").read_text())
    page = (tmp_path / "report.html").read_text()
    assert "developmental-units on digits" in page
    assert "<animate" in page
    written = json.loads((tmp_path / "lineage.json").read_text())
    assert written["edits"][0]["before"] == net().key
    acted = [s["act"] for s in written["stages"] if s["name"].startswith("growth")]
    for act in acted:  # growth does not touch the function: the loss does not jump
        assert act["after"]["loss"] == pytest.approx(act["before"]["loss"], rel=0.01)
        assert act["after"]["q"] > 0
        assert act["before"]["chi1"] > 0


def test_ctrl_c_keeps_the_best_so_far(tmp_path, digits):
    class Impatient(Watcher):
        seen = 0

        def step(self, training):
            if len(training.points) == 6 and not self.seen:
                self.seen = 1
                os.kill(os.getpid(), signal.SIGINT)

    found = grow(net(), digits, out=tmp_path, watcher=Impatient(), **SMALL)
    assert found.status == "interrupted"
    assert found.val["accuracy"] == max(p.val["accuracy"] for p in found.points)
    assert (tmp_path / "model.safetensors").exists()
    on = grow(net(), digits, out=tmp_path, resume=True, **SMALL)
    assert on.status == "finished"


def test_numbers_that_break_end_with_the_best_so_far(tmp_path, digits):
    class Saboteur(Watcher):
        def stage(self, number, of, name, training):
            if name == "pruning 1":
                with torch.no_grad():
                    next(training.live.module.parameters()).fill_(float("nan"))

    found = grow(net(), digits, out=tmp_path, watcher=Saboteur(), **SMALL)
    assert found.status == "diverged"
    assert all(bool(torch.isfinite(p).all()) for p in found.module.parameters())


@pytest.mark.slow
def test_kill_9_from_outside_loses_nothing_finished(tmp_path):
    out = tmp_path / "run"
    words = ["grow", "zoo:mlp", "digits", "--set", "hidden=[16,16]", "--flops", "6e8", "--max-parameters", "9000"]
    words += ["--no-theory", "--json"]
    start = [sys.executable, "-m", "depthscale", *words]
    process = subprocess.Popen([*start, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while time.monotonic() < until and not (out / "checkpoint.safetensors").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(read(out / "run.jsonl").of("stage"))
    done = subprocess.run([*start, "--resume", str(out)], capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(done.stdout)["status"] == "finished"
    assert len(read(out / "run.jsonl").of("stage")) == json.loads(done.stdout)["stages"] >= finished >= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_parameters": 500}, "at least the"),
        ({"final_parameters": 9000}, "between 1 and the cap"),
        ({"flops": 0}, "more than 0 training FLOPs"),
        ({"flops": "many"}, "training FLOPs such as"),
        ({"flops": 1e5}, "each of the 22 stages"),
        ({"schedule": "developmentl"}, "did you mean 'developmental'"),
        ({"grow_by": "gradmx"}, "did you mean 'gradmax'"),
        ({"prune_by": "gradmax"}, "expected a policy to prune"),
        ({"schedule": "grow-only", "final_parameters": 1000}, "no room to act"),
        ({"schedule": "prune-only", "final_parameters": 6000}, "no room to act"),
        ({"schedule": "rigl", "final_parameters": 6000}, "no room to act"),
        ({"final_parameters": 3}, "biases and the like, and one connection a layer, are"),
        ({"schedule": "lottery", "final_parameters": 3}, "one connection a layer"),
        (
            {"schedule": "prune-only", "final_parameters": 100},
            "to end with 100 parameters and has 166 at its narrowest",
        ),
        ({"schedule": "fixed-small", "final_parameters": 60}, "has 87 at its narrowest"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(change, words, digits):
    with pytest.raises(DepthscaleError, match=words) as error:
        grow(net(), digits, **{**SMALL, **change})
    assert "\n" not in str(error.value)


def test_the_budget_that_is_asked_for_is_enough():
    stages, step = (Stage("birth", 0.1), Stage("youth", 1.0)), 1.234e7
    with pytest.raises(DepthscaleError, match="at least") as error:
        _check_budget(1.2e8, stages, step)
    _check_budget(float(re.search(r"at least (\S+)", str(error.value))[1]), stages, step)


def test_networks_and_data_that_are_unknown(capsys, tmp_path):
    def said(*words: str) -> str:
        assert command(["grow", *words, "--out", str(tmp_path)]) == 2
        return capsys.readouterr().err

    assert "did you mean" in said("zoo:lenet55", "digits")
    assert "did you mean 'digits'" in said("zoo:mlp", "digit")
    assert "did you mean 'rigl'" in said("zoo:mlp", "digits", "--schedule", "rigle")
    assert "at least the" in said("zoo:mlp", "digits", "--max-parameters", "10")


def test_a_run_is_not_overwritten_and_not_mixed_with_another(tmp_path, digits):
    grow(net(), digits, out=tmp_path, schedule="fixed-small", **SMALL)
    with pytest.raises(DepthscaleError, match="holds a run"):
        grow(net(), digits, out=tmp_path, schedule="fixed-small", **SMALL)
    with pytest.raises(DepthscaleError, match="resume with the schedule"):
        grow(net(), digits, out=tmp_path, schedule="fixed-large", resume=True, **SMALL)
    with pytest.raises(DepthscaleError, match="no checkpoint"):
        grow(net(), digits, out=tmp_path / "nothing", resume=True, **SMALL)


def test_stages_end_early_and_runs_stop_where_nothing_moves(digits):
    whole = grow(net(), digits, **{**SMALL, "flops": 3e8})
    early = grow(net(), digits, when="saturation", **{**SMALL, "flops": 3e8, "lr": 1e-9})  # nothing is learned
    assert early.points[-2].used < whole.points[-2].used
    assert early.flops == pytest.approx(whole.flops, rel=0.05)
    stopped = grow(net(), digits, stop="plateau", schedule="fixed-small", **{**SMALL, "lr": 1e-9})
    assert stopped.status == "stopped"
    assert len(stopped.points) < len(whole.points)
    assert "accuracy" in stopped.test


def test_operations_as_people_write_them():
    assert operations("2e12") == 2e12
    assert operations("500G") == 500e9
    assert operations("1.5T") == 1.5e12
    assert operations("3 TFLOPs") == 3e12
    assert operations(7) == 7.0


def test_numbers_can_be_grown_for_too():
    found = ds.grow(zoo.mlp((10, 12, 12, 1)), "diabetes", schedule="developmental-units", flops=5e7, max_parameters=900)
    assert found.status == "finished"
    assert found.test["rmse"] > 0


def test_a_json_summary(capsys, tmp_path: Path):
    words = ["zoo:mlp", "iris", "--set", "hidden=[8,8]", "--flops", "2e6", "--schedule", "set", "--batch", "16"]
    assert command(["grow", *words, "--out", str(tmp_path / "a"), "--json", "--no-theory"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "finished"
    assert found["schedule"] == "set"
