"""``depthscale phase ACTIVATION``: the phase diagram of an activation, as picture, table and words."""

import importlib.util
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from depthscale.cli import common
from depthscale.cli.build import write


def phase(
    activation: Annotated[
        str, typer.Argument(help="A name such as tanh, gelu or leaky_relu, or FILE.py:FUNCTION of NumPy arrays.")
    ],
    param: Annotated[list[str] | None, typer.Option(help="One of its parameters, as NAME=VALUE; repeatable.")] = None,
    sw2: Annotated[tuple[float, float], typer.Option(help="Range of the weight variance times fan-in.")] = (0.5, 3.0),
    sb2: Annotated[
        tuple[float, float] | None, typer.Option(help="Range of the bias variance; by default 0 to 0.25 or more.")
    ] = None,
    cells: Annotated[int, typer.Option(help="Cells on a side.", min=2, max=2000)] = 160,
    fan_in: Annotated[int, typer.Option(help="For which the numbers to use are said.", min=1)] = 256,
    out: Annotated[
        Path | None, typer.Option(help="Write phase.png, phase.svg, phase.csv and phase.json to this folder.")
    ] = None,
    as_json: common.Json = False,
) -> None:
    """Say where networks of an activation are ordered, chaotic and critical, and how deep signals reach."""
    from depthscale.report.phase_plot import draw_phase
    from depthscale.report.phase_summary import phase_summary
    from depthscale.theory import activation as resolve

    what = _callable(activation) if ".py:" in activation else activation
    act = resolve(what, **_parameters(param or []))
    result = phase_summary(act, sw2, sb2, cells, fan_in)
    if out is not None:
        draw_phase(result.picture(), [out / "phase.png", out / "phase.svg"])
        write(out / "phase.csv", result.to_csv())
        write(out / "phase.json", json.dumps(result.to_dict(), ensure_ascii=False) + "\n")
    if as_json:
        common.print_json(result.to_dict())
        return
    print(result.words())
    if out is not None:
        print(f"written: {out}/phase.png, phase.svg, phase.csv, phase.json")


def _parameters(pairs: list[str]) -> dict[str, Any]:
    from depthscale.errors import DepthscaleError

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise DepthscaleError(f"expected --param NAME=VALUE, got {pair!r}")
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = text
    return found


def _callable(spec: str) -> Any:
    """The function that FILE.py:FUNCTION names; the file is run."""
    from depthscale.errors import DepthscaleError

    file, _, name = spec.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise DepthscaleError(f"there is no file {file}; expected an activation's name or FILE.py:FUNCTION")
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    if module_spec is None or module_spec.loader is None:
        raise DepthscaleError(f"{file} is no Python file; expected FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise DepthscaleError(f"{file} cannot be run: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise DepthscaleError(f"{file} has no {name!r}; expected FILE.py:FUNCTION")
    return getattr(module, name)
