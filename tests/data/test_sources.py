"""``load`` as a whole: names, the sealed test split, the fingerprint, and sources that do not exist."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets
from sklearn.linear_model import LogisticRegression
from sklearn.utils import Bunch

import depthscale
from depthscale.data import Dataset, load
from depthscale.errors import DataError


@pytest.mark.parametrize(
    ("name", "kind", "shape", "outputs", "rows"),
    [
        ("digits", "image", (1, 8, 8), 10, 1797),
        ("iris", "table", (4,), 3, 150),
        ("wine", "table", (13,), 3, 178),
        ("breast_cancer", "table", (30,), 2, 569),
        ("diabetes", "table", (10,), 1, 442),
    ],
)
def test_bundled_sets(name, kind, shape, outputs, rows):
    data = load(name)
    assert (data.name, data.kind, data.input_shape, data.outputs) == (name, kind, shape, outputs)
    assert sum(data.sizes) == rows
    assert data.task == ("regression" if name == "diabetes" else "classification")
    assert data.train.x.dtype == np.float32
    assert data.train.y.dtype == (np.float32 if name == "diabetes" else np.int64)
    assert data.train.x.shape == (data.sizes.train, *shape)
    test = data.test()
    assert test.x.shape == (data.sizes.test, *shape)


def test_class_names_are_the_sets_own():
    assert load("iris").classes == ("setosa", "versicolor", "virginica")


def test_digits_are_scikit_learns_images():
    data, raw = load("digits"), sklearn.datasets.load_digits()
    inputs = data.preprocessing.inputs
    parts = [data.train, data.val, data.test()]
    got = np.concatenate([p.x[:, 0] * inputs.std[0] + inputs.mean[0] for p in parts])
    key = lambda images: sorted(map(bytes, np.rint(images).astype(np.uint8)))  # noqa: E731
    assert key(got) == key(raw.images)


def test_a_linear_model_learns_what_it_is_known_to_learn():
    data = load("digits")
    model = LogisticRegression(max_iter=300).fit(data.train.x.reshape(len(data.train.x), -1), data.train.y)
    x, y = data.test()
    assert model.score(x.reshape(len(x), -1), y) > 0.93


def test_the_test_split_is_sealed_and_every_opening_counts():
    data = load("iris")
    assert data.test_opened == 0
    assert data.sizes.test == 30
    assert "sealed" not in repr(data)
    assert data.test_opened == 0
    first, second = data.test(), data.test()
    assert data.test_opened == 2
    assert np.array_equal(first.x, second.x)
    with pytest.raises(AttributeError):
        data.train = data.val


def test_one_seed_one_data_set_bit_for_bit():
    one, same, other = load("digits", seed=4), load("digits", seed=4), load("digits", seed=5)
    assert one.fingerprint == same.fingerprint
    assert np.array_equal(one.train.x, same.train.x)
    assert np.array_equal(one.test().y, same.test().y)
    assert one.fingerprint != other.fingerprint
    assert not np.array_equal(one.train.x, other.train.x)


def test_the_fingerprint_changes_with_content_split_and_task():
    r = np.random.default_rng(0)
    frame = pd.DataFrame({"a": r.normal(size=60), "b": list("xyz") * 20, "y": np.arange(60) % 4})
    base = load(frame, target="y").fingerprint
    assert load(frame.copy(), target="y").fingerprint == base
    number, text, name, label = frame.copy(), frame.copy(), frame.rename(columns={"a": "c"}), frame.copy()
    number.loc[7, "a"] += 1e-9
    text.loc[7, "b"] = "w"
    label.loc[7, "y"] = (label.loc[7, "y"] + 1) % 4
    changed = [load(f, target="y").fingerprint for f in (number, text, name, label)]
    changed += [load(frame, target="y", **o).fingerprint for o in ({"val": 0.2}, {"test": 0.3}, {"limit": 50})]
    changed += [load(frame, target="y", task="regression").fingerprint]
    assert len({base, *changed}) == 9


def test_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    load("iris")
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_a_data_set_can_be_sent_to_another_process():
    data = load("iris")
    again = pickle.loads(pickle.dumps(data))
    assert np.array_equal(again.test().x, data.test().x)


def test_rare_classes_are_said_and_train_first():
    x = np.random.default_rng(0).normal(size=(42, 2))
    y = np.array(["common"] * 40 + ["single", "pair"])
    data = load((x, y))
    assert "'pair', 'single'" in data.notes[-1]
    assert {data.classes[i] for i in data.train.y} == set(data.classes)


def test_limit_keeps_the_classes_balanced():
    data = load("digits", limit=200)
    assert data.sizes == (130, 30, 40)
    counts = np.bincount(np.concatenate([data.train.y, data.val.y, data.test().y]))
    assert counts.max() - counts.min() <= 2
    assert "200 of 1797 rows kept (limit)." in data.notes
    assert load("iris", limit=10_000).fingerprint == load("iris").fingerprint


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("digit", {}, "Unknown data source 'digit'.*did you mean 'digits'"),
        ("MNIST ", {}, "did you mean 'mnist'"),
        ("qqqqq", {}, "Unknown data source 'qqqqq': expected digits, mnist"),
        ("nowhere.csv", {"target": "y"}, "no file or folder nowhere.csv"),
        ("./nowhere/data", {}, "no file or folder"),
        ("table.csx", {}, "must be a folder of images or a file ending in"),
        ("tabel.csv", {}, "did you mean table.csv"),
        ("openml:", {}, '"openml:NAME"'),
        ("digits", {"target": "y"}, "its own target"),
        ("digits", {"seed": -1}, "seed must be"),
        ("digits", {"seed": 1.5}, "seed must be"),
        ("digits", {"val": 1}, "val must be"),
        ("digits", {"test": 0}, "test must be"),
        ("digits", {"val": 0.5, "test": 0.5}, "must leave rows"),
        ("digits", {"task": "regression"}, "have classes"),
        ("digits", {"task": "guess"}, "task must be"),
        ("digits", {"limit": 0}, "limit must be"),
        ("digits", {"limit": 5}, "too few"),
    ],
)
def test_bad_requests_are_refused_in_one_sentence(tmp_path, monkeypatch, source, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("a,y\n1,2\n")
    (tmp_path / "table.csx").write_text("a,y\n1,2\n")
    with pytest.raises(DataError, match=message) as caught:
        load(source, **options)
    assert "\n" not in str(caught.value)


def openml(monkeypatch, frame, target):
    bunch = Bunch(frame=frame, target_names=[target], details={"version": "3"})
    asked = []

    def fetch(name, version, **options):
        asked.append((name, version))
        return bunch

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    return asked


def test_openml_uses_the_default_target_or_the_one_named(monkeypatch):
    r = np.random.default_rng(0)
    frame = pd.DataFrame({"a": r.normal(size=40), "b": pd.Categorical(list("uv") * 20), "c": r.normal(size=40)})
    asked = openml(monkeypatch, frame, "b")
    data = load("openml:some-set_2:3")
    assert asked == [("some-set_2", 3)]
    assert (data.task, data.classes, data.input_shape) == ("classification", ("u", "v"), (2,))
    assert load("openml:some-set_2", target="c").task == "regression"
    assert asked[1] == ("some-set_2", "active")


def test_openml_pixels_are_images(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 36))
    frame = pd.DataFrame(pixels, columns=[f"pixel{i + 1}" for i in range(36)]).assign(label=list("ab") * 20)
    openml(monkeypatch, frame, "label")
    data = load("openml:squares")
    assert (data.kind, data.input_shape) == ("image", (1, 6, 6))
    assert "read as images of 6 x 6" in " ".join(data.notes)


@pytest.mark.parametrize("error", [OSError("Name or service not known"), ValueError("No known data set\nnamed x")])
def test_openml_offline_or_unknown_is_one_sentence(monkeypatch, error):
    def fetch(*args, **kwargs):
        raise error

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    with pytest.raises(DataError, match="cannot be fetched from OpenML.*CSV file") as caught:
        load("openml:x")
    assert "\n" not in str(caught.value)


def test_load_data_is_public_and_importing_it_is_cheap():
    assert depthscale.load_data is load
    assert isinstance(load("iris"), Dataset)
    code = (
        "import sys, depthscale.data; sys.exit(bool({'torch', 'pandas', 'sklearn', 'PIL', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
