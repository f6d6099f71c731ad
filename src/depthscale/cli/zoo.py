"""``depthscale zoo [NAME]``: the named networks, and one of them in full."""

from pathlib import Path
from typing import Annotated, Any

import typer

from depthscale.cli import common

COLUMNS = ("name", "parameters", "multiply_adds", "depth", "memory", "year")


def zoo(
    name: Annotated[str | None, typer.Argument(help="A network; without one, all are listed.")] = None,
    sort: Annotated[str, typer.Option(help="Column to sort by: " + ", ".join(COLUMNS) + ".")] = "year",
    draw: Annotated[Path | None, typer.Option(help="Write the network's picture (SVG) to this file.")] = None,
    as_json: common.Json = False,
) -> None:
    """List the named networks, or show one: its outline, its cost and what theory says of it."""
    if name is None:
        _list(sort, as_json)
    else:
        _show(name, draw, as_json)


def _row(name: str) -> dict[str, Any]:
    from depthscale import zoo as networks

    entry = networks.entry(name)
    cost = networks.get(name).cost()
    return {
        "name": name,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "depth": cost.depth,
        "memory": cost.parameter_bytes + cost.activation_bytes,
        "year": entry.year,
        "paper": entry.paper,
    }


def _list(sort: str, as_json: bool) -> None:
    from rich.table import Table

    from depthscale import zoo as networks
    from depthscale.errors import DepthscaleError

    if sort not in COLUMNS:
        raise DepthscaleError(f"expected --sort to be one of {', '.join(COLUMNS)}, got {sort!r}")
    rows = sorted((_row(n) for n in networks.names()), key=lambda r: (r[sort], r["name"]))
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


def _show(name: str, draw: Path | None, as_json: bool) -> None:
    from depthscale import zoo as networks
    from depthscale.cli.build import write
    from depthscale.theory.propagate import propagate

    graph = networks.get(name.removeprefix("zoo:"))
    if draw is not None:
        write(draw, graph.draw())
    theory = propagate(graph)
    if as_json:
        row = _row(name.removeprefix("zoo:"))
        common.print_json({**row, "key": graph.key, "trains": theory.trains, "reason": theory.reason})
        return
    entry = networks.entry(name.removeprefix("zoo:"))
    print(f"{entry.paper} ({entry.year})\n")
    print(graph.outline())
    print(f"theory: {theory.reason}")
