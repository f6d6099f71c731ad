"""One worker and many: limits, repeats, kills, resumption."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import psutil
import pytest
from optuna.trial import TrialState

from depthscale.errors import SearchError
from depthscale.search import reaping, work
from depthscale.search.budget import Limits, seconds
from depthscale.search.fleet import Processes, _tend, drive
from depthscale.search.job import Job, SpaceOf, StudyOf
from depthscale.search.storage import open_storage
from depthscale.search.strategy import LOST
from depthscale.search.work import OUTCOME, OWN, PATIENCE, REPEAT, charged, open_study
from tests.search import fakes
from tests.search.fakes import Counted, lines

ROOT = Path(__file__).parents[2]


def job(tmp_path, *, trials=20, strategies=("random",), space=fakes.space, evaluator=None, **more):
    more.setdefault("storage", str(tmp_path / "t.journal"))
    studies = tuple(StudyOf(s, 0, i) for i, s in enumerate(strategies))
    return Job(SpaceOf(space), evaluator or Counted(str(tmp_path / "log")), studies, Limits(trials), **more)


def of(studies, name="random"):
    return next(s for k, s in studies.items() if k.strategy == name)


def finished(study):
    return [t for t in study.trials if OUTCOME in t.user_attrs and REPEAT not in t.user_attrs]


class TestAlone:
    def test_as_many_different_networks_as_asked(self, tmp_path):
        studies = drive(job(tmp_path, trials=30, strategies=("random", "evolution")))
        for study in studies.values():
            done = finished(study)
            assert len(done) == 30
            assert len({t.user_attrs[OWN]["key"] for t in done}) == 30
            assert charged(study) == (30, 30.0, 30.0)

    def test_no_network_is_trained_twice(self, tmp_path):
        """Not even for two strategies: the second is told what the first found, and charged for it."""
        drive(job(tmp_path, trials=60, space=fakes.few, strategies=("random", "evolution"), storage=None))
        ends = lines(tmp_path / "log", "end")
        assert len(ends) == len(set(ends)) < 120

    def test_strategies_advance_side_by_side(self, tmp_path):
        order = []
        drive(job(tmp_path, trials=5, strategies=("random", "local")), told=lambda o, t: order.append(o.strategy))
        assert order == ["random", "local"] * 5

    def test_limits_of_seconds_and_epochs(self, tmp_path):
        base = job(tmp_path, storage=None)
        for limits in (Limits(seconds=7.0), Limits(epochs=7.0), Limits(50, epochs=7.0)):
            found = drive(Job(base.space, base.evaluator, base.studies, limits))
            assert charged(of(found))[0] == 7

    def test_nothing_new_after_the_deadline(self, tmp_path):
        assert not of(drive(job(tmp_path, storage=None, deadline=time.time() - 1))).trials

    def test_successive_halving_stops_the_worse(self, tmp_path):
        found = of(drive(job(tmp_path, trials=40, evaluator=Counted(str(tmp_path / "log"), rungs=(1, 3, 9)))))
        states = [t.state.name for t in finished(found)]
        assert 5 < states.count("PRUNED") < 40
        whole = [t.value for t in found.trials if t.state.name == "COMPLETE"]
        cut = [9 * t.user_attrs[OUTCOME]["score"] for t in finished(found) if t.state.name == "PRUNED"]
        assert np.mean(whole) > np.mean(cut) / 3

    @pytest.mark.parametrize("pruner", ["hyperband", "median", "none"])
    def test_other_pruners(self, tmp_path, pruner):
        evaluator = Counted(str(tmp_path / "log"), rungs=(1, 3, 9))
        found = of(drive(job(tmp_path, trials=20, evaluator=evaluator, pruner=pruner, storage=None)))
        assert len(finished(found)) == 20
        assert pruner != "none" or all(t.state.name == "COMPLETE" for t in found.trials)

    def test_two_objectives(self, tmp_path):
        found = of(drive(job(tmp_path, trials=30, strategies=("nsga2",), storage=None)), "nsga2")
        assert all(t.values[0] == t.values[1] for t in finished(found))  # the fake's score is its size

    @pytest.mark.parametrize("name", ["local", "q-learning", "controller", "mcts", "predictor", "tpe", "largest"])
    def test_resumed_it_goes_on_as_if_it_had_not_been_stopped(self, tmp_path, name):
        whole = drive(job(tmp_path, trials=16, strategies=(name,), storage=None))
        study = of(drive(job(tmp_path, trials=9, strategies=(name,))), name)
        lost = study.ask()  # a trial that was begun when its worker was killed
        lost.set_user_attr(LOST, True)
        study.tell(lost, state=TrialState.FAIL)
        again = drive(job(tmp_path, trials=16, strategies=(name,)))
        assert [t.params for t in finished(of(again, name))] == [t.params for t in finished(of(whole, name))]


class TestBadInput:
    def test_a_space_of_one_network(self, tmp_path):
        study = of(drive(job(tmp_path, space=fakes.only_one, storage=None)))
        assert len(finished(study)) == 1
        assert "no new network after 1" in study.user_attrs["exhausted"]

    def test_a_space_that_raises(self, tmp_path):
        with pytest.raises(SearchError, match="ZeroDivisionError: division by zero, after the decisions"):
            drive(job(tmp_path, space=fakes.broken))

    def test_a_space_that_raises_in_a_worker(self, tmp_path):
        with pytest.raises(SearchError, match="ZeroDivisionError"):
            drive(job(tmp_path, space=fakes.broken), workers=2)

    def test_a_space_without_a_valid_network(self, tmp_path):
        with pytest.raises(SearchError, match=r"200 draws in a row gave none .*at most 1 parameters"):
            drive(Job(SpaceOf(fakes.space, parameters=1), Counted(""), (StudyOf("random", 0),), Limits(3)))

    def test_an_evaluator_that_finds_something_wrong(self, tmp_path):
        with pytest.raises(SearchError, match="nothing to be found"):
            drive(job(tmp_path, evaluator=fakes.Ill()))

    def test_what_cannot_be_sent_to_workers(self, tmp_path):
        with pytest.raises(SearchError, match="cannot be sent"):
            drive(job(tmp_path, space=lambda d: fakes.space(d)), workers=2)

    @pytest.mark.parametrize(
        ("change", "words"),
        [({"pruner": "hatchet"}, "expected a pruner"), ({"strategies": ("randon",)}, "did you mean 'random'")],
    )
    def test_names(self, tmp_path, change, words):
        with pytest.raises(SearchError, match=words):
            job(tmp_path, **change)

    @pytest.mark.parametrize("limits", [{}, {"trials": 0}, {"trials": 1.5}, {"seconds": float("nan")}])
    def test_limits(self, limits):
        with pytest.raises(SearchError, match="expected a"):
            Limits(**limits)

    def test_workers(self, tmp_path):
        with pytest.raises(SearchError, match="at least 1 worker"):
            drive(job(tmp_path), workers=0)
        with pytest.raises(SearchError, match="local or ray"):
            drive(job(tmp_path), on="moon")
        with pytest.raises(SearchError, match="a storage that workers can share"):
            drive(job(tmp_path, storage=None), workers=2)

    @pytest.mark.parametrize(
        ("spec", "words"), [("no.py:f", "no file"), ("fakes.py:nothing", "has no 'nothing'"), ("laierwise", "did you")]
    )
    def test_names_of_spaces(self, spec, words):
        spec = spec.replace("fakes.py", str(Path(fakes.__file__)))
        with pytest.raises(SearchError, match=words):
            SpaceOf(spec).make()

    @pytest.mark.parametrize("text", ["", "x", "-3s", "0", "5d"])
    def test_budgets(self, text):
        with pytest.raises(ValueError, match="expected a budget"):
            seconds(text)


def test_a_space_from_a_file():
    assert SpaceOf(f"{fakes.__file__}:space").make().count() == 625


class Killer(threading.Thread):
    """Kills one of this process's children at random, every ``pause`` seconds, at most ``times`` times, until ended."""

    def __init__(self, times, pause, seed=0):
        super().__init__(daemon=True)
        self.times, self.pause, self.rng, self.kills = times, pause, np.random.default_rng(seed), 0
        self.ended = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.ended.set()  # else it would kill the workers of the tests that follow
        self.join()

    def run(self):
        while self.kills < self.times and not self.ended.wait(self.pause):
            victims = [p.pid for p in psutil.Process().children(recursive=True) if p.name().startswith("python")]
            mine = [p for p in multiprocessing.active_children() if p.pid in victims]
            if len(mine) > 1:
                os.kill(mine[int(self.rng.integers(len(mine)))].pid, signal.SIGKILL)
                self.kills += 1


class TestKills:
    def test_workers_killed_at_random(self, tmp_path):
        notes = []
        evaluator = Counted(str(tmp_path / "log"), 0.04)
        with Killer(4, 0.5) as killer:
            studies = drive(job(tmp_path, trials=200, evaluator=evaluator), workers=2, note=notes.append)
        done = finished(of(studies))
        assert killer.kills >= 2  # how many there is time for depends on the machine
        assert len(done) == 200
        assert len({t.user_attrs[OWN]["key"] for t in done}) == 200
        ends = lines(tmp_path / "log", "end")
        assert len(ends) - len(set(ends)) <= killer.kills  # at most what was being written down when it was killed
        retried = [t for t in of(studies).trials if "attempt" in t.user_attrs]
        assert len(retried) <= killer.kills
        assert all({OUTCOME, LOST} & set(t.user_attrs) for t in retried if t.state.is_finished())

    def test_a_network_that_kills_its_workers_is_given_up(self, tmp_path):
        evaluator = Counted(str(tmp_path / "log"), deadly=3)
        one = Job(
            SpaceOf(fakes.only_deadly), evaluator, (StudyOf("random", 0),), Limits(2), str(tmp_path / "t.journal")
        )
        study = of(_by_processes(one))
        assert [t.user_attrs[OUTCOME]["failed"] for t in finished(study)] == ["its worker died 3 times"]

    def test_the_driver_killed_and_resumed(self, tmp_path):
        """Nothing that was finished is lost or run again."""
        evaluator = Counted(str(tmp_path / "log"), 0.02)
        child = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/src"},
        )
        until = time.monotonic() + 60
        while len(lines(tmp_path / "log", "end")) < 25:
            assert time.monotonic() < until
            assert child.poll() is None
            time.sleep(0.02)
        child.kill()
        child.wait()
        time.sleep(0.3)  # its workers follow it
        before = job(tmp_path, trials=60, evaluator=evaluator)
        kept = finished(open_study(before, before.studies[0], open_storage(before.storage)))
        assert len(kept) >= 20
        after = finished(of(drive(before)))
        assert len(after) == 60
        assert [t.params for t in kept] == [t.params for t in after if t.number in {k.number for k in kept}]
        begun = [name for _, name in lines(tmp_path / "log", "begin")]
        for trial in kept:
            assert begun.count("".join(map(str, trial.params.values()))) == 1

    def test_a_worker_killed_while_it_drew_delays_the_rest_once(self, tmp_path, monkeypatch):
        """Its trial has no owner, so that nobody can tell yet whether it lives."""
        waits = []
        monkeypatch.setattr(work, "DRAWING", 0.2)
        monkeypatch.setattr(work, "REAP_SECONDS", 0.1)
        monkeypatch.setattr(reaping, "GRACE", timedelta(seconds=1))
        monkeypatch.setattr(time, "sleep", lambda s, sleep=time.sleep: (waits.append(s), sleep(s)))
        one = job(tmp_path, trials=15)
        open_study(one, one.studies[0], open_storage(one.storage)).ask()
        assert len(finished(of(drive(one)))) == 15
        once = 0.2 / (PATIENCE / 5)  # 15 times without a memory of it
        assert 0 < len(waits) <= 2 * once + 1 / PATIENCE + 20  # and, at the end, until it counts as lost


DRIVER = """
import sys
from pathlib import Path
from depthscale.search.fleet import drive
from tests.search.fakes import Counted
from tests.search.test_work import job
drive(job(Path(sys.argv[1]), trials=60, evaluator=Counted(sys.argv[1] + "/log", 0.02)), workers=2)
"""


class TestStorage:
    def test_a_journal_torn_at_its_end_recovers(self, tmp_path):
        """Cut at every kind of place within the last lines: at most the last trials are done again."""
        first = job(tmp_path, trials=12)
        drive(first)
        file = Path(first.storage)
        text = file.read_bytes()
        for cut in (1, 20, 300, 1500):
            file.write_bytes(text[:-cut])
            study = of(drive(job(tmp_path, trials=12)))
            assert len(finished(study)) == 12
            assert len({t.user_attrs[OWN]["key"] for t in finished(study)}) == 12

    def test_a_journal_damaged_in_its_middle(self, tmp_path):
        first = job(tmp_path, trials=5)
        drive(first)
        file = Path(first.storage)
        lines_ = file.read_bytes().split(b"\n")
        lines_[7] = lines_[7][:10]
        file.write_bytes(b"\n".join(lines_))
        with pytest.raises(SearchError, match=r"damaged in line 8 .*restore the file"):
            drive(first)

    def test_sqlite(self, tmp_path):
        first = job(tmp_path, trials=4, storage=str(tmp_path / "t.db"))
        drive(first)
        assert len(finished(of(drive(job(tmp_path, trials=6, storage=str(tmp_path / "t.db")))))) == 6
        file = tmp_path / "t.db"
        file.write_bytes(file.read_bytes()[:-9000])
        with pytest.raises(SearchError, match="is damaged"):
            drive(first)

    @pytest.mark.parametrize("where", ["x.txt", "postgresql://me:secret@nowhere.invalid/x", "nosql://x"])
    def test_others(self, where):
        with pytest.raises(SearchError, match="storage") as found:
            open_storage(where)
        assert "secret" not in str(found.value)

    def test_two_at_once(self, tmp_path):
        """Two drivers on one journal share the work."""
        both = [threading.Thread(target=drive, args=(job(tmp_path, trials=30),)) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        shared = job(tmp_path, trials=30)
        done = finished(open_study(shared, shared.studies[0], open_storage(shared.storage)))
        assert len(done) == 30
        assert len({t.user_attrs[OWN]["key"] for t in done}) == 30


class TestOnRay:
    def test_workers_killed(self, tmp_path):
        ray = pytest.importorskip("ray", reason="Ray is not installed")
        del ray
        killer = RayKiller(tmp_path / "log", 3)
        killer.start()
        studies = drive(job(tmp_path, trials=200, evaluator=Counted(str(tmp_path / "log"), 0.01)), workers=2, on="ray")
        done = finished(of(studies))
        assert killer.kills == 3
        assert len({t.user_attrs[OWN]["key"] for t in done}) == len(done) == 200

    def test_without_ray(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(SearchError, match=r"pip install 'depthscale\[ray\]'"):
            drive(job(tmp_path), on="ray")


class RayKiller(threading.Thread):
    """Kills the process that last began a trial, now and then."""

    def __init__(self, log, times):
        super().__init__(daemon=True)
        self.log, self.times, self.kills = log, times, 0

    def run(self):
        while self.kills < self.times:
            time.sleep(1.5)
            if self.log.exists():
                pid = int(self.log.read_text().splitlines()[-1].split()[3])
                if psutil.pid_exists(pid):
                    os.kill(pid, signal.SIGKILL)
                    self.kills += 1


def _by_processes(one):
    """One worker, but in a process of its own."""
    kept = open_storage(one.storage)
    studies = {o: open_study(one, o, kept) for o in one.studies}
    fleet = Processes(one)
    try:
        _tend(one, fleet, 1, studies, lambda o, t: None, lambda words: None)
    finally:
        fleet.stop()
    return studies
