"""The end of a search: every strategy's winner trained the same way, and tested once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthscale.errors import TrainingError
from depthscale.search.evaluate import Source, TrainingEvaluator, annealed, settings
from depthscale.search.job import Job
from depthscale.search.result import Final, Run
from depthscale.search.space import Script, Space
from depthscale.search.watch import Watcher

if TYPE_CHECKING:
    from torch import nn

    from depthscale.data import Dataset
    from depthscale.graph import Graph

LONGER = 2.0  # times a candidate's training, where trials are counted
SHARE, LEAST = 0.35, 0.1  # of a time budget: what training the winners may take, and what it is given at least
END = 0.95  # of a time budget: by then it is over, for testing and writing take time too


def finals(
    job: Job,
    runs: Sequence[Run],
    spending: Any,
    source: Source | None,
    folder: Path | None,
    seed: int,
    beside: "Mapping[str, Graph]",
    watcher: Watcher,
    elapsed: float = 0.0,
) -> tuple[str, tuple[Final, ...]]:
    """What the final values are, and one final a run (and one for every network given beside).

    elapsed: seconds of a time budget that are gone; a search that overran shortens this training.
    """
    if source is None:
        return "test accuracy, %", tuple(_looked_up(r) for r in runs)
    space, dataset = job.space.make(), source.load()
    wanted: dict[str, tuple[Graph, Mapping[str, Any], int]] = {}
    for run in runs:
        best = run.best
        wanted.setdefault(f"{best.key}@{run.seed}", (_graph(space, best.decisions), best.decisions, run.seed))
    for name, graph in beside.items():
        wanted[f"{name}@{seed}"] = (graph, {}, seed)
    assert isinstance(job.evaluator, TrainingEvaluator)
    budget = _budget(job.evaluator, spending, len(wanted), job.limits.seconds, elapsed)
    watcher.phase(f"training {len(wanted)} winners to the end")
    trained: dict[str, tuple[nn.Module, float]] = {}
    for i, (name, (graph, decisions, own)) in enumerate(wanted.items()):
        out = None if folder is None else folder / "checkpoint" / f"final{i}"
        trained[name] = _train(graph, decisions, dataset, own, budget, out, job.evaluator.device)
        watcher.note(
            f"winner {i + 1} of {len(wanted)}: {graph.cost().parameters:,} parameters, {trained[name][1]:.1f} s"
        )
    watcher.phase("testing, once")
    test = dataset.test()

    def tested(name: str, strategy: str, run_seed: int, words: str) -> Final:
        from depthscale.train import evaluate

        (module, used), graph = trained[name], wanted[name][0]
        metrics = evaluate(module, test, dataset.task).summary()
        value = metrics["accuracy"] if dataset.task == "classification" else -metrics["rmse"]
        return Final(strategy, run_seed, words, graph.cost().parameters, metrics, value, used, graph, module)

    found = [tested(f"{r.best.key}@{r.seed}", r.strategy, r.seed, r.best.words) for r in runs]
    found += [tested(f"{name}@{seed}", "", seed, name) for name in beside]
    return "test accuracy" if dataset.task == "classification" else "test −rmse", tuple(found)


def _looked_up(run: Run) -> Final:
    best = run.best
    value = best.outcome.report if best.outcome.report is not None else float("nan")
    return Final(run.strategy, run.seed, best.words, best.parameters, {"test": value}, value, sum(run.seconds[-1:]))


def _graph(space: Space, decisions: Mapping[str, Any]) -> "Graph":
    return space.graph(space.draw(Script(dict(decisions))).architecture)


def _budget(evaluator: TrainingEvaluator, spending: Any, networks: int, limit: float | None, elapsed: float) -> Any:
    from depthscale.train import Budget

    if spending.seconds is not None:
        left = END * spending.seconds - elapsed
        return Budget(seconds=min(SHARE, max(LEAST, left / spending.seconds)) * spending.seconds / networks)
    if evaluator.epochs is not None:
        return Budget(epochs=LONGER * evaluator.epochs)
    return Budget(seconds=LONGER * float(limit or 60.0))


def _train(
    graph: "Graph",
    decisions: Mapping[str, Any],
    dataset: "Dataset",
    seed: int,
    budget: Any,
    out: Path | None,
    device: str,
) -> "tuple[nn.Module, float]":
    """The trained network and the seconds it took; again, more gently, should it diverge."""
    from depthscale.build import build
    from depthscale.train import Trainer
    from depthscale.train.threads import threads

    for gentler in (1.0, 0.3, 0.1):
        base = settings(decisions, dataset, seed, device)
        config = annealed(base, budget=budget, lr=gentler * base.lr)
        own = None if out is None else out / f"{gentler:g}"
        trainer = Trainer(build(graph, seed), dataset, config, out=own, progress=False)
        if own is not None:
            trainer.resume()
        with threads(graph, config.batch):
            trainer.run()
        trainer.close()
        if trainer.status == "interrupted":
            raise KeyboardInterrupt
        if trainer.status != "diverged":
            return trainer.model, trainer.seconds
    raise TrainingError("the winner diverged at every learning rate tried; try another --seed")
