import csv
import io
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from depthscale.errors import DepthscaleError, TrainingError
from depthscale.record import read
from depthscale.theory import layer_map
from depthscale.train import Budget, Member, train_ensemble
from depthscale.train.sweep import CONFIG, Grid, agreement, run_sweep, values
from depthscale.train.sweep.agreement import crossing
from depthscale.train.sweep.grid import network
from depthscale.train.sweep.predict import predict
from tests.train import toys

SHORT = replace(CONFIG, budget=Budget(steps=6), batch=32, lr=0.1)
SMALL = Grid(depth=(1, 3), sw2=(1.0, 2.0), width=(8,), lr=(0.1, 0.2), seed=(0, 1))


class Data(toys.Toy):
    input_shape = (1, 8, 8)
    outputs = 3
    classes = ("a", "b", "c")
    name = "bars"


def data():
    toy = toys.images()
    return Data(toy.task, toy.train, toy.val)


def test_values():
    assert values("sw2", "1:4:4") == (1.0, 2.0, 3.0, 4.0)
    assert values("depth", "5:80:5") == (5, 10, 20, 40, 80)
    assert values("depth", "1:3:9") == (1, 2, 3)  # rounded values that coincide are one
    assert values("lr", "0.1, 0.01") == (0.1, 0.01)
    assert values("residual", "plain,0.1") == (None, 0.1)
    assert values("activation", "tanh, relu") == ("tanh", "relu")


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"depth": "0"}, "depth of at least 1"),
        ({"depth": ""}, "at least one value of depth"),
        ({"depth": "10:5:3"}, "rising range"),
        ({"depth": "5:10:0"}, "low:high:number"),
        ({"depth": "2.5"}, "whole numbers"),
        ({"depht": "5"}, "did you mean 'depth'"),
        ({"colour": "5"}, "the axes are"),
        ({"sw2": "a"}, "numbers with commas"),
        ({"sw2": "-1"}, "sw2 of at least 0"),
        ({"sw2": "nan"}, "finite"),
        ({"lr": "0"}, "lr above 0"),
        ({"activation": "tahn"}, "did you mean 'tanh'"),
        ({"activation": "log"}, "finite number for every input .* got log"),
        ({"activation": "tanh,sqrt"}, "got sqrt"),
        ({"depth": "1:100000:2000", "sw2": "1:2:2000"}, "at most 1,000,000"),
    ],
    ids=str,
)
def test_bad_axes(axes, message):
    with pytest.raises(DepthscaleError, match=message):
        Grid.of(axes)


def test_every_cell_is_what_it_would_be_alone():
    result = run_sweep(SMALL, data(), config=SHORT, workers=1)
    assert len(result.rows) == len(SMALL) == 16
    for cell, row in list(zip(SMALL.cells(), result.rows, strict=True))[::5]:
        graph = network(cell, (1, 8, 8), 3)
        found = train_ensemble(graph, data(), [Member(seed=cell.seed, lr=cell.lr)], config=SHORT)[0]
        assert {k: row[k] for k in vars(cell)} == vars(cell)
        assert row["train_loss"] == pytest.approx(found.train["loss"], rel=1e-5)
        assert row["val_accuracy"] == found.val["accuracy"]


def test_table():
    grid = Grid(depth=(1,), sw2=(1.0,), width=(4,), residual=(None, 0.5))
    text = run_sweep(grid, data(), config=SHORT, workers=1).to_csv()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [r["residual"] for r in rows] == ["", "0.5"]
    assert rows[0]["status"] == "finished"


def test_resume_runs_nothing_again_and_gives_the_same_table(tmp_path):
    whole = run_sweep(SMALL, data(), config=SHORT, workers=1, out=tmp_path / "whole")
    lines = (tmp_path / "whole" / "run.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "run.jsonl").write_bytes(lines[0] + lines[1] + lines[2][:40])  # killed while writing
    seen = []
    again = run_sweep(SMALL, data(), config=SHORT, workers=1, out=tmp_path / "part", resume=True, watch=seen.append)
    assert seen[0].groups == 1
    assert again.to_csv() == whole.to_csv()
    events = read(tmp_path / "part" / "run.jsonl").of("group")
    assert sorted(e["number"] for e in events) == [0, 1]


def test_a_folder_that_holds_another_sweep(tmp_path):
    run_sweep(SMALL, data(), config=SHORT, workers=1, out=tmp_path)
    with pytest.raises(TrainingError, match="hold no sweep yet"):
        run_sweep(SMALL, data(), config=SHORT, workers=1, out=tmp_path)
    with pytest.raises(TrainingError, match="another lr"):
        run_sweep(replace(SMALL, lr=(0.3,)), data(), config=SHORT, workers=1, out=tmp_path, resume=True)
    with pytest.raises(TrainingError, match="another batch"):
        run_sweep(SMALL, data(), config=replace(SHORT, batch=16), workers=1, out=tmp_path, resume=True)


KILLED = """
import sys
from tests.train.test_sweep import LONG, LONGER, run_sweep
run_sweep(LONG, "digits", config=LONGER, workers=1, out=sys.argv[1])
"""
LONG = Grid(depth=(1, 2, 3, 4, 5), sw2=(1.0, 2.0), width=(8,))
LONGER = replace(SHORT, budget=Budget(steps=300))


@pytest.mark.slow
def test_kill_and_resume(tmp_path):
    record = tmp_path / "killed" / "run.jsonl"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(record.parent)])
    start = time.monotonic()
    while not (record.exists() and record.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None
        assert time.monotonic() - start < 120
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = record.read_bytes()
    before = [e["number"] for e in read(record).of("group")]
    again = run_sweep(LONG, "digits", config=LONGER, workers=1, out=record.parent, resume=True)
    whole = run_sweep(LONG, "digits", config=LONGER, workers=1)
    assert again.to_csv() == whole.to_csv()
    assert record.read_bytes().startswith(finished[: finished.rindex(b"\n") + 1])
    numbers = [e["number"] for e in read(record).of("group")]
    assert numbers[: len(before)] == before
    assert sorted(numbers) == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_processes_give_the_same_table():
    one = run_sweep(SMALL, data(), config=SHORT, workers=1)
    two = run_sweep(SMALL, data(), config=SHORT, workers=2)
    assert one.to_csv() == two.to_csv()


@pytest.mark.slow
def test_ray_gives_the_same_table():
    pytest.importorskip("ray", reason="Ray is not installed")
    grid = Grid(depth=(1, 2), sw2=(1.0,), width=(8,))
    one = run_sweep(grid, data(), config=SHORT, workers=1)
    assert run_sweep(grid, data(), config=SHORT, on="ray").to_csv() == one.to_csv()


def test_networks_that_break_count_as_chance():
    grid = Grid(activation=("relu",), depth=(2,), sw2=(2.0, 1e12), width=(8,))
    result = run_sweep(grid, data(), config=replace(SHORT, lr=1.0), workers=1)
    assert result.rows[1]["status"] == "diverged"
    assert math.isnan(result.rows[1]["train_loss"])
    found = next(result.maps())
    assert found.accuracy[0, 1] == pytest.approx(1 / 3)
    assert found.diverged[0].tolist() == [0.0, 1.0]


def test_what_would_take_too_long_or_too_much_is_refused_at_once():
    start = time.monotonic()
    with pytest.raises(TrainingError, match=r"depth 1,000,000 at width 64, which takes about .* of memory .* in all"):
        run_sweep(Grid(depth=(1_000_000,)), data(), config=SHORT, workers=1, memory="4GB")
    long = replace(SHORT, budget=Budget(steps=10**6))
    with pytest.raises(TrainingError, match=r"at most 2 days.*of memory a network and .* days"):
        run_sweep(Grid(depth=(1_000,), sw2=tuple(np.linspace(1, 2, 5000))), data(), config=long, workers=1)
    assert time.monotonic() - start < 5
    with pytest.raises(TrainingError, match="at least one worker"):
        run_sweep(SMALL, data(), config=SHORT, workers=0)
    with pytest.raises(TrainingError, match="local or ray"):
        run_sweep(SMALL, data(), config=SHORT, on="moon")


def test_a_budget_sets_the_steps(monkeypatch):
    monkeypatch.setattr("depthscale.train.sweep.run._SPARE", 0.05)
    grid = Grid(depth=(1, 2), sw2=(1.0,), width=(8,))
    few, many = (run_sweep(grid, data(), config=SHORT, workers=1, budget=b).steps for b in (1.0, 20.0))
    assert 1 <= few < many
    with pytest.raises(TrainingError, match="budget of at least"):
        run_sweep(grid, data(), config=SHORT, workers=1, budget=1e-4)


# --- boundaries -----------------------------------------------------------------------------------------------------


def test_crossing_is_interpolated_in_the_logarithm():
    depths = np.array([10.0, 100.0])
    depth, _ = crossing(depths, np.array([0.75, 0.25]), 0.5)
    assert depth == pytest.approx(math.sqrt(1000))
    assert crossing(depths, np.array([0.9, 0.8]), 0.5)[1] == "deeper"
    assert crossing(depths, np.array([0.2, np.nan]), 0.5)[1] == "shallower"


def test_one_odd_network_does_not_move_a_crossing():
    depths = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    good = crossing(depths, np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]), 0.5)[0]
    assert crossing(depths, np.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.0]), 0.5)[0] == pytest.approx(good)


def made(factor_ordered=1.0, factor_chaotic=1.0):
    """A map whose networks train up to four depth scales, times a factor on each side."""
    sw2 = np.linspace(1, 4, 13)
    guess = predict("tanh", sw2, 0.05, residual=None, data_length=1.0)
    depths = np.geomspace(5, 200, 40).round().astype(int)
    side = np.where(np.array(guess.phase) == "ordered", factor_ordered, factor_chaotic)
    accuracy = 0.1 + 0.9 / (1 + (depths[:, None] / (4 * side * guess.xi_c)) ** 8)
    return agreement(sw2, depths, accuracy, guess.xi_c, guess.phase, 0.1)


def test_agreement_finds_the_constant_and_notices_what_is_wrong():
    score = made()
    assert score.constant == pytest.approx(4.0, rel=0.03)
    assert score.side["all"][0] < 0.01
    assert score.rule["all"][0] == pytest.approx(math.log10(6 / 4), abs=0.01)
    assert min(score.side["ordered"][2], score.side["chaotic"][2]) >= 2
    crooked = made(factor_ordered=6.0)
    assert crooked.side["all"][0] > 0.2


def test_a_map_without_a_boundary_says_so():
    score = agreement([1.0, 2.0], [5, 10], np.ones((2, 2)), np.array([3.0, 25.0]), ("ordered", "chaotic"), 0.1)
    assert "outside the depths" in str(score)
    assert [c.beyond for c in score.columns] == ["predicted deeper", "predicted deeper"]
    score = agreement([1.0, 2.0], [5, 200], np.ones((2, 2)), np.array([3.0, 25.0]), ("ordered", "chaotic"), 0.1)
    assert [c.beyond for c in score.columns] == ["deeper", "deeper"]


def test_columns_that_theory_sets_no_limit_to_are_not_scored():
    sw2, xi = [1.0, 1.7, 2.0, 4.0], np.array([4.0, 300.0, 25.0, 7.0])
    accuracy = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.1, 0.1, 0.1, 0.1]])
    score = agreement(sw2, [5, 20, 80], accuracy, xi, ("ordered", "ordered", "chaotic", "chaotic"), 0.1)
    assert [c.beyond for c in score.columns] == ["", "predicted deeper", "predicted deeper", ""]
    assert score.side["all"][2] == 2


def test_theory_of_the_columns():
    guess = predict("tanh", np.array([1.0, 2.0]), 0.05, residual=None, data_length=1.0)
    assert guess.xi_c == pytest.approx([3.62697562, 25.2134148], rel=1e-6)
    assert guess.phase == ("ordered", "chaotic")
    assert guess.critical == pytest.approx(1.76095464, rel=1e-6)
    one, q, depth = layer_map("tanh", 2.0, 0.05), 2.05, 1
    while abs(q / 0.72176187 - 1) > 0.01:
        q, depth = float(one.length(q)), depth + 1
    assert guess.settled[1] == depth
