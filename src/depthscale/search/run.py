"""A search from end to end: a strategy and its baselines under one budget, the winners trained and tested, all written.

Whatever strategy is asked for, random search, local search and "largest network wins" run beside it with the same
budget, selection signal, de-duplication and seeds. Networks are selected on the validation split (or a validation
column of a table); the test split is opened once, when the winners are trained.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthscale.errors import SearchError
from depthscale.search.budget import Limits, seconds as parse_seconds
from depthscale.search.evaluate import Evaluator, Source, TableEvaluator, TrainingEvaluator
from depthscale.search.fleet import drive
from depthscale.search.job import Job, SpaceOf, StudyOf
from depthscale.search.result import SearchResult, run_of
from depthscale.search.strategies import ONE_SHOT, STRATEGIES, strategy as check_strategy
from depthscale.search.watch import Watcher
from depthscale.search.work import charged

if TYPE_CHECKING:
    import optuna

    from depthscale.graph import Graph

BASELINES = ("random", "local", "largest")
JOURNAL = "trials.journal"
SEARCHING, FINISHING = 0.6, 0.35  # shares of a time budget; the rest is for reading, testing and writing
FULL = 10  # networks trained to the end that a study's time would suffice for


@dataclass(frozen=True)
class Spending:
    """What was asked for: seconds for everything, or networks or epochs for every strategy and seed."""

    seconds: float | None
    trials: int | None
    epochs: float | None

    @staticmethod
    def of(budget: str | float | None, trials: int | None, epochs: float | None) -> "Spending":
        """The spending; five minutes where nothing was said.

        Raises DepthscaleError for a budget that is none.
        """
        if budget is None and trials is None and epochs is None:
            budget = 300
        return Spending(None if budget is None else parse_seconds(budget), trials, epochs)

    def limits(self, studies: int, workers: int, table: bool) -> Limits:
        """What every study may spend. A table's seconds are simulated, and need not be shared."""
        each = self.seconds
        if each is not None and not table:
            each = SEARCHING * each * workers / studies
        return Limits(self.trials, each, self.epochs)

    @property
    def words(self) -> str:
        """As it is said in a report."""
        parts = [] if self.seconds is None else [f"{self.seconds:g} s"]
        parts += [] if self.trials is None else [f"{self.trials:,} networks"]
        parts += [] if self.epochs is None else [f"{self.epochs:g} epochs"]
        return " or ".join(parts)


def search(
    space: Any,
    data: Any,
    *,
    strategy: str = "evolution",
    budget: str | float | None = None,
    trials: int | None = None,
    epochs: float | None = None,
    trial_epochs: float | None = None,
    seed: int = 0,
    seeds: int = 1,
    baselines: Sequence[str] = BASELINES,
    beside: "Mapping[str, Graph] | None" = None,
    max_parameters: int | None = None,
    options: Mapping[str, Any] | None = None,
    joint: bool = False,
    scores: Sequence[str] = (),
    pruner: str = "halving",
    workers: int = 1,
    on: str = "local",
    address: str | None = None,
    storage: str | None = None,
    dataset: str = "cifar10",
    select: str = "val12",
    report: str = "test200",
    target: str | None = None,
    task: str | None = None,
    skip_bad: bool = False,
    limit: int | None = None,
    device: str = "auto",
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    watcher: Watcher | None = None,
    command: str = "",
) -> SearchResult:
    """The best network of a space for some data, and what simpler strategies find with the same means.

    ``space`` is the name of one of ours, a function of ``decide`` that returns a Graph, or "FILE.py:FUNCTION";
    ``data`` is what ``depthscale.load_data`` takes, or a NAS-Bench-201 table (its file; then ``dataset``, ``select``
    and ``report`` say which of its columns). ``budget`` is wall time for everything (where a table is searched,
    simulated training time for every study); ``trials`` and ``epochs`` are for every strategy and seed.
    ``trial_epochs`` is how long a network is trained at most; ``options`` are arguments of a named space's function.
    ``beside`` are networks that are trained like the
    winners. With ``out`` everything is written there, and ``resume`` goes on with what an interrupted search left.

    Raises SearchError for names, budgets, spaces and tables that cannot be used.
    """
    watcher = watcher or Watcher()
    started = time.monotonic()
    spending = Spending.of(budget, trials, epochs)
    names = tuple(dict.fromkeys([strategy, *baselines]))
    for name in names:
        if name not in STRATEGIES:
            check_strategy(name)
    if seeds < 1:
        raise SearchError(f"expected at least 1 seed, got {seeds}")
    folder = None if out is None else _folder(Path(out), resume=resume, overwrite=overwrite)
    studies = tuple(StudyOf(n, s, i) for s in range(seed, seed + seeds) for i, n in enumerate(names))
    table = is_table(data)
    limits = spending.limits(len(studies), workers, table)
    evaluator: Evaluator
    if table:
        evaluator = TableEvaluator(str(data), dataset, select, report)
        watcher.phase(f"reading the table {data}")
        source, shaped = None, {}
        _ = evaluator.table
    else:
        source = Source(data, target, task, seed, skip_bad, limit)
        watcher.phase("reading the data")
        found = source.load(watcher.loading)
        for words in found.notes:
            watcher.note(words)
        shaped = {"input_shape": found.input_shape, "outputs": found.outputs}
        evaluator = TrainingEvaluator(source, *_length(limits, trial_epochs, len(found.train.y)), device=device)
    job = Job(
        SpaceOf(space, {**shaped, **(options or {})}, max_parameters, joint),
        evaluator,
        studies,
        limits,
        storage or (None if folder is None else str(folder / JOURNAL)),
        pruner,
        tuple(scores),
    )
    done = _drive(job, spending, workers, on, address, watcher, table=table)
    runs = tuple(run_of(of, study) for of, study in done.items())
    notes = [f"{r.strategy}, seed {r.seed}: {r.exhausted}" for r in runs if r.exhausted]
    idle = {r.strategy for r in runs if all(t.state == "failed" for t in r.tried)} - {strategy}
    # a budget too small, or a machine too busy; the strategy itself must have something
    notes += [f"{name} is left out: it had no time to train a network with every seed" for name in sorted(idle)]
    runs = tuple(r for r in runs if r.strategy not in idle)
    from depthscale.search.finish import finals

    elapsed = time.monotonic() - started
    value_name, finished = finals(job, runs, spending, source, folder, seed, beside or {}, watcher, elapsed)
    result = SearchResult(
        space=job.space.make().name,
        data=f"{Path(data).name} ({dataset})" if table else source.load().name if source is not None else "",
        strategy=strategy,
        signal=evaluator.signal,
        value_name=value_name,
        runs=runs,
        finals=finished,
        budget=spending.words,
        seconds=time.monotonic() - started,
        seed=seed,
        command=command,
        out=folder,
        dataset=None if source is None else source.load(),
        notes=tuple(notes),
    )
    if folder is not None:
        from depthscale.search.write import everything

        watcher.phase("writing the report")
        everything(folder, result, job)
    return result


def _folder(path: Path, *, resume: bool, overwrite: bool) -> Path:
    """The output folder.

    Raises SearchError where another search is in the way, or none is there to resume.
    """
    from depthscale.search.files import prepare

    journal = path / JOURNAL
    if resume and not path.is_dir():
        raise SearchError(
            f"expected a folder with a search to resume, but there is no {path}; start one without --resume"
        )
    if journal.exists() and overwrite:
        import shutil

        journal.unlink()
        shutil.rmtree(path / "checkpoint", ignore_errors=True)
    if journal.exists() and not resume:
        raise SearchError(
            f"expected a new folder for --out, but {path} holds a search; go on with it (--resume {path}), "
            "give another folder, or --overwrite"
        )
    return prepare(path)


def is_table(data: Any) -> bool:
    """Whether data are a benchmark table: a CSV file whose first columns are arch or code, and no target."""
    if not isinstance(data, str | os.PathLike) or not str(data).lower().endswith((".csv", ".csv.gz")):
        return False
    path = Path(data).expanduser()
    if not path.is_file():
        return False
    import gzip

    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            head = file.readline().strip().split(",")
    except (OSError, UnicodeDecodeError):
        return False
    return bool({"arch", "code"} & set(head)) and any(c.endswith("_val12") for c in head)


def _length(limits: Limits, epochs: float | None, rows: int) -> tuple[float | None, float | None]:
    """How long a network is trained at most: (seconds, epochs), one of them."""
    if epochs is not None:
        if not epochs > 0:
            raise SearchError(f"expected a network to be trained for more than 0 epochs, got {epochs:g}")
        return None, epochs
    if limits.seconds is not None:
        return limits.seconds / FULL, None
    return None, 1.0 if rows >= 20_000 else 3.0 if rows >= 5_000 else 9.0


def _drive(
    job: Job, spending: Spending, workers: int, on: str, address: str | None, watcher: Watcher, *, table: bool
) -> "dict[StudyOf, optuna.Study]":
    from depthscale.search.storage import open_storage
    from depthscale.search.work import open_study

    storage = open_storage(job.storage)
    _same(job, storage)
    if spending.seconds is not None and not table:
        assert job.limits.seconds is not None
        studies = [open_study(job, of, storage) for of in job.studies]
        left = sum(max(0.0, job.limits.seconds - charged(s)[1]) for s in studies) / workers
        job = replace(job, deadline=time.time() + 1.1 * left)
    _by_gradient(job, storage, watcher)
    watcher.phase(f"searching: {', '.join(dict.fromkeys(of.strategy for of in job.studies))}")
    shared = None if workers > 1 or on != "local" else storage
    return drive(job, workers=workers, on=on, address=address, storage=shared, told=_teller(watcher), note=watcher.note)


def _by_gradient(job: Job, storage: Any, watcher: Watcher) -> None:
    """Train the supernets of strategies by gradient, and keep what they end in: half of a study's means for each.

    Raises SearchError where there is nothing to train on, or the space has no supernet.
    """
    from depthscale.search.work import GIVEN, open_study

    for of in job.studies:
        if of.strategy not in ONE_SHOT:
            continue
        if not isinstance(job.evaluator, TrainingEvaluator) or job.space.source != "nasbench201":
            raise SearchError(
                f"expected the space nasbench201 and data to train on for {of.strategy}, which trains a supernet, got "
                f"{job.space.source!r} and {job.evaluator.signal}"
            )
        study = open_study(job, of, storage)
        if GIVEN in study.user_attrs:
            continue
        from depthscale.search.oneshot import Darts, darts

        limits, epochs = job.limits, job.evaluator.epochs or 1.0
        spend = limits.epochs or (limits.trials or 100) * epochs
        config = Darts(
            **ONE_SHOT[of.strategy],
            epochs=spend / 2,
            seconds=None if limits.seconds is None else limits.seconds / 2,
            width=int(job.space.options.get("width", 16)) // 2 or 1,
        )
        watcher.phase(f"training the supernet of {of.name}")
        found = darts(job.evaluator.source.load(), config, seed=of.seed, say=watcher.note)
        study.set_user_attr("supernet", [[m.epoch, m.weights, m.val_accuracy] for m in found.moments])
        study.set_user_attr(GIVEN, found.decisions)


def _teller(watcher: Watcher) -> Callable[[StudyOf, "optuna.trial.FrozenTrial"], None]:
    from depthscale.search.work import OUTCOME, OWN, REPEAT, outcome_in

    def told(of: StudyOf, trial: "optuna.trial.FrozenTrial") -> None:
        if OUTCOME in trial.user_attrs and OWN in trial.user_attrs and REPEAT not in trial.user_attrs:
            watcher.tried(of.name, trial.number, trial.user_attrs[OWN]["words"], outcome_in(trial), trial.state.name)

    return told


def _same(job: Job, storage: Any) -> None:
    """Raise SearchError where the storage holds a search of another space or data."""
    import optuna

    from depthscale.search.work import open_study

    wanted = {"space": job.space.make().name, "signal": job.evaluator.signal, "rungs": list(job.evaluator.rungs)}
    known = {s.study_name for s in optuna.get_all_study_summaries(storage)}
    for of in job.studies:
        fresh = of.name not in known
        study = open_study(job, of, storage)
        held = study.user_attrs.get("search")
        if held is None and fresh:
            study.set_user_attr("search", wanted)
        elif held is not None and held != wanted:
            raise SearchError(
                f"expected to go on with the search that the storage holds ({held}), got {wanted}; "
                "use another --storage or --out"
            )
