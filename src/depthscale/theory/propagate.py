"""Mean-field propagation over a whole graph: moments forward, gradients backward, and what they say.

The rules are in ``forward`` and ``backward``; here they are folded over a graph, with a cache: a rule that has seen
the same op and the same moments answers at once, so repeated layers that have converged cost nothing.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from depthscale.errors import GraphError, TheoryError
from depthscale.graph import ops
from depthscale.graph.graph import Graph, Node, located
from depthscale.graph.op import Op
from depthscale.graph.parameters import owner
from depthscale.numerics.estimate import Array
from depthscale.theory import copula
from depthscale.theory.backward import Pulled, backward, gradient
from depthscale.theory.backward_elementwise import slope_classes, slope_times_classes, through
from depthscale.theory.backward_pool import max_pool_back
from depthscale.theory.forward import Setting, forward
from depthscale.theory.forward_contraction import gaussian_spread
from depthscale.theory.forward_elementwise import averages_of, elementwise, standard
from depthscale.theory.forward_pool import max_pool, pool_windows
from depthscale.theory.fusion import Fused, averages_of_expression, fuse
from depthscale.theory.index_algebra import simplify
from depthscale.theory.moments import REACH, Axis, State, add_states, aligned, coarse, same_class, state
from depthscale.theory.verdict import Totals, Verdict, judge, summarise

T = TypeVar("T")
_CACHE_SIZE = 16384


@dataclass(frozen=True)
class InputStats:
    """What is known of the data: E[x²], E[x], and how two elements correlate.

    c: E[x x']/E[x²] of two examples at one element. channels: correlation of two channels of one example. spatial:
    correlation at distance 1, 2 and farther along each spatial axis (natural images: about 0.95, 0.9 and 0.5).
    The default is white noise of unit variance.
    """

    second_moment: float = 1.0
    mean: float = 0.0
    c: float = 0.0
    channels: float = 0.0
    spatial: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        finite = math.isfinite(self.second_moment) and math.isfinite(self.mean)
        if not finite or self.second_moment <= 0 or self.mean**2 > self.second_moment * (1 + 1e-12):
            raise TheoryError(
                "expected an input's second moment to be positive and at least its mean squared, "
                f"got second moment {self.second_moment} and mean {self.mean}; give E[x²], not the variance."
            )
        if any(not -1 <= r <= 1 for r in (self.c, self.channels, *self.spatial)):
            raise TheoryError(f"expected correlations of an input between -1 and 1, got {self}; divide by E[x²].")

    def state(self, op: ops.Input, batch: int) -> State:
        """The moments of a batch of such data."""
        shape = (batch, *op.shape) if op.batched else op.shape
        axes = tuple(Axis(n, REACH if i >= 2 and op.dtype == "float" else 1) for i, n in enumerate(shape))
        if op.dtype == "int":  # the probability that two places hold the same index
            return state(axes, same_class(axes), 0.0)
        variance = max(self.second_moment - self.mean**2, 0.0)
        other = (self.c * self.second_moment - self.mean**2) / variance if variance > 0 else 0.0
        q = np.ones((1,) * len(axes))
        for i, axis in enumerate(axes):
            first = op.batched and i == 0
            far = other if first else self.channels if i == (1 if op.batched else 0) else None
            values = [1.0, far] if far is not None else [1.0, *self.spatial]
            index = np.minimum(np.arange(axis.classes), len(values) - 1)
            row = np.array(values, dtype=float)[index]
            q = q * row.reshape([-1 if k == i else 1 for k in range(len(axes))])
        x = state(axes, self.mean**2 + variance * q, self.mean)
        return State(x.axes, x.mean, x.q, gaussian_spread(x))


@dataclass(frozen=True)
class Row:
    """What propagation says of one node.

    mean, q, variance: E[x], E[x²], Var x of an element; c: correlation E[xx']/q of two inputs at one unit (nan where
    there is one input only); g: E[(∂/∂x)²] for unit-variance gradients at the outputs; chi: what the op multiplies the
    energy (sum of squares) of the gradient by on its way back; error: standard deviation of q relative to q at the
    network's finite width; dead: share of units that no input of the batch activates (ReLU-like functions, else nan).
    """

    name: str
    op: Op
    shape: tuple[int, ...]
    mean: float
    q: float
    variance: float
    c: float
    g: float
    chi: float
    error: float
    dead: float

    @property
    def kind(self) -> str:
        """The op's type, or the function that an Activation names."""
        return self.op.function if isinstance(self.op, ops.Activation) else type(self.op).__name__

    @property
    def energy(self) -> float:
        """Sum of squares of the gradient, per example."""
        return self.g * math.prod(self.shape[1:])


@dataclass(frozen=True, eq=False)
class Propagation:
    """Moments of every node, gradients of every parameter, and totals; see ``Row``, ``Totals`` and ``Verdict``.

    gradients: E[(∂L/∂θ)²] of an element of every parameter, by full name ("layer1.linear1.weight").
    """

    rows: tuple[Row, ...]
    gradients: Mapping[str, float]
    totals: Totals
    verdict: Verdict
    states: Mapping[str, State]
    gradient_states: Mapping[str, State]

    def __getitem__(self, name: str) -> Row:
        """The row of a node."""
        for row in self.rows:
            if row.name == name:
                return row
        raise GraphError(f"expected the name of a node, got {name!r}; {len(self.rows)} rows exist")

    @property
    def trains(self) -> bool:
        """Whether signals and gradients reach both ends; ``reason`` says what stands in the way."""
        return self.verdict.trains

    @property
    def reason(self) -> str:
        """One line: what stands in the way, or that nothing does."""
        return self.verdict.reason

    def __str__(self) -> str:
        """A text table, one line per node, and the verdict."""
        head = f"{'node':<32} {'op':<12} {'q':>10} {'c':>7} {'g':>10} {'chi':>8} {'±q':>6}"
        lines = [head]
        for r in self.rows:
            numbers = f"{r.q:>10.4g} {r.c:>7.4f} {r.g:>10.4g} {r.chi:>8.4f} {r.error:>6.1%}"
            lines.append(f"{r.name:<32.32} {r.kind:<12.12} {numbers}")
        return "\n".join([*lines, f"{'trains' if self.trains else 'will not train'}: {self.reason}"])


class _Cache:
    """Results of rules by what went in; least recently used ones go."""

    def __init__(self, size: int) -> None:
        self._table: OrderedDict[Any, Any] = OrderedDict()
        self._size = size

    def get(self, key: Any, compute: Callable[[], T]) -> T:
        try:
            value: T = self._table[key]
        except KeyError:
            value = self._table[key] = compute()
            if len(self._table) > self._size:
                self._table.popitem(last=False)
            return value
        self._table.move_to_end(key)
        return value

    def clear(self) -> None:
        self._table.clear()


_cache = _Cache(_CACHE_SIZE)


def propagate(
    graph: Graph,
    *,
    q_input: float = 1.0,
    c_input: float = 0.0,
    inputs: InputStats | Mapping[str, InputStats] | None = None,
    batch: int = 32,
    training: bool = True,
) -> Propagation:
    """The moments of every node's values and gradients at initialisation, in the mean-field limit.

    q_input, c_input: second moment of the data and correlation of two examples; ``inputs`` says more, for all inputs or
    by name. batch: examples that batch normalisation sees. training: dropout drops and batch normalisation uses the
    batch (else its running statistics, 0 and 1). Gradients start from independent unit-variance ones at the outputs.
    Raises GraphError (shapes that do not fit, an op without a rule) and TheoryError (a moment that does not exist).
    Poole et al. 2016, Schoenholz et al. 2017; the propagated state is derived in ``theory/moments.py``.
    """
    if batch < 1:
        raise GraphError(f"expected a batch of at least 1, got {batch}")
    stats = InputStats(q_input, c=c_input) if inputs is None else inputs
    setting = Setting(batch, training)
    fused = fuse(graph)
    states = _forward(graph, stats, setting, fused)
    pulled = _Backward(graph, states, setting, fused).run()
    rows = tuple(_row(node, states, pulled) for node in graph.nodes)
    totals = summarise(graph, rows, pulled.parameters)
    return Propagation(rows, pulled.parameters, totals, judge(rows, totals), states, pulled.shown)


def _forward(
    graph: Graph, stats: InputStats | Mapping[str, InputStats], setting: Setting, fused: Mapping[str, Fused]
) -> dict[str, State]:
    values: dict[str, State] = {}
    for node in graph.nodes:
        if isinstance(node.op, ops.Input):
            own = stats if isinstance(stats, InputStats) else stats.get(node.name, InputStats())
            values[node.name] = own.state(node.op, setting.batch)
            continue
        plan = fused.get(node.name)
        xs = [values[plan.root]] if plan else [values[i] for i in node.inputs]
        try:
            values[node.name] = _forward_rule(plan or node.op, setting, xs)
        except GraphError as error:
            raise located(error, node) from error
        except TheoryError as error:
            raise TheoryError(f"node {node.name!r}: {error}") from error
    return values


def _forward_rule(op: Op | Fused, setting: Setting, xs: list[State]) -> State:
    def compute() -> State:
        return _fused_forward(op, xs[0]) if isinstance(op, Fused) else forward(op, setting, *xs)

    return _cache.get(("forward", op, setting, *[x.key for x in xs]), compute)


def _fused_forward(plan: Fused, x: State) -> State:
    act = averages_of_expression(plan.expression)
    if plan.pool is None:
        return elementwise(act, x)
    return max_pool(x, pool_windows(plan.pool, x), act).y


class _Backward:
    """The way back: gradients by node, summed over users; those of fused nodes go straight to their root."""

    def __init__(self, graph: Graph, states: dict[str, State], setting: Setting, fused: Mapping[str, Fused]) -> None:
        self.graph, self.states, self.setting, self.fused = graph, states, setting, fused
        self.flowing: dict[str, State] = {}  # what is passed on
        self.shown: dict[str, State] = {}  # what is reported: also gradients inside fused expressions
        self.parameters: dict[str, float] = {}
        self.chi: dict[str, float] = {}
        # E[(g x)_i (g x)_j] at the outputs of normalisations, and whether that is only the product of the moments
        self.met: dict[str, tuple[State, bool]] = {}

    def run(self) -> "_Backward":
        for name in self.graph.outputs:
            axes = self.states[name].axes
            self._add(name, gradient(axes, same_class(axes)))
        for node in reversed(self.graph.nodes):
            g = self.flowing.get(node.name)
            if g is not None:
                try:
                    self._pull(node, g)
                except GraphError as error:
                    raise located(error, node) from error
        return self

    def _add(self, name: str, g: State, *, only_shown: bool = False, met: State | None = None) -> None:
        if not only_shown:
            self.flowing[name] = simplify(add_states(self.flowing.get(name), g))
            if isinstance(self.graph[name].op, ops.NORMS):
                plain = met is None
                met = through(g, self.states[name], self.states[name].q) if met is None else met
                before = self.met.get(name)
                self.met[name] = add_states(before[0] if before else None, met), plain and (not before or before[1])
        self.shown[name] = simplify(add_states(self.shown.get(name), g))

    def _pull(self, node: Node, g: State) -> None:
        plan = self.fused.get(node.name)
        pulled = self._rule(node, g)
        for source, gx in zip(node.inputs, pulled.inputs, strict=True):
            if gx is not None and (plan is None or source != plan.root):
                self._add(source, gx, only_shown=plan is not None, met=self._meeting(node, g, source))
        if plan is not None:
            x = self.states[plan.root]
            key = ("fused backward", plan, self.setting, g.key, x.key)
            gx = _cache.get(key, lambda: _fused_backward(plan, g, x))
            self._add(plan.root, gx)
            pulled = Pulled((gx,), {})
        for name, square in pulled.parameters.items():
            full = f"{owner(node.name, node.op)}.{name}"
            self.parameters[full] = self.parameters.get(full, 0.0) + square
        arrived = sum(gx.length * gx.size for gx in pulled.inputs if gx is not None)
        left = g.length * g.size
        self.chi[node.name] = arrived / left if left > 0 and pulled.inputs else math.nan

    def _meeting(self, node: Node, g: State, source: str) -> State | None:
        """E[(g x)_i (g x)_j] at the input x of an activation behind a normalisation, which needs it."""
        if not isinstance(node.op, ops.Activation) or not isinstance(self.graph[source].op, ops.NORMS):
            return None
        if node.op.function in ("identity", "affine", "neg"):
            return None
        op, x = node.op, self.states[source]
        return _cache.get(("met", op, g.key, x.key), lambda: through(g, x, slope_times_classes(averages_of(op), x)))

    def _rule(self, node: Node, g: State) -> Pulled:
        y, xs = self.states[node.name], [self.states[i] for i in node.inputs]
        if node.name in self.met and not self.met[node.name][1]:
            g = replace(g, gx=_met_classes(g, self.met[node.name][0]))
        key = ("backward", node.op, self.setting, g.key, y.key, *[x.key for x in xs])
        return _cache.get(key, lambda: backward(node.op, self.setting, g, y, *xs))


def _met_classes(g: State, met: State) -> Array:
    """E[(g x)(g x)'] in the classes of g."""
    a, b = aligned(g, met)
    return b.q if a.axes == g.axes else coarse(b).q if coarse(b).axes == g.axes else b.q


def _fused_backward(plan: Fused, g: State, x: State) -> State:
    act = averages_of_expression(plan.expression)
    if plan.pool is None:
        return through(g, x, slope_classes(act, x))
    return max_pool_back(g, x, pool_windows(plan.pool, x), act)


_FLAT_BELOW = ("relu", "relu6", "threshold")


def _row(node: Node, states: Mapping[str, State], pulled: _Backward) -> Row:
    x, g = states[node.name], pulled.shown.get(node.name)
    dead = math.nan
    if isinstance(node.op, ops.Activation) and node.op.function in _FLAT_BELOW:
        dead = dead_units(states[node.inputs[0]])
    mean, q = x.average, x.length
    return Row(
        name=node.name,
        op=node.op,
        shape=x.shape,
        mean=mean,
        q=q,
        variance=max(q - mean**2, 0.0),
        c=x.correlation if not isinstance(node.op, ops.Input) or node.op.dtype == "float" else math.nan,
        g=g.length if g is not None else 0.0,
        chi=pulled.chi.get(node.name, math.nan),
        error=math.sqrt(max(x.spread, 0.0)),
        dead=dead,
    )


def dead_units(x: State) -> float:
    """P(a unit's pre-activation is negative for all examples and positions), from their average correlation."""
    from scipy.special import ndtr

    if len(x.axes) < 2 or x.part_axis is not None:
        return math.nan
    m, v, rho = standard(x)
    if v == 0:
        return float(m <= 0)
    over = [i for i in range(len(x.axes)) if i != 1]
    n = math.prod(x.axes[i].n for i in over)
    average = rho
    for i in reversed(range(len(x.axes))):
        average = np.take(average, 0, axis=i) if i == 1 else np.tensordot(average, x.axes[i].weights, ([i], [0]))
    r = (float(average) * n - 1) / (n - 1) if n > 1 else 0.0
    r = min(max(r, 0.0), 1 - 1e-9)
    z = copula.nodes()
    below = ndtr((-m / math.sqrt(v) - math.sqrt(r) * z) / math.sqrt(1 - r))
    return copula.average(below**n)
