"""The end of a search: every strategy's winner trained the same way, and tested once."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthscale.errors import TrainingError
from depthscale.search.evaluate import Source, TrainingEvaluator, annealed, settings
from depthscale.search.job import Job
from depthscale.search.plan import END, FINISHING, LEAST, Spending
from depthscale.search.result import Final, Run
from depthscale.search.space import Script, Space
from depthscale.search.watch import Watcher

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from depthscale.data import Dataset
    from depthscale.graph import Graph

LONGER = 2.0  # times a candidate's training, where trials are counted
VALIDATE_EVERY = 4  # epochs: nothing is selected here, and validation costs time


@dataclass(frozen=True)
class Wanted:
    """A network to be trained to the end: the decisions that concern its training, its seed, where it is kept."""

    graph: "Graph"
    decisions: Mapping[str, Any]
    seed: int
    out: Path | None


def finals(
    job: Job,
    runs: Sequence[Run],
    spending: Spending,
    source: Source | None,
    folder: Path | None,
    seed: int,
    beside: "Mapping[str, Graph]",
    watcher: Watcher,
    elapsed: float = 0.0,
    workers: int = 1,
) -> tuple[str, tuple[Final, ...]]:
    """What the final values are, and one final a run (and one for every network given beside).

    elapsed: seconds of a time budget that are gone; a search that overran shortens this training.
    """
    if source is None:
        shown = getattr(job.evaluator, "report", "test200")
        return f"{'test' if shown.startswith('test') else 'validation'} accuracy, %", tuple(_looked_up(r) for r in runs)
    dataset = source.load()
    wanted = _wanted(job.space.make(), runs, beside, seed, folder)
    assert isinstance(job.evaluator, TrainingEvaluator)
    rounds = math.ceil(len(wanted) / workers)
    budget = _budget(job.evaluator, spending, rounds, job.limits.seconds, elapsed)
    each = "" if budget.seconds is None else f", {budget.seconds:.0f} s each"
    watcher.phase(f"training {len(wanted)} winners to the end{each}")
    trained = _trained(wanted, source, budget, job.evaluator.device, workers, watcher)
    watcher.phase("testing, once")
    test = dataset.test()

    def tested(name: str, strategy: str, run_seed: int, words: str) -> Final:
        from depthscale.train import evaluate

        (module, used), graph = trained[name], wanted[name].graph
        metrics = evaluate(module, test, dataset.task).summary()
        value = metrics["accuracy"] if dataset.task == "classification" else -metrics["rmse"]
        return Final(strategy, run_seed, words, graph.cost().parameters, metrics, value, used, graph, module)

    found = [tested(_name(r), r.strategy, r.seed, r.best.words) for r in runs]
    found += [tested(f"{name}@{seed}", "", seed, name) for name in beside]
    return "test accuracy" if dataset.task == "classification" else "test −rmse", tuple(found)


def _name(run: Run) -> str:
    """One network with one seed is trained once, whoever found it."""
    return f"{run.best.key}@{run.seed}"


def _wanted(
    space: Space, runs: Sequence[Run], beside: "Mapping[str, Graph]", seed: int, folder: Path | None
) -> dict[str, Wanted]:
    found: dict[str, Wanted] = {}

    def add(name: str, graph: "Graph", decisions: Mapping[str, Any], own: int) -> None:
        out = None if folder is None else folder / "checkpoint" / f"final{len(found)}"
        found.setdefault(name, Wanted(graph, decisions, own, out))

    for run in runs:
        add(_name(run), _graph(space, run.best.decisions), run.best.decisions, run.seed)
    for name, graph in beside.items():
        add(f"{name}@{seed}", graph, {}, seed)
    return found


def _looked_up(run: Run) -> Final:
    best = run.best
    value = best.outcome.report if best.outcome.report is not None else float("nan")
    return Final(run.strategy, run.seed, best.words, best.parameters, {"test": value}, value, sum(run.seconds[-1:]))


def _graph(space: Space, decisions: Mapping[str, Any]) -> "Graph":
    return space.graph(space.draw(Script(dict(decisions))).architecture)


def _budget(evaluator: TrainingEvaluator, spending: Spending, rounds: int, limit: float | None, elapsed: float) -> Any:
    """What every winner is trained with; ``rounds`` of them are trained one after the other."""
    from depthscale.train import Budget

    if spending.seconds is not None:
        left = END * spending.seconds - elapsed
        return Budget(seconds=min(FINISHING, max(LEAST, left / spending.seconds)) * spending.seconds / rounds)
    if evaluator.epochs is not None:
        return Budget(epochs=LONGER * evaluator.epochs)
    return Budget(seconds=LONGER * float(limit or 60.0))


def _trained(
    wanted: Mapping[str, Wanted], source: Source, budget: Any, device: str, workers: int, watcher: Watcher
) -> "dict[str, tuple[nn.Module, float]]":
    """Every network trained, and the seconds that took; several at once where there are workers."""
    found: dict[str, tuple[nn.Module, float]] = {}

    def done(name: str, module: "nn.Module", seconds: float) -> None:
        found[name] = module, seconds
        size = wanted[name].graph.cost().parameters
        watcher.note(f"winner {len(found)} of {len(wanted)}: {size:,} parameters, {seconds:.1f} s")

    if workers == 1 or len(wanted) == 1:
        for name, one in wanted.items():
            done(name, *_train(one, source.load(), budget, device))
    else:
        _side_by_side(wanted, source, budget, device, min(workers, len(wanted)), done)
    return found


def _side_by_side(
    wanted: Mapping[str, Wanted],
    source: Source,
    budget: Any,
    device: str,
    workers: int,
    done: "Callable[[str, nn.Module, float], None]",
) -> None:
    """The same in processes, which send the weights back."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    import torch

    from depthscale.build import build

    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        waiting = {pool.submit(_train_apart, one, source, budget, device): name for name, one in wanted.items()}
        for future in as_completed(waiting):
            weights, seconds = future.result()
            one = wanted[waiting[future]]
            module = build(one.graph, one.seed).eval()
            module.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
            done(waiting[future], module, seconds)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _train_apart(one: Wanted, source: Source, budget: Any, device: str) -> "tuple[dict[str, np.ndarray], float]":
    """Train in a process of its own, on one thread."""
    import torch

    torch.set_num_threads(1)
    module, seconds = _train(one, source.load(), budget, device)
    return {k: v.detach().cpu().numpy() for k, v in module.state_dict().items()}, seconds


def _train(one: Wanted, dataset: "Dataset", budget: Any, device: str) -> "tuple[nn.Module, float]":
    """The trained network and the seconds it took; again, more gently, should it diverge."""
    from depthscale.build import build
    from depthscale.train import Trainer
    from depthscale.train.threads import threads

    for gentler in (1.0, 0.3, 0.1):
        base = settings(one.decisions, dataset, one.seed, device)
        config = annealed(base, budget=budget, lr=gentler * base.lr, validate_every=VALIDATE_EVERY)
        own = None if one.out is None else one.out / f"{gentler:g}"
        trainer = Trainer(build(one.graph, one.seed), dataset, config, out=own, progress=False)
        if own is not None:
            trainer.resume()
        with threads(one.graph, config.batch):
            trainer.run()
        trainer.close()
        if trainer.status == "interrupted":
            raise KeyboardInterrupt
        if trainer.status != "diverged":
            return trainer.model, trainer.seconds
    raise TrainingError("the winner diverged at every learning rate tried; try another --seed")
