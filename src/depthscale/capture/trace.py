"""``trace``: a module and an example → the graph, and for every node where it comes from in the module."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from depthscale.capture import rules as _rules  # noqa: F401  (fills the table of operations)
from depthscale.capture.evaluate import Evaluator
from depthscale.capture.laws import read_law
from depthscale.capture.mapper import Mapper, Source
from depthscale.capture.naming import shared_names, unique_names
from depthscale.capture.program import Program, export, operation, path_of
from depthscale.capture.tape import record
from depthscale.capture.values import Data, Draft
from depthscale.errors import CaptureError, GraphError
from depthscale.graph import Graph, Law, Node, ops
from depthscale.graph.parameters import owner

LawOf = Callable[[str], Law]


@dataclass(frozen=True)
class Origin:
    """Where a node comes from. aten: the operation; path: the module; source: a line of the user's code, or ''."""

    aten: str
    path: str
    source: str = ""


@dataclass(frozen=True, eq=False)
class Capture:
    """A captured module.

    graph: the network. origins: by node. parameters: by the graph's name of a parameter ("layer1.0.conv1.weight"),
    the module's own parameter or parameters and the views between them; what is not listed has no counterpart.
    frozen: the module's parameters that do not require gradients. tied: groups of the module's names of one tensor.
    fixed_batch: whether the graph holds for the example's batch only. program: the exported program (``measure`` runs
    it); exact: for nodes whose value is, to the letter, that of one of its FX nodes, that one.
    """

    graph: Graph
    origins: Mapping[str, Origin]
    parameters: Mapping[str, Source]
    frozen: frozenset[str]
    tied: tuple[tuple[str, ...], ...]
    batch: int
    fixed_batch: bool
    program: Program
    exact: Mapping[str, torch.fx.Node]
    constant: Callable[[str], Tensor]

    def tensor(self, name: str) -> Tensor:
        """The graph's parameter ``name`` as a view of the module's own: what is written into it, the module has.

        Write under ``torch.no_grad()``. Raises CaptureError for a weight that is computed, GraphError for no name.
        """
        source = self.parameters.get(name)
        if source is None:
            raise GraphError(f"expected the name of a parameter of the captured graph, got {name!r}")
        return source.view(self.program.module.get_parameter(source.names[0]))

    def is_frozen(self, name: str) -> bool:
        """Whether any of the module's parameters behind the graph's ``name`` does not require gradients."""
        return any(n in self.frozen for n in self.parameters[name].names)


def trace(
    module: nn.Module,
    *args: Any,
    kwargs: Mapping[str, Any] | None = None,
    train: bool = True,
    laws: LawOf | None = None,
    values: Callable[[str, str], Tensor] | None = None,
) -> Capture:
    """Captures a module on an example (positional ``args`` and ``kwargs`` of its forward).

    train: in training mode (dropout drops, batch normalisation sees the batch). laws: of the module's parameters and
    buffers by name (default: read off the live module). values(kind, name): tensors that computed weights, masks and
    positions are evaluated with (default: the module's own). Raises CaptureError.
    """
    if not isinstance(module, nn.Module):
        raise CaptureError(f"expected a torch.nn.Module to capture, got {type(module).__name__}")
    kwargs = kwargs or {}
    program = _exported(module, args, kwargs, train)
    own = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    read = laws or _reader(own)
    parts = _part_reader(own) if laws is None else None
    mapper = Mapper(program, read, Evaluator(program, values or _values(own)), _batch(program), parts)
    outputs = mapper.run()
    if not outputs:
        raise CaptureError("expected a model whose output depends on its input, but nothing of the data arrives there")
    return _finish(mapper, outputs, module)


def _exported(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], train: bool) -> Program:
    """The program: recorded while the module runs without memory; exported where it does not run so."""
    try:
        return record(module, args, kwargs, train=train)
    except Exception:  # export takes more, and explains better
        pass
    if not any(p.device.type == "meta" for p in module.parameters()):
        return export(module, args, kwargs, train=train)
    thin = tree_map(lambda v: v.to("meta") if isinstance(v, Tensor) else v, (args, dict(kwargs)))
    program = export(module, *thin, train=train)
    real = [v for v in tree_leaves((args, dict(kwargs))) if isinstance(v, Tensor)]
    return replace(program, inputs=dict(zip(program.inputs, real, strict=True)))


def capture(module: nn.Module, *example: Any, kwargs: Mapping[str, Any] | None = None, train: bool = True) -> Graph:
    """The module as a Graph, its parameter laws read off its weights; ``example`` are the inputs of its forward.

    Raises CaptureError, naming the operation and the place, for what a graph cannot say. ``trace`` returns more: where
    every node and parameter comes from.
    """
    return trace(module, *example, kwargs=kwargs, train=train).graph


def _reader(own: Mapping[str, Tensor]) -> LawOf:
    known: dict[str, Law] = {}

    def read(name: str) -> Law:
        if name not in known:
            if own[name].device.type == "meta":
                raise CaptureError(
                    f"parameter {name!r} is on the meta device and has no values to read a law from; build the model "
                    "under depthscale.capture.recording(), or on a real device"
                )
            known[name] = read_law(own[name], name)
        return known[name]

    return read


def _part_reader(own: Mapping[str, Tensor]) -> Callable[[Source], Law]:
    known: dict[Any, Law] = {}

    def read(source: Source) -> Law:
        key = (source.names, str(source.steps))
        if key not in known:
            known[key] = read_law(source.view(own[source.names[0]].detach()), source.names[0])
        return known[key]

    return read


def _values(own: Mapping[str, Tensor]) -> Callable[[str, str], Tensor]:
    def value(kind: str, name: str) -> Tensor:
        if kind in ("parameter", "buffer") and own[name].device.type != "meta":
            return own[name].detach().cpu()
        raise CaptureError(f"the value of {kind} {name!r} is needed, but it is on the meta device")

    return value


def _batch(program: Program) -> int:
    first = next(iter(program.inputs.values()), None)
    return int(first.shape[0]) if first is not None and first.ndim else 1


def _holds_for_one(graph: Graph) -> None:
    try:
        graph.shapes()
    except GraphError as error:
        raise CaptureError(
            f"expected the first axis of the data to be the examples, each by itself, but {error} for one of them; put "
            "examples first (batch_first=True in recurrent layers)"
        ) from None


def _finish(mapper: Mapper, outputs: list[Data], module: nn.Module) -> Capture:
    kept = _reachable(mapper.drafts, [o.draft for o in outputs])
    drafts = {i: mapper.drafts[i] for i in kept}
    flexible = mapper.flexible and all(o.other is not None for o in outputs)
    if not flexible:
        drafts = {i: _tied_to_batch(d, mapper.batch) for i, d in drafts.items()}
    names = unique_names(drafts)
    shared = shared_names(drafts, names)
    nodes: list[Node] = []
    origins: dict[str, Origin] = {}
    sources: dict[str, Source] = {}
    exact: dict[str, torch.fx.Node] = {}
    for i, draft in drafts.items():
        op = replace(draft.op, shared=shared[i]) if i in shared else draft.op  # type: ignore[call-arg]
        nodes.append(Node(names[i], op, tuple(names[k] for k in draft.inputs)))
        origins[names[i]] = Origin(operation(draft.fx), path_of(draft.fx), _line(draft.fx))
        if i in mapper.exact:
            exact[names[i]] = mapper.exact[i]
        for label, source in draft.weights.items():
            sources.setdefault(f"{owner(names[i], op)}.{label}", source)
    graph = Graph(tuple(nodes), tuple(dict.fromkeys(names[o.draft] for o in outputs)))
    if flexible:
        _holds_for_one(graph)
    frozen = frozenset(n for n, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad)
    return Capture(
        graph,
        origins,
        sources,
        frozen,
        _tied(module),
        mapper.batch,
        not flexible,
        mapper.program,
        exact,
        mapper.evaluator.constant,
    )


def _reachable(drafts: list[Draft], ends: list[int]) -> list[int]:
    seen: set[int] = set()
    stack = list(ends)
    while stack:
        top = stack.pop()
        if top not in seen:
            seen.add(top)
            stack.extend(drafts[top].inputs)
    return sorted(seen)


def _tied_to_batch(draft: Draft, batch: int) -> Draft:
    """An Input that says its whole shape."""
    op = draft.op
    if isinstance(op, ops.Input) and op.batched:
        return replace(draft, op=ops.Input((batch, *op.shape), op.dtype, False))
    return draft


def _line(node: torch.fx.Node) -> str:
    """The line of the user's code that a node comes from, where torch recorded it."""
    trace_text = node.meta.get("stack_trace")
    if not trace_text:
        return ""
    lines = [line.strip() for line in str(trace_text).splitlines() if line.strip().startswith("File ")]
    return lines[-1] if lines else ""


def _tied(module: nn.Module) -> tuple[tuple[str, ...], ...]:
    groups: dict[int, list[str]] = {}
    for name, p in module.named_parameters(remove_duplicate=False):
        groups.setdefault(id(p), []).append(name)
    return tuple(tuple(g) for g in groups.values() if len(g) > 1)


__all__ = ["Capture", "Origin", "capture", "trace"]
