"""The verbs, gathered. Importing this file imports no verb's dependencies."""

from typing import Annotated

import typer

from depthscale import __version__
from depthscale.cli.build import build
from depthscale.cli.check import check
from depthscale.cli.design import design
from depthscale.cli.figure import figure
from depthscale.cli.grow import grow
from depthscale.cli.phase import phase
from depthscale.cli.repair import repair
from depthscale.cli.search import search
from depthscale.cli.sweep import sweep
from depthscale.cli.train import train
from depthscale.cli.zoo import zoo

app = typer.Typer(
    name="depthscale",
    help="Tells you whether a deep network will train before you train it, repairs it when it won't, "
    "and finds a better one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"depthscale {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What holds for every verb."""


for verb in (design, check, repair, search, grow, train, sweep, phase, zoo, figure, build):
    app.command()(verb)
