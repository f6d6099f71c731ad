"""The winner's last training: how long is decided on the validation split, then all rows but the test split's are used.

A race ends early and keeps the best epoch; a last training is longer, and has nothing to stop it on once it uses every
row. So it is rehearsed on the training split alone: if a full learning-rate cycle ends no worse than the race's best
(within a standard error), the winner is refitted over as many epochs; else it repeats the race, up to its best epoch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale.design import race
from depthscale.design.budget import Clock, Plan
from depthscale.design.screen import screen
from depthscale.design.search import RUNGS, Trial
from depthscale.design.space import Facts, propose
from depthscale.design.state import State
from depthscale.errors import TrainingError
from depthscale.search.watch import Watcher

if TYPE_CHECKING:
    from torch import nn

    from depthscale.data import Dataset
    from depthscale.graph import Graph
    from depthscale.theory.propagate import Propagation
    from depthscale.train import TrainConfig, Trainer


@dataclass(frozen=True, eq=False)
class Job:
    """What every step of a design needs to know."""

    dataset: "Dataset"
    rows: Any  # all rows but the test split's
    seed: int
    device: str
    shares: Plan
    state: State
    clock: Clock
    watcher: Watcher


@dataclass(frozen=True, eq=False)
class Trained:
    """The winner, trained."""

    graph: "Graph"
    module: "nn.Module"
    theory: "Propagation"


def all_rows(dataset: "Dataset") -> Any:
    """Training and validation rows together, for the last training, which selects nothing."""
    x = np.concatenate([dataset.train.x, dataset.val.x])
    y = np.concatenate([dataset.train.y, dataset.val.y])
    none = SimpleNamespace(x=x[:0], y=y[:0])
    return SimpleNamespace(
        train=SimpleNamespace(x=x, y=y), val=none, task=dataset.task, input_shape=dataset.input_shape
    )


def retrain(job: Job, winner: Trial) -> Trained:
    """The winner trained afresh; again, more gently, should it diverge."""
    import optuna

    screened = screen(propose(optuna.trial.FixedTrial(dict(winner.decisions)), Facts.of(job.dataset)))
    assert screened.theory is not None
    training = dict(screened.candidate.training)
    for gentler in (1.0, 0.3, 0.1):
        training["learning_rate"] = gentler * screened.candidate.training["learning_rate"]
        name = f"{gentler:g}"
        job.watcher.phase(f"rehearsing the last training: {winner.words}", job.shares.final / 2)
        settings = _rehearse(job, screened.graph, training, winner, name)
        if settings is not None:
            job.watcher.phase("retraining the winner on all rows but the test split's", job.shares.final / 2)
            trainer = _train(job, screened.graph, job.rows, settings, f"final-{name}")
            if trainer.status != "diverged":
                return Trained(screened.graph, trainer.model, screened.theory)
        job.watcher.note("training diverged; trying a smaller learning rate")
    raise TrainingError(f"the winner ({winner.words}) diverged at every learning rate tried; try another --seed")


def _rehearse(job: Job, graph: "Graph", training: Mapping[str, Any], winner: Trial, name: str) -> "TrainConfig | None":
    """How the last training should go; None where it diverges."""
    from depthscale.train import Budget

    d = job.dataset
    settings = race.annealed(training, d, job.seed, job.device, budget=_budget(job))
    trainer = _train(job, graph, d, settings, f"rehearsal-{name}")
    if trainer.status == "diverged" or trainer.last is None:
        return None
    result = trainer.result()
    long, short = race.score_of(trainer.last.val, d.task), winner.score
    if long >= short - _standard_error(short, len(d.val.y), d.task):
        job.watcher.note(f"a full cycle of {result.epochs:.3g} epochs holds up on validation: repeated on all rows")
        return settings.with_(budget=Budget(epochs=result.epochs))
    epochs = race.best_epoch(winner.curve, d.task)
    job.watcher.note(f"longer training is worse on validation: stopping at {epochs:.3g} epochs, as in the race")
    return race.steady(training, d, job.seed, job.device, budget=Budget(epochs=epochs), keep_best=False)


def _budget(job: Job) -> Any:
    """What the rehearsal may use: half of what is left, for the last training costs as much."""
    from depthscale.train import Budget

    total = job.shares.total
    if total is None:
        return Budget(epochs=2 * race.epochs_of(RUNGS[-1], len(job.dataset.train.x)))
    left = total - job.clock() - 3 * job.shares.baseline - min(4.0, 0.06 * total)
    share = len(job.dataset.train.x) / (len(job.dataset.train.x) + len(job.rows.train.x))
    return Budget(seconds=max(left, 0.5 * job.shares.final) * share)


def _standard_error(score: float, n: int, task: str) -> float:
    """Of a validation score: binomial for accuracy; for a root mean square error as of Gaussian errors."""
    if task == "classification":
        p = min(max(score, 1 / (n + 2)), 1 - 1 / (n + 2))
        return math.sqrt(p * (1 - p) / n)
    return abs(score) / math.sqrt(2 * n)


def _train(job: Job, graph: "Graph", data: Any, settings: "TrainConfig", name: str) -> "Trainer":
    """A trainer that has run, resumed from its checkpoint where an interrupted design left one."""
    from depthscale.build import build
    from depthscale.train import Trainer

    out = None if job.state.folder is None else job.state.folder / "checkpoint" / name
    trainer = Trainer(build(graph, job.seed), data, settings, out=out, progress=False)
    if job.state.resumed:
        trainer.resume()
    with race.threads(graph, settings.batch):
        trainer.run()
    trainer.close()
    if trainer.status == "interrupted":
        raise KeyboardInterrupt
    return trainer
