"""``depthscale sweep ACTIVATION``: train the grid of depth × σ_w² at once and lay accuracy over theory."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscale.cli import common
from depthscale.cli.build import write

if TYPE_CHECKING:
    from depthscale.train.sweep import HeatMap, SweepResult

_RANGE = "numbers with commas between, or low:high:how many"


def sweep(
    activation: Annotated[str, typer.Argument(help="A name such as tanh or relu; several with commas between.")],
    data: Annotated[str, typer.Option(help=common.DATA_HELP)] = "digits",
    depths: Annotated[str, typer.Option(help=f"Hidden layers: {_RANGE}, evenly in the logarithm.")] = "5:200:10",
    widths: Annotated[str, typer.Option(help=f"Units of a layer: {_RANGE}.")] = "64",
    sw2: Annotated[str, typer.Option(help=f"Weight variance × fan-in: {_RANGE}.")] = "1:4:20",
    sb2: Annotated[str, typer.Option(help=f"Bias variance: {_RANGE}.")] = "0.05",
    lr: Annotated[str, typer.Option(help=f"Learning rates: {_RANGE}.")] = "0.01",
    residual: Annotated[
        str, typer.Option(help="Scales of residual branches with commas between; plain: no shortcuts.")
    ] = "plain",
    seeds: Annotated[int, typer.Option(help="Networks per cell, averaged over.", min=1)] = 1,
    steps: Annotated[int | None, typer.Option(help="Training steps of every network.  [default: 500]", min=1)] = None,
    budget: Annotated[str | None, typer.Option(help="Time for it all, such as 5m: sets the steps.")] = None,
    batch: Annotated[int, typer.Option(help="Rows a step.", min=1)] = 32,
    momentum: Annotated[float, typer.Option(help="Of SGD.")] = 0.0,
    weight_decay: Annotated[float, typer.Option(help="Decay of matrices.")] = 0.0,
    optimiser: Annotated[str, typer.Option(help="sgd or adamw.")] = "sgd",
    metric: Annotated[str, typer.Option(help="What the map shows: train or val.")] = "train",
    memory: Annotated[str | None, typer.Option(help="For all workers together, such as 4GB.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes.  [default: one a core, or a GPU]")] = None,
    on: Annotated[str, typer.Option(help="local, or ray for a Ray cluster.")] = "local",
    limit: Annotated[int | None, typer.Option(help="Use at most so many rows of the data.", min=1)] = None,
    target: common.Target = None,
    task: common.Task = None,
    out: Annotated[Path, typer.Option(help="Folder for run.jsonl, sweep.csv, sweep.json and the pictures.")] = Path(
        "out/sweep"
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the sweep in --out.")] = False,
    seed: common.Seed = 0,
    device: common.Device = "auto",
    as_json: common.Json = False,
) -> None:
    """Train a grid of networks over depth and weight variance, and lay their accuracy over mean-field theory."""
    from dataclasses import replace

    from depthscale.design.budget import seconds
    from depthscale.errors import DepthscaleError
    from depthscale.train import Budget
    from depthscale.train.sweep import CONFIG, Grid, run_sweep

    axes: dict[str, Any] = {
        "activation": activation, "depth": depths, "width": widths, "sw2": sw2, "sb2": sb2, "lr": lr,
        "residual": residual, "seed": tuple(range(seed, seed + seeds)),
    }  # fmt: skip
    grid = Grid.of(axes)
    if steps is not None and budget is not None:
        raise DepthscaleError("expected --steps or --budget, which sets the steps, got both")
    if metric not in ("train", "val"):
        raise DepthscaleError(f"expected --metric train or val, got {metric!r}")
    chosen: dict[str, Any] = {
        "batch": batch,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "optimiser": optimiser,
    }
    config = replace(CONFIG, **chosen, device=device, seed=seed)
    if steps is not None:
        config = replace(config, budget=Budget(steps=steps))
    given = {"target": target, "task": task, "limit": limit, "seed": seed}
    with _watching(quiet=as_json) as watch:
        result = run_sweep(
            grid,
            data,
            config=config,
            load={k: v for k, v in given.items() if v is not None},
            out=out,
            resume=resume,
            budget=None if budget is None else seconds(budget),
            workers=workers,
            on=on,
            memory=memory,
            watch=watch,
        )
    _report(result, f"{metric}_{'accuracy' if result.classes else 'r2'}", out, as_json)


def _report(result: "SweepResult", score: str, out: Path, as_json: bool) -> None:
    """Write the maps of a score, and say what they show."""
    maps = list(result.maps(score))
    _write(out, result, maps)
    diverged = sum(row["status"] == "diverged" for row in result.rows)
    if as_json:
        common.print_json({
            "data": result.data, "networks": len(result.rows), "steps": result.steps, "seconds": result.seconds,
            "diverged": diverged, "maps": [m.to_dict() for m in maps], "out": str(out),
        })  # fmt: skip
        return
    print(
        f"{len(result.rows):,} networks on {result.data}, {result.steps:,} steps each, {result.seconds:.0f} s; "
        f"{diverged} diverged"
    )
    for m in maps:
        print(f"{m.title}: {m.agreement}")
    print(f"written: {out}/run.jsonl, sweep.csv, sweep.json, {', '.join(f'{n}.png/.svg' for n in _names(maps))}")


def _names(maps: "list[HeatMap]") -> list[str]:
    return ["sweep"] if len(maps) == 1 else [f"sweep_{k + 1}" for k in range(len(maps))]


def _write(out: Path, result: "SweepResult", maps: "list[HeatMap]") -> None:
    from depthscale.record import dumps
    from depthscale.report.sweep_plot import draw_sweep
    from depthscale.train.sweep.picture import picture

    write(out / "sweep.csv", result.to_csv())
    about = {"data": result.data, "steps": result.steps, "grid": result.grid.to_dict()}
    write(out / "sweep.json", dumps({**about, "maps": [m.to_dict() for m in maps]}) + "\n")
    for name, m in zip(_names(maps), maps, strict=True):
        draw_sweep(picture(m, result.data_length), [out / f"{name}.png", out / f"{name}.svg"])


def _watching(*, quiet: bool) -> Any:
    """A context that gives what shows a sweep's progress on standard error."""
    from contextlib import contextmanager

    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    @contextmanager
    def shown() -> Any:
        if quiet:
            yield None
            return
        screen = common.console()
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
            task = bar.add_task("sweep", total=1.0)
            last = -1

            def watch(p: Any) -> None:
                nonlocal last
                bar.update(task, completed=p.share, description=f"group {p.groups} of {p.of}")
                if p.words:
                    screen.print(f"[dim]{p.words}[/]")
                elif not screen.is_terminal and p.groups != last:
                    screen.print(f"[dim]{p.seconds:6.1f} s[/]  {p.groups} of {p.of} groups, {100 * p.share:.0f} %")
                last = p.groups

            yield watch

    return shown()
