"""Writing graphs: wires that know their shape, and scopes that name what is built in them.

    net = Builder()
    x = net.input(1, 28, 28)
    with net.scope("stem"):
        x = x.then(ops.Conv(6, (5, 5)))
    graph = net.graph(x)

Shapes are checked as soon as an op is added, so a mistake shows on the line that makes it.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from depthscale.errors import GraphError
from depthscale.graph import ops
from depthscale.graph.graph import Graph, Node, Shape, located
from depthscale.graph.op import Op
from depthscale.graph.shapes import infer, input_shape

_SHORT = {"BatchNorm": "norm", "LayerNorm": "norm", "RMSNorm": "norm", "GroupNorm": "norm", "InstanceNorm": "norm"}
_SHORT |= {"Activation": "act", "PReLU": "act", "MaxPool": "pool", "AvgPool": "pool", "AdaptivePool": "pool"}
_SHORT |= {"Reduce": "pool", "Multiply": "mul", "ConvTranspose": "conv"}


@dataclass(frozen=True)
class Wire:
    """The output of a node while a graph is being written; ``shape`` has the batch (1) in front."""

    builder: "Builder"
    name: str
    shape: Shape

    @property
    def channels(self) -> int:
        """Size of axis 1: channels of images, features of vectors."""
        return self.shape[1]

    def then(self, op: Op, *others: "Wire", name: str | None = None) -> "Wire":
        """The output of an op fed by this wire (and others behind it)."""
        return self.builder.add(op, self, *others, name=name)

    def __add__(self, other: "Wire") -> "Wire":
        return self.then(ops.Add(), other)

    def __mul__(self, other: "Wire") -> "Wire":
        return self.then(ops.Multiply(), other)

    def scope(self, name: str) -> AbstractContextManager[None]:
        """``builder.scope``, for blocks that are handed a wire only."""
        return self.builder.scope(name)


class Builder:
    """Collects nodes; ``graph`` makes the immutable Graph."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._names: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._path: tuple[str, ...] = ()

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Names inside get ``name.`` in front; a ``#`` at its end is replaced by a running number: block1, block2, …"""
        outer = self._path
        self._path = (*outer, self._numbered(name[:-1]) if name.endswith("#") else name)
        try:
            yield
        finally:
            self._path = outer

    def _numbered(self, stem: str) -> str:
        full = ".".join((*self._path, stem))
        self._counts[full] += 1
        return f"{stem}{self._counts[full]}"

    def add(self, op: Op, *wires: Wire, name: str | None = None) -> Wire:
        """The output of ``op`` fed by ``wires``; without a name it is called after its kind: conv1, norm1, …"""
        leaf = name or self._numbered(_SHORT.get(type(op).__name__, type(op).__name__.lower()))
        full = ".".join((*self._path, leaf))
        if full in self._names:
            raise GraphError(f"expected unique node names, got {full!r} twice")
        node = Node(full, op, tuple(w.name for w in wires))
        try:
            shape = input_shape(op, 1) if isinstance(op, ops.Input) else infer(op, *[w.shape for w in wires])
        except GraphError as error:
            raise located(error, node) from error
        self._names.add(full)
        self._nodes.append(node)
        return Wire(self, full, shape)

    def input(self, *shape: int, name: str = "input", dtype: str = "float") -> Wire:
        """Data from outside; ``shape`` is one example's."""
        return self.add(ops.Input(shape, dtype), name=name)

    def graph(self, *outputs: Wire) -> Graph:
        """The finished graph."""
        return Graph(tuple(self._nodes), tuple(w.name for w in outputs))
