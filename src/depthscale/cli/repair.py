"""``depthscale repair MODEL``: weights from which it trains, and the diagnosis before and after."""

from pathlib import Path
from typing import Annotated

import typer

from depthscale.cli import common
from depthscale.cli.check import INPUTS, Inputs, Shape, Weights


def repair(
    model: Annotated[str, typer.Argument(help=common.MODEL_HELP)],
    out: Annotated[
        Path | None,
        typer.Option(help="A .safetensors file for the weights, or a folder for weights, repair.html and repair.json."),
    ] = None,
    inputs: Inputs = "auto",
    shape: Shape = None,
    weights: Weights = None,
    keep: Annotated[list[str] | None, typer.Option(help="Pattern of parameters to leave alone; repeatable.")] = None,
    frozen: Annotated[bool, typer.Option("--frozen", help="Also set parameters without gradients.")] = False,
    trained: Annotated[bool, typer.Option("--trained", help="Also where the model has been trained.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also where the model is healthy.")] = False,
    seed: common.Seed = 0,
    as_json: common.Json = False,
) -> None:
    """Choose the weights that make a network train; say what was changed and why."""
    with common.waiting(f"reading {model}"):
        from depthscale.capture.load import load
        from depthscale.diagnose import repair as mend

        wanted = common.one_of("--inputs", inputs, INPUTS)
        loaded = load(model, input_shape=common.shape_of(shape), weights=weights)
        module = loaded.module(seed)
        example, kwargs = (None, None) if loaded.graph is not None else loaded.example(module)
    with common.waiting(f"choosing weights for {model}"):
        result = mend(
            module,
            example,
            inputs=wanted,
            kwargs=kwargs,
            keep=keep or (),
            frozen=frozen,
            trained=trained,
            force=force,
            seed=seed,
            name=model,
        )
    written = result.write(out) if out is not None else []
    if as_json:
        common.print_json(result.to_dict())
        return
    print(result)
    if written:
        print(f"written: {', '.join(map(str, written))}")
