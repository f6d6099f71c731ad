"""Graph → ``torch.nn.Module``.

Parameters live in ordinary torch layers nested by scope, so state_dict keys are node names
("stage1.block1.conv1.weight"). ``forward`` is a straight line of Python written for the graph and compiled once:
one statement per node, every intermediate value dropped after its last use. It fetches layers by name on every
call, so replaced layers, ``functional_call``, parametrisations, hooks and ``torch.compile`` work as in any module.

Dropout draws from torch's global generator, as torch's own does; a training loop that resumes bit for bit saves and
restores that generator's state.
"""

from collections.abc import Iterable
from functools import lru_cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from depthscale.build import pieces
from depthscale.build.memory import check_memory
from depthscale.build.plan import Plan, plan, program
from depthscale.build.sampling import draw
from depthscale.errors import DepthscaleError, GraphError
from depthscale.graph import Graph, ParameterSpec, ops
from depthscale.graph.laws import Fans

_NAMES = {"torch": torch, "F": pieces.F, **{name: getattr(pieces, name) for name in pieces.__all__}}


class Scope(nn.Module):
    """Modules that belong together; the network they are in says how they are run."""


class GraphModule(nn.Module):
    """A network built from ``graph``; ``build`` makes and initialises one.

    Calling it with the graph's inputs, in order, returns the output, or a tuple of outputs where there are several.
    """

    graph: Graph

    def __init__(self, graph: Graph, *, dtype: torch.dtype = torch.float32) -> None:
        """The module on the meta device: structure without memory."""
        super().__init__()
        self.graph = graph
        self._program = _compiled(graph, ())
        for path, layer in plan(graph).leaves.items():
            home: nn.Module = self
            scope, _, label = path.rpartition(".")
            for part in scope.split(".") if scope else ():
                # straight into _modules: a node may be called like a method of nn.Module (train, half, type)
                home = home._modules.setdefault(part, Scope())  # type: ignore[assignment]
            home._modules[label] = layer.make(dtype)

    def forward(self, *inputs: Tensor) -> Any:
        """The network's output, or a tuple of outputs where the graph has several."""
        try:
            return self._program(self, *inputs)
        except (RuntimeError, TypeError, IndexError) as error:
            if (said := self._misfit(inputs)) is not None:
                raise said from error
            raise

    def intermediates(self, *inputs: Tensor, of: Iterable[str] | None = None) -> dict[str, Tensor]:
        """The value of every node (or of those named in ``of``) by its name, in the graph's order.

        Values are part of the autograd graph. Raises GraphError for a name that is no node.
        """
        names = tuple(node.name for node in self.graph.nodes) if of is None else tuple(dict.fromkeys(of))
        for name in names:
            self.graph[name]
        if not names:
            return {}
        _, values = _compiled(self.graph, names)(self, *inputs)
        found: dict[str, Tensor] = values
        return found

    def extra_repr(self) -> str:
        """What the graph is."""
        return f"{len(self.graph)} nodes, {', '.join(self.graph.inputs)} → {', '.join(self.graph.outputs)}"

    def _misfit(self, inputs: tuple[Any, ...]) -> DepthscaleError | None:
        """What is wrong with the data, if it is the data."""
        wanted = [self.graph[name].op for name in self.graph.inputs]
        if len(inputs) != len(wanted):
            return GraphError(f"expected {len(wanted)} inputs ({', '.join(self.graph.inputs)}), got {len(inputs)}")
        for name, op, x in zip(self.graph.inputs, wanted, inputs, strict=True):
            assert isinstance(op, ops.Input)
            if not isinstance(x, Tensor):
                return GraphError(f"input {name!r}: expected a tensor, got {type(x).__name__}")
            got = tuple(x.shape)
            if (got[1:] if op.batched else got) != op.shape:
                shown = ", ".join(["batch"] * op.batched + [str(n) for n in op.shape])
                return GraphError(f"input {name!r}: expected a tensor of shape ({shown}), got {got}")
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_program"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.__dict__["_program"] = _compiled(self.graph, ())


@lru_cache(maxsize=128)
def _compiled(graph: Graph, keep: tuple[str, ...]) -> FunctionType:
    """The straight-line function of a graph; ``keep`` names nodes whose values it returns as well."""
    names: dict[str, Any] = dict(_NAMES)
    exec(compile(program(plan(graph), keep), f"<forward of {graph!r}>", "exec"), names)
    function = names["forward"]
    assert isinstance(function, FunctionType)
    return function


def build(
    graph: Graph, seed: int = 0, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> GraphModule:
    """The network as a ``torch.nn.Module`` in training mode, its parameters drawn from their laws.

    The same ``seed`` gives the same parameters on every device, whatever the order of the nodes, and the same up to
    rounding in every ``dtype``. On device "meta" nothing is drawn. Raises DepthscaleError, before anything is
    allocated, for a network that cannot fit in memory, and GraphError where shapes do not fit.
    """
    if not isinstance(graph, Graph):
        raise GraphError(f"expected a Graph to build, got {type(graph).__name__}; capture turns a module into one")
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise GraphError(f"expected a floating-point dtype such as torch.float32, got {dtype!r}")
    place = _device(device)
    made = plan(graph)
    if place.type != "meta":
        check_memory(graph, made.elements, dtype, place)
    module = GraphModule(graph, dtype=dtype)
    if place.type != "meta":
        _fill(module, made, seed, dtype, place)
    return module


def _device(device: torch.device | str) -> torch.device:
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        known = "cpu, meta" + (", cuda" if torch.cuda.is_available() else "")
        reason = str(error).splitlines()[0]
        raise DepthscaleError(f"expected a device of this machine ({known}), got {device!r}: {reason}") from None
    return place


def _fill(module: GraphModule, made: Plan, seed: int, dtype: torch.dtype, device: torch.device) -> None:
    """Memory and values for a module on the meta device."""
    module.to_empty(device=device)
    with torch.no_grad():
        for path in made.leaves:
            leaf = _at(module, path)
            for norm in ("running_mean", "running_var", "num_batches_tracked"):
                if (buffer := leaf._buffers.get(norm)) is not None:
                    buffer.fill_(1.0 if norm == "running_var" else 0)
            if path in made.fixed:
                op = made.fixed[path].op
                assert isinstance(op, ops.Constant)
                spec = ParameterSpec(op.shape, op.law, Fans(1, 1))
                leaf.get_buffer("value").copy_(draw(spec, seed, f"{path}.value"))
        for name, spec in made.specs.items():
            path, _, label = name.rpartition(".")
            _at(module, path).get_parameter(label).copy_(draw(spec, seed, name))


def _at(module: nn.Module, path: str) -> nn.Module:
    """The module at a path; unlike ``get_submodule`` it finds one that is called like a method."""
    for part in path.split("."):
        module = module._modules[part]  # type: ignore[assignment]
    return module
