"""What a network costs, known before anything is built: parameters, multiply-adds, activation memory, depth.

Multiply-adds count contractions (linear, convolution, matrix products, attention), as torch's flop counter and the
papers do; a "FLOP count" in the other convention is twice this number.
"""

import math
from dataclasses import dataclass

from depthscale.graph import ops
from depthscale.graph.graph import Graph, Shape
from depthscale.graph.op import Op
from depthscale.graph.parameters import all_parameters
from depthscale.graph.rules import Rule

multiply_adds: Rule[int] = Rule("cost", "graph/cost.py")


@dataclass(frozen=True)
class Cost:
    """Cost of one forward pass: numbers for the whole batch; bytes are those of float32 elements."""

    parameters: int
    multiply_adds: int
    activation_bytes: int  # every node's output: what training keeps for the way back
    peak_bytes: int  # the most that is alive at once when nothing is kept
    depth: int  # layers with weights (linear, convolution, attention products) on the longest path

    @property
    def parameter_bytes(self) -> int:
        """Bytes of the parameters in float32."""
        return 4 * self.parameters

    @property
    def training_bytes(self) -> int:
        """A lower bound on the memory of a training step: weights, gradients, two moments and activations."""
        return 4 * self.parameter_bytes + self.activation_bytes


_FREE = set(ops.WITHOUT_PARAMETERS) - set(ops.CONTRACTIONS)


@multiply_adds.register(*_FREE, *ops.NORMS, ops.Parameter, ops.Embedding, ops.PReLU, ops.Scale)
def _(op: Op, out: Shape, *shapes: Shape) -> int:
    return 0


@multiply_adds.register(ops.Linear)
def _(op: ops.Linear, out: Shape, x: Shape, weight: Shape | None = None) -> int:
    return math.prod(out) * x[-1]


@multiply_adds.register(ops.Conv)
def _(op: ops.Conv, out: Shape, x: Shape, weight: Shape | None = None) -> int:
    return math.prod(out) * (x[1] // op.groups) * math.prod(op.kernel)


@multiply_adds.register(ops.ConvTranspose)
def _(op: ops.ConvTranspose, out: Shape, x: Shape) -> int:
    return math.prod(x) * (op.out_channels // op.groups) * math.prod(op.kernel)


@multiply_adds.register(ops.MatMul)
def _(op: ops.MatMul, out: Shape, a: Shape, b: Shape) -> int:
    return math.prod(out) * a[-1]


@multiply_adds.register(ops.Attention)
def _(op: ops.Attention, out: Shape, q: Shape, k: Shape, v: Shape, mask: Shape | None = None) -> int:
    return math.prod(q) * k[-2] + math.prod(out) * k[-2]


def cost(graph: Graph, batch: int = 1) -> Cost:
    """Cost of a graph for a batch; needs neither torch nor memory, whatever the size of the network."""
    shapes = graph.shapes(batch)
    size = {name: math.prod(shape) for name, shape in shapes.items()}
    depth = graph.fold(lambda op, *d: max(d, default=0) + isinstance(op, ops.LAYERS))
    return Cost(
        parameters=sum(spec.count for spec in all_parameters(graph).values()),
        multiply_adds=sum(multiply_adds(n.op, shapes[n.name], *[shapes[i] for i in n.inputs]) for n in graph.nodes),
        activation_bytes=4 * sum(size.values()),
        peak_bytes=4 * _peak(graph, size),
        depth=max(depth[name] for name in graph.outputs),
    )


def _peak(graph: Graph, size: dict[str, int]) -> int:
    """Most elements alive at once when a value is dropped after its last use."""
    last = {name: name for name in graph.by_name}
    for node in graph.nodes:
        for source in node.inputs:
            last[source] = node.name
    dying: dict[str, list[str]] = {}
    for name, user in last.items():
        if name not in graph.outputs:
            dying.setdefault(user, []).append(name)
    alive = peak = 0
    for node in graph.nodes:
        alive += size[node.name]
        peak = max(peak, alive)
        alive -= sum(size[name] for name in dying.get(node.name, ()))
    return peak
