"""CSV and Parquet files as people have them."""

import gzip
import sys

import numpy as np
import pandas as pd
import pytest

from depthscale.data import load
from depthscale.data.columns import Date
from depthscale.errors import DataError

R = np.random.default_rng(0)
N = 120


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str, encoding: str = "utf-8") -> str:
    with open(name, "w", encoding=encoding) as file:
        file.write(text)
    return name


def frame() -> pd.DataFrame:
    r = np.random.default_rng(0)
    return pd.DataFrame({"a": r.normal(size=N), "b": r.choice(["x", "y", "z"], N), "y": r.choice(["no", "yes"], N)})


def test_semicolons_quotes_decimal_commas_and_gaps():
    r = np.random.default_rng(0)
    area = r.gamma(5, 20, N).round(2)
    lines = ["id;city;area;price"]
    for i in range(N):
        city = ['"Köln"', '"New York; NY"', ""][i % 3]
        size = "n/a" if i % 10 == 0 else f"{area[i]}".replace(".", ",")
        price = "" if i % 40 == 0 else f"{1000 * area[i]:.1f}".replace(".", ",")
        lines.append(f"{i};{city};{size};{price}")
    data = load(write("houses.csv", "\n".join(lines), "cp1252"), target="price")
    assert data.task == "regression"
    assert data.kind == "table"
    assert sum(data.sizes) == N - 3
    features = data.preprocessing.features
    assert set(features) == {"city=Köln", "city=New York; NY", "city=(missing)", "area", "area is missing"}
    told = " ".join(data.notes)
    for what in ("decimal comma", "';'", "cp1252", "3 of 120 rows dropped", "'id' dropped"):
        assert what in told
    x, y = data.train
    there = x[:, features.index("area is missing")] == 0
    assert np.corrcoef(x[there, features.index("area")], y[there, 0])[0, 1] > 0.999


def test_a_boolean_target():
    pd.DataFrame({"a": R.normal(size=N), "ok": R.random(N) > 0.4}).to_csv("t.csv")
    data = load("t.csv", target="ok")
    assert data.classes == ("False", "True")
    assert "'Unnamed: 0' dropped" in " ".join(data.notes)


def test_an_integer_target_with_many_values():
    pd.DataFrame({"a": R.normal(size=N), "age": R.integers(0, 200, N)}).to_csv("t.csv", index=False)
    data = load("t.csv", target="age")
    assert (data.task, data.outputs, data.train.y.shape[1]) == ("regression", 1, 1)
    assert data.train.y.dtype == np.float32
    assert 'task="classification"' in " ".join(data.notes)


def test_a_date_column_day_first():
    when = pd.date_range("2019-01-01", periods=N, freq="9D").strftime("%d/%m/%Y")
    pd.DataFrame({"when": when, "temp": R.normal(size=N)}).to_csv("t.csv", index=False)
    data = load("t.csv", target="temp")
    assert isinstance(data.preprocessing.inputs.columns[0], Date)
    assert "day/month/year" in " ".join(data.notes)
    with pytest.raises(DataError, match="'when' holds dates"):
        load("t.csv", target="when")


@pytest.mark.parametrize(
    ("separator", "name"), [(",", "t.csv"), (";", "t.csv"), ("\t", "t.csv"), ("|", "t.csv"), ("\t", "t.tsv")]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_separators_and_encodings_give_the_same_data(separator, name, encoding):
    expected = load(frame(), target="y")
    frame().to_csv(name, sep=separator, index=False, encoding=encoding)
    data = load(name, target="y")
    assert data.fingerprint == expected.fingerprint
    assert np.array_equal(data.train.x, expected.train.x)
    assert data.raw_columns == ("a", "b")


def test_gzip_and_parquet_give_the_same_data():
    frame().to_csv("t.csv.gz", index=False)
    frame().to_parquet("t.parquet")
    one, two = load("t.csv.gz", target="y"), load("t.parquet", target="y")
    assert one.fingerprint == two.fingerprint


def test_several_targets():
    pd.DataFrame(R.normal(size=(N, 4)), columns=list("abcd")).to_csv("t.csv", index=False)
    data = load("t.csv", target=["c", "d"])
    assert (data.outputs, data.target_names, data.train.y.shape[1]) == (2, ("c", "d"), 2)


def test_question_marks_are_missing_values():
    table = frame()
    table.loc[::9, "b"] = "?"
    table.to_csv("t.csv", index=False)
    assert "b=(missing)" in load("t.csv", target="y").preprocessing.features


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("", "y", "is empty"),
        ("\n \n", "y", "is empty"),
        ("a,y\n", "y", "no rows"),
        ("a,y\n1,2\n3,4,5\n", "y", "cannot be read as a table.*line 3"),
        ("a,y\n" + "1,\n" * 9, "y", "no row in which the target 'y' is not missing"),
        ("y\n" + "1\n2\n" * 9, "y", "no column beside the target"),
        ("a,price\n" + "1,2\n" * 9, None, "needs the name of its target column.*'a', 'price'"),
        ("a,price\n" + "1,2\n" * 9, "Prise", "no column 'Prise'.*did you mean 'price'"),
        ("5.1,3.5,setosa\n" + "4.9,3.0,virginica\n" * 9, "kind", "looks like data"),
        ("a,y\n" + "1,7\n2,7\n" * 9, "y", "'y' is constant"),
        ("a,y\n" + "1,c\n2,c\n" * 9, "y", "one class only, 'c'"),
        ("a,y\n" + "inf,c\n2,d\n" * 9, "y", "'a'.*9 infinite value.*first in row 0"),
        ("a,y\n" + "1,c\n1,d\n" * 9, "y", "No column is left.*constant"),
        ("a,y\n" + "".join(f"{i},{i / 3}\n" for i in range(50)) + "1,unknown\n", "y", "'unknown'"),
        ("a,y\n1,2\n2,3.5\n", "y", "too few"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(text, target, message):
    with pytest.raises(DataError, match=message):
        load(write("t.csv", text), target=target)


def test_files_that_are_not_tables_are_refused():
    with open("t.csv", "wb") as file:
        file.write(bytes(range(256)) * 9)
    with pytest.raises(DataError, match="not a text file"):
        load("t.csv", target="y")
    with open("t.csv.gz", "wb") as file:
        file.write(b"not gzip")
    with pytest.raises(DataError, match="cannot be read"):
        load("t.csv.gz", target="y")
    with open("t.csv.gz", "wb") as file:
        file.write(gzip.compress(b"a,y\n" + b"1,2\n3,4\n" * 99_999)[:200])
    with pytest.raises(DataError, match="cannot be read"):
        load("t.csv.gz", target="y")
    with open("t.parquet", "wb") as file:
        file.write(b"PAR1 not really")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load("t.parquet", target="y")


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch):
    frame().to_parquet("t.parquet")

    def missing(*args, **kwargs):
        raise ImportError("Unable to find a usable engine")

    monkeypatch.setattr(pd, "read_parquet", missing)
    with pytest.raises(DataError, match=r"needs pyarrow.*pip install 'depthscale\[tables\]'"):
        load("t.parquet", target="y")


def test_bytes_that_turn_odd_late_in_the_file_are_still_read():
    body = "a,b,y\n" + "1,x,no\n2,y,yes\n" * 9000 + "3,é,no\n"
    data = load(write("t.csv", body, "cp1252"), target="y")
    assert "cp1252" in " ".join(data.notes)
    assert sum(data.sizes) == 18_001


def test_a_frame_is_not_changed_and_its_index_does_not_matter():
    table = frame()
    shuffled = table.set_index(pd.Index(range(1000, 1000 + N)))
    before = shuffled.copy()
    assert load(shuffled, target="y").fingerprint == load(table, target="y").fingerprint
    pd.testing.assert_frame_equal(shuffled, before)


def test_columns_of_one_name_are_refused():
    table = pd.DataFrame(np.arange(30.0).reshape(10, 3), columns=["a", "a", "y"])
    with pytest.raises(DataError, match="more than one column named 'a'"):
        load(table, target="y")


def test_reading_a_table_does_not_import_torch():
    import subprocess

    frame().to_csv("t.csv", index=False)
    code = "import sys, depthscale.data as d; d.load('t.csv', target='y'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
