"""Which units are the same ones: the spaces that the widths of a network are made of.

A layer's outputs are a space of units. Elementwise functions, pools and normalisations over other axes pass a space
on; a sum makes the spaces of its terms one; a concatenation puts several side by side; flattening gives each unit as
many entries as it has positions. An edit of one layer's width is an edit of its whole space: of all layers that make
it, of everything with a parameter per unit, and of all layers that read it. A space is locked where its width is not
ours to choose (the data, the outputs) or where an op mixes its units in a way that copies would change.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthscale.errors import GraphError
from depthscale.graph import Graph, Node, ops
from depthscale.graph.rules import Rule

Index = NDArray[np.intp]
Atom = tuple[int, int]  # a space, and how many entries of the axis each of its units has
Label = tuple[Atom, ...]  # the spaces along one axis, side by side; () for an axis that is none of ours
Labels = tuple[Label, ...]  # one per axis, the batch's included


@dataclass
class Space:
    """Units that are edited together.

    makers: layers that put them out. keepers: nodes with parameters per unit. readers: layers that take them in.
    locked: why the number of units cannot change, or "". groups: units come in so many groups of one size, which are
    read or normalised apart, so that all change alike. even: who averages over the units, so that copies preserve the
    function only where every unit is copied as often as every other ("": nobody).
    """

    size: int
    makers: list[str] = field(default_factory=list)
    keepers: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)
    locked: str = ""
    groups: int = 1
    even: str = ""


class Spaces:
    """The spaces of a graph; ``of(node)`` is what a layer puts out, ``read`` and ``kept`` label parameters' axes.

    ``apart``, (a concatenation, one of its inputs), gives what comes from that input a space of its own from there on,
    whose number is then ``part``: who reads it there, and whether it could be left out.
    """

    def __init__(self, graph: Graph, apart: tuple[str, str] | None = None) -> None:
        self.graph, self.shapes = graph, graph.shapes()
        self._apart, self.part = apart, -1
        self._parent: list[int] = []
        self._spaces: list[Space] = []
        self.read: dict[str, Label] = {}  # reader -> the label of its input axis
        self.kept: dict[str, Label] = {}  # keeper -> the label of the axis its parameters lie along
        self.made: dict[str, int] = {}  # maker -> its space
        labels: dict[str, Labels] = {}
        for node in graph.nodes:
            inputs = [labels[i] for i in node.inputs]
            if type(node.op) in rule:
                labels[node.name] = rule(node.op, self, node, inputs)
            else:
                labels[node.name] = self.stop(node, inputs, f"{node.name} ({type(node.op).__name__}) reads them")
            if getattr(node.op, "shared", None):
                self.lock(labels[node.name], f"{node.name} shares its parameters")
                self.lock([self.read.get(node.name, ())], f"{node.name} shares its parameters")
        for name in graph.outputs:
            self.lock(labels[name], "they are the network's outputs")
        self.read = {n: self.resolved(label) for n, label in self.read.items()}
        self.kept = {n: self.resolved(label) for n, label in self.kept.items()}
        for name, space in self.made.items():
            self.space(space).makers.append(name)
        for table, what in ((self.read, "readers"), (self.kept, "keepers")):
            for name, label in table.items():
                for space in dict.fromkeys(s for s, _ in label):
                    getattr(self._spaces[space], what).append(name)

    def of(self, name: str) -> int:
        """The space that a layer puts out. Raises GraphError for a node that makes none, or whose space is locked."""
        self.graph[name]
        if name not in self.made:
            layers = [n for n in self.made if not self.space(self.made[n]).locked]
            raise GraphError(
                f"expected a linear layer or convolution that makes units, got {name!r}; {', '.join(layers[:6])} do"
            )
        root = self.root(self.made[name])
        if reason := self._spaces[root].locked:
            raise GraphError(f"the number of units of {name!r} cannot change: {reason}")
        return root

    def space(self, at: int) -> Space:
        """The space of this number."""
        return self._spaces[self.root(at)]

    def free(self) -> list[str]:
        """Layers whose width can change, one per space."""
        seen: dict[int, str] = {}
        for name, space in self.made.items():
            if not self.space(space).locked:
                seen.setdefault(self.root(space), name)
        return list(seen.values())

    def entries(self, label: Label, at: int, index: Index) -> tuple[Index, Index]:
        """For every new entry of an axis its old one (−1: it is new), and its unit's place in ``index`` (−1: of another
        space).
        """
        old, unit, offset = [], [], 0
        for space, repeat in label:
            n = self._spaces[space].size * repeat
            if space == at:
                own = offset + index[:, None] * repeat + np.arange(repeat)
                old.append(np.where(index[:, None] < 0, -1, own).ravel())
                unit.append(np.repeat(np.arange(len(index)), repeat))
            else:
                old.append(offset + np.arange(n))
                unit.append(np.full(n, -1))
            offset += n
        return np.concatenate(old), np.concatenate(unit)

    def grouped(self, at: int, index: Index) -> Index | None:
        """The units that ``index`` takes of every group, where it takes the same of each; else None."""
        space = self.space(at)
        if len(index) % space.groups:
            return None
        each = space.size // space.groups
        parts = index.reshape(space.groups, -1)
        local = np.where(parts < 0, -1, parts - each * np.arange(space.groups)[:, None])
        return local[0] if (local == local[0]).all() else None

    def spread(self, at: int, local: Index) -> Index:
        """The index that takes ``local`` of every group."""
        space = self.space(at)
        each = space.size // space.groups
        whole = np.where(local < 0, -1, local + each * np.arange(space.groups)[:, None])
        return whole.ravel().astype(np.intp)

    # --- what the rules use ---

    def bind(self, label: Label, groups: int, even: str, why: str) -> None:
        """The units along an axis come in groups, and somebody averages over them (where ``even`` says who)."""
        if len(label) != 1 or (groups > 1 and label[0][1] != 1):
            self.lock([label], why)
            return
        space = self.space(label[0][0])
        space.groups = math.lcm(space.groups, groups)
        space.even = space.even or even
        if space.size % space.groups:
            self.lock([label], why)

    def new(self, size: int, maker: str | None = None) -> Label:
        """A space of its own."""
        self._parent.append(len(self._parent))
        self._spaces.append(Space(size))
        if maker is not None:
            self.made[maker] = len(self._parent) - 1
        return ((len(self._parent) - 1, 1),)

    def own_part(self, join: str, source: str, label: Label, axis: int) -> Label:
        """The label of an input of a concatenation: its own, or that of the part which is looked at apart."""
        if self._apart != (join, source):
            return label
        if self.part < 0:
            self.part = self.new(self.shapes[source][axis])[0][0]
        return ((self.part, 1),)

    def root(self, at: int) -> int:
        """The number that a space goes by."""
        while self._parent[at] != at:
            self._parent[at] = self._parent[self._parent[at]]
            at = self._parent[at]
        return at

    def resolved(self, label: Label) -> Label:
        """The label in numbers that spaces go by."""
        return tuple((self.root(s), r) for s, r in label)

    def lock(self, labels: Sequence[Label], why: str) -> None:
        """These spaces keep their width."""
        for label in labels:
            for space, _ in label:
                s = self.space(space)
                s.locked = s.locked or why

    def stop(self, node: Node, inputs: Sequence[Labels], why: str) -> Labels:
        """Lock what comes in; nothing of it goes on."""
        for labels in inputs:
            self.lock(labels, why)
        return ((),) * len(self.shapes[node.name])

    def meet(self, a: Label, b: Label, why: str) -> Label:
        """One label for two axes whose entries meet one by one."""
        if not a or not b:
            self.lock([a, b], why)
            return ()
        a, b = self.resolved(a), self.resolved(b)
        if [(self._spaces[s].size, r) for s, r in a] != [(self._spaces[s].size, r) for s, r in b]:
            self.lock([a, b], why)
            return ()
        for (s, _), (t, _) in zip(a, b, strict=True):
            self._join(s, t)
        return self.resolved(a)

    def _join(self, s: int, t: int) -> None:
        s, t = self.root(s), self.root(t)
        if s != t:
            self._parent[t] = s
            a, b = self._spaces[s], self._spaces[t]
            a.locked, a.even, a.groups = a.locked or b.locked, a.even or b.even, math.lcm(a.groups, b.groups)


rule: Rule[Labels] = Rule("unit", "grow/spaces.py")


@rule.register(ops.Input)
def _(op: ops.Input, spaces: Spaces, node: Node, inputs: Sequence[Labels]) -> Labels:
    return ((),) * len(spaces.shapes[node.name])


@rule.register(ops.Linear)
def _(op: ops.Linear, spaces: Spaces, node: Node, inputs: Sequence[Labels]) -> Labels:
    if len(inputs) > 1:
        return spaces.stop(node, inputs, f"the weight of {node.name} is computed")
    spaces.read[node.name] = inputs[0][-1]
    return (*inputs[0][:-1], spaces.new(op.out_features, node.name))


@rule.register(ops.Conv)
def _(op: ops.Conv, spaces: Spaces, node: Node, inputs: Sequence[Labels]) -> Labels:
    if len(inputs) > 1:
        return spaces.stop(node, inputs, f"the weight of {node.name} is computed")
    x, n = inputs[0], spaces.shapes[node.inputs[0]][1]
    rest = ((),) * len(op.kernel)
    if op.groups == 1:
        spaces.read[node.name] = x[1]
        return ((), spaces.new(op.out_channels, node.name), *rest)
    if op.groups == n == op.out_channels:
        spaces.kept[node.name] = x[1]
        return ((), x[1], *rest)
    if not x[1]:
        return spaces.stop(node, inputs, f"{node.name} reads them in groups")
    spaces.read[node.name] = x[1]
    spaces.bind(x[1], op.groups, "", f"{node.name} reads them in groups")
    made = spaces.new(op.out_channels, node.name)
    spaces.bind(made, op.groups, "", "")
    if len(x[1]) != 1 or x[1][0][1] != 1:
        spaces.lock([made], f"{node.name} makes them in groups")
    return ((), made, *rest)


@rule.register(ops.BatchNorm, ops.InstanceNorm)
def _(op: Any, spaces: Spaces, node: Node, inputs: Sequence[Labels]) -> Labels:
    spaces.kept[node.name] = inputs[0][1]
    return inputs[0]


@rule.register(ops.PReLU)
def _(op: ops.PReLU, spaces: Spaces, node: Node, inputs: Sequence[Labels]) -> Labels:
    if op.per_channel:
        spaces.kept[node.name] = inputs[0][1]
    return inputs[0]


@rule.register(ops.Scale)
def _(op: ops.Scale, spaces: Spaces, node: Node, inputs: Sequence[Labels]) -> Labels:
    if op.axis is not None:
        spaces.kept[node.name] = inputs[0][op.axis]
    return inputs[0]


@rule.register(ops.Activation, ops.Dropout, ops.DropPath)
def _(op: Any, spaces: Spaces, node: Node, inputs: Sequence[Labels]) -> Labels:
    return inputs[0]


@rule.register(ops.MaxPool, ops.AvgPool, ops.AdaptivePool, ops.Upsample)
def _(op: Any, spaces: Spaces, node: Node, inputs: Sequence[Labels]) -> Labels:
    return ((), inputs[0][1], *((),) * (len(inputs[0]) - 2))


@rule.register(ops.LayerNorm, ops.RMSNorm)
def _(op: ops.LayerNorm | ops.RMSNorm, spaces: Spaces, node: Node, inputs: Sequence[Labels]) -> Labels:
    first, *others = inputs[0][len(inputs[0]) - op.axes :]
    spaces.lock(others, f"{node.name} averages over them behind another axis")
    if first:
        spaces.kept[node.name] = first
        spaces.bind(first, 1, f"{node.name} averages over them", f"{node.name} averages over them with others")
    return inputs[0]


@rule.register(ops.GroupNorm)
def _(op: ops.GroupNorm, spaces: Spaces, node: Node, inputs: Sequence[Labels]) -> Labels:
    if inputs[0][1]:
        spaces.kept[node.name] = inputs[0][1]
        why = f"{node.name} averages over them"
        spaces.bind(inputs[0][1], op.groups, why, why + " with others")
    return inputs[0]


@rule.register(ops.Add, ops.Subtract, ops.Multiply, ops.Divide)
def _(op: Any, spaces: Spaces, node: Node, inputs: Sequence[Labels]) -> Labels:
    out = spaces.shapes[node.name]
    shapes = [spaces.shapes[i] for i in node.inputs]
    found: list[Label] = []
    for k in range(len(out)):
        place = k - len(out)
        here = [(s[place], x[place]) for s, x in zip(shapes, inputs, strict=True) if len(s) >= -place]
        why = f"{node.name} joins them with something else"
        spaces.lock([x for n, x in here if n != out[k]], why)  # a single unit, copied to all
        label, *others = [x for n, x in here if n == out[k]]
        if place != -len(out):  # the batch has no label
            for other in others:
                label = spaces.meet(label, other, why)
        found.append(label)
    return tuple(found)


@rule.register(ops.Concat)
def _(op: ops.Concat, spaces: Spaces, node: Node, inputs: Sequence[Labels]) -> Labels:
    axis = op.axis % len(inputs[0])
    found: list[Label] = []
    for k in range(len(inputs[0])):
        here = [x[k] for x in inputs]
        if k == axis:
            here = [spaces.own_part(node.name, i, x, k) for x, i in zip(here, node.inputs, strict=True)]
            whole = [x or spaces.new(spaces.shapes[i][k]) for x, i in zip(here, node.inputs, strict=True)]
            for x, label in zip(here, whole, strict=True):
                if not x:  # stands for units that are not ours, so that places behind it are right
                    spaces.lock([label], "they come from elsewhere")
            found.append(tuple(atom for label in whole for atom in label))
        else:
            label = here[0]
            for other in here[1:]:
                label = spaces.meet(label, other, f"{node.name} joins them with something else") if label else label
            found.append(label)
    return tuple(found)


@rule.register(ops.Flatten)
def _(op: ops.Flatten, spaces: Spaces, node: Node, inputs: Sequence[Labels]) -> Labels:
    x, shape = inputs[0], spaces.shapes[node.inputs[0]]
    start, stop = op.start % len(x), op.stop % len(x)
    if any(x[start + 1 : stop + 1]):
        return spaces.stop(node, inputs, f"{node.name} merges them behind another axis")
    positions = int(np.prod(shape[start + 1 : stop + 1]))
    merged = tuple((s, r * positions) for s, r in x[start])
    return (*x[:start], merged, *x[stop + 1 :])


@rule.register(ops.Reduce)
def _(op: ops.Reduce, spaces: Spaces, node: Node, inputs: Sequence[Labels]) -> Labels:
    over = {a % len(inputs[0]) for a in op.axes}
    spaces.lock([x for k, x in enumerate(inputs[0]) if k in over], f"{node.name} averages over them")
    kept = [() if k in over else x for k, x in enumerate(inputs[0]) if op.keep or k not in over]
    return tuple(kept)


@rule.register(ops.Permute)
def _(op: ops.Permute, spaces: Spaces, node: Node, inputs: Sequence[Labels]) -> Labels:
    return tuple(inputs[0][a] for a in op.axes)
