"""Graph → ONNX with a free batch size, checked against the module where onnxruntime is installed."""

import contextlib
import importlib.util
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from depthscale.build.module import GraphModule, build
from depthscale.build.weights import write_atomically
from depthscale.errors import DepthscaleError
from depthscale.graph import Graph, ops

_DTYPES = {"int": torch.int64, "bool": torch.bool}


def to_onnx(
    network: Graph | GraphModule,
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    opset: int = 18,
    dynamic_batch: bool = True,
    tolerance: float = 1e-3,
) -> None:
    """Write a network in evaluation mode as ONNX, its inputs and outputs named after their nodes.

    A graph is built with ``seed`` first. Where onnxruntime is installed its outputs are compared with the module's,
    to ``tolerance`` relative to their largest. Without ``dynamic_batch`` the batch is one. Raises DepthscaleError
    without the onnx extra, for a network that ONNX cannot express, and where the outputs differ.
    """
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise DepthscaleError(
                f"writing ONNX needs the package {package}; install it with: pip install 'depthscale[onnx]'"
            )
    module = build(network, seed) if isinstance(network, Graph) else network
    if not isinstance(module, GraphModule):
        raise DepthscaleError(f"expected a Graph or a built module, got {type(module).__name__}")
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        example = _example(module, 2 if dynamic_batch else 1)
        data = _export(module, example, opset, dynamic_batch)
        _check(module, data, [example, _example(module, 3)] if dynamic_batch else [example], tolerance)
    finally:
        for part, mode in training.items():
            part.training = mode
    write_atomically(path, data)


def _example(module: GraphModule, batch: int) -> tuple[Tensor, ...]:
    """Data that fit the graph's inputs; whole numbers are small enough for every embedding."""
    g = torch.Generator().manual_seed(0)
    first = next(module.parameters(), torch.empty(0))
    entries = [n.op.entries for n in module.graph.nodes if isinstance(n.op, ops.Embedding)]
    made = []
    for name in module.graph.inputs:
        op = module.graph[name].op
        assert isinstance(op, ops.Input)
        shape = (batch, *op.shape) if op.batched else op.shape
        if op.dtype == "float":
            value = torch.randn(shape, generator=g).to(first.dtype)
        else:
            value = torch.randint(0, min([2, *entries]), shape, generator=g).to(_DTYPES[op.dtype])
        made.append(value.to(first.device))
    return tuple(made)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks on standard output and warns of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _export(module: GraphModule, example: tuple[Tensor, ...], opset: int, dynamic_batch: bool) -> bytes:
    batch = torch.export.Dim("batch")
    wanted = [module.graph[name].op for name in module.graph.inputs]
    shapes = tuple({0: batch} if isinstance(op, ops.Input) and op.batched else None for op in wanted)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        try:
            with _quiet():
                torch.onnx.export(
                    module,
                    example,
                    str(file),
                    input_names=[name.replace(".", "_") for name in module.graph.inputs],
                    output_names=[name.replace(".", "_") for name in module.graph.outputs],
                    dynamic_shapes=(shapes,) if dynamic_batch else None,
                    opset_version=opset,
                    dynamo=True,
                    external_data=False,
                )
        except Exception as error:
            # whatever the exporter raises, to the user it is one thing: this network cannot be written
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise DepthscaleError(f"this network cannot be written as ONNX: {reason}") from error
        return file.read_bytes()


def _check(module: GraphModule, data: bytes, examples: list[tuple[Tensor, ...]], tolerance: float) -> None:
    """DepthscaleError unless onnxruntime computes what the module computes."""
    if importlib.util.find_spec("onnxruntime") is None:
        return
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common class of errors
        raise DepthscaleError(f"onnxruntime cannot load the network: {str(error).splitlines()[0][:200]}") from error
    names = [entry.name for entry in session.get_inputs()]
    for example in examples:
        fed = dict(zip((n.replace(".", "_") for n in module.graph.inputs), example, strict=True))
        with torch.no_grad():
            expected = module(*example)
        got = session.run(None, {name: fed[name].cpu().numpy() for name in names})
        for want, have in zip((expected,) if isinstance(expected, Tensor) else expected, got, strict=True):
            difference = (want.cpu() - torch.from_numpy(have)).abs().max().item() if want.numel() else 0.0
            if not difference <= tolerance * max(1.0, want.abs().max().item()):
                raise DepthscaleError(
                    f"expected ONNX to compute what the module computes, got outputs that differ by {difference:.3g}; "
                    "please report this network"
                )
