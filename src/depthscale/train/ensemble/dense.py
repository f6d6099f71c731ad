"""Fully connected networks, all members at once, forward and back written out per op: no autograd, no allocation.

Values are (E, units, B), rows innermost: a layer is one ``baddbmm`` W x + b, a batch that all members share makes the
first layer a single matrix product, and f and f' are one pass in place each. Where the optimiser allows it the weight
gradient is accumulated straight into the momentum (see ``update``). A program for one batch size is a list of thunks
over buffers that are made once.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from depthscale.graph import Graph, ops
from depthscale.train.ensemble.arena import Arena
from depthscale.train.ensemble.loss import Loss
from depthscale.train.ensemble.pointwise import Tanh, Thunk
from depthscale.train.ensemble.rules import RULES
from depthscale.train.ensemble.update import Stack, Update, over

_NAMES_VECTORS = "vectors"


def refusal(graph: Graph) -> str | None:
    """Why this program cannot run a graph; None where it can."""
    shapes = graph.shapes()
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return "it has several inputs or outputs"
    for node in graph.nodes:
        op, kind = node.op, type(node.op).__name__
        if type(op) not in RULES:
            return f"{node.name} is a {kind}"
        if getattr(op, "shared", None) is not None:
            return f"{node.name} shares its parameters"
        if isinstance(op, ops.Input):
            if op.dtype != "float" or not op.batched:
                return f"{node.name} is no batch of floating-point rows"
        elif isinstance(op, ops.Flatten):
            if not isinstance(graph[node.inputs[0]].op, ops.Input) or len(shapes[node.name]) != 2:
                return f"{node.name} flattens more than the input"
        elif len(shapes[node.name]) != 2:
            return f"{node.name} is not one vector per row"
        if isinstance(op, ops.Linear) and op.weight is None:
            return f"{node.name} is fed its weight"
        if isinstance(op, ops.Activation) and op.function == "rrelu":
            return f"{node.name} draws random numbers"
        if isinstance(op, ops.Dropout) and op.p > 0:
            return f"{node.name} draws random numbers"
        if isinstance(op, ops.Add) and len({shapes[i] for i in node.inputs}) > 1:
            return f"{node.name} adds different shapes"
    return None


class Dense:
    """The members' parameters, and the programs that train and evaluate them."""

    engine = "dense"

    def __init__(self, graph: Graph, stack: Stack, update: Update, loss: Loss, *, shared: bool) -> None:
        self.graph, self.update, self.loss, self.shared = graph, update, loss, shared
        self.shapes = {name: shape[1] for name, shape in _flat_shapes(graph).items()}
        first = next(iter(stack.values()))
        self.arena = Arena(first.dtype, first.device)
        self.weights = {k: v for k, v in stack.items() if v.dim() == 3}
        vectors = {k: v for k, v in stack.items() if v.dim() == 2}
        self._places: dict[str, slice] = {}
        at = 0
        for name, v in vectors.items():
            self._places[name] = slice(at, at + v.shape[1])
            at += v.shape[1]
        self.vectors = torch.cat(list(vectors.values()), 1) if vectors else first.new_zeros(len(first), 0)
        self.running = {
            f"{n.name}.{kind}": first.new_full((len(first), self.shapes[n.name]), float(kind == "running_var"))
            for n in graph.nodes
            if isinstance(n.op, ops.BatchNorm)
            for kind in ("running_mean", "running_var")
        }
        self._programs: dict[tuple[int, bool], Program] = {}

    def __len__(self) -> int:
        return len(self.vectors)

    def stack(self) -> Stack:
        """Parameters and running statistics by name (E, *shape); views, not copies."""
        found = dict(self.weights)
        found.update({name: self.vectors[:, place] for name, place in self._places.items()})
        return {**found, **self.running}

    def vector(self, name: str) -> Tensor:
        """A bias or gain (E, n)."""
        return self.vectors[:, self._places[name]]

    def place(self, name: str) -> slice:
        """Where a bias or gain stands among the vectors."""
        return self._places[name]

    def select(self, keep: Tensor) -> None:
        """Go on with these members only; the others' memory and time are free."""
        self.weights = {k: v[keep] for k, v in self.weights.items()}
        self.vectors = self.vectors[keep]
        self.running = {k: v[keep] for k, v in self.running.items()}
        self.update.select(keep)
        self._programs.clear()

    def step(self, x: Tensor, y: Tensor, factor: float) -> Tensor:
        """Train on one batch, x (B, …) or (E, B, …), at ``factor`` of the rates; the losses before the step (E,)."""
        rows = x.shape[0 if self.shared else 1]
        program = self._program(rows, True)
        program.load(x)
        program.run(program.forward)
        loss = self.loss(program.out, y, self.update.factor(), program.out_gradient)
        program.run(program.backward)
        if self.update.fused:
            self._move_vectors(program.vector_gradients)
        else:
            parameters = {**self.weights, _NAMES_VECTORS: self.vectors}
            gradients = {**program.weight_gradients, _NAMES_VECTORS: program.vector_gradients}
            self.update.apply(parameters, gradients, factor)
        return loss

    def outputs(self, x: Tensor) -> Tensor:
        """The outputs (E, C, N) for rows that all members share, in evaluation mode; valid until the next call."""
        program = self._program(len(x), False)
        program.load(x)
        program.run(program.forward)
        return program.out

    def _move_vectors(self, gradient: Tensor) -> None:
        """The fused update of everything that is a vector; its gradients carry the rate."""
        if not self.vectors.numel():
            return
        if self.update.common_momentum == 0:
            self.vectors.sub_(gradient)
            return
        v = self.update.memory("momentum", _NAMES_VECTORS, self.vectors)
        v.mul_(over(self.update.momentum, v)).sub_(gradient)
        self.vectors.add_(v)

    def _program(self, rows: int, training: bool) -> "Program":
        if (rows, training) not in self._programs:
            self._programs[rows, training] = Program(self, rows, training)
        return self._programs[rows, training]


class Program:
    """The straight line of thunks for one number of rows. Evaluation shares its batch and keeps nothing."""

    def __init__(self, net: Dense, rows: int, training: bool) -> None:
        self.net, self.rows, self.training = net, rows, training
        self.members, self.shared = len(net), net.shared or not training
        self.forward: list[Thunk] = []
        self.backward: list[Thunk] = []
        self.values: dict[str, Tensor] = {}
        self.kept: dict[str, Any] = {}  # what a node's way back needs besides
        self.scaled: dict[str, Tanh] = {}  # products that deliver a multiple of their value, by who wants it
        self._gradients: dict[str, Tensor] = {}
        self._pool: dict[tuple[int, ...], list[Tensor]] = {}
        self._count = 0
        self._mode = "train" if training else "test"
        self.graph, self.alias = net.graph, _aliases(net.graph)
        self.nodes = [n for n in self.graph.nodes if n.name not in self.alias]
        self.sources = {n.name: tuple(self.alias.get(i, i) for i in n.inputs) for n in self.nodes}
        self.users: dict[str, list[str]] = {n.name: [] for n in self.nodes}
        for name, sources in self.sources.items():
            for source in sources:
                self.users[source].append(name)
        out = self.graph.outputs[0]
        self.output = self.alias.get(out, out)
        self.input = self.graph.inputs[0]
        self._last = {s: name for name, sources in self.sources.items() for s in sources}
        self._load_input()
        for node in self.nodes:
            if node.name != self.input:
                RULES[type(node.op)][0](self, node.name, node.op)
                self._drop(node.name)
        self.out = self.values[self.output]
        self.weight_gradients: Stack = {}
        self.vector_gradients = self.net.arena("vector gradients", *net.vectors.shape)
        if training:
            self._compile_backward()

    def run(self, thunks: list[Thunk]) -> None:
        """Run a list of thunks."""
        for thunk in thunks:
            thunk()

    def load(self, x: Tensor) -> None:
        """Bring a batch in: (B, …) where it is shared, else (E, B, …)."""
        self.x.copy_(x.reshape(self.x.shape))

    # --- values and gradients ---------------------------------------------------------------------------------------

    def value(self, name: str) -> Tensor:
        """A new buffer (E, units, B) for a node's value."""
        shape = (self.members, self.net.shapes[name], self.rows)
        if not self.training and self._pool.get(shape):
            self.values[name] = self._pool[shape].pop()
        else:
            label = name
            if not self.training:
                self._count += 1
                label = str(self._count)
            self.values[name] = self.net.arena(f"{self._mode} value {label}", *shape)
        return self.values[name]

    def value_over(self, name: str, source: str) -> Tensor:
        """A buffer for the value of a node that may overwrite its source's, where nobody else reads that."""
        alone = self.alone(source)
        free = not self.training or not isinstance(self.graph[source].op, ops.Activation)
        if alone and free and self.net.shapes[source] == self.net.shapes[name]:
            self.values[name] = self.values[source]
            return self.values[name]
        return self.value(name)

    def alone(self, source: str) -> bool:
        """Whether one node only reads a node's value."""
        return len(self.users[source]) == 1 and source not in (self.input, self.output)

    def scale(self, name: str) -> Callable[[], float]:
        """What the reader of a product's value wants it multiplied by; known when the program runs."""
        return lambda: self.scaled[name].scale if name in self.scaled else 1.0

    def _drop(self, name: str) -> None:
        """Evaluation: what has been read for the last time may be overwritten."""
        if self.training:
            return
        for source in dict.fromkeys(self.sources[name]):
            buffer = self.values.get(source)
            if buffer is None or self._last[source] != name or source == self.output:
                continue
            if all(buffer is not self.values.get(other) for other in (name, self.output)):
                self._pool.setdefault(tuple(buffer.shape), []).append(buffer)

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """A gradient buffer."""
        held = self._pool.setdefault(shape, [])
        if held:
            return held.pop()
        self._count += 1
        return self.net.arena(f"gradient {self._count}", *shape)

    def give(self, buffer: Tensor) -> None:
        """A gradient buffer that is no longer needed."""
        self._pool.setdefault(tuple(buffer.shape), []).append(buffer)

    def trains(self, source: str) -> bool:
        """Whether anybody wants the gradient at a node."""
        return source != self.input

    def receive(self, source: str) -> tuple[Tensor, bool]:
        """The buffer that a gradient at ``source`` is written to, and whether it must be added to what is there."""
        if source in self._gradients:
            return self._gradients[source], True
        shape = (self.members, self.net.shapes[source], self.rows)
        self._gradients[source] = self.take(shape)
        return self._gradients[source], False

    def hand_over(self, source: str, g: Tensor) -> None:
        """The buffer ``g`` holds a gradient at ``source``, and belongs to it from now on."""
        if not self.trains(source):
            self.give(g)
        elif source in self._gradients:
            held = self._gradients[source]
            self.backward.append(lambda: held.add_(g))
            self.give(g)
        else:
            self._gradients[source] = g

    # --- compiling --------------------------------------------------------------------------------------------------

    def _load_input(self) -> None:
        net = self.net
        units = net.shapes[self.input]
        rows = (self.rows,) if self.shared else (self.members, self.rows)
        self.x = net.arena(f"{self._mode} input", *rows, units)
        if any(not isinstance(self.graph[u].op, ops.Linear) for u in self.users[self.input]):
            value, x = self.value(self.input), self.x
            self.forward.append(lambda: value.copy_(x.mT))  # rows innermost; shared rows are repeated

    def _compile_backward(self) -> None:
        self._pool, self._count = {}, 0
        self.out_gradient = self.take(tuple(self.out.shape))
        self._gradients[self.output] = self.out_gradient
        for node in reversed(self.nodes):
            g = self._gradients.pop(node.name, None)
            if g is not None and node.name != self.input:
                RULES[type(node.op)][1](self, node.name, node.op, g)

    def vector_gradient(self, name: str) -> Tensor:
        """Where the gradient (E, n) of a bias or gain goes."""
        return self.vector_gradients[:, self.net.place(name)]


def _aliases(graph: Graph) -> dict[str, str]:
    """Nodes that change nothing, with the node whose value is theirs."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        plain = isinstance(node.op, ops.Activation) and node.op.function == "identity"
        if plain or isinstance(node.op, ops.Flatten | ops.Dropout):
            found[node.name] = found.get(node.inputs[0], node.inputs[0])
    return found


def _flat_shapes(graph: Graph) -> dict[str, tuple[int, int]]:
    """Every node's (1, units); the input's flattened."""
    found = {}
    for name, shape in graph.shapes().items():
        units = 1
        for n in shape[1:]:
            units *= n
        found[name] = (1, units)
    return found
