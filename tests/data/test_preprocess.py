"""Preprocessing of new rows, its JSON, and that the JSON alone is enough."""

import json

import numpy as np
import pandas as pd
import pytest

from depthscale.data import Preprocessing, load
from depthscale.data.preprocess import ImageInputs, Target, fit_inputs
from depthscale.data.split import split_rows
from depthscale.errors import DataError


@pytest.fixture(scope="module")
def houses() -> pd.DataFrame:
    r = np.random.default_rng(0)
    n = 200
    area = np.where(r.random(n) < 0.1, np.nan, r.gamma(5, 20, n))
    town = r.choice(np.array(["Ulm", "Bonn", "Kiel", None], object), n)
    when = pd.date_range("2015-01-01", periods=n, freq="7D").strftime("%Y-%m-%d")
    debt = np.exp(r.normal(0, 3, n))
    price = 1000 * np.nan_to_num(area, nan=80) + r.normal(0, 100, n)
    return pd.DataFrame({"area": area, "town": town, "sold": when, "debt": debt, "rooms": r.integers(1, 7, n)}).assign(
        price=price
    )


def follow_json(text: str, rows: list[dict]) -> np.ndarray:
    """The documented rules, in plain Python: what a reader without this package would write."""
    out = []
    for row in rows:
        features = []

        def number(rule, value, into=features):
            gone = value is None or value != value
            v = rule["fill"] if gone else value
            if rule["asinh"]:
                centre, scale = rule["asinh"]
                v = float(np.arcsinh((v - centre) / scale))
            into.append(max(-10.0, min(10.0, (v - rule["mean"]) / rule["std"])))
            if rule["missing"]:
                into.append(float(gone))

        for rule in json.loads(text)["inputs"]["columns"]:
            value = row[rule["name"]]
            if rule["kind"] == "number":
                number(rule, value)
            elif rule["kind"] == "category":
                levels = rule["levels"] + ["?other"] * rule["other"] + [None] * rule["missing"]
                hot = [float(level == value) for level in levels]
                features.extend(hot[1:] if len(hot) == 2 else hot)
            else:
                days = pd.Timestamp(value).timestamp() / 86400
                number(rule["days"], days)
                for cycle in rule["cycles"]:
                    phase = 2 * np.pi * days / {"year": 365.2425, "week": 7, "day": 1}[cycle]
                    features.extend([np.sin(phase), np.cos(phase)])
        out.append(features)
    return np.array(out, np.float32)


def test_the_json_alone_reproduces_the_test_split(houses):
    data = load(houses, target="price", seed=1)
    _, _, test_rows = split_rows(np.zeros(len(houses), np.int64), seed=1, val=0.15, test=0.2)
    rows = houses.iloc[test_rows].astype(object).where(houses.iloc[test_rows].notna(), None).to_dict("records")
    np.testing.assert_allclose(follow_json(data.preprocessing.to_json(), rows), data.test().x, rtol=1e-5, atol=1e-5)


def test_statistics_are_those_of_the_training_rows_alone(houses):
    train, _, _ = split_rows(np.zeros(len(houses), np.int64), seed=2, val=0.15, test=0.2)
    data = load(houses, target="price", seed=2)
    rooms = houses["rooms"].to_numpy(float)[train]
    column = next(c for c in data.preprocessing.inputs.columns if c.name == "rooms")
    assert (column.mean, column.std) == (pytest.approx(rooms.mean()), pytest.approx(rooms.std()))
    price = houses["price"].to_numpy()[train]
    assert data.preprocessing.target.mean == (pytest.approx(price.mean()),)
    assert data.preprocessing.target.scale == (pytest.approx(price.std()),)
    np.testing.assert_allclose(data.preprocessing.decode(data.train.y)[:, 0], price, rtol=1e-4)


def test_test_rows_do_not_change_what_is_learned_from_training_rows(houses):
    _, _, test_rows = split_rows(np.zeros(len(houses), np.int64), seed=0, val=0.15, test=0.2)
    spoiled = houses.copy()
    spoiled.loc[test_rows, "area"] = 1e6
    spoiled.loc[test_rows, "town"] = "Atlantis"
    one, two = load(houses, target="price"), load(spoiled, target="price")
    assert one.preprocessing == two.preprocessing
    assert np.array_equal(one.train.x, two.train.x)
    assert one.fingerprint != two.fingerprint


def test_every_form_of_new_rows_gives_the_same(houses):
    data = load(houses, target="price")
    new = houses.drop(columns="price").iloc[:5]
    expected = data.preprocessing.apply(new)
    forms = [
        new[new.columns[::-1]].assign(unused=1),
        new.to_dict("records"),
        {name: new[name].tolist() for name in new.columns},
        {name: new[name] for name in new.columns},
        new.to_numpy(dtype=object),
    ]
    for form in forms:
        np.testing.assert_allclose(data.preprocessing.apply(form), expected, rtol=1e-6)
    np.testing.assert_allclose(data.preprocessing.apply(new.iloc[0].to_dict()), expected[:1], rtol=1e-6)
    np.testing.assert_allclose(data.preprocessing.apply(new.iloc[0].to_numpy()), expected[:1], rtol=1e-6)


def test_new_rows_that_do_not_fit_are_refused(houses):
    prep = load(houses, target="price").preprocessing
    with pytest.raises(DataError, match="lacks the column.*'town'"):
        prep.apply(houses.drop(columns="town"))
    with pytest.raises(DataError, match="the 5 raw columns, but got"):
        prep.apply(np.zeros((3, 4)))


@pytest.mark.parametrize("source", ["digits", "iris", "diabetes"])
def test_json_round_trip(source):
    prep = load(source).preprocessing
    assert Preprocessing.from_json(prep.to_json()) == prep


def test_json_round_trip_of_every_kind_of_column(houses):
    prep = load(houses, target="price").preprocessing
    assert {c.kind for c in prep.inputs.columns} == {"number", "category", "date"}
    again = Preprocessing.from_json(prep.to_json())
    assert again == prep
    assert np.array_equal(again.apply(houses), prep.apply(houses))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: [], "JSON object"),
        (lambda d: {**d, "schema": "x"}, "JSON object"),
        (lambda d: {**d, "version": 99}, "version 99"),
        (lambda d: {**d, "inputs": {"kind": "sound"}}, "malformed"),
        (lambda d: {**d, "inputs": {**d["inputs"], "std": [0.0]}}, "malformed"),
        (lambda d: {**d, "inputs": {**d["inputs"], "shape": [1]}}, "malformed"),
        (lambda d: {**d, "target": None}, "malformed"),
        (lambda d: {**d, "target": {"kind": "poem", "names": []}}, "malformed"),
        (lambda d: {**d, "inputs": {"kind": "table", "raw": [], "columns": [{"kind": "no"}]}}, "malformed"),
    ],
)
def test_foreign_json_is_refused(change, message):
    document = json.loads(load("digits").preprocessing.to_json())
    with pytest.raises(DataError, match=message):
        Preprocessing.from_json(json.dumps(change(document)))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
def test_broken_json_is_refused(text):
    with pytest.raises(DataError, match="not valid JSON"):
        Preprocessing.from_json(text)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_channels_have_mean_zero_and_variance_one(dtype):
    x = np.random.default_rng(0).integers(0, 256, (300, 3, 5, 4)).astype(dtype)
    rows = np.arange(0, 300, 2)
    inputs, _ = fit_inputs(x, rows)
    np.testing.assert_allclose(inputs.mean, x[rows].astype(float).mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(inputs.std, x[rows].astype(float).std(axis=(0, 2, 3)), rtol=1e-12)
    z = inputs.apply(x[rows]).astype(float)
    np.testing.assert_allclose(z.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(axis=(0, 2, 3)), 1, atol=1e-6)


def test_a_dark_channel_stays_zero():
    x = np.random.default_rng(0).integers(0, 9, (20, 2, 4, 4))
    x[:, 1] = 7
    inputs, _ = fit_inputs(x, np.arange(20))
    assert inputs.std[1] == 1.0
    assert not inputs.apply(x)[:, 1].any()


def test_images_come_in_any_layout():
    inputs = ImageInputs((3, 5, 4), (1.0, 2.0, 3.0), (1.0, 2.0, 4.0))
    x = np.random.default_rng(0).normal(size=(7, 3, 5, 4))
    expected = (x - np.array([1, 2, 3])[:, None, None]) / np.array([1, 2, 4])[:, None, None]
    for form in (x, np.moveaxis(x, 1, -1)):
        np.testing.assert_allclose(inputs.apply(form), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(inputs.apply(x[0]), expected[:1], rtol=1e-5, atol=1e-6)
    grey = ImageInputs((1, 5, 4), (0.0,), (1.0,))
    assert grey.apply(x[:, 0]).shape == (7, 1, 5, 4)
    assert grey.apply(x[0, 0]).shape == (1, 1, 5, 4)
    for wrong in (x[:, :, :4], np.array(["a"]), x[:, 0]):
        with pytest.raises(DataError, match="Images must"):
            inputs.apply(wrong)


def test_outputs_are_decoded():
    labels = Preprocessing(ImageInputs((1, 2, 2), (0.0,), (1.0,)), Target(classes=("no", "yes")))
    assert labels.decode(np.array([[2.0, 1.0], [0.0, 3.0]])).tolist() == ["no", "yes"]
    assert labels.decode(np.array([1, 0])).tolist() == ["yes", "no"]
    numbers = Preprocessing(labels.inputs, Target(mean=(10.0, 0.0), scale=(2.0, 5.0)))
    assert numbers.decode(np.array([[1.0, 1.0]])).tolist() == [[12.0, 5.0]]
