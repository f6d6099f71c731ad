"""``depthscale build NET``: a network as plain PyTorch source, weights, graph or ONNX."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscale.cli import common

if TYPE_CHECKING:
    from depthscale.graph import Graph


def build(
    net: Annotated[str, typer.Argument(help="A network of the zoo by its name, with or without zoo:, or a JSON file.")],
    source: Annotated[Path | None, typer.Option(help="Write readable PyTorch source to this file.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Write freshly drawn weights (safetensors) to this file.")
    ] = None,
    graph: Annotated[Path | None, typer.Option(help="Write the graph as JSON to this file.")] = None,
    onnx: Annotated[Path | None, typer.Option(help="Write ONNX to this file (needs the onnx extra).")] = None,
    given: common.Set = None,
    seed: common.Seed = 0,
) -> None:
    """Write a network as PyTorch source, weights, graph JSON or ONNX; without a file, print the source."""
    from depthscale.build import build as make, save, source as write_source, to_onnx

    network = _network(net, common.arguments(given))
    if graph is not None:
        write(graph, network.to_json())
    if source is not None:
        write(source, write_source(network))
    if weights is not None or onnx is not None:
        module = make(network, seed)
        if weights is not None:
            save(module, weights)
        if onnx is not None:
            to_onnx(module, onnx)
    if source is graph is weights is onnx is None:
        print(write_source(network), end="")


def _network(net: str, arguments: dict[str, Any]) -> "Graph":
    from depthscale import zoo
    from depthscale.errors import DepthscaleError

    file = net.endswith(".json") or (not net.startswith("zoo:") and Path(net).exists())
    if not file:
        return zoo.get(net.removeprefix("zoo:"), **arguments)
    if arguments:
        raise DepthscaleError(f"expected --set with a network of the zoo only, got it with the file {net}")
    return common.network(net)


def write(path: Path, text: str) -> None:
    """Write a text file, its folder made first; one clear sentence when that fails."""
    from depthscale.errors import DepthscaleError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DepthscaleError(f"cannot write {path}: {error.strerror}") from None
