"""The main job, in order: look at the data, search, retrain the winner, stand it beside the baselines, write it out."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale.design import baselines, race, write
from depthscale.design.budget import Clock, Plan, plan as make_plan
from depthscale.design.retrain import Job, all_rows, retrain
from depthscale.design.search import MOST_DROPPED_IN_A_ROW, RUNGS, Search, Trial
from depthscale.design.space import Facts
from depthscale.design.state import FILE, Score, Standing, State
from depthscale.errors import DepthscaleError
from depthscale.search.watch import Watcher

if TYPE_CHECKING:
    from torch import nn

    from depthscale.data import Dataset, Split
    from depthscale.graph import Graph
    from depthscale.theory.propagate import Propagation


@dataclass(frozen=True, eq=False)
class DesignResult:
    """The network that was found, what it scores, and what it was compared with.

    ``score`` is on the test split, which is opened once; ``standings`` are the baselines on the same rows. ``theory``
    is mean-field propagation over ``graph`` at its initialisation.
    """

    graph: "Graph"
    module: "nn.Module"
    winner: Trial
    score: Score
    standings: tuple[Standing, ...]
    trials: tuple[Trial, ...]
    theory: "Propagation"
    dataset: "Dataset"
    seed: int
    seconds: float
    command: str = ""
    out: Path | None = None
    predictions: Any = field(default=None, repr=False)  # class indices, or values in the target's units
    truth: Any = field(default=None, repr=False)

    @property
    def metrics(self) -> dict[str, float]:
        """The test metrics by name."""
        return dict(self.score.metrics)

    @property
    def dropped(self) -> tuple[Trial, ...]:
        """The candidates that theory dropped before any training."""
        return tuple(t for t in self.trials if t.why.startswith("theory"))


def design(
    data: Any,
    *,
    budget: str | float | None = None,
    trials: int | None = None,
    target: str | None = None,
    task: str | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    skip_bad: bool = False,
    strategy: str = "tpe",
    watcher: Watcher | None = None,
    command: str = "",
) -> DesignResult:
    """A trained network for a data set, chosen by a search under a budget, with its baselines and its report.

    ``data`` is anything that ``depthscale.load_data`` reads, or a Dataset. ``budget`` is wall time ("60s", "8m");
    ``trials`` counts candidates that are trained, and makes the result reproducible: the same seed, data and machine
    give the same network. ``strategy`` is one of ``depthscale.search``. With ``out`` everything is written there, and
    ``resume`` goes on with what an interrupted run left. Raises DepthscaleError for data, budget or folder that cannot
    be used.
    """
    shares = make_plan(budget, trials)
    if resume and (out is None or not (Path(out) / FILE).exists()):
        raise DepthscaleError(
            f"expected a folder with a run to resume, but {out} holds no {FILE}; start one without --resume"
        )
    folder = None if out is None else write.prepare(Path(out))
    watcher = watcher or Watcher()
    watcher.phase("reading the data")
    dataset = _load(data, target, task, seed, skip_bad, watcher)
    for words in dataset.notes:
        watcher.note(words)
    state = State.open(folder, dataset, seed, shares, resume=resume, overwrite=overwrite)
    with state:
        clock = Clock(state.used)
        search = _search(dataset, seed, device, shares, state, clock, watcher, strategy)
        return _finish(dataset, seed, device, shares, state, clock, watcher, search, command)


def _load(data: Any, target: str | None, task: str | None, seed: int, skip_bad: bool, watcher: Watcher) -> "Dataset":
    from depthscale.data import Dataset, load

    if isinstance(data, Dataset):
        return data
    return load(data, target=target, task=task, seed=seed, skip_bad=skip_bad, progress=watcher.loading)


def _search(
    dataset: "Dataset",
    seed: int,
    device: str,
    shares: Plan,
    state: State,
    clock: Clock,
    watcher: Watcher,
    strategy: str,
) -> Search:
    unit = None if shares.total is None else shares.search / 4 / RUNGS[-1]
    facts = Facts.of(dataset)
    # a full trial should see at least half of the rows: forward, and backward at twice its cost
    most = np.inf if unit is None else RUNGS[-1] * unit * race.SPEED / (1.5 * facts.rows)
    search = Search(facts, seed, race.starter(dataset, seed, device, unit), state.trials, most, strategy)
    if state.searched:
        return search
    watcher.phase("searching", None if shares.total is None else shares.search)

    def over() -> bool:
        return clock() > shares.search

    idle = 0
    while not over() and (shares.trials is None or search.trained < shares.trials):
        trial = search.step(over)
        state.trial(trial, clock())
        watcher.trial(trial)
        idle = 0 if trial.trained else idle + 1
        if idle >= MOST_DROPPED_IN_A_ROW:
            break
    state.search_done(clock())
    return search


def _finish(
    dataset: "Dataset",
    seed: int,
    device: str,
    shares: Plan,
    state: State,
    clock: Clock,
    watcher: Watcher,
    search: Search,
    command: str,
) -> DesignResult:
    from depthscale.train import predict

    winner = search.best
    rows = all_rows(dataset)
    trained = retrain(Job(dataset, rows, seed, device, shares, state, clock, watcher), winner)
    fitted = _baselines(dataset, rows, seed, shares, watcher)
    watcher.phase("testing, once")
    test = dataset.test()
    outputs = predict(trained.module, test.x)
    standings = tuple(
        Standing(b.name, score(dataset, _as_outputs(dataset, b.predict(test.x)), test), b.seconds, b.note)
        for b in fitted
    )
    result = DesignResult(
        graph=trained.graph,
        module=trained.module,
        winner=winner,
        score=score(dataset, outputs if dataset.task == "regression" else outputs.argmax(1), test),
        standings=standings,
        trials=tuple(search.trials),
        theory=trained.theory,
        dataset=dataset,
        seed=seed,
        seconds=clock(),
        command=command,
        out=state.folder,
        predictions=in_units(dataset, outputs) if dataset.task == "regression" else outputs.argmax(1),
        truth=in_units(dataset, test.y) if dataset.task == "regression" else test.y,
    )
    if state.folder is not None:
        watcher.phase("writing the report")
        write.everything(state.folder, result)
    state.result(result.score, standings, clock())
    return result


def _baselines(dataset: "Dataset", rows: Any, seed: int, shares: Plan, watcher: Watcher) -> list[baselines.Baseline]:
    found = []
    watcher.phase("fitting baselines", None if shares.total is None else 3 * shares.baseline)
    for baseline in baselines.fit_baselines(rows.train.x, rows.train.y, dataset.task, seed=seed, limit=shares.baseline):
        found.append(baseline)
        watcher.note(f"{baseline.name}: {baseline.note}, {baseline.seconds:.1f} s")
    return found


def _as_outputs(dataset: "Dataset", predicted: Any) -> Any:
    """A baseline's predictions in the form that ``score`` takes."""
    return predicted if dataset.task == "classification" else predicted.reshape(len(predicted), -1)


def in_units(dataset: "Dataset", values: Any) -> Any:
    """Standardised targets back in the units of the data."""
    return dataset.preprocessing.decode(np.asarray(values))


def score(dataset: "Dataset", predicted: Any, test: "Split") -> Score:
    """Test metrics of predicted class indices (N,) or standardised values (N, T)."""
    if dataset.task == "classification":
        right = int(np.sum(np.asarray(predicted) == test.y))
        return Score(len(test.y), {"accuracy": right / len(test.y)})
    truth, guess = in_units(dataset, test.y), in_units(dataset, predicted)
    error = guess - truth
    spread = float(np.mean((truth - truth.mean(0)) ** 2))
    if spread == 0:
        raise DepthscaleError("expected test targets that differ, got a constant; use more rows")
    mse = float(np.mean(error**2))
    return Score(len(truth), {"rmse": mse**0.5, "mae": float(np.mean(np.abs(error))), "r2": 1 - mse / spread})
