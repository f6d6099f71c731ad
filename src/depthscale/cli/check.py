"""``depthscale check MODEL``: will it train, and if not, where, why and what to change."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscale.cli import common

if TYPE_CHECKING:
    from depthscale.capture.load import Model

Inputs = Annotated[
    str,
    typer.Option(help="What the data are like: noise, images, tokens, or auto (noise, where none are known)."),
]
Shape = Annotated[str | None, typer.Option(help="Shape of one example, such as 3x224x224, where none is known.")]
Weights = Annotated[Path | None, typer.Option(help="Read the weights from this file (safetensors).")]
INPUTS = ("auto", "noise", "images", "tokens")


def check(
    model: Annotated[str, typer.Argument(help=common.MODEL_HELP)],
    inputs: Inputs = "auto",
    shape: Shape = None,
    weights: Weights = None,
    batch: Annotated[int, typer.Option(help="Examples that batch normalisation sees.", min=2)] = 32,
    measure: Annotated[bool, typer.Option("--measure", help="Run the real thing, and lay it beside.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Draw the weights and read their laws off them.")] = False,
    seed: common.Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Write diagnosis.html and diagnosis.json to this folder.")] = None,
    as_json: common.Json = False,
) -> None:
    """Say whether a network will train: the layer responsible, the cause and the remedy, before a step is spent."""
    with common.waiting(f"reading {model}"), common.settling():
        from depthscale.capture.load import load
        from depthscale.diagnose import check as examine

        wanted = common.one_of("--inputs", inputs, INPUTS)
        loaded = load(model, input_shape=common.shape_of(shape), weights=weights)
        what, example, kwargs = _looked_at(loaded, live or measure, seed)
    with common.waiting(f"following signals and gradients through {model}"):
        found = examine(what, example, kwargs=kwargs, inputs=wanted, batch=batch, measure=measure, name=model)
    written = found.write(out) if out is not None else []
    if as_json:
        common.print_json(found.to_dict())
        return
    print(found)
    if written:
        print(f"written: {', '.join(map(str, written))}")


def _looked_at(loaded: "Model", live: bool, seed: int) -> tuple[Any, Any, Any]:
    """A graph, a capture without weights, or (live, or where there are weights) a module with its example."""
    from depthscale.errors import CaptureError

    if loaded.graph is not None:
        return (loaded.module(seed) if live else loaded.graph), None, None
    if not live and loaded.weights is None:
        try:
            return loaded.capture(), None, None
        except CaptureError:  # code that needs values while it constructs
            pass
    module = loaded.module(seed)
    example, kwargs = loaded.example(module)
    return module, example, kwargs
