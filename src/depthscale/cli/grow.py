"""``depthscale grow NET DATA``: train a network while its structure grows, is pruned and rewires."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscale.cli import common

if TYPE_CHECKING:
    from depthscale.data import Dataset
    from depthscale.graph import Graph
    from depthscale.grow.run import GrowResult, Watcher
    from depthscale.grow.training import Point, Training


def grow(
    net: Annotated[str, typer.Argument(help=common.NET_HELP + " What the network begins with.")],
    data: Annotated[str, typer.Argument(help=common.DATA_HELP)],
    schedule: Annotated[
        str,
        typer.Option(
            help="developmental, developmental-units, grow-only, net2net, prune-only, lottery, rigl, set, fixed-large, "
            "fixed-small or random."
        ),
    ] = "developmental",
    flops: Annotated[
        str | None,
        typer.Option(help="Training FLOPs, such as 2e12 or 500G: 6 per multiply-add and row.  [default: 30 epochs]"),
    ] = None,
    max_parameters: Annotated[
        int | None, typer.Option(help="Parameters at any time.  [default: 4 times those of NET]")
    ] = None,
    final_parameters: Annotated[
        int | None, typer.Option(help="Parameters at the end.  [default: half the cap]")
    ] = None,
    grow_by: Annotated[
        str, typer.Option(help="What grows: gradmax, functional-gradient, depth-scale or random-units.")
    ] = "gradmax",
    prune_by: Annotated[
        str, typer.Option(help="What is pruned: gradient-weight, magnitude, movement, activation or random-pruning.")
    ] = "gradient-weight",
    when: Annotated[str | None, typer.Option(help="Ends stages early, the rest going to the last: saturation.")] = None,
    stop: Annotated[str | None, typer.Option(help="Ends the run with the best so far: plateau.")] = None,
    set_: common.Set = None,
    lr: Annotated[float, typer.Option(help="Largest learning rate.")] = 3e-3,
    batch: Annotated[int | None, typer.Option(help="Rows a step.  [default: by the number of rows]")] = None,
    theory: Annotated[
        bool, typer.Option(help="Record q and chi1 of the network before and after every change.")
    ] = True,
    target: common.Target = None,
    task: common.Task = None,
    out: Annotated[Path, typer.Option(help="Folder that everything is written to.")] = Path("out/grow"),
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is in the way.")] = False,
    skip_bad: common.SkipBad = False,
    seed: common.Seed = 0,
    device: common.Device = "auto",
    as_json: common.Json = False,
) -> None:
    """Train a network while its structure grows, is pruned and rewires, under a budget of training FLOPs.

    Ctrl-C ends with the best network so far; --resume goes on behind the last finished stage.
    """
    from depthscale.grow.run import grow as run

    options = common.arguments(set_)

    def begin(dataset: "Dataset") -> "Graph":
        return _network(net, dataset, options)

    with _watching(quiet=as_json) as watcher:
        result = run(
            begin,
            data,
            schedule=schedule,
            flops=flops,
            max_parameters=max_parameters,
            final_parameters=final_parameters,
            grow_by=grow_by,
            prune_by=prune_by,
            when=when,
            stop=stop,
            target=target,
            task=task,
            seed=seed,
            lr=lr,
            batch=batch,
            device=device,
            skip_bad=skip_bad,
            out=resume or out,
            resume=resume is not None,
            overwrite=overwrite,
            theory=theory,
            watcher=watcher,
            command="depthscale " + shlex.join(sys.argv[1:]),
        )
    if as_json:
        common.print_json(result.summary())
    else:
        _print(result)
    if result.status == "interrupted":
        raise typer.Exit(130)


def _network(spec: str, dataset: "Dataset", options: dict[str, Any]) -> "Graph":
    if not options:
        return common.network(spec, dataset)
    if not spec.startswith("zoo:"):
        from depthscale.errors import DepthscaleError

        raise DepthscaleError(f"expected a network of the zoo with --set, got {spec!r}; leave --set out")
    from depthscale import zoo

    name = spec.removeprefix("zoo:")
    return zoo.get(name, **(common._fitting(name, dataset) | options))


def _print(result: "GrowResult") -> None:
    screen = common.console()
    metrics = result.test or result.val
    rows = "test" if result.test else "validation"
    screen.print(
        f"{result.schedule}, {result.status}: {result.parameters:,} parameters (at the most "
        f"{max(p.parameters for p in result.points):,}), {result.flops:.3g} training FLOPs, {len(result.lineage)} "
        f"edits, {result.seconds:.0f} s"
    )
    screen.print(f"  {rows}: " + ", ".join(f"{k} {v:.5g}" for k, v in metrics.items()))
    if result.out is not None:
        print(f"report: {(result.out / 'report.html').resolve()}")


@contextmanager
def _watching(*, quiet: bool) -> "Iterator[Watcher]":
    """A live view of structure, loss and cost on a terminal; a line a stage elsewhere."""
    from rich.live import Live
    from rich.markup import escape

    from depthscale.grow.run import Watcher

    if quiet:
        yield Watcher()
        return
    screen = common.console()
    live = Live(console=screen, transient=True, refresh_per_second=8) if screen.is_terminal else None

    class Shower(Watcher):
        """Prints a line behind every stage, and shows what is going on meanwhile."""

        def phase(self, words: str) -> None:
            screen.print(f"[dim]{escape(words)}[/]")

        def note(self, words: str) -> None:
            screen.print(f"[dim]{escape(words)}[/]")

        def stage(self, number: int, of: int, name: str, training: "Training") -> None:
            self.name = f"{name} ({number + 1} of {of})"

        def step(self, training: "Training") -> None:
            if live is not None and training.engine.step % 5 == 0:
                live.update(_view(self.name, training))

        def point(self, point: "Point", seen: dict[str, Any]) -> None:
            value = point.val.get("accuracy", point.val.get("rmse"))
            widths = "-".join(str(len(c["ids"])) for c in seen["columns"][1:])
            shown = "" if value is None else f"{value:.4f}  "
            screen.print(
                f"[dim]{100 * point.used:4.0f} %[/]  {shown}{escape(point.stage):16s} {point.parameters:>9,} parameters"
                f"  loss {point.loss:.4f}  [dim]{widths}[/]"
            )

    if live is None:
        yield Shower()
    else:
        with live:
            yield Shower()


def _view(name: str, training: "Training") -> Any:
    """Structure (a bar a layer: units, and the share of its connections that is there), loss and cost."""
    from rich.table import Table

    graph, masks = training.graph, training.live.masks
    table = Table(title=f"{name}: {100 * training.used:.0f} % of {training.budget:.3g} FLOPs", title_justify="left")
    table.add_column("layer")
    table.add_column("units")
    table.add_column("connections", justify="right")
    named = dict(training.live.module.named_parameters())
    layers = [n.name for n in graph.nodes if f"{n.name}.weight" in named and named[f"{n.name}.weight"].dim() > 1]
    widest = max(len(named[f"{n}.weight"]) for n in layers)
    for n in layers[:14]:
        weight = named[f"{n}.weight"]
        mask = masks.get(f"{n}.weight")
        there = weight.numel() if mask is None else int(mask.sum())
        bar = "█" * max(1, round(28 * len(weight) / widest))
        table.add_row(n, f"{bar} {len(weight)}", f"{there:,}")
    table.add_row("", f"loss {training.loss:.4f}", f"{training.live.parameters:,} in all")
    return table
