"""Which scopes of a graph can be modules of their own, and in which order what is in them runs.

A scope is a *unit* if it can be called: it holds parameters, reads none from elsewhere, and nothing outside lies
between its nodes (then nothing could run first). A scope that cannot be called is dissolved: it only names things.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from depthscale.build.plan import Plan
from depthscale.build.writing.templates import Expression, expression_of
from depthscale.graph import Node, ops

_SOURCES = (ops.Input, ops.Parameter, ops.Constant)


@dataclass(frozen=True)
class Unit:
    """One thing that runs: a node or a scope; ``reads`` are its arguments and ``yields`` its results, by node name."""

    path: str
    reads: tuple[str, ...]
    yields: tuple[str, ...]
    is_scope: bool = False


def inside(name: str, scope: str) -> bool:
    """Whether a dotted name lies in a scope ("" is the whole graph)."""
    return not scope or name.startswith(scope + ".")


def parent(name: str) -> str:
    """The scope that a dotted name lies in."""
    return name.rpartition(".")[0]


def label(name: str) -> str:
    """The last part of a dotted name."""
    return name.rpartition(".")[2]


class Scopes:
    """The scopes of a planned graph; with ``flat`` all are dissolved."""

    def __init__(self, plan: Plan, flat: bool = False) -> None:
        self.plan, self.flat = plan, flat
        self.running = [n for n in plan.graph.nodes if not isinstance(n.op, _SOURCES)]
        self._members: dict[str, list[Node]] = {"": self.running}
        for node in self.running:
            scope = parent(node.name)
            while scope:
                self._members.setdefault(scope, []).append(node)
                scope = parent(scope)
        self._units: dict[str, list[Unit]] = {}
        self._verdicts: dict[str, bool] = {}
        self._expressions: dict[str, Expression] = {}

    def is_source(self, name: str) -> bool:
        """Whether a node only gives a value that exists already (data, parameters, constants)."""
        return isinstance(self.plan.graph[name].op, _SOURCES)

    def is_tensor(self, name: str) -> bool:
        """Whether a node is a Parameter or Constant, which is read where it lies."""
        return isinstance(self.plan.graph[name].op, ops.Parameter | ops.Constant)

    @cached_property
    def _holding(self) -> set[str]:
        """Scopes with a layer somewhere in them."""
        held = set()
        for leaf in self.plan.leaves:
            while leaf := parent(leaf):
                held.add(leaf)
        return held

    def _can_be_called(self, scope: str) -> bool:
        if self.flat or scope not in self._holding or not self._members.get(scope):
            return False
        owners = (self.plan.owner(node) for node in self._members[scope])
        unit = self.unit(scope)
        return all(o is None or inside(o, scope) for o in owners) and bool(unit.yields)

    def unit(self, scope: str) -> Unit:
        """A scope seen from outside."""
        graph = self.plan.graph
        members = self._members[scope]
        reads = dict.fromkeys(
            source
            for node in members
            for source in node.inputs
            if not inside(source, scope) or (self.is_source(source) and not self.is_tensor(source))
        )
        yields = [
            n.name
            for n in members
            if n.name in graph.outputs or any(not inside(user, scope) for user in graph.consumers[n.name])
        ]
        return Unit(scope, tuple(reads), tuple(yields), True)

    def units(self, scope: str) -> list[Unit]:
        """What runs when a scope runs, in order; dissolved scopes are replaced by what is in them."""
        if scope not in self._units:
            self._units[scope] = self._ordered(scope)
        return self._units[scope]

    def _ordered(self, scope: str) -> list[Unit]:
        dissolved: set[str] = set()
        while True:
            units = list(self._candidates(scope, dissolved))
            order, stuck = _sorted(units)
            if not stuck:
                return order
            dissolved.add(next(u.path for u in stuck if u.is_scope))

    def _candidates(self, scope: str, dissolved: set[str]) -> Iterator[Unit]:
        seen: set[str] = set()
        for node in self._members[scope]:
            top = self._outermost(node.name, scope, dissolved)
            if top is None:
                yield Unit(node.name, node.inputs, (node.name,))
            elif top not in seen:
                seen.add(top)
                yield self.unit(top)

    def _outermost(self, name: str, scope: str, dissolved: set[str]) -> str | None:
        """The largest callable scope around a node below ``scope``."""
        parts = name.split(".")
        for depth in range(scope.count(".") + 2 if scope else 1, len(parts)):
            path = ".".join(parts[:depth])
            if path not in dissolved and self._callable(path):
                return path
        return None

    def _callable(self, path: str) -> bool:
        if path not in self._verdicts:
            self._verdicts[path] = self._can_be_called(path)
        return self._verdicts[path]

    def expression(self, name: str) -> Expression:
        """The template of a node's expression."""
        if name not in self._expressions:
            self._expressions[name] = expression_of(self.plan, self.plan.graph[name])
        return self._expressions[name]

    def nodes(self, scope: str) -> Iterator[Node]:
        """All nodes of a scope in the order in which they run."""
        for unit in self.units(scope):
            if unit.is_scope:
                yield from self.nodes(unit.path)
            else:
                yield self.plan.graph[unit.path]

    def leaves(self, scope: str) -> list[str]:
        """The layers in a scope, in the order of the graph."""
        return [path for path in self.plan.leaves if inside(path, scope)]

    def consumers(self, name: str) -> Sequence[str]:
        """The nodes that read a value."""
        return self.plan.graph.consumers[name]


def _sorted(units: Sequence[Unit]) -> tuple[list[Unit], list[Unit]]:
    """Units in an order that respects what they read, nearest to the one given; and those caught in a cycle."""
    maker = {value: unit for unit in units for value in unit.yields}
    done: set[str] = set()
    order: list[Unit] = []
    waiting = list(units)
    while waiting:
        # the first that is ready, always from the front: the order given is kept wherever it can be
        ready = next((u for u in waiting if all(maker[r].path in done for r in u.reads if r in maker)), None)
        if ready is None:
            return order, waiting
        waiting.remove(ready)
        done.add(ready.path)
        order.append(ready)
    return order, []


def randomness(nodes: Iterable[Node]) -> list[str]:
    """The nodes that draw random numbers in training, in order: sources must draw in the order of modules."""
    kinds = (ops.Dropout, ops.DropPath)
    return [
        n.name
        for n in nodes
        if isinstance(n.op, kinds)
        or (isinstance(n.op, ops.Attention) and n.op.dropout > 0)
        or (isinstance(n.op, ops.Activation) and n.op.function == "rrelu")
    ]
