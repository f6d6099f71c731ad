"""From an exported program to the nodes of a graph: one walk, one rule per ATen operation.

What does not depend on the data (masks, positions, standardised weights) is never mapped: it stays a ``Static``, and
becomes a law in a layer's weight slot, or a Parameter or Constant node with the moments of its value.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node as FxNode

from depthscale.capture.evaluate import Evaluator
from depthscale.capture.laws import read_law, without_structure
from depthscale.capture.program import COPIES, VIEWS, Program, arguments, in_place, operation, path_of, shape_of
from depthscale.capture.source import Source, Step
from depthscale.capture.values import Data, Draft, Hidden, Noise, Static, Value
from depthscale.errors import CaptureError, DepthscaleError, GraphError
from depthscale.graph import Law, Op, Shape, laws, ops
from depthscale.graph.shapes import infer

OTHER = 7919  # factor by which the second batch differs: a prime that no model has as a size

Rule = Callable[["Mapper", dict[str, Any], FxNode], Value]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Decorator: the function below maps the ATen operations of these names."""

    def keep(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise CaptureError(f"expected one rule per ATen operation, got a second one for {name}")
            RULES[name] = function
        return function

    return keep


@dataclass
class Mapper:
    """The state of one walk.

    laws: of the module's parameters and buffers, by name; evaluator: values of statics. parts: laws of views that are
    parts of a parameter, where values can be read.
    """

    program: Program
    laws: Callable[[str], Law]
    evaluator: Evaluator
    batch: int
    parts: Callable[[Source], Law] | None = None
    drafts: list[Draft] = field(default_factory=list)
    values: dict[FxNode, Value] = field(default_factory=dict)
    flexible: bool = True  # no size in the program depends on the batch in a way that the graph cannot say
    lifted: dict[Any, Data] = field(default_factory=dict)
    inputs: dict[str, Data] = field(default_factory=dict)
    here: FxNode | None = None
    sizes: dict[int, tuple[Shape, Shape | None]] = field(default_factory=dict)  # of drafts, as in Data
    exact: dict[int, FxNode] = field(default_factory=dict)  # drafts that are, to the letter, the value of an FX node

    # --- the walk -------------------------------------------------------------------------------------------------

    def run(self) -> list[Data]:
        """Maps every node; the outputs that depend on the data."""
        for node in self.program.nodes:
            if node.op == "placeholder":
                self.values[node] = self._placeholder(node)
            elif node.op == "call_function":
                self.here = node
                self.values[node] = made = self._understood(node)
                if isinstance(made, Data):
                    self.exact.setdefault(made.draft, node)
            elif node.op != "output":
                raise CaptureError(f"there is no rule for {node.op} {node.target} {self.place(node)}")
        found = [self.values[n] for n in self.program.outputs]
        return [v for v in found if isinstance(v, Data)]

    def place(self, node: FxNode | None = None) -> str:
        """Where in the user's model a node stands."""
        node = node or self.here
        path = path_of(node) if node is not None else ""
        return f"in module {path!r}" if path else "at the top of the model"

    def fail(self, message: str) -> CaptureError:
        """An error that names the operation and the place."""
        return CaptureError(f"{operation(self.here) if self.here else 'capture'} {self.place()}: {message}")

    def _placeholder(self, node: FxNode) -> Value:
        value = self.program.inputs.get(node.name)
        if value is None or not value.is_floating_point():
            return Static(node, shape_of(node))
        return self.input(node)

    def input(self, node: FxNode) -> Data:
        """The Input node of a placeholder of data."""
        if node.name not in self.inputs:
            shape = shape_of(node)
            batched = len(shape) > 0 and shape[0] == self.batch
            dtype = "float" if self.program.inputs[node.name].is_floating_point() else "int"
            op = ops.Input(shape[1:] if batched else shape, dtype, batched)
            self.drafts.append(Draft(op, (), node, node.name, {}))
            other = (self.batch * OTHER, *shape[1:]) if batched else shape
            self.inputs[node.name] = Data(len(self.drafts) - 1, shape, other)
            self.exact[len(self.drafts) - 1] = node
            self.sizes[len(self.drafts) - 1] = shape, other
        return self.inputs[node.name]

    def _understood(self, node: FxNode) -> Value:
        """A call's value; what a rule did not foresee becomes an error that names the operation and the place."""
        try:
            return self._call(node)
        except DepthscaleError:
            raise
        except Exception as error:
            raise self.fail(
                f"its rule does not know this use of it ({type(error).__name__}: {_first_line(error)}); use the "
                "measured diagnosis, which runs the model as it is"
            ) from error

    def _call(self, node: FxNode) -> Value:
        name = operation(node)
        if name == "getitem":
            return self._getitem(node)
        given = torch.fx.node.map_arg(arguments(node), lambda n: self.values[n])
        special = SPECIAL.get(name)
        if special is not None and (made := special(self, given, node)) is not None:
            return made
        if not any(_moves(v) for v in _leaves(given)):
            if in_place(node):
                self.evaluator.value(node)  # in order: later reads must see it
            return Static(node, shape_of(node))
        if 0 in shape_of(node):  # nothing, joined to something sooner or later
            return Static(node, shape_of(node))
        found = RULES.get(name)
        if found is None:
            raise CaptureError(
                f"there is no rule for the operation aten.{name} {self.place(node)}; "
                "add one to depthscale/capture/rules, or use the measured diagnosis, which runs the model as it is"
            )
        try:
            made = found(self, given, node)
        except CaptureError:
            raise
        except GraphError as error:
            raise CaptureError(f"aten.{name} {self.place(node)}: {error}") from error
        self._check(made, node)
        return made

    def _getitem(self, node: FxNode) -> Value:
        source, index = node.args[0], node.args[1]
        assert isinstance(source, FxNode)
        assert isinstance(index, int)
        value = self.values[source]
        return Static(node, shape_of(node)) if isinstance(value, Static) else value[index]

    def _check(self, made: Value, node: FxNode) -> None:
        if isinstance(made, Data) and isinstance(node.meta.get("val"), Tensor) and made.shape != shape_of(node):
            raise self.fail(f"its rule makes a tensor of shape {made.shape}, the model {shape_of(node)}")

    # --- what rules use -------------------------------------------------------------------------------------------

    def emit(self, op: Op, *inputs: Data, leaf: str = "", **weights: Source | None) -> Data:
        """A new node of the graph fed by these."""
        assert self.here is not None
        shape = infer(op, *[x.shape for x in inputs])
        other: Shape | None = None
        if self.flexible and all(x.other is not None for x in inputs):
            try:
                other = infer(op, *[x.other for x in inputs])
            except GraphError:
                self.flexible = False
        sources = {k: v for k, v in weights.items() if v is not None}
        self.sizes[len(self.drafts)] = shape, other
        self.drafts.append(Draft(op, tuple(x.draft for x in inputs), self.here, leaf, sources))
        return Data(len(self.drafts) - 1, shape, other)

    def op(self, x: Data) -> Op:
        """The op that made a value."""
        return self.drafts[x.draft].op

    def inner(self, x: Data | int, i: int = 0) -> int:
        """The draft that feeds input i of a value's op."""
        return self.drafts[x.draft if isinstance(x, Data) else x].inputs[i]

    def data(self, value: Value) -> Data:
        """A value as a node of the graph: statics become Parameter or Constant nodes."""
        if isinstance(value, Data):
            return value
        if isinstance(value, Static):
            return self.lift(value)
        if isinstance(value, int | float):
            key = ("number", float(value))
            if key not in self.lifted:
                self.lifted[key] = self.emit(ops.Constant((), laws.Constant(float(value))))
            return self.lifted[key]
        raise self.fail(f"expected a tensor, got {type(value).__name__}")

    def full(self, value: Value) -> Data:
        """A value as a node of its whole shape: nothing is left to broadcasting."""
        from depthscale.capture.rules.layout import expand

        made = self.data(value)
        if not isinstance(value, Static) or made.shape == value.shape:
            return made
        return expand(self, self.broadcasts(made, len(value.shape)), value.shape)

    def lift(self, value: Static) -> Data:
        """A static tensor as a node; axes along which it repeats itself have size 1 (it broadcasts)."""
        if value.fx in self.lifted:
            return self.lifted[value.fx]
        law, source, shape = self.describe(value)
        trainable = bool(source.names)
        op: Op = ops.Parameter(shape, law) if trainable else ops.Constant(shape, law)
        leaf = source.names[0].rpartition(".")[2] if trainable and source.steps is not None else "constant"
        made = self.emit(op, leaf=leaf, **({"weight": source} if trainable else {}))
        self.lifted[value.fx] = made
        return made

    def describe(self, value: Static) -> tuple[Law, Source, Shape]:
        """Law, source and shape (axes of repeats shrunk to 1) of a static tensor."""
        source, shape = self.traced(value)
        if source.steps is not None:
            return self.law(source, shape), source, shape
        tensor = self.evaluate(value)
        for i, n in enumerate(tensor.shape):
            if n > 1 and bool((tensor == tensor.narrow(i, 0, 1)).all()):
                tensor = tensor.narrow(i, 0, 1)
        return read_law(tensor.float(), f"the value of {value.fx.name}"), source, tuple(tensor.shape)

    def law(self, source: Source, shape: Shape) -> Law:
        """The law of a view of one parameter: of a part its own where that can be read, else that of the whole."""
        name = source.names[0]
        if not _cuts(source):
            return self.laws(name)
        read = self.parts(source) if self.parts is not None else None
        return without_structure(self.laws(name), shape) if read is None else read

    def evaluate(self, value: Static) -> Tensor:
        """The value of a static tensor."""
        try:
            made = self.evaluator.value(value.fx)
        except CaptureError as error:
            raise type(error)(str(self.fail(str(error)))) from error  # NotFollowed stays what it is
        except Exception as error:
            raise self.fail(f"cannot evaluate {value.fx.name}: {_first_line(error)}") from error
        assert isinstance(made, Tensor)
        return made

    def source(self, value: Static) -> Source:
        """What a static tensor is made of."""
        return self.traced(value)[0]

    def traced(self, value: Static) -> tuple[Source, Shape]:
        """What a static tensor is made of, and its shape before it was expanded for its last user."""
        steps: list[Step] = []
        node, shape = value.fx, value.shape
        while node.op != "placeholder":
            name, tensors = operation(node), node.all_input_nodes
            if name.startswith("expand") and not steps and tensors:
                shape = shape_of(tensors[0])
            elif len(tensors) != 1 or name not in VIEWS | COPIES | {"getitem"} or name == "expand":
                return Source(self._ancestors(value.fx), None), value.shape
            elif name not in COPIES:
                steps.append(Step(node.target, tuple(node.args[1:]), tuple(node.kwargs.items())))
            node = tensors[0]
        if node.name in self.program.parameters:
            return Source((self.program.parameters[node.name],), tuple(reversed(steps))), shape
        return Source((), None), value.shape

    def _ancestors(self, node: FxNode) -> tuple[str, ...]:
        """The parameters that a static tensor depends on."""
        seen: set[FxNode] = set()
        found: dict[str, None] = {}
        stack = [node]
        while stack:
            top = stack.pop()
            if top in seen:
                continue
            seen.add(top)
            if top.name in self.program.parameters:
                found[self.program.parameters[top.name]] = None
            stack.extend(top.all_input_nodes)
        return tuple(found)

    def weight(self, value: Value, shape: Shape, turn: bool = False) -> tuple[Law | None, Source | None]:
        """The law and source of a layer's own weight; (None, None) where it must be fed (computed, or data).

        turn: the layer wants the transposed matrix.
        """
        if not isinstance(value, Static):
            return None, None
        source, own = self.traced(value)
        if source.steps is None or own != value.shape:
            return None, None
        law = self.law(source, shape)
        if turn:
            source = Source(source.names, (*source.steps, Step(torch.ops.aten.t.default, ())))
        return law, source

    def vector(self, value: Value) -> tuple[Law | None, Source | None]:
        """The law and source of a bias or a gain; absent ones have none."""
        if value is None:
            return None, None
        if not isinstance(value, Static):
            raise self.fail("expected a bias or gain that does not depend on the data")
        law, source, _ = self.describe(value)
        return law, source if source.names else None

    def constant(self, value: Value) -> float | None:
        """The number that a value is, where it is one: a number, or a static tensor of one value without parameters."""
        if isinstance(value, bool) or value is None:
            return None
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, Static) and not self._ancestors(value.fx):
            tensor = self.evaluate(value)
            if tensor.numel() and bool((tensor == tensor.flatten()[0]).all()):
                return float(tensor.flatten()[0])
        return None

    def broadcasts(self, x: Data, ndim: int) -> Data:
        """x with axes of size 1 in front up to ``ndim`` axes."""
        while len(x.shape) < ndim:
            x = self.emit(ops.Unsqueeze(0), x)
        return x


Special = Callable[[Mapper, dict[str, Any], FxNode], Value | None]
SPECIAL: dict[str, Special] = {}  # operations that are looked at even where no argument is data (noise, lookups)


def special(*names: str) -> Callable[[Special], Special]:
    """Decorator: the function below sees these operations first; None leaves them to the ordinary way."""

    def keep(function: Special) -> Special:
        SPECIAL.update(dict.fromkeys(names, function))
        return function

    return keep


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [leaf for v in value for leaf in _leaves(v)]
    return [value]


def _moves(value: Any) -> bool:
    return isinstance(value, Data | Noise)


_CUTS = ("select", "slice", "chunk", "split", "unbind", "narrow", "getitem")


def _cuts(source: Source) -> bool:
    return any(cut in str(step.target) for step in source.steps or () for cut in _CUTS)


def axes_of(dim: Any, ndim: int) -> tuple[int, ...]:
    """Axes counted from the front; None or an empty list: all."""
    if dim is None or (isinstance(dim, Sequence) and len(dim) == 0):
        return tuple(range(ndim))
    dims = dim if isinstance(dim, Sequence) else [dim]
    return tuple(sorted(int(d) % max(ndim, 1) for d in dims))


def as_int(value: Any) -> int:
    """A size or index of a program."""
    return int(value)


def is_close(a: float, b: float) -> bool:
    """Equal up to rounding."""
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12)


__all__ = ["COPIES", "RULES", "SPECIAL", "Hidden", "Mapper", "Source", "Step", "as_int", "axes_of", "rule", "special"]
