"""The main job end to end on small data: what it leaves, and that a kill loses nothing that was finished."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import depthscale as ds
from depthscale import record
from depthscale.errors import DepthscaleError
from depthscale.search.watch import Watcher


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Rings: two classes that no straight line parts."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 3)).astype(np.float32)
    y = (np.hypot(x[:, 0], x[:, 1]) > 1.2).astype(int)
    path = tmp_path_factory.mktemp("data") / "rings.npz"
    np.savez(path, X=x, y=y)
    return path


@pytest.fixture(scope="module")
def whole(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return ds.design(str(table), trials=4, seed=3, out=out)


def comparable(out):
    """What two runs of the same design must agree in."""
    trials = [
        {k: v for k, v in e.items() if k not in ("time", "used", "seconds", "curve")}
        for e in record.read(out / "run.jsonl").of("trial")
    ]
    score = record.read(out / "run.jsonl").of("result")[-1]["score"]
    weights = {k: v.tobytes() for k, v in load_file(out / "model.safetensors").items()}  # bit for bit
    return trials, score, (out / "graph.json").read_text(), weights


def test_everything_is_written_and_loads_without_the_package(whole, table):
    out = whole.out
    names = {p.name for p in out.iterdir()}
    assert {"report.html", "model.py", "model.safetensors", "graph.json", "run.jsonl", "preprocessing.json"} <= names
    test = whole.dataset.test().x
    np.save(out / "x.npy", test)
    code = (
        "import sys, json, numpy, torch; sys.modules['depthscale'] = None; sys.path.insert(0, '.'); import model; "
        "net = model.load('model.safetensors'); "
        "print(json.dumps(net(torch.from_numpy(numpy.load('x.npy'))).argmax(1).tolist()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=out, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == whole.predictions.tolist()


def test_the_network_beats_a_line_where_lines_fail(whole):
    line = next(s for s in whole.standings if s.name == "logistic regression")
    assert whole.metrics["accuracy"] > line.score.metrics["accuracy"] + 0.1
    assert whole.metrics["accuracy"] == np.mean(whole.predictions == whole.truth)


def test_baselines_are_scikit_learns(whole):
    """The same estimator with its defaults, fitted here on the same rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    d = whole.dataset
    x, y = np.concatenate([d.train.x, d.val.x]), np.concatenate([d.train.y, d.val.y])
    test = d.test()
    expected = HistGradientBoostingClassifier(random_state=3, early_stopping=False).fit(x, y).score(test.x, test.y)
    found = next(s for s in whole.standings if "boosting" in s.name)
    assert found.score.metrics["accuracy"] == pytest.approx(expected, abs=0.02)


def test_the_same_seed_gives_the_same_network(whole, table, tmp_path):
    again = ds.design(str(table), trials=4, seed=3, out=tmp_path / "again")
    assert comparable(again.out) == comparable(whole.out)


def test_killed_and_resumed_is_the_same_as_never_killed(whole, table, tmp_path):
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "depthscale", "design", str(table), "--trials", "4", "--seed", "3"]
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([*command, "--out", str(out)], env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        lines = (out / "run.jsonl").read_text().count('"kind":"trial"') if (out / "run.jsonl").exists() else 0
        if lines >= 2:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = record.read(out / "run.jsonl").of("trial")
    assert len(before) >= 2
    assert not record.read(out / "run.jsonl").of("result")
    subprocess.run([*command, "--resume", str(out)], env=env, check=True, capture_output=True)
    assert comparable(out) == comparable(whole.out)
    assert record.read(out / "run.jsonl").of("trial")[: len(before)] == before  # not run again: not even rewritten


def test_resume_refuses_other_data_and_seeds(whole, table):
    with pytest.raises(DepthscaleError, match="seed"):
        ds.design(str(table), trials=4, seed=4, out=whole.out, resume=True)
    with pytest.raises(DepthscaleError, match="fingerprint|data"):
        ds.design("iris", trials=4, seed=3, out=whole.out, resume=True)


def test_regression_in_the_units_of_the_data(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2)).astype(np.float32)
    y = 1000 + 50 * np.sin(2 * x[:, 0])
    result = ds.design((x, y), trials=2, seed=0)
    assert result.out is None
    error = np.sqrt(np.mean((result.predictions.ravel() - result.truth.ravel()) ** 2))
    assert result.metrics["rmse"] == pytest.approx(error)
    assert result.metrics["rmse"] < np.std(y) < 60
    assert abs(result.truth.mean() - 1000) < 20


def test_the_test_split_is_opened_once(tmp_path):
    from depthscale.data import load

    dataset = load("iris")
    ds.design(dataset, trials=1)
    assert dataset.test_opened == 1


def test_candidates_that_cannot_train_are_dropped_untrained(monkeypatch):
    """A narrow network of great depth is a lottery: theory must say so before any time is spent."""
    from depthscale.design import search, space

    deep = {"family": "mlp", "act": "relu", "norm": "none", "width": 16, "depth": 64, "dropout": 0.0}
    common = {"learning_rate": 1e-3, "weight_decay": 1e-2, "batch_size": 32}
    monkeypatch.setattr(search, "first_guesses", lambda facts: [{**deep, **common}, *space.first_guesses(facts)])
    seen = []

    class Watch(Watcher):
        def trial(self, trial):
            seen.append(trial)

    result = ds.design("iris", trials=1, watcher=Watch())
    assert seen[0].state == "dropped"
    assert seen[0].why.startswith("theory")
    assert not seen[0].trained
    assert len(result.dropped) >= 1
