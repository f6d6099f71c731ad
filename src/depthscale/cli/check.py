"""``depthscale check MODEL``: will it train, and if not, where, why and what to change."""

from pathlib import Path
from typing import Annotated

import typer

from depthscale.cli import common

Inputs = Annotated[
    str,
    typer.Option(help="What the data are like: noise, images, tokens, or auto (the example's, where it is data)."),
]
Shape = Annotated[str | None, typer.Option(help="Shape of one example, such as 3x224x224, where none is known.")]


def check(
    model: Annotated[str, typer.Argument(help=common.MODEL_HELP)],
    inputs: Inputs = "auto",
    shape: Shape = None,
    batch: Annotated[int, typer.Option(help="Examples that batch normalisation sees.", min=1)] = 32,
    seed: common.Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Write diagnosis.html and diagnosis.json to this folder.")] = None,
    as_json: common.Json = False,
) -> None:
    """Say whether a network will train: the layer responsible, the cause and the remedy, before a step is spent."""
    from depthscale.diagnose import check as examine

    loaded = common.model(model, shape=shape, seed=seed)
    found = examine(
        loaded.what,
        loaded.example,
        kwargs=loaded.kwargs,
        inputs=common.one_of("--inputs", inputs, ("auto", "noise", "images", "tokens", "batch")),
        batch=batch,
        name=model,
    )
    written = found.write(out) if out is not None else []
    if as_json:
        common.print_json(found.to_dict())
        return
    print(found)
    if written:
        print(f"written: {', '.join(map(str, written))}")
