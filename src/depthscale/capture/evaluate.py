"""Values of what does not depend on the data: masks, positions, computed weights."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node as FxNode

from depthscale.capture.program import LIKE, Program, operation
from depthscale.errors import CaptureError


@dataclass
class Evaluator:
    """Values of static tensors on the CPU; ``source(kind, name)`` gives those of parameters and buffers."""

    program: Program
    source: Callable[[str, str], Tensor]
    known: dict[FxNode, Any] = field(default_factory=dict)

    def value(self, node: FxNode) -> Any:
        """The value of a static node: run once, kept."""
        if node in self.known:
            return self.known[node]
        stack = [node]
        while stack:
            top = stack[-1]
            waiting = [a for a in top.all_input_nodes if a not in self.known] if operation(top) not in LIKE else []
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            if top not in self.known:
                self.known[top] = self._run(top)
        return self.known[node]

    def _run(self, node: FxNode) -> Any:
        if node.op == "placeholder":
            return self._placeholder(node.name)
        if node.op != "call_function":
            raise CaptureError(f"cannot evaluate {node.op} {node.name!r} in an exported program")
        look = _blank if operation(node) in LIKE else self.known.__getitem__
        args = torch.fx.node.map_arg(node.args, look)
        kwargs = dict(torch.fx.node.map_arg(node.kwargs, look))
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        args = tuple(torch.device("cpu") if isinstance(a, torch.device) else a for a in _sequence(args))
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return node.target(*args, **kwargs)  # type: ignore[operator]

    def constant(self, name: str) -> Tensor:
        """The value of a tensor that the program holds itself."""
        value = self.program.constants[name]
        if value.numel() == 0:  # a cache that has nothing in it yet
            return torch.empty(value.shape, dtype=value.dtype)
        return self.source("constant", name) if value.device.type == "meta" else value.detach().cpu().clone()

    def _placeholder(self, name: str) -> Any:
        p = self.program
        if name in p.parameters:
            return self.source("parameter", p.parameters[name]).clone()
        if name in p.buffers:
            return self.source("buffer", p.buffers[name]).clone()
        if name in p.constants:
            return self.constant(name)
        if name in p.inputs:
            value = p.inputs[name]
            return self.source("input", name) if value.device.type == "meta" else value.detach().cpu()
        raise CaptureError(f"cannot evaluate placeholder {name!r} of the exported program")


def _blank(node: FxNode) -> Any:
    """Something of a node's shape: all that operations of ``LIKE`` look at."""
    value = node.meta["val"]
    return torch.zeros(tuple(int(n) for n in value.shape), dtype=value.dtype)


def _sequence(args: Any) -> Sequence[Any]:
    return args if isinstance(args, tuple) else (args,)
