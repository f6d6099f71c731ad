import gzip

import numpy as np
import optuna
import pytest

from depthscale.errors import SearchError
from depthscale.search.spaces import space
from depthscale.search.strategies import strategy
from depthscale.search.table import find_table, load_table, replay
from depthscale.search.tabular import TrialDecider, largest, search_table
from depthscale.zoo.nasbench201 import BEST, OPS, write


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A table of our own: every cell, the score a sum over its operations."""
    file = tmp_path_factory.mktemp("table") / "table.csv.gz"
    rng = np.random.default_rng(0)
    columns = [f"c10_{k}" for k in ("val12", "test12", "val200", "test200", "train_time", "model_size")]
    with gzip.open(file, "wt") as out:
        out.write(",".join(["arch", "code", *columns]) + "\n")
        for code in np.ndindex(*(5,) * 6):
            cell = write(tuple(OPS[i] for i in code))
            val, size = sum(code) + rng.random(), 1 + 0.1 * sum(c in (2, 3) for c in code)
            numbers = [val, val - 1, val + 1, val + 2, 200.0 + sum(code), size]
            out.write(",".join([cell, "".join(map(str, code)), *map(str, numbers)]) + "\n")
    return load_table(file)


class TestTable:
    def test_rows_by_string_and_by_digits(self, made):
        assert len(made) == 15_625
        assert made.row(BEST) == made.row("333133")

    def test_what_is_not_there(self, made):
        with pytest.raises(SearchError, match="expected a data set of the table"):
            load_table(dataset="cifar11")
        with pytest.raises(SearchError, match="no such file"):
            load_table("nowhere.csv")

    def test_a_cell_that_is_missing(self, made, tmp_path):
        file = tmp_path / "t.csv"
        head = "arch,code," + ",".join(
            f"c10_{k}" for k in ("val12", "test12", "val200", "test200", "train_time", "model_size")
        )
        file.write_text(f"{head}\n{write((OPS[0],) * 6)},000000,1,2,3,4,5,6\n")
        with pytest.raises(SearchError, match="expected a cell of the table"):
            load_table(file).row(BEST)

    def test_columns_missing(self, tmp_path):
        (tmp_path / "t.csv").write_text("arch,c10_val12\nx,1\n")
        with pytest.raises(SearchError, match="c10_test12"):
            load_table(tmp_path / "t.csv")

    def test_no_table(self, monkeypatch, tmp_path):
        monkeypatch.setenv("DEPTHSCALE_DATA", str(tmp_path))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        with pytest.raises(SearchError, match="set DEPTHSCALE_DATA"):
            find_table()


class TestReplay:
    def test_against_the_naive_loop(self, made):
        rng = np.random.default_rng(1)
        rows = [int(i) for i in rng.integers(len(made), size=60)]
        curve = replay(made, rows)
        clock = 0.0
        for n in range(1, 61):
            chosen = max(rows[:n], key=lambda r: made.val12[r])
            clock += made.seconds[rows[n - 1]] * 12 / 200
            assert curve.incumbent[n - 1] == made.test200[chosen]
            assert curve.seconds[n - 1] == pytest.approx(clock)

    def test_selection_never_sees_the_report(self, made):
        """The incumbent is the best by selection even where the report says otherwise."""
        order = np.argsort(made.test200)
        curve = replay(made, [int(order[-1]), int(order[0])], select="val12")
        expected = order[-1] if made.val12[order[-1]] >= made.val12[order[0]] else order[0]
        assert curve.incumbent[-1] == made.test200[expected]

    def test_charged_queries_are_different_networks(self, made):
        curve = search_table(space("nasbench201"), made, strategy("evolution", 0), 80)
        assert len(set(curve.rows.tolist())) == 80

    @pytest.mark.parametrize("name", ["random", "evolution", "local", "q-learning", "policy", "mcts", "predictor"])
    def test_without_a_study_it_is_the_same_search(self, made, name):
        """Draw for draw what an Optuna study gives."""
        curve = search_table(space("nasbench201"), made, strategy(name, 3), 30)
        study = optuna.create_study(direction="maximize", sampler=strategy(name, 3))
        asked: list[int] = []
        while len(asked) < 30:
            trial = study.ask()
            row = made.row(space("nasbench201").draw(TrialDecider(trial)).architecture)
            study.tell(trial, float(made.val12[row]))
            asked += [] if row in asked else [row]
        assert curve.rows.tolist() == asked

    def test_largest_network_wins(self, made):
        curve = largest(made, 50, np.random.default_rng(0))
        assert np.all(np.diff(made.size[curve.rows]) <= 0)
        assert made.size[curve.rows[0]] == made.size.max()


@pytest.fixture(scope="module")
def real():
    try:
        return load_table(find_table())
    except SearchError as missing:
        pytest.skip(str(missing))


class TestPublished:
    """On the real table: NAS-Bench-201, CIFAR-10, against an independent simulation of 1,000 runs."""

    def test_the_optimum(self, real):
        assert real.test200.max() == pytest.approx(94.37, abs=0.01)

    @pytest.mark.parametrize(
        ("name", "expected", "spread"), [("random", 93.74, 0.34), ("evolution", 93.94, 0.41), ("local", 94.13, 0.28)]
    )
    def test_a_hundred_queries(self, real, name, expected, spread):
        """50 seeds: within 3 standard errors, and a tenth for what is told apart as one network."""
        found = [search_table(space("nasbench201"), real, strategy(name, s), 100).incumbent[-1] for s in range(50)]
        assert abs(np.mean(found) - expected) < 3 * spread / np.sqrt(50) + 0.05
