"""The rules folded over a graph: states of all nodes forward, gradients of all nodes and parameters back.

A rule that has seen the same op and the same moments answers from a cache, so repeated layers that have converged
cost nothing. Gradients of fused nodes (``fusion``) go straight to their root.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from depthscale.errors import DepthscaleError, GraphError, TheoryError
from depthscale.graph import laws, ops
from depthscale.graph.graph import Graph, Node, located
from depthscale.graph.op import Op
from depthscale.graph.parameters import owner
from depthscale.numerics.estimate import Array
from depthscale.theory.align import add_states, aligned, coarse, unbroadcast
from depthscale.theory.backward import backward
from depthscale.theory.backward_elementwise import slope_times_classes, through, through_function
from depthscale.theory.backward_pool import max_pool_back
from depthscale.theory.forward import forward
from depthscale.theory.forward_elementwise import averages_of, elementwise
from depthscale.theory.forward_pool import max_pool, pool_windows
from depthscale.theory.fusion import Fused, averages_of_expression
from depthscale.theory.index_algebra import simplify
from depthscale.theory.inputs import InputStats
from depthscale.theory.masks import bonus, depthwise_agreement, slope_agreement
from depthscale.theory.mixed import Mixture
from depthscale.theory.moments import State, same_class
from depthscale.theory.rules import Pulled, Setting, gradient, specs_of, summed, summed_pairs

T = TypeVar("T")
_CACHE_SIZE = 16384


class _Cache:
    """Results of rules by what went in; least recently used ones go."""

    def __init__(self, size: int) -> None:
        self._table: OrderedDict[Any, Any] = OrderedDict()
        self._size = size

    def get(self, key: Any, compute: Callable[[], T]) -> T:
        found = self._table.get(key, self)
        if found is not self:
            self._table.move_to_end(key)
            return cast(T, found)
        value = self._table[key] = compute()
        if len(self._table) > self._size:
            self._table.popitem(last=False)
        return value

    def clear(self) -> None:
        self._table.clear()


_cache = _Cache(_CACHE_SIZE)

# Mean squares at which theory holds what explodes: where single precision ends (numbers of 1e38), and little enough
# that the rules' own squares and cubes are finite in double precision.
CEILING = 1e76
GRADIENT_CEILING = 1e140


def held(x: State, ceiling: float) -> State:
    """The state, scaled down to a mean square of ``ceiling`` where it is larger."""
    if not x.length > ceiling:
        return x
    down = ceiling / x.length
    return x.with_q(x.q * down, x.mean * math.sqrt(down))


def walk_forward(
    graph: Graph, stats: InputStats | Mapping[str, InputStats], setting: Setting, fused: Mapping[str, Fused]
) -> dict[str, State]:
    """The moments of every node's value; errors come out with the node's name in front."""
    values: dict[str, State] = {}
    for node in graph.nodes:
        if isinstance(node.op, ops.Input):
            own = stats if isinstance(stats, InputStats) else stats.get(node.name, InputStats())
            values[node.name] = own.state(node.op, setting.batch)
            continue
        plan = fused.get(node.name)
        xs = [values[plan.root]] if plan else [values[i] for i in node.inputs]
        try:
            values[node.name] = held(_forward_rule(plan or node.op, setting, xs), CEILING)
        except GraphError as error:
            raise located(error, node) from error
        except TheoryError as error:
            raise TheoryError(f"node {node.name!r}: {error}") from error
        except DepthscaleError:
            raise
        except Exception as error:
            raise unforeseen(error, node, xs) from error
    return values


def unforeseen(error: Exception, node: Node, xs: list[State]) -> TheoryError:
    """What a rule of the theory did not expect, as an error that names the node, its op and its shapes."""
    text = (str(error).strip().splitlines() or [""])[0][:200]
    return TheoryError(
        f"node {node.name!r}: the theory's rule for {type(node.op).__name__} does not know this use of it, on "
        f"{', '.join(str(x.shape) for x in xs)} ({type(error).__name__}: {text}); use the measured diagnosis, which "
        "runs the model as it is"
    )


def _forward_rule(op: Op | Fused, setting: Setting, xs: list[State]) -> State:
    def compute() -> State:
        return _fused_forward(op, xs[0]) if isinstance(op, Fused) else forward(op, setting, *xs)

    return _cache.get(("forward", op, setting, *[x.key for x in xs]), compute)


def _fused_forward(plan: Fused, x: State) -> State:
    act = averages_of_expression(plan.expression)
    if plan.pool is None:
        return elementwise(act, x)
    return max_pool(x, pool_windows(plan.pool, x), act).y


_WEIGHTED = (ops.Linear, ops.Conv)
_MET = (*ops.NORMS, *_WEIGHTED)


def _is_bent(op: Op) -> bool:
    """Whether an op is an activation that is not an affine map."""
    return isinstance(op, ops.Activation) and op.function not in ("identity", "affine", "neg")


class Backward:
    """The way back: gradients by node, summed over users; those of fused nodes go straight to their root."""

    def __init__(
        self,
        graph: Graph,
        states: dict[str, State],
        setting: Setting,
        fused: Mapping[str, Fused],
        parts: Mapping[str, tuple[str, ...]] | None = None,
        mixtures: Mapping[str, Mixture] | None = None,
    ) -> None:
        self.graph, self.states, self.setting, self.fused = graph, states, setting, fused
        self.parts = parts or {}  # of pools of joined channels (``pooled``)
        self.mixtures = mixtures or {}
        self.sent: dict[str, State] = {}  # by part of a pool: the gradient at its input
        self.flowing: dict[str, State] = {}  # what is passed on
        self.shown: dict[str, State] = {}  # what is reported: also gradients inside fused expressions
        self.parameters: dict[str, float] = {}
        self.chi: dict[str, float] = {}
        self.bent: dict[str, list[tuple[Any, State]]] = {}  # by sum: gradients that came through an activation
        self.extra: dict[str, State] = {}  # by activation: what is added to its output's gradient before its slope
        # at outputs of layers and normalisations: what arrives, and E[(g x)_i (g x)_j] where it is not the product
        # of the moments
        self.arrived: dict[str, list[tuple[State, State | None]]] = {}
        self.bending = {n.name for n in graph.nodes if _is_bent(n.op) and n.name not in fused}

    def run(self) -> "Backward":
        """Pulls unit-variance gradients at the outputs back to every node."""
        for name in self.graph.outputs:
            axes = self.states[name].axes
            g = gradient(axes, same_class(axes))
            self._add(name, g.marked(spread=g.gaussian_spread))
        for node in reversed(self.graph.nodes):
            flowing = self.flowing.get(node.name)
            if flowing is not None:
                try:
                    self._pull(node, flowing)
                except GraphError as error:
                    raise located(error, node) from error
                except DepthscaleError:
                    raise
                except Exception as error:
                    raise unforeseen(error, node, [self.states[i] for i in node.inputs]) from error
        for name, parts in self.parts.items():
            if isinstance(self.graph.by_name[name].op, ops.Multiply):
                self._show_gated(name, *parts)
            else:
                self._show_joined(name, parts)
        for name, mixture in self.mixtures.items():
            self._show_mixture(name, mixture)
        return self

    def _show_mixture(self, total: str, of: Mixture) -> None:
        """What a mixture sends to α (y − x) and y − x, past which it went, and to α by way of 1 − α."""
        g = self.flowing.get(total)
        if g is None:
            return
        product = self.states[of.product]
        factors = self.states[of.share], self.states[of.difference]
        sent = backward(ops.Multiply(), self.setting, g, product, *factors).inputs[1]
        for name, more in ((of.product, unbroadcast(g, product.axes)), (of.difference, sent)):
            if more is not None:
                self.shown[name] = simplify(add_states(self.shown.get(name), more))
        full = f"{owner(of.share, self.graph.by_name[of.share].op)}.weight"
        self.parameters[full] = self.parameters.get(full, 0.0) + self.parameters.pop(f"{of.rest}.weight", 0.0)

    def _show_joined(self, pool: str, parts: tuple[str, ...]) -> None:
        """What a pool of joined channels sends to them, which went to each of them past the joined tensor."""
        sent = [self.sent.get(p) for p in parts]
        if any(g is None for g in sent):
            return
        op = self.graph[pool].op
        joined = forward(op, self.setting, *cast(list[State], sent))
        sources = tuple(self.graph[p].inputs[0] for p in parts)
        for node in self.graph.nodes:
            if node.inputs == sources and node.op == op:
                self.shown[node.name] = simplify(add_states(self.shown.get(node.name), joined))
        left = self.flowing[pool].length * self.flowing[pool].size
        self.chi[pool] = joined.length * joined.size / left if left > 0 else math.nan

    def _show_gated(self, pool: str, inside: str, product: str) -> None:
        """What a pool of gated channels sends to the product, past which it went."""
        g = self.flowing.get(pool)
        if g is None:
            return
        y, x = self.states[pool], self.states[product]
        sent = backward(self.graph.by_name[inside].op, self.setting, g, y, x).inputs[0]
        if sent is not None:
            self.shown[product] = simplify(add_states(self.shown.get(product), sent))
            left = g.length * g.size
            self.chi[pool] = sent.length * sent.size / left if left > 0 else math.nan

    def _add(self, name: str, g: State, *, only_shown: bool = False, met: State | None = None) -> None:
        g = held(g, GRADIENT_CEILING)
        flowing, shown = self.flowing.get(name), self.shown.get(name)
        total = simplify(g if shown is None else add_states(shown, g))
        self.shown[name] = total
        if not only_shown:
            self.flowing[name] = total if flowing is shown else simplify(add_states(flowing, g))
            if isinstance(self.graph.by_name[name].op, _MET):
                self.arrived.setdefault(name, []).append((g, met))

    def _met(self, name: str) -> State | None:
        """E[(g x)_i (g x)_j] at an output x; None where it is only the product of the moments of g and x."""
        arrived = self.arrived.get(name, ())
        if all(met is None for _, met in arrived):
            return None
        x, total = self.states[name], None
        for g, met in arrived:
            total = add_states(total, through(g, x, x.q) if met is None else met)
        return total

    def _pull(self, node: Node, g: State) -> None:
        plan = self.fused.get(node.name)
        extra = self.extra.get(node.name)
        pulled = self._rule(node, g if extra is None else add_states(g, extra).marked(spread=g.spread))
        self._follow_shortcut(node, pulled)
        if isinstance(node.op, ops.MaxPool) and pulled.inputs[0] is not None:
            self.sent[node.name] = pulled.inputs[0]
        for source, gx in zip(node.inputs, pulled.inputs, strict=True):
            if gx is not None and (plan is None or source != plan.root):
                gx = gx if gx.spread else gx.marked(spread=g.spread)  # most rules leave it as it is
                self._add(source, gx, only_shown=plan is not None, met=self._meeting(node, g, source))
        if plan is not None:
            x = self.states[plan.root]
            key = ("fused backward", plan, self.setting, g.key, x.key)
            arrived = _cache.get(key, lambda: _fused_backward(plan, g, x))
            arrived = arrived if arrived.spread else arrived.marked(spread=g.spread)
            self._add(plan.root, arrived, met=self._meeting_fused(plan, g))
            pulled = Pulled((arrived,), {})
        if isinstance(node.op, _WEIGHTED) and "weight" in pulled.parameters:
            square = max(pulled.parameters["weight"] + self._own_direction(node, g), 0.0)
            pulled = pulled._replace(parameters={**pulled.parameters, "weight": square})
        for name, square in pulled.parameters.items():
            full = f"{owner(node.name, node.op)}.{name}"
            self.parameters[full] = self.parameters.get(full, 0.0) + square
        energy = sum(gx.length * gx.size for gx in pulled.inputs if gx is not None)
        left = g.length * g.size
        self.chi[node.name] = energy / left if left > 0 and pulled.inputs else math.nan

    def _follow_shortcut(self, node: Node, pulled: Pulled) -> None:
        """Keeps what came through an activation, and adds what its slope shares with the one before (``masks``)."""
        nodes = self.graph.by_name
        if node.name in self.bending and isinstance(nodes[node.inputs[0]].op, ops.Add) and pulled.inputs[0]:
            self.bent.setdefault(node.inputs[0], []).append((node.op, pulled.inputs[0]))
        for outer, g in self.bent.get(node.name, ()) if isinstance(node.op, ops.Add) else ():
            for source in node.inputs:
                x, bend = self.states[source], self._bend_behind(source)
                if bend is None or x.part_axis is not None or x.shape != self.states[node.name].shape:
                    continue
                inner, h = cast(ops.Activation, nodes[bend].op), self.states[nodes[bend].inputs[0]]
                total = self.states[node.name]
                key = ("masks", outer, inner, total.key, h.key, x.key)
                agreement = _cache.get(key, lambda: slope_agreement(outer, total, inner, h, x))  # noqa: B023
                more: State | None = bonus(g, h, agreement)
                if bend != source and more is not None:
                    more = backward(nodes[source].op, self.setting, more, x, self.states[bend]).inputs[0]
                if more is not None:
                    self.extra[bend] = add_states(self.extra.get(bend), more)
        if isinstance(node.op, ops.Conv) and pulled.inputs[0] is not None:
            self._follow_channel(node, pulled.inputs[0])

    def _bend_behind(self, name: str) -> str | None:
        """The activation that a node is, or that it normalises."""
        node = self.graph.by_name[name]
        name = node.inputs[0] if isinstance(node.op, ops.BatchNorm) else name
        return name if name in self.bending else None

    def _follow_channel(self, node: Node, g: State) -> None:
        """Adds what the slopes around a convolution of every channel on its own share (``masks``)."""
        inner, users, source = self.graph.by_name.get(node.inputs[0]), self.graph.consumers[node.name], node.inputs[0]
        op, h = cast(ops.Conv, node.op), self.states[node.inputs[0]]
        taps = math.prod(op.kernel)
        if source not in self.bending or op.groups != h.axes[1].n or taps < 2 or len(users) != 1 or inner is None:
            return
        norm = self.graph.by_name[users[0]]
        after = self.graph.consumers[norm.name] if isinstance(norm.op, ops.BatchNorm) and self.setting.training else ()
        if len(after) != 1 or after[0] not in self.bending:
            return
        outer = cast(ops.Activation, self.graph.by_name[after[0]].op)
        before, kurtosis = self.states[inner.inputs[0]], 1.8 if isinstance(op.weight, laws.Uniform) else 3.0
        first = cast(ops.Activation, inner.op)
        key = ("channel", outer, first, before.key, taps, kurtosis)
        agreement = _cache.get(key, lambda: depthwise_agreement(outer, first, before, taps, kurtosis))
        self.extra[source] = add_states(self.extra.get(source), bonus(g, before, agreement))

    def _meeting(self, node: Node, g: State, source: str) -> State | None:
        """E[(g x)_i (g x)_j] at the input x of an activation behind a normalisation or a layer, which need it."""
        op, x = node.op, self.states[source]
        if not isinstance(op, ops.Activation) or not isinstance(self.graph.by_name[source].op, _MET):
            return None
        if not _is_bent(op):
            return None
        if averages_of(op).homogeneous and node.name not in self.fused:
            return through(g, x, self.states[node.name].q)  # x φ'(x) is φ(x)
        return _cache.get(("met", op, g.key, x.key), lambda: through(g, x, slope_times_classes(averages_of(op), x)))

    def _meeting_fused(self, plan: Fused, g: State) -> State | None:
        if plan.pool is None or not isinstance(self.graph[plan.root].op, _MET):
            return None
        x, act, pool = self.states[plan.root], averages_of_expression(plan.expression), plan.pool

        def compute() -> State:
            return max_pool_back(g, x, pool_windows(pool, x), act, times_x=True)

        return _cache.get(("met", plan, g.key, x.key), compute)

    def _own_direction(self, node: Node, g: State) -> float:
        """What a weight's gradient has in excess along the weight itself, where g depends on w·x: per element."""
        met = self._met(node.name) if len(node.inputs) == 1 else None
        if met is None:
            return 0.0
        spec = specs_of(node.op, self.states[node.inputs[0]])["weight"]
        mean, square = spec.moments
        if mean != 0 or square == 0:
            return 0.0
        y = self.states[node.name]
        channel = 1 if isinstance(node.op, ops.Conv) else len(y.axes) - 1
        together = summed(met.q, met.axes, (channel,))
        return (together - summed_pairs(g, y, (channel,))) / (spec.fans.fan_in**2 * square)

    def _rule(self, node: Node, g: State) -> Pulled:
        y, xs = self.states[node.name], [self.states[i] for i in node.inputs]
        met = self._met(node.name) if isinstance(node.op, ops.NORMS) else None
        if met is not None:
            g = g.marked(gx=_met_classes(g, met))
        key = ("backward", node.op, self.setting, g.key, y.key, *[x.key for x in xs])
        return _cache.get(key, lambda: backward(node.op, self.setting, g, y, *xs))


def _met_classes(g: State, met: State) -> Array:
    """E[(g x)(g x)'] in the classes of g."""
    a, b = aligned(g, met)
    return b.q if a.axes == g.axes else coarse(b).q if coarse(b).axes == g.axes else b.q


def _fused_backward(plan: Fused, g: State, x: State) -> State:
    act = averages_of_expression(plan.expression)
    if plan.pool is None:
        return through_function(g, x, act)
    return max_pool_back(g, x, pool_windows(plan.pool, x), act)
