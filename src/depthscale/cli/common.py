"""What the verbs share: options, the network a user names, and printing."""

import gc
import json
import math
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscale.errors import DepthscaleError

if TYPE_CHECKING:
    from rich.console import Console

    from depthscale.data import Dataset
    from depthscale.graph import Graph

Seed = Annotated[int, typer.Option(help="Seed of everything random: the same seed gives the same result.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output on standard output.")]
Target = Annotated[str | None, typer.Option(help="The column to predict, for tables.")]
Task = Annotated[str | None, typer.Option(help="classification or regression, where the target could be either.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out files that cannot be read instead of stopping.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="An argument of a network of the zoo: --set image_size=32; often."
    ),
]
DATA_HELP = (
    "digits, mnist, openml:NAME, a CSV or Parquet file (with --target), an NPZ file, or a folder of images "
    "with one folder per class."
)
NET_HELP = "zoo:NAME (depthscale zoo lists them) or a graph's JSON file."
MODEL_HELP = "zoo:NAME, timm:NAME, torchvision:NAME, hf:CONFIG, FILE.py:FACTORY or a graph's JSON file."


def console() -> "Console":
    """Where people read: standard error, so that standard output stays clean for --json."""
    from rich.console import Console

    screen = Console(stderr=True, highlight=False)
    return screen if screen.is_terminal else Console(stderr=True, highlight=False, width=160)


def output() -> "Console":
    """Standard output, as wide as the terminal; full width where it is none."""
    from rich.console import Console

    screen = Console(highlight=False)
    return screen if screen.is_terminal else Console(highlight=False, width=160)


@contextmanager
def settling() -> Iterator[None]:
    """While libraries are imported and a model is made: all of it stays, so nobody looks through it for garbage.

    Collections of what a library leaves behind take as long as a tenth of a check.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if before:
            gc.enable()


@contextmanager
def waiting(words: str) -> Iterator[None]:
    """Shows on a terminal that something goes on, and leaves nothing behind; elsewhere nothing is shown."""
    if not sys.stderr.isatty():
        yield
        return
    with console().status(words):
        yield


def command_line() -> str:
    """What was typed, as a report shows it: folders that are somebody's own left out of paths."""
    return "depthscale " + shlex.join(_shorter(word) for word in sys.argv[1:])


def _shorter(word: str) -> str:
    """A path without its folders where these are absolute."""
    file, colon, name = word.partition(".py:")
    if Path(word).is_absolute():
        return Path(file).name + colon + name
    return word


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on standard output; numbers that JSON lacks become null."""

    def clean(v: Any) -> Any:
        if isinstance(v, dict):
            return {str(k): clean(x) for k, x in v.items()}
        if isinstance(v, list | tuple):
            return [clean(x) for x in v]
        return None if isinstance(v, float) and not math.isfinite(v) else v

    json.dump(clean(value), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def arguments(given: list[str] | None) -> dict[str, Any]:
    """What ``--set NAME=VALUE`` gave, values read as JSON where they are (32, true, [1, 2]), else as text."""
    found: dict[str, Any] = {}
    for text in given or ():
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise DepthscaleError(f"expected --set NAME=VALUE such as --set image_size=32, got {text!r}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def read_graph(path: Path) -> "Graph":
    """The graph in a JSON file; one clear sentence when it is none."""
    from depthscale.errors import GraphError
    from depthscale.graph import Graph

    try:
        return Graph.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise DepthscaleError(f"expected a graph's JSON file at {path}, but it cannot be read: {reason}") from None
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from None


def network(spec: str, dataset: "Dataset | None" = None) -> "Graph":
    """The network that ``spec`` names, fitted to a data set's shape and classes where it is one of the zoo's.

    Raises DepthscaleError for anything else, with what a spec looks like.
    """
    if spec.startswith("zoo:"):
        from depthscale import zoo

        name = spec.removeprefix("zoo:")
        return zoo.get(name, **(_fitting(name, dataset) if dataset is not None else {}))
    path = Path(spec)
    if spec.endswith(".json") or path.exists():
        graph = read_graph(path)
        if dataset is not None:
            _check_fit(spec, graph, dataset)
        return graph
    raise DepthscaleError(f"expected a network as {NET_HELP.rstrip('.')}, got {spec!r}")


def shape_of(text: str | None) -> tuple[int, ...] | None:
    """A shape written as 3x224x224; None for None."""
    if text is None:
        return None
    try:
        shape = tuple(int(n) for n in text.lower().replace("×", "x").replace(",", "x").split("x"))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise DepthscaleError(f"expected a shape such as 3x224x224, got {text!r}")
    return shape


def one_of(option: str, value: str, known: tuple[str, ...]) -> Any:
    """The value, if it is one of those known; one clear sentence otherwise."""
    if value not in known:
        raise DepthscaleError(f"expected {option} to be one of {', '.join(known)}, got {value!r}")
    return value


def _fitting(name: str, dataset: "Dataset") -> dict[str, Any]:
    """The arguments that fit a network of the zoo to a data set."""
    from depthscale import zoo

    takes, shape = zoo.entry(name.partition(":")[0]).takes, tuple(dataset.input_shape)
    options: dict[str, Any] = {"num_classes": dataset.outputs}
    if "input_shape" in takes:
        return options | {"input_shape": shape}
    if len(shape) != 3:
        raise DepthscaleError(f"zoo:{name} takes images, but the rows of {dataset.name} are tables; try zoo:mlp")
    return options | {"in_channels": shape[0], "image_size": shape[1] if shape[1] == shape[2] else shape[1:]}


def _check_fit(spec: str, graph: "Graph", dataset: "Dataset") -> None:
    shapes = graph.shapes()
    takes, gives = shapes[graph.inputs[0]][1:], shapes[graph.outputs[0]][1:]
    if tuple(takes) != tuple(dataset.input_shape):
        raise DepthscaleError(f"{spec}: expected a network for inputs of shape {dataset.input_shape}, got {takes}")
    if tuple(gives) != (dataset.outputs,):
        raise DepthscaleError(f"{spec}: expected a network with {dataset.outputs} outputs, got {gives}")
