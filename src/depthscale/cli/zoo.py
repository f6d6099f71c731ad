"""``depthscale zoo [NAME]``: the named networks, and one of them in full."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscale.cli import common
from depthscale.errors import DepthscaleError

if TYPE_CHECKING:
    from depthscale.graph import Graph

COLUMNS = ("name", "parameters", "multiply_adds", "depth", "memory", "year", "paper")


def zoo(
    name: Annotated[str | None, typer.Argument(help="A network; without one, all are listed.")] = None,
    sort: Annotated[str, typer.Option(help="Column to sort by: " + ", ".join(COLUMNS) + ".")] = "year",
    reverse: Annotated[bool, typer.Option("--reverse", help="Largest, newest or last first.")] = False,
    given: common.Set = None,
    draw: Annotated[Path | None, typer.Option(help="Write the network's picture (SVG) to this file.")] = None,
    as_json: common.Json = False,
) -> None:
    """List the named networks, or show one: its outline, its cost and what theory says of it."""
    if name is None:
        if draw is not None or given:
            raise DepthscaleError("expected the name of a network with --draw and --set; without a name all are listed")
        _list(sort, reverse, as_json)
    else:
        _show(name.removeprefix("zoo:"), common.arguments(given), draw, as_json)


def _row(name: str, graph: "Graph") -> dict[str, Any]:
    from depthscale import zoo as networks

    entry = networks.entry(name.partition(":")[0])
    cost = graph.cost()
    return {
        "name": name,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "depth": cost.depth,
        "memory": cost.parameter_bytes + cost.activation_bytes,
        "year": entry.year,
        "paper": entry.paper,
    }


def _list(sort: str, reverse: bool, as_json: bool) -> None:
    from rich.progress import track
    from rich.table import Table

    from depthscale import zoo as networks

    if sort not in COLUMNS:
        raise DepthscaleError(f"expected --sort to be one of {', '.join(COLUMNS)}, got {sort!r}")
    screen = common.console()
    waiting = track(networks.names(), "making graphs", console=screen, transient=True, disable=not screen.is_terminal)
    rows = sorted((_row(n, networks.get(n)) for n in waiting), key=lambda r: (r[sort], r["name"]), reverse=reverse)
    if as_json:
        common.print_json({"networks": rows})
        return
    table = Table()
    for column in ("network", "parameters", "multiply-adds", "depth", "MiB at batch 1", "year"):
        table.add_column(column, justify="left" if column == "network" else "right")
    table.add_column("paper", style="dim")
    for r in rows:
        table.add_row(
            r["name"],
            f"{r['parameters']:,}",
            f"{r['multiply_adds'] / 1e6:,.1f} M",
            str(r["depth"]),
            f"{r['memory'] / 2**20:,.1f}",
            str(r["year"]),
            r["paper"],
        )
    common.output().print(table)


def _show(name: str, arguments: dict[str, Any], draw: Path | None, as_json: bool) -> None:
    from depthscale import zoo as networks
    from depthscale.cli.build import write
    from depthscale.theory.propagate import propagate

    graph = networks.get(name, **arguments)
    if draw is not None:
        write(draw, graph.draw())
    theory = propagate(graph)
    if as_json:
        common.print_json({**_row(name, graph), "key": graph.key, "trains": theory.trains, "reason": theory.reason})
        return
    entry = networks.entry(name.partition(":")[0])
    print(f"{entry.paper} ({entry.year})\n")
    print(graph.outline())
    print(f"theory: {'trains' if theory.trains else 'will not train'}: {theory.reason}")
