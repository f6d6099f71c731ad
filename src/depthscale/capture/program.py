"""``torch.export`` of a module, its failures as one sentence, and values of what does not depend on the data."""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node as FxNode

from depthscale.errors import CaptureError


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


VIEWS = words(
    "view reshape _unsafe_view transpose permute t mT numpy_T unsqueeze squeeze flatten unflatten select slice "
    "narrow chunk split split_with_sizes unbind expand view_as detach alias swapaxes movedim unsafe_chunk "
    "unsafe_split tensor_split"
)
COPIES = words(
    "contiguous clone to _to_copy lift_fresh_copy lift_fresh lift type_as float half bfloat16 double "
    "_assert_tensor_metadata"
)
LIKE = words("zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty")


@dataclass(frozen=True)
class Program:
    """An exported program: its FX nodes, and which tensor each placeholder stands for.

    parameters: FX name of a placeholder -> the module's own name of the parameter; buffers and constants likewise
    with their values; inputs: placeholders of data, in order, with the example's tensors.
    """

    nodes: tuple[FxNode, ...]
    outputs: tuple[FxNode, ...]
    parameters: Mapping[str, str]
    buffers: Mapping[str, str]
    constants: Mapping[str, Tensor]
    inputs: Mapping[str, Tensor]
    module: nn.Module


@contextmanager
def training(module: nn.Module, on: bool) -> Iterator[None]:
    """The module in training (or evaluation) mode; every part of it is as it was afterwards."""
    before = [(m, m.training) for m in module.modules()]
    module.train(on)
    try:
        yield
    finally:
        for m, was in before:
            m.training = was


@contextmanager
def _silent() -> Iterator[None]:
    """Without the pages that export logs and prints when it gives up: one sentence says what is needed."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def export(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, train: bool = True) -> Program:
    """The module as a straight-line program of ATen operations.

    Raises CaptureError, in one sentence, where the module's code cannot be traced: control flow that depends on
    values of the data, inputs that do not fit, code that fails.
    """
    with training(module, train), warnings.catch_warnings(), _silent():
        warnings.simplefilter("ignore")
        try:
            made = torch.export.export(module, args, dict(kwargs), strict=False)
        except Exception as error:  # whatever user code raises
            raise CaptureError(explain(error, module)) from error
    return _program(made, module, args, kwargs)


def _program(made: Any, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Program:
    from torch.export.graph_signature import InputKind

    parameters, buffers, constants, users = {}, {}, {}, []
    for spec in made.graph_signature.input_specs:
        name = spec.arg.name
        if spec.kind is InputKind.PARAMETER:
            parameters[name] = spec.target
        elif spec.kind is InputKind.BUFFER:
            buffers[name] = spec.target
        elif spec.kind is InputKind.CONSTANT_TENSOR:
            constants[name] = made.constants[spec.target]
        elif spec.kind is InputKind.USER_INPUT:
            users.append(name)
    from torch.utils._pytree import tree_leaves

    flat = tree_leaves((args, dict(kwargs)))
    inputs = {n: v for n, v in zip(users, flat, strict=False) if isinstance(v, Tensor)}
    nodes = tuple(made.graph.nodes)
    (last,) = [n for n in nodes if n.op == "output"]
    mutated = {o.arg.name for o in made.graph_signature.output_specs if o.kind.name != "USER_OUTPUT"}
    outputs = tuple(n for n in tree_leaves(last.args) if isinstance(n, FxNode) and n.name not in mutated)
    return Program(nodes, outputs, parameters, buffers, constants, inputs, module)


def explain(error: Exception, module: nn.Module) -> str:
    """One sentence on why a module could not be exported."""
    name, text = type(module).__name__, str(error).strip()
    kind = type(error).__name__
    lowered = text.lower()
    if "data-dependent" in lowered or "data dependent" in lowered or kind == "GuardOnDataDependentSymNode":
        return (
            f"{name} decides on values of its data ({_place(error)}), which a captured program cannot; "
            "rewrite the branch with torch.where, or use the measured diagnosis, which runs the model as it is"
        )
    first = next((line.strip() for line in text.splitlines() if line.strip()), kind)
    return f"{name} cannot be traced on this example ({kind}: {first[:300]}{_at(error)})"


def _frames(error: BaseException) -> list[tuple[str, int, str]]:
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    return [(f.filename, f.lineno or 0, f.line or "") for f in frames if not _internal(f.filename)]


def _internal(path: str) -> bool:
    return any(part in path for part in ("/torch/", "/depthscale/", "<frozen", "/contextlib.py", "<eval_with_key>"))


def _place(error: BaseException) -> str:
    frames = _frames(error)
    if not frames:
        return "somewhere in its forward"
    path, line, code = frames[-1]
    return f"{path.rpartition('/')[2]}:{line}" + (f", `{code.strip()[:80]}`" if code else "")


def _at(error: BaseException) -> str:
    frames = _frames(error)
    return f"; at {frames[-1][0].rpartition('/')[2]}:{frames[-1][1]}" if frames else ""


def operation(node: FxNode) -> str:
    """The ATen name of a node's operation, overload and trailing underscore left off: conv2d, relu, getitem."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return getattr(node.target, "__name__", str(node.target))
    name = str(schema.name).rpartition("::")[2]
    return name.rstrip("_") if in_place(node) else name


def aten(node: FxNode) -> str:
    """The ATen name as it is written: relu_, std_mean."""
    schema = getattr(node.target, "_schema", None)
    return str(schema.name).rpartition("::")[2] if schema is not None else operation(node)


def in_place(node: FxNode) -> bool:
    """Whether an operation writes into its first argument."""
    schema = getattr(node.target, "_schema", None)
    return bool(schema is not None and schema.arguments and schema.is_mutable)


def arguments(node: FxNode) -> dict[str, Any]:
    """A node's arguments by the names of the operation's schema, defaults filled in."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {f"arg{i}": v for i, v in enumerate(node.args)}
    out: dict[str, Any] = {}
    for i, argument in enumerate(schema.arguments):
        if i < len(node.args):
            out[argument.name] = node.args[i]
        else:
            out[argument.name] = node.kwargs.get(argument.name, argument.default_value)
    return out


def shape_of(node: FxNode) -> tuple[int, ...]:
    """The shape of a node's tensor."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return ()
    return tuple(int(n) for n in value.shape)


def path_of(node: FxNode) -> str:
    """The path of the innermost module that a node belongs to."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    path = str(next(reversed(stack.values()))[0])
    return ".".join(part.partition("@")[0] for part in path.split(".") if part)
