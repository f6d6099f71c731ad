"""Encodings of columns, against scikit-learn, against their written formulas, and on columns as people have them."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from depthscale.data.columns import Category, Date, Number, column_from_dict, column_to_dict, fit_column
from depthscale.errors import DataError


def fit(values, name="c", **options):
    return fit_column(pd.Series(values, name=name, **options))


def test_number_is_scikit_learns_median_imputer_then_scaler():
    r = np.random.default_rng(0)
    train, new = r.normal(3, 2, 200), r.normal(3, 2, 50)
    train[::7] = np.nan
    new[::5] = np.nan
    column, note = fit(train)
    imputer, scaler = SimpleImputer(strategy="median"), StandardScaler()
    scaler.fit(imputer.fit_transform(train[:, None]))
    expected = scaler.transform(imputer.transform(new[:, None]))[:, 0]
    got = column.apply(pd.Series(new))
    np.testing.assert_allclose(got[:, 0], expected, rtol=1e-12)
    assert np.array_equal(got[:, 1], np.isnan(new))
    assert column.features == ("c", "c is missing")
    assert note is None


def test_category_is_scikit_learns_one_hot_with_a_missing_level():
    train = pd.DataFrame({"c": ["red", "blue", None, "red", "green", "red", "blue"]})
    column, _ = fit_column(train["c"])
    encoder = OneHotEncoder(sparse_output=False).fit(train.fillna("(missing)"))
    expected = encoder.transform(train.fillna("(missing)"))
    order = [column.features.index(f"c={level}") for level in encoder.categories_[0]]
    assert np.array_equal(column.apply(train["c"])[:, order], expected)


def test_two_levels_are_one_column_as_with_drop_if_binary():
    column, _ = fit(["yes", "no", "yes", "yes"])
    assert column.features == ("c=no",)
    assert column.apply(pd.Series(["no", "yes", "maybe"])).tolist() == [[1], [0], [0]]


@pytest.mark.parametrize("values", [[True, False, True], pd.array([True, False, None], "boolean")])
def test_bools_are_categories(values):
    column, _ = fit(values)
    assert isinstance(column, Category)
    assert column.levels[0] == "True" or set(column.levels) == {"True", "False"}


def test_unknown_levels_go_to_the_pool_or_to_zero():
    many = ["a"] * 500 + ["b"] * 480 + [f"rare{i}" for i in range(20)]
    column, note = fit(many)
    assert column.features == ("c=a", "c=b", "c=(other)")
    assert "20 rare pooled" in note
    assert column.apply(pd.Series(["a", "never seen", "rare3", None])).tolist() == [
        [1, 0, 0],
        [0, 0, 1],
        [0, 0, 1],
        [0, 0, 1],
    ]
    three, _ = fit(["a", "b", "c"] * 4)
    assert three.apply(pd.Series(["z", None])).sum() == 0


def test_at_most_32_levels_are_kept_most_frequent_first():
    values = [f"k{i:02}" for i in range(60) for _ in range(60 - i)]
    column, note = fit(values)
    assert column.levels == tuple(f"k{i:02}" for i in range(32))
    assert "28 rare pooled" in note


def test_many_even_levels_keep_as_many_as_fit():
    column, _ = fit([f"k{i % 400:03}" for i in range(8000)])
    assert (len(column.levels), column.other) == (32, True)


def test_numeric_category_levels_match_whether_read_as_int_or_float():
    column, _ = fit(pd.Categorical([1, 2, 3, 1]))
    assert np.array_equal(column.apply(pd.Series([1.0, 2.0, 3.0])), column.apply(pd.Series([1, 2, 3])))


def test_heavy_tails_are_tamed_by_the_written_formula():
    r = np.random.default_rng(1)
    values = np.exp(r.normal(0, 3, 2000))
    column, note = fit(values)
    centre, scale = np.median(values), np.subtract(*np.percentile(values, (75, 25)))
    g = np.arcsinh((values - centre) / scale)
    np.testing.assert_allclose(column.apply(pd.Series(values))[:, 0], (g - g.mean()) / g.std(), rtol=1e-10)
    assert "heavy-tailed" in note
    light, none = fit(r.normal(size=2000))
    assert light.asinh is None
    assert none is None


def test_no_new_value_is_further_than_ten_deviations():
    column, _ = fit(np.arange(100.0))
    assert column.apply(pd.Series([1e9, -np.inf])).tolist() == [[10.0], [-10.0]]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False, width=64), min_size=2, max_size=30))
def test_any_finite_column_becomes_finite_numbers(values):
    column, note = fit(np.array(values))
    if column is None:
        assert "dropped" in note
        return
    assert np.isfinite(column.apply(pd.Series(np.array(values)))).all()
    json.dumps(column_to_dict(column), allow_nan=False)


def test_a_constant_with_gaps_tells_only_whether_it_is_there():
    column, _ = fit([1.0, np.nan, 1.0, np.nan])
    assert column.apply(pd.Series([1.0, np.nan])).tolist() in ([[0], [1]], [[1], [0]])


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("c", [4.0] * 9, "constant (4)"),
        ("c", ["same"] * 9, "constant ('same')"),
        ("c", [None] * 9, "no values"),
        ("c", [f"user {i}" for i in range(30)], "identifies rows"),
        ("id", list(range(30)), "identifies rows"),
        ("PassengerId", list(range(1, 31)), "identifies rows"),
        ("Unnamed: 0", list(range(30)), "identifies rows"),
        ("c", [f"text {i // 2 if i < 20 else i}" for i in range(60)], "too few of each"),
        ("c", [f"text {i // 3}" for i in range(9000)], "too few of each"),
        ("c", ["2020-02-03"] * 9, "one constant date"),
    ],
)
def test_columns_that_say_nothing_are_dropped_and_said(name, values, reason):
    column, note = fit(values, name)
    assert column is None
    assert reason in note


@pytest.mark.parametrize("name", ["x", "paid", "time"])
def test_counting_columns_that_are_not_named_as_identifiers_stay(name):
    assert isinstance(fit(list(range(30)), name)[0], Number)


def test_numbers_with_a_stray_word_are_numbers():
    column, note = fit([str(i) for i in range(40)] + ["unknown"])
    assert isinstance(column, Number)
    assert column.missing
    assert "'unknown'" in note


def test_numbers_as_text_are_numbers_and_words_are_not():
    assert fit(["1.5", "2", "7e3"])[0].features == ("c",)
    assert isinstance(fit(["1", "two", "3", "two"])[0], Category)


@pytest.mark.parametrize(
    ("texts", "form"),
    [
        (["2020-01-31", "2021-05-01", None], "ISO8601"),
        (["2020-01-31T12:00:00", "2021-05-01 06:30"], "ISO8601"),
        (["31/01/2020", "01/05/2021"], "%d/%m/%Y"),
        (["01/31/2020", "05/01/2021"], "%m/%d/%Y"),
        (["31.01.2020", "01.05.2021"], "%d.%m.%Y"),
        (["2020/01/31", "2021/05/01"], "ISO8601"),
    ],
)
def test_dates_are_found_in_text(texts, form):
    column, note = fit(texts)
    assert isinstance(column, Date)
    assert column.format == form
    assert "dates" in note


def test_dates_become_days_and_cycles():
    when = pd.Series(pd.date_range("2018-01-01", periods=1000, freq="36h"), name="when")
    column, _ = fit_column(when)
    assert column.cycles == ("year", "week", "day")
    got = column.apply(when)
    days = np.array([t.timestamp() / 86400 for t in when.dt.tz_localize("UTC")])
    np.testing.assert_allclose(got[:, 0], (days - days.mean()) / days.std(), atol=1e-9)
    for i, period in enumerate((365.2425, 7, 1)):
        np.testing.assert_allclose(got[:, 1 + 2 * i], [math.sin(2 * math.pi * d / period) for d in days], atol=1e-8)
        np.testing.assert_allclose(got[:, 2 + 2 * i], [math.cos(2 * math.pi * d / period) for d in days], atol=1e-8)


def test_time_zones_and_missing_dates():
    column, _ = fit(["2020-01-01T00:00:00+02:00", "2020-03-01T00:00:00Z", None])
    same = column.apply(pd.Series(["2019-12-31T22:00:00Z", "2020-01-01T00:00:00+02:00"]))
    np.testing.assert_allclose(same[0], same[1], rtol=1e-12)
    waves = column.apply(pd.Series([None, "not a date"], dtype=object))[:, 2:]
    assert not waves.any()


def test_time_spans_are_days():
    column, _ = fit(pd.to_timedelta([1, 2, 6], unit="D"))
    assert column.mean == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [([1.0, np.inf, 2.0], "infinite"), ([[1], [2], [3]], "list values"), ([1j, 2, 3], "complex")],
)
def test_cells_that_are_no_values_are_refused(values, message):
    with pytest.raises(DataError, match=message):
        fit(values)


@pytest.mark.parametrize(
    "values",
    [
        [1.0, 2.0, np.nan],
        list(np.exp(np.linspace(-20, 20, 300))),
        ["a", "b", None, "c"],
        ["2020-01-01", "2022-05-05", "2021-03-03"],
    ],
)
def test_json_round_trip(values):
    column, _ = fit(values)
    assert column_from_dict(json.loads(json.dumps(column_to_dict(column)))) == column
