"""What each weighted layer of a graph is there for: what it reads, what its output is for, whether it ends a branch.

Diagnosis names causes by it and repair chooses laws by it. A *site* is a weighted layer; the *function* behind it is
the elementwise function of its output that the next layers see, whether an Activation or one written out
(x·σ(1.7x)); a *residual sum* adds a branch to a trunk that the branch itself depends on.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from depthscale.diagnose.carried import Carried, carried
from depthscale.errors import TheoryError
from depthscale.graph import Graph, Node, Op, ops
from depthscale.graph.laws import Fans
from depthscale.graph.parameters import owner, parameters
from depthscale.theory.activations import Activation
from depthscale.theory.forward_elementwise import averages_of
from depthscale.theory.fusion import Fused, averages_of_expression, fuse
from depthscale.theory.resolve import activation

WEIGHTED = (ops.Linear, ops.Conv, ops.ConvTranspose)
# ops that pass a signal on without bending it; those that keep channels where they are come first
CARRIES = (
    ops.Dropout, ops.DropPath, ops.Flatten, ops.AvgPool, ops.AdaptivePool, ops.MaxPool, ops.Upsample, ops.Resize,
    ops.Take, ops.Pad, ops.Reduce, ops.Unflatten, ops.Reshape, ops.Permute, ops.Squeeze, ops.Unsqueeze, ops.Expand,
    ops.Slice, ops.Select, ops.Roll, ops.Scale,
)  # fmt: skip
PLAIN = ("identity", "affine", "neg")  # functions that do not bend


@dataclass(frozen=True)
class Function:
    """An elementwise function in its place: of node ``root``, given out by node ``node``."""

    name: str
    act: Activation
    root: str
    node: str


@dataclass(frozen=True)
class Site:
    """A weighted layer in its place.

    reads: data, function, norm, sum, product, concat or other, with ``before`` the function if it is one. feeds:
    function, norm, sum, product, output, layer or several, with ``after`` likewise. depth: weighted layers on the
    longest path up to and with this one. sw2, sb2: Var W · fan_in and Var b; mean: E[w] (in units of 1/fan_in).
    branch: the residual sum that this layer is the last of a branch of, or "". gates: the product it is the gate of.
    """

    node: Node
    reads: str
    before: Function | None
    feeds: str
    after: Function | None
    depth: int
    fan_in: float
    fan_out: float
    sw2: float
    sb2: float
    mean: float
    branch: str
    gates: str

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name


@dataclass(frozen=True)
class Residual:
    """A sum of a trunk and a branch; ends: the last weighted layers of the branch; scaled: by the graph itself."""

    name: str
    trunk: str
    branch: str
    ends: tuple[str, ...]
    scaled: bool
    projection: tuple[str, ...] = ()


class Structure:
    """The roles of a graph's nodes, found once."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.fused = fuse(graph)
        self.place = {node.name: i for i, node in enumerate(graph.nodes)}
        self.depth = graph.fold(lambda op, *d: max(d, default=0) + isinstance(op, WEIGHTED))

    # --- reachability ---------------------------------------------------------------------------------------------

    @cached_property
    def ancestors(self) -> dict[str, int]:
        """For every node the set of nodes it depends on, itself among them, as the bits of an integer."""
        found: dict[str, int] = {}
        for i, node in enumerate(self.graph.nodes):
            bits = 1 << i
            for source in node.inputs:
                bits |= found[source]
            found[node.name] = bits
        return found

    def depends(self, name: str, on: str) -> bool:
        """Whether a node is a function of another (or is it)."""
        return bool(self.ancestors[name] >> self.place[on] & 1)

    @cached_property
    def of_data(self) -> frozenset[str]:
        """Nodes that depend on an input."""
        found: set[str] = set()
        for node in self.graph.nodes:
            if isinstance(node.op, ops.Input) or any(i in found for i in node.inputs):
                found.add(node.name)
        return frozenset(found)

    # --- functions ------------------------------------------------------------------------------------------------

    @cached_property
    def functions(self) -> dict[str, Function]:
        """The elementwise functions that bend, by the node that gives them out: only the last of each chain."""
        found: dict[str, Function] = {}
        for node in self.graph.nodes:
            function = self._function(node)
            if function is not None:
                found[node.name] = function
        inner = {
            name
            for name in found
            for user in self.graph.consumers[name]
            if user in found and found[user].root == found[name].root
        }
        inside = {name for name in inner if all(u in found for u in self.graph.consumers[name])}
        inside |= {name for name, f in found.items() if self._swallowed(name, f.root, found)}
        return {name: f for name, f in found.items() if name not in inside}

    def _swallowed(self, name: str, root: str, found: Mapping[str, Function]) -> bool:
        """Whether a value of a root is read by larger functions of it alone, as √(x² + 4) is by (x + √(x² + 4))/2."""
        if name in self.graph.outputs:
            return False
        users = self.graph.consumers[name]
        return bool(users) and all(
            found[u].root == root if u in found else self._sums(u, root) and self._swallowed(u, root, found)
            for u in users
        )

    def _sums(self, name: str, root: str) -> bool:
        """Whether a node adds a root to a function of it."""
        plan = self.fused.get(name)
        return plan is not None and plan.pool is None and plan.root == root and self._gate_like(plan)

    def _is_step(self, name: str) -> bool:
        """Whether a sum is a step on the way to a function."""
        plan = self.fused.get(name)
        return plan is not None and self._sums(name, plan.root) and self._swallowed(name, plan.root, self.functions)

    def _function(self, node: Node) -> Function | None:
        op = node.op
        try:
            plan = self.fused.get(node.name)
            if plan is not None:
                if plan.pool is not None or self._gate_like(plan):
                    return None
                act = averages_of_expression(plan.expression)
                return Function(_name_of(plan), act, plan.root, node.name)
            if isinstance(op, ops.Activation) and op.function not in PLAIN:
                return Function(op.function.replace("_", " "), averages_of(op), node.inputs[0], node.name)
            if isinstance(op, ops.PReLU):
                slope = op.weight.moments((1,), Fans(1, 1)).mean
                act = activation("leaky_relu", negative_slope=slope)
                return Function("prelu", act, node.inputs[0], node.name)
        except TheoryError:
            return None
        return None

    def _gate_like(self, plan: Fused) -> bool:
        """A residual sum with nothing on its branch but a function is not an activation of its own."""
        return isinstance(plan.expression.op, ops.Add) and any(a.op is None for a in plan.expression.arguments)

    # --- walks ----------------------------------------------------------------------------------------------------

    def carries(self, node: Node) -> str | None:
        """The input that a node passes on unbent, if it is such a node: layouts, pools, dropout, added parameters."""
        op = node.op
        if node.name in self.functions:
            return None
        if isinstance(op, ops.Activation) and op.function in PLAIN:
            return node.inputs[0]
        if isinstance(op, CARRIES):
            return node.inputs[0]
        if isinstance(op, ops.Add | ops.Subtract):
            data = [i for i in node.inputs if i in self.of_data]
            return data[0] if len(data) == 1 else None
        return None

    def source_of(self, name: str) -> str:
        """The node that shaped a value: back through what only passes it on."""
        while (back := self.carries(self.graph[name])) is not None:
            name = back
        return name

    def users_of(self, name: str) -> Iterator[str]:
        """The nodes that a value is for, through what only passes it on; "" for the graph's output."""
        stack, seen = [name], set()
        while stack:
            here = stack.pop()
            users = self.graph.consumers[here]
            if here in self.graph.outputs:
                yield ""
            for user in dict.fromkeys(users):
                node = self.graph[user]
                function = next((f for f in self._roots.get(here, ())), None)
                if function is not None and self._within(user, function):
                    if function.node not in seen:
                        seen.add(function.node)
                        yield function.node
                elif self.carries(node) == here:
                    stack.append(user)
                elif user not in seen:
                    seen.add(user)
                    yield user

    @cached_property
    def _roots(self) -> dict[str, list[Function]]:
        found: dict[str, list[Function]] = {}
        for function in self.functions.values():
            found.setdefault(function.root, []).append(function)
        return found

    def _within(self, user: str, function: Function) -> bool:
        """Whether a user of a function's root is a step of computing it."""
        return user == function.node or self.depends(function.node, user)

    # --- sums -----------------------------------------------------------------------------------------------------

    @cached_property
    def residuals(self) -> dict[str, Residual]:
        """Residual sums by their node."""
        found: dict[str, Residual] = {}
        for node in self.graph.nodes:
            bare = node.name not in self.functions and node.name not in self.carried.sums
            if isinstance(node.op, ops.Add) and bare and not self._is_step(node.name):
                residual = self._residual(node)
                if residual is not None:
                    found[node.name] = residual
        return found

    def _residual(self, node: Node) -> Residual | None:
        data = [i for i in dict.fromkeys(node.inputs) if i in self.of_data]
        if len(data) < 2 or any(i in self._recurrent for i in data):  # W x + U h is one layer in two pieces
            return None
        for trunk in data:
            others = [o for o in data if o != trunk]
            if all(self.depends(o, self.source_of(trunk)) for o in others):
                branch = max(others, key=lambda o: self.depth[o])
                if self.depth[branch] == self.depth[trunk] and not self._weighted_between(branch, trunk):
                    continue
                return Residual(node.name, trunk, branch, *self._ends(branch, trunk))
        return self._projected(node, data)

    @cached_property
    def _recurrent(self) -> frozenset[str]:
        """Weighted layers whose weights are used again on what they made themselves."""
        uses: dict[str, list[str]] = {}
        for node in self.graph.nodes:
            if isinstance(node.op, WEIGHTED):
                uses.setdefault(self.key(node.name), []).append(node.name)
        again = (names for names in uses.values() if len(names) > 1 and self.depends(names[-1], names[0]))
        return frozenset(name for names in again for name in names)

    def _projected(self, node: Node, data: list[str]) -> Residual | None:
        """A sum whose trunk goes through a projection: both ways start at one hidden value."""
        both = self.ancestors[data[0]]
        for other in data[1:]:
            both &= self.ancestors[other]
        if not both:
            return None
        meeting = self.graph.nodes[both.bit_length() - 1].name
        if self.depth[meeting] == 0:
            return None  # two readings of the data: one layer in two pieces
        trunk, *rest = sorted(data, key=lambda d: self.depth[d])
        branch = rest[-1]
        if self.depth[branch] <= self.depth[trunk] or self.depth[trunk] > self.depth[meeting] + 1:
            return None
        ends, scaled = self._ends(branch, meeting)
        return Residual(node.name, trunk, branch, ends, scaled, self._ends(trunk, meeting)[0])

    def _weighted_between(self, name: str, stop: str) -> bool:
        bits = self.ancestors[name] & ~self.ancestors[stop]
        return any(isinstance(self.graph.nodes[i].op, WEIGHTED) for i in _bits(bits))

    def _ends(self, name: str, stop: str) -> tuple[tuple[str, ...], bool]:
        """The last weighted layers of a branch, and whether the graph scales what they add."""
        ends, scaled, stack, seen = [], False, [name], set()
        while stack:
            here = stack.pop()
            if here in seen or here == stop or self.depends(stop, here):
                continue
            seen.add(here)
            node = self.graph[here]
            if isinstance(node.op, WEIGHTED):
                ends.append(here)
                continue
            if isinstance(node.op, ops.Scale):
                scaled = True
            if isinstance(node.op, ops.Activation) and node.op.function == "affine":
                scaled = True
            stack.extend(i for i in node.inputs if i in self.of_data)
        return tuple(sorted(ends, key=lambda n: self.place[n])), scaled

    @cached_property
    def carried(self) -> Carried:
        """States that gates carry from step to step."""
        return carried(self.graph, self.functions)

    # --- sites ----------------------------------------------------------------------------------------------------

    @cached_property
    def sites(self) -> dict[str, Site]:
        """Every weighted layer with a weight of its own, by its node's name."""
        shapes = self.graph.shapes()
        branch_of = {end: r.name for r in self.residuals.values() for end in r.ends}
        found = {}
        for node in self.graph.nodes:
            if isinstance(node.op, WEIGHTED) and node.op.weight is not None and node.name in self.of_data:
                specs = parameters(node.op, *[shapes[i] for i in node.inputs])
                found[node.name] = self._site(node, specs, branch_of.get(node.name, ""))
        return found

    def _site(self, node: Node, specs: dict, branch: str) -> Site:  # type: ignore[type-arg]
        weight, fan = specs["weight"].moments, specs["weight"].fans
        bias = specs["bias"].moments if "bias" in specs else None
        reads, before = self._reads(node)
        feeds, after, gates = self._feeds(node)
        return Site(
            node,
            reads,
            before,
            feeds,
            after,
            self.depth[node.name],
            fan.fan_in,
            fan.fan_out,
            sw2=max(weight.mean_square - weight.mean**2, 0.0) * fan.fan_in,
            sb2=max(bias.mean_square, 0.0) if bias is not None else 0.0,
            mean=weight.mean * fan.fan_in,
            branch=branch,
            gates=gates,
        )

    def _reads(self, node: Node) -> tuple[str, Function | None]:
        source = self.source_of(node.inputs[0])
        op = self.graph[source].op
        if source in self.functions:
            return "function", self.functions[source]
        if isinstance(op, ops.Input | ops.Embedding):
            return "data", None
        return _KINDS.get(type(op), "layer" if isinstance(op, WEIGHTED) else "other"), None

    def _feeds(self, node: Node) -> tuple[str, Function | None, str]:
        users = list(dict.fromkeys(self.users_of(node.name)))
        if len(users) != 1:
            functions = [self.functions[u] for u in users if u in self.functions]
            return ("several" if users else "output"), (functions[0] if len(functions) == 1 else None), ""
        user = users[0]
        if not user:
            return "output", None, ""
        if user in self.functions:
            return "function", self.functions[user], self._gated_by(user)
        op = self.graph[user].op
        if isinstance(op, ops.Add) and user not in self.residuals:
            return self._through_sum(user)
        return _KINDS.get(type(op), "layer" if isinstance(op, WEIGHTED) else "other"), None, ""

    def _gated_by(self, function: str) -> str:
        """The first product that a function's value is a factor of, or ""."""
        return next((u for u in self.users_of(function) if u and isinstance(self.graph[u].op, ops.Multiply)), "")

    def _through_sum(self, name: str) -> tuple[str, Function | None, str]:
        """What a layer in several pieces (W h + U x) is for."""
        users = list(dict.fromkeys(self.users_of(name)))
        if len(users) == 1 and users[0] in self.functions:
            return "function", self.functions[users[0]], self._gated_by(users[0])
        if users == [""]:
            return "output", None, ""
        return "sum", None, ""

    def key(self, name: str) -> str:
        """The name that a node's parameters go by: shared ones have one."""
        return owner(name, self.graph[name].op)


def _name_of(plan: Fused) -> str:
    names: list[str] = []
    stack = [plan.expression]
    while stack:
        e = stack.pop()
        if isinstance(e.op, ops.Activation) and e.op.function not in PLAIN:
            names.append(e.op.function.replace("_", " "))
        stack.extend(e.arguments)
    return "a function written with " + " and ".join(dict.fromkeys(names)) if names else "a function written out"


def _bits(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


_KINDS: dict[type[Op], str] = {
    **dict.fromkeys(ops.NORMS, "norm"),
    ops.Add: "sum",
    ops.Subtract: "sum",
    ops.Multiply: "product",
    ops.Concat: "concat",
    ops.Stack: "concat",
    ops.Attention: "attention",
    ops.MatMul: "attention",
    ops.Softmax: "attention",
}


def log(x: float) -> float:
    """Natural logarithm that takes 0 for the smallest positive number."""
    return math.log(max(x, 1e-300))
