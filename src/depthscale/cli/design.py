"""``depthscale design DATA``: the main job."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscale.cli import common

if TYPE_CHECKING:
    from depthscale.design import DesignResult


def design(
    data: Annotated[str, typer.Argument(help=common.DATA_HELP)],
    budget: Annotated[
        str | None, typer.Option(help="Wall time for everything, such as 60s, 8m or 1.5h.  [default: 60s]")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Candidates to train, instead of or beside --budget; reproducible.")
    ] = None,
    strategy: Annotated[str, typer.Option(help="Search strategy: tpe, evolution, random, predictor, mcts …")] = "tpe",
    target: common.Target = None,
    task: common.Task = None,
    out: Annotated[Path, typer.Option(help="Folder that everything is written to.")] = Path("out/design"),
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is in the way.")] = False,
    skip_bad: common.SkipBad = False,
    seed: common.Seed = 0,
    device: common.Device = "auto",
    as_json: common.Json = False,
) -> None:
    """Find, train and explain a good small network for a data set."""
    from depthscale.cli.watching import DesignShower, watching
    from depthscale.design.run import design as run

    with watching(DesignShower, quiet=as_json) as watcher:
        result = run(
            data,
            budget=budget,
            trials=trials,
            target=target,
            task=task,
            seed=seed,
            out=resume or out,
            resume=resume is not None,
            overwrite=overwrite,
            device=device,
            skip_bad=skip_bad,
            strategy=strategy,
            watcher=watcher,
            command=common.command_line(),
        )
    if as_json:
        common.print_json(summary(result))
    else:
        _print(result)


def summary(result: "DesignResult") -> dict[str, Any]:
    """The result as plain data."""
    cost = result.graph.cost()
    return {
        "data": result.dataset.name,
        "task": result.dataset.task,
        "network": result.winner.words,
        "key": result.graph.key,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "test": {"n": result.score.n, **result.metrics},
        "validation": dict(result.winner.metrics),
        "baselines": [{"name": s.name, **s.score.metrics, "seconds": s.seconds} for s in result.standings],
        "trials": {
            "proposed": len(result.trials),
            "trained": sum(t.trained for t in result.trials),
            "dropped_by_theory": len(result.dropped),
        },
        "theory": {"trains": result.theory.trains, "reason": result.theory.reason},
        "seconds": result.seconds,
        "seed": result.seed,
        "out": None if result.out is None else str(result.out),
    }


def _print(result: "DesignResult") -> None:
    from rich.table import Table

    console = common.console()
    metric = "accuracy" if result.dataset.task == "classification" else "rmse"
    table = Table(title=f"Test {metric}, {result.score.n} rows, seed {result.seed}", title_justify="left")
    table.add_column("")
    table.add_column(metric, justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("", style="dim")
    cost = result.graph.cost()
    words = f"{result.winner.words}; {cost.parameters:,} parameters"
    table.add_row("[bold]this network[/]", f"[bold]{result.metrics[metric]:.4f}[/]", f"{result.seconds:.0f}", words)
    for standing in result.standings:
        table.add_row(standing.name, f"{standing.score.metrics[metric]:.4f}", f"{standing.seconds:.1f}", standing.note)
    console.print(table)
    trained = sum(t.trained for t in result.trials)
    console.print(
        f"{len(result.trials)} candidates proposed, {len(result.dropped)} dropped by theory before training, "
        f"{trained} trained. Theory of the winner: {result.theory.reason}."
    )
    if result.out is not None:
        print(f"report: {(result.out / 'report.html').resolve()}")
