"""Layers that start linear: units in mirrored pairs.

With W = [[A, −A], [−A, A]] the units of a layer come in pairs h = (u, −u), and what the next layer makes of them is
A (φ(u) − φ(−u)): twice the odd part o(u) of φ, which for ReLU, GELU, SiLU, softplus and all that differ from x/2 by an
even function is u itself (Balduzzi et al. 2017, "looks linear"). So a deep network of orthogonal A starts as an
orthogonal linear map, and its constant parts cancel.

Which functions can have it is a matter of the graph alone: everything that feeds the function must be weighted
layers that feed nothing else, and everything that reads it weighted layers that see its units side by side along
their own input axis, whatever layouts, pools and concatenations lie between.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from depthscale.diagnose.structure import WEIGHTED, Function, Structure
from depthscale.graph import Graph, Node, Op, edit, ops

Segment = tuple[str, int]  # the node of a function whose pairs lie here ("": none), and how many entries
Segments = tuple[Segment, ...]


@dataclass(frozen=True)
class Units:
    """How a tensor's features lie: along which axis, and in which stretches of mirrored pairs."""

    axis: int
    segments: Segments

    @property
    def size(self) -> int:
        """Entries along the axis."""
        return sum(n for _, n in self.segments)


@dataclass(frozen=True)
class Pairing:
    """functions: those that can be paired, by node. reads: per weighted layer, the stretches of its input.

    writes: per weighted layer whose output is paired, the function it is paired for.
    """

    functions: Mapping[str, Function]
    reads: Mapping[str, Segments]
    writes: Mapping[str, str]


def pairing(s: Structure, wanted: Callable[[Function], bool], free: Callable[[str], bool]) -> Pairing:
    """Which functions can start linear. wanted: those that should. free: whether a layer's weight may be set."""
    producers = {name: _producers(s, f) for name, f in s.functions.items() if wanted(f)}
    candidates = {name: made for name, made in producers.items() if made and _can_write(s, name, made, free)}
    while True:
        reads, spoiled = _spread(s, candidates, free)
        spoiled |= _unequal(s, candidates, reads)
        if not spoiled:
            break
        candidates = {name: made for name, made in candidates.items() if name not in spoiled}
    writes = {p: name for name, made in candidates.items() for p in made}
    return Pairing({n: s.functions[n] for n in candidates}, reads, writes)


def _producers(s: Structure, f: Function) -> tuple[str, ...]:
    """The weighted layers that a function's argument is made of, through sums, normalisations and layouts; or none."""
    found, stack = [], [f.root]
    while stack:
        node = s.graph[stack.pop()]
        if isinstance(node.op, WEIGHTED) and node.name in s.sites:
            found.append(node.name)
        elif isinstance(node.op, ops.BatchNorm) or (
            isinstance(node.op, ops.Add) and node.name not in s.residuals and node.name not in s.functions
        ):
            stack.extend(i for i in node.inputs if i in s.of_data)
        else:
            return ()
    return tuple(found)


def _can_write(s: Structure, name: str, producers: tuple[str, ...], free: Callable[[str], bool]) -> bool:
    shapes = s.graph.shapes()
    for p in producers:
        op = s.graph[p].op
        width = shapes[p][_out_axis(s.graph[p], shapes[p])]
        if not free(p) or width % 2 or width < 4 or getattr(op, "groups", 1) != 1:
            return False
        if set(_final_users(s, p)) != {name}:
            return False
    return True


def _final_users(s: Structure, name: str) -> set[str]:
    """The functions (or other ops) that a layer's output is for, through sums and normalisations on the way."""
    out: set[str] = set()
    stack = [name]
    while stack:
        for user in s.users_of(stack.pop()):
            node = s.graph[user] if user else None
            passes = node is not None and isinstance(node.op, ops.BatchNorm | ops.Add)
            if node is not None and passes and user not in s.functions and user not in s.residuals:
                stack.append(user)
            else:
                out.add(user)
    return out


def _out_axis(node: Node, shape: tuple[int, ...]) -> int:
    return len(shape) - 1 if isinstance(node.op, ops.Linear) else 1


def _spread(
    s: Structure, candidates: Mapping[str, tuple[str, ...]], free: Callable[[str], bool]
) -> tuple[dict[str, Segments], set[str]]:
    """How features lie at every layer's input; and the functions whose pairs reach what cannot read them."""
    shapes = s.graph.shapes()
    units: dict[str, Units | None] = {}
    reads: dict[str, Segments] = {}
    spoiled: set[str] = set()

    def spoil(which: Units | None) -> None:
        if which is not None:
            spoiled.update(f for f, _ in which.segments if f)

    for node in s.graph.nodes:
        shape = shapes[node.name]
        ins = [units.get(i) for i in node.inputs]
        if node.name in candidates:
            producer = s.graph[candidates[node.name][0]]
            axis = _out_axis(producer, shapes[producer.name])
            units[node.name] = Units(axis, ((node.name, shape[axis]),)) if axis < len(shape) else None
            continue
        if isinstance(node.op, WEIGHTED):
            x = ins[0]
            size = shapes[node.inputs[0]]
            axis = _out_axis(node, size) if isinstance(node.op, ops.Linear) else 1
            ok = x is not None and x.axis == axis and free(node.name) and getattr(node.op, "groups", 1) == 1
            ok = ok and node.name in s.sites
            if not ok:
                spoil(x)
            reads[node.name] = x.segments if ok and x is not None else (("", size[axis]),)
            units[node.name] = Units(_out_axis(node, shape), (("", shape[_out_axis(node, shape)]),))
            continue
        inside = [x for x in ins if x is not None]
        moved = _moved(node, inside, shapes) if len(inside) == len(ins) and inside else None
        if moved is None:
            for x in ins:
                spoil(x)
            axis = 1 if len(shape) > 1 else 0
            moved = Units(axis, (("", shape[axis]),)) if shape else None
        units[node.name] = moved
    for name in s.graph.outputs:
        spoil(units.get(name))
    return reads, spoiled & set(candidates)


def _moved(node: Node, ins: list[Units], shapes: Mapping[str, tuple[int, ...]]) -> Units | None:
    """The units behind an op that keeps pairs side by side; None behind any other."""
    op, x = node.op, ins[0]
    before, after = shapes[node.inputs[0]], shapes[node.name]
    if isinstance(op, ops.Dropout | ops.DropPath):
        return x
    if isinstance(op, ops.Activation) and op.function == "identity":
        return x
    if isinstance(op, ops.AvgPool | ops.AdaptivePool | ops.MaxPool | ops.Upsample | ops.Pad):
        return x if x.axis == 1 and before[1] == after[1] else None
    if isinstance(op, ops.Reduce):
        axes = {a % len(before) for a in op.axes}
        if op.kind not in ("mean", "sum") or x.axis in axes:
            return None
        return Units(x.axis if len(after) == len(before) else x.axis - sum(a < x.axis for a in axes), x.segments)
    if isinstance(op, ops.Select | ops.Slice):
        axis = op.axis % len(before)
        if axis == x.axis:
            return None
        return Units(x.axis - (isinstance(op, ops.Select) and axis < x.axis), x.segments)
    if isinstance(op, ops.Concat):
        axis = op.axis % len(after)
        if all(y.axis == axis for y in ins):
            return Units(axis, tuple(g for y in ins for g in y.segments))
        return None
    return _reshaped(op, x, before, after)


def _reshaped(op: Op, x: Units, before: tuple[int, ...], after: tuple[int, ...]) -> Units | None:
    if not isinstance(op, ops.Flatten | ops.Reshape | ops.Squeeze | ops.Unsqueeze | ops.Unflatten):
        return None
    if math.prod(before[: x.axis]) not in (math.prod(after[:k]) for k in range(len(after))):
        return None
    axis = next(
        (k for k in range(len(after)) if math.prod(after[:k]) == math.prod(before[: x.axis]) and after[k] > 1), None
    )
    if axis is None or after[axis] % before[x.axis]:
        return None
    times = after[axis] // before[x.axis]
    if times != 1 and math.prod(before[x.axis :]) != after[axis] * math.prod(after[axis + 1 :]):
        return None
    return Units(axis, tuple((f, n * times) for f, n in x.segments))


def _unequal(s: Structure, candidates: Mapping[str, tuple[str, ...]], reads: Mapping[str, Segments]) -> set[str]:
    """Functions around a shared weight whose places do not agree on what is paired."""
    writes = {p: name for name, made in candidates.items() for p in made}
    shared: dict[str, list[str]] = {}
    for name in s.sites:
        shared.setdefault(s.key(name), []).append(name)
    spoiled: set[str] = set()
    for names in shared.values():
        if len({n in writes for n in names}) > 1:
            spoiled |= {writes[n] for n in names if n in writes}
        if len({tuple((bool(f), n) for f, n in reads[name]) for name in names}) > 1:
            spoiled |= {f for name in names for f, _ in reads[name] if f}
    return spoiled & set(candidates)


# --- reading pairs off weights ---------------------------------------------------------------------------------------


def linearised(graph: Graph, functions: Mapping[str, Function], lengths: Mapping[str, float]) -> Graph:
    """The graph with paired functions replaced by what the next layers see of them.

    A layer with mirrored columns gives A o(u) of n/2 pairs, o(u) = φ(u) − φ(−u); independent weights of the same
    variance would give the sum of n values. So the stand-in is o(u)/√2, taken linear with its slope at length q
    (``lengths``, by the node of its argument).
    """
    nodes = []
    for node in graph.nodes:
        f = functions.get(node.name)
        if f is not None:
            scale = odd_slope(f, lengths.get(f.root, 1.0)) / math.sqrt(2)
            node = Node(node.name, ops.Activation("affine", (("scale", scale),)), (f.root,))
        nodes.append(node)
    return edit.prune(Graph(tuple(nodes), graph.outputs, graph.inputs))


def centred(graph: Graph, functions: Mapping[str, Function], readers: Mapping[str, Op]) -> Graph:
    """The graph with functions φ whose constant φ(0) their readers' biases take away as φ − φ(0), read without bias.

    functions: by node. readers: the layers that read them, by node, as they are to be.
    """
    nodes = []
    for node in graph.nodes:
        if node.name in functions:
            inner = f"{node.name}_raw"
            shift = ops.Activation("affine", (("shift", -centre(functions[node.name])),))
            nodes += [Node(inner, node.op, node.inputs), Node(node.name, shift, (inner,))]
        elif node.name in readers:
            nodes.append(Node(node.name, readers[node.name], node.inputs))
        else:
            nodes.append(node)
    return Graph(tuple(nodes), graph.outputs, graph.inputs)


_Z, _W = np.polynomial.hermite_e.hermegauss(64)
_W = _W / _W.sum()


def odd_slope(f: Function, q: float) -> float:
    """√E[o'(x)²] of o(x) = φ(x) − φ(−x) at length q."""
    x = math.sqrt(q) * _Z
    slope = f.act.derivative(x) + f.act.derivative(-x)
    return math.sqrt(float(_W @ slope**2))


def odd_spread(f: Function, q: float, paired: bool) -> float:
    """Var(s²)/E[s²]² of the slope s that a layer's gradient meets: what one layer takes from isometry."""
    x = math.sqrt(q) * _Z
    slope = f.act.derivative(x)
    if paired:
        slope = slope + f.act.derivative(-x)
    size = float(np.abs(slope).max())
    if size == 0:
        return math.inf
    slope = slope / size  # a saturated gate's are so small that their fourth powers would be zero
    return float(_W @ slope**4) / float(_W @ slope**2) ** 2 - 1


def centre(f: Function) -> float:
    """φ(0)."""
    return float(f.act(np.zeros(1))[0])


def is_odd(f: Function) -> bool:
    """Whether φ is odd about its value at 0, and so needs no pairs."""
    x = np.linspace(0.05, 6.0, 60)
    with np.errstate(all="ignore"):
        even = f.act(x) + f.act(-x) - 2 * centre(f)
    return bool(np.all(np.isfinite(even)) and np.max(np.abs(even)) < 1e-6 * (1 + np.max(np.abs(f.act(x)))))
