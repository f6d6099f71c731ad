"""Workers: in this process, in processes of this machine, or in a Ray cluster; and what becomes of one that dies.

All share one storage. A worker that is killed loses the trial it was at, and nothing else: the driver marks the trial
as lost and puts its decisions back into the queue. Whoever resumes a search whose driver was killed does the same.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from depthscale.errors import SearchError
from depthscale.search.evaluate import TrainingEvaluator
from depthscale.search.job import Job, StudyOf
from depthscale.search.reaping import REAP_SECONDS, reap
from depthscale.search.storage import open_storage
from depthscale.search.work import OUTCOME, REPEAT, Worker, open_study

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

MOST_DEATHS = 5  # of workers in a row, without a trial finished between them
LOOK_SECONDS = 0.1

Told = Callable[[StudyOf, "FrozenTrial"], None]


def _serve(job: Job, name: str, pipe: Any) -> None:
    """A worker's life in its own process: it ends with the work, with its driver, or with the first error."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _one_thread(job)
    try:
        Worker(job, name).run()
        pipe.send(None)
    except KeyboardInterrupt:
        pipe.send(None)
    except SearchError as error:
        pipe.send(str(error))
    except BaseException as error:
        pipe.send(f"{type(error).__name__}: {error}")


def _one_thread(job: Job) -> None:
    """Workers share the cores, so each of them trains on one."""
    if isinstance(job.evaluator, TrainingEvaluator):
        import torch

        torch.set_num_threads(1)


def _follow(parent: Any) -> None:
    parent.join()
    os._exit(3)


class Fleet(Protocol):
    """Workers somewhere else."""

    def start(self, name: str) -> None:
        """Begin a worker."""

    def ended(self) -> dict[str, str | None]:
        """Workers that have ended since the last call: None where the work was over, else why."""

    def stop(self) -> None:
        """End all."""


DIED = "died"


class Processes:
    """Worker processes of this machine."""

    def __init__(self, job: Job) -> None:
        methods = multiprocessing.get_all_start_methods()
        self.context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            self.context.set_forkserver_preload(["depthscale.search.fleet"])
        self.job = job
        self.alive: dict[str, tuple[Any, Any]] = {}

    def start(self, name: str) -> None:
        """Begin a process."""
        here, there = self.context.Pipe(duplex=False)
        process = self.context.Process(target=_serve, args=(self.job, name, there), name=name, daemon=True)
        process.start()
        there.close()
        self.alive[name] = (process, here)

    def ended(self) -> dict[str, str | None]:
        """Those that said good-bye, and those that did not."""
        found: dict[str, str | None] = {}
        for name, (process, pipe) in list(self.alive.items()):
            if process.is_alive() and not pipe.poll():
                continue
            try:
                found[name] = pipe.recv() if pipe.poll() else DIED
            except EOFError:
                found[name] = DIED
            process.join()
            pipe.close()
            del self.alive[name]
        return found

    def stop(self) -> None:
        """Kill what is left."""
        for process, pipe in self.alive.values():
            process.kill()
            process.join()
            pipe.close()
        self.alive.clear()

    @property
    def processes(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: process.pid for name, (process, _) in self.alive.items()}


class OnRay:
    """Workers in a Ray cluster: the one at ``address`` ("auto", "ray://…"), or one started here where there is none."""

    def __init__(self, job: Job, address: str | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise SearchError(
                "expected Ray to be installed for --on ray, but it is not; pip install 'depthscale[ray]', or use "
                "--workers N without --on"
            ) from None
        self.ray, self.job = ray, job
        self.ours = not ray.is_initialized()
        if self.ours:
            options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
            try:
                ray.init(address=address, **(options if address is None else {"logging_level": "ERROR"}))
            except Exception as error:  # Ray raises plain exceptions where it cannot start or connect
                reason = str(error).strip().splitlines()[0]
                raise SearchError(
                    f"expected a Ray cluster at {address or 'this machine'}, but it cannot be used: {reason}; check "
                    "the address, or use --workers N without --on"
                ) from None
        self._serve = ray.remote(num_cpus=1, max_retries=0, max_calls=1)(_serve_on_ray)
        self.alive: dict[str, Any] = {}

    def start(self, name: str) -> None:
        """Begin a task."""
        self.alive[name] = self._serve.remote(self.job, name)

    def ended(self) -> dict[str, str | None]:
        """Tasks that returned, and those whose process died."""
        names = {ref: name for name, ref in self.alive.items()}
        done, _ = self.ray.wait(list(names), num_returns=len(names), timeout=0) if names else ([], [])
        found: dict[str, str | None] = {}
        for ref in done:
            try:
                found[names[ref]] = self.ray.get(ref)
            except (self.ray.exceptions.WorkerCrashedError, self.ray.exceptions.NodeDiedError):
                found[names[ref]] = DIED
            except self.ray.exceptions.RayError as error:
                found[names[ref]] = str(error).strip().splitlines()[-1]
            del self.alive[names[ref]]
        return found

    def stop(self) -> None:
        """End all tasks, and the cluster if it was started here."""
        for ref in self.alive.values():
            self.ray.cancel(ref, force=True)
        self.alive.clear()
        if self.ours:
            self.ray.shutdown()


def _serve_on_ray(job: Job, name: str) -> str | None:
    try:
        Worker(job, name).run()
    except SearchError as error:
        return str(error)
    return None


def drive(
    job: Job,
    *,
    workers: int = 1,
    on: str = "local",
    address: str | None = None,
    storage: Any = None,
    told: Told = lambda of, trial: None,
    note: Callable[[str], None] = lambda words: None,
) -> "dict[StudyOf, optuna.Study]":
    """Run a job's studies to their limits; the studies, finished.

    Raises SearchError for what is wrong with the space, the data or the storage, and where workers keep dying.
    KeyboardInterrupt ends the workers; their trials are lost, everything finished is kept.
    """
    if workers < 1:
        raise SearchError(f"expected at least 1 worker, got {workers}")
    if on not in ("local", "ray"):
        raise SearchError(f"expected workers on local or ray, got {on!r}")
    if on == "local" and workers == 1:
        own = Worker(job, storage=storage)
        if n := reap(own.studies):
            note(f"{n} trials of a search that was killed are done again")
        own.run(told)
        return own.studies
    if job.storage is None:
        raise SearchError("expected a storage that workers can share, got none; give --storage or --out")
    job.picklable()
    kept = open_storage(job.storage)
    studies = {of: open_study(job, of, kept) for of in job.studies}
    if n := reap(studies):
        note(f"{n} trials of a search that was killed are done again")
    fleet: Any = OnRay(job, address) if on == "ray" else Processes(job)
    try:
        _tend(job, fleet, workers, studies, told, note)
    finally:
        fleet.stop()
        reap(studies, set(_names(workers)))
    return studies


def _names(workers: int) -> list[str]:
    return [f"{os.getpid()}-{i}" for i in range(workers)]


def _tend(
    job: Job,
    fleet: Any,
    workers: int,
    studies: "dict[StudyOf, optuna.Study]",
    told: Told,
    note: Callable[[str], None],
) -> None:
    """Start workers, start them again when they die, pass on what is finished, until all have nothing left to do."""
    shown: set[tuple[StudyOf, int]] = set()
    _pass_on(studies, shown, lambda of, trial: None)  # what an earlier run finished
    open_, deaths, looked = set(_names(workers)), 0, time.monotonic()
    for name in open_:
        fleet.start(name)
    while open_:
        time.sleep(LOOK_SECONDS)
        if _pass_on(studies, shown, told):
            deaths = 0
        if time.monotonic() - looked > REAP_SECONDS:
            looked = time.monotonic()
            reap(studies)
        for name, why in fleet.ended().items():
            if why is None:
                open_.discard(name)
            elif why == DIED:
                deaths += 1
                reap(studies, {name})
                if deaths > MOST_DEATHS:
                    raise SearchError(
                        f"{deaths} workers died one after the other without finishing a trial; is there enough memory?"
                    )
                note(f"worker {name} died; its trial is done again")
                fleet.start(name)
            else:
                raise SearchError(why)
    _pass_on(studies, shown, told)


def _pass_on(studies: "dict[StudyOf, optuna.Study]", shown: set[tuple[StudyOf, int]], told: Told) -> int:
    """Tell of trials that have finished since; how many."""
    new = 0
    for of, study in studies.items():
        for t in study.get_trials(deepcopy=False):
            if t.state.is_finished() and OUTCOME in t.user_attrs and (of, t.number) not in shown:
                shown.add((of, t.number))
                new += 1
                if REPEAT not in t.user_attrs:
                    told(of, t)
    return new
