"""Scopes that are the same but for numbers, gathered into classes; the numbers that differ are their arguments.

A scope that has one child scope more, around which the data could go ("shortcut" in the first block of a stage), is
of the same class as those without: the child is optional.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from depthscale.build.expressions import literal
from depthscale.build.plan import Plan
from depthscale.build.writing.scopes import Scopes, Unit, inside
from depthscale.build.writing.templates import Slot, argument_name, frame, is_size, values

Key = tuple[Any, ...]
ABSENT = object()


@dataclass(frozen=True)
class Argument:
    """One argument of a class: its name, and the places that it fills, with the factor it is multiplied by."""

    name: str
    slot: Slot
    slots: tuple[Slot, ...]


@dataclass
class Family:
    """Scopes of one class: ``model`` is the one that its text is written from, ``optional`` a child not all have."""

    scopes: Scopes
    members: list[str]
    model: str
    optional: str | None = None
    name: str = ""
    written: dict[Slot, str] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        """The plan of the graph."""
        return self.scopes.plan

    @property
    def unit(self) -> Unit:
        """The model, seen from outside."""
        return self.scopes.unit(self.model)

    def relative(self, name: str) -> str:
        """A name inside the model without the model's path."""
        return name[len(self.model) + 1 :] if self.model else name

    def has_optional(self, member: str) -> bool:
        """Whether a member has the optional child."""
        return self.optional is not None and bool(self.scopes.leaves(f"{member}.{self.optional}"))

    def value(self, member: str, slot: Slot) -> Any:
        """The number that a member has in a place; ABSENT where it has no such place."""
        kind, path, place = slot
        full = f"{member}.{path}" if member else path
        if kind == "leaf":
            layer = self.plan.leaves.get(full)
            return ABSENT if layer is None else values(layer)[place]
        node = self.plan.graph.by_name.get(full)
        assert isinstance(place, int)
        return ABSENT if node is None else self.scopes.expression(node.name).numbers[place]

    @cached_property
    def slots(self) -> list[Slot]:
        """Every place of the model in which a number stands."""
        found: list[Slot] = []
        for path in self.scopes.leaves(self.model):
            found += [("leaf", self.relative(path), place) for place in values(self.plan.leaves[path])]
        for node in self.scopes.nodes(self.model):
            numbers = self.scopes.expression(node.name).numbers
            found += [("node", self.relative(node.name), i) for i in range(len(numbers))]
        return found

    @cached_property
    def arguments(self) -> list[Argument]:
        """What a member is made from, in order; ``written`` says how each open place is expressed by them."""
        groups: list[tuple[list[Any], str, list[Slot]]] = []
        for slot in self.slots:
            vector = [self.value(member, slot) for member in self.members]
            if len({literal(v) for v in vector if v is not ABSENT}) < 2:
                continue
            kind = self._kind(slot)
            for known, other, slots in groups:
                # a depthwise convolution has as many groups as channels
                if (kind == other or (kind, other) == ("groups", "size")) and _agree(known, vector):
                    known[:] = [b if a is ABSENT else a for a, b in zip(known, vector, strict=True)]
                    slots.append(slot)
                    break
            else:
                groups.append((vector, kind, [slot]))
        return self._named(groups)

    def _kind(self, slot: Slot) -> str:
        kind, path, place = slot
        if kind == "node":
            return f"number of {type(self.plan.graph[f'{self.model}.{path}'].op).__name__}"
        layer = self.plan.leaves[f"{self.model}.{path}"]
        return "size" if is_size(layer, place) else argument_name(layer, place)

    def _named(self, groups: Sequence[tuple[list[Any], str, list[Slot]]]) -> list[Argument]:
        taken = {"self", "x", "training", "forward", "optional"} | set(self.children)
        free: list[tuple[list[Any], str, list[Slot]]] = []
        for group in groups:
            multiple = next((m for known, k, _ in free if k == group[1] and (m := _multiple(known, group[0]))), None)
            if multiple is None:
                free.append(group)
        arguments = []
        for group in free:
            name = unique(self._wanted(group[2], group[1]), taken)
            arguments.append(Argument(name, group[2][0], tuple(group[2])))
            self.written.update(dict.fromkeys(group[2], name))
        for group in groups:
            for (known, kind, _), argument in zip(free, arguments, strict=True):
                if group[2][0] not in self.written and kind == group[1] and (m := _multiple(known, group[0])):
                    self.written.update(dict.fromkeys(group[2], m.replace("_", argument.name, 1)))
        return arguments

    @property
    def children(self) -> dict[str, None]:
        """The labels directly inside the model."""
        names = [*self.scopes.leaves(self.model), *(n.name for n in self.scopes.nodes(self.model))]
        return dict.fromkeys(self.relative(name).partition(".")[0] for name in names)

    @property
    def children_with_layers(self) -> dict[str, None]:
        """The labels directly inside the model that hold layers."""
        return dict.fromkeys(self.relative(name).partition(".")[0] for name in self.scopes.leaves(self.model))

    def _wanted(self, slots: Sequence[Slot], kind: str) -> str:
        """A speaking name for an argument."""
        _, path, place = slots[0]
        if kind.startswith("number"):
            word = kind.removeprefix("number of ")
            return {"DropPath": "drop", "Activation": "scale", "Slice": "cut"}.get(word, word.lower())
        sizes = [s for s in self.slots if self._kind(s) == "size"]
        # what comes in and what goes out keep torch's names, everything between is a width
        if kind == "size" and (sizes[0] in slots) == (sizes[-1] in slots):
            return "width"
        if kind == "size" and sizes[-1] in slots:
            path, place = next((p, i) for _, p, i in slots if (p == sizes[-1][1] or i == 1))
        return argument_name(self.plan.leaves[f"{self.model}.{path}"], place)

    def call(self, member: str, outer: "Family | None" = None) -> list[str]:
        """The arguments of one member as Python: literals, or what the class that it stands in knows them as."""
        words = []
        for argument in self.arguments:
            present = [s for s in argument.slots if self.value(member, s) is not ABSENT]
            slot = present[0] if present else argument.slot
            words.append(outer.write_at(member, slot) if outer else _text(self.value(member, slot)))
        if self.optional is not None:
            words.append(str(self.has_optional(member)))
        return words

    def write_at(self, member: str, slot: Slot) -> str:
        """A place inside a child of the model as Python."""
        kind, path, place = slot
        child = self.relative(member)
        return self.write((kind, f"{child}.{path}" if child else path, place))

    def write(self, slot: Slot) -> str:
        """A place of the model as Python: the name of an argument, or the number that all members have there."""
        _ = self.arguments
        if slot in self.written:
            return self.written[slot]
        present = (v for member in self.members if (v := self.value(member, slot)) is not ABSENT)
        return _text(next(present, ABSENT))


def _text(value: Any) -> str:
    return "None" if value is ABSENT else literal(value)


def _agree(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two rows of values are the same wherever both have one, and both have one somewhere."""
    both = [(x, y) for x, y in zip(a, b, strict=True) if x is not ABSENT and y is not ABSENT]
    return bool(both) and all(type(x) is type(y) and x == y for x, y in both)


def _multiple(known: Sequence[Any], row: Sequence[Any]) -> str | None:
    """``4 * _`` or ``_ // 4`` if that is what makes one row of whole numbers the other."""
    both = [(x, y) for x, y in zip(known, row, strict=True) if y is not ABSENT]
    if not both or not all(type(x) is int and type(y) is int and x > 0 and y > 0 for x, y in both):
        return None
    (x, y), *_ = both
    for k in (y // x, x // y):
        if 2 <= k <= 16:
            if all(b == k * a for a, b in both):
                return f"{k} * _"
            if all(a == k * b for a, b in both):
                return f"_ // {k}"
    return None


def unique(name: str, taken: set[str]) -> str:
    """The name, with a number behind it if it is taken; it then is."""
    found, i = name, 2
    while found in taken:
        found, i = f"{name}{i}", i + 1
    taken.add(found)
    return found


def _key(scopes: Scopes, scope: str, around: str | None = None) -> Key:
    """What makes two scopes one class; ``around`` names a child that the data go around."""
    cut = len(scope) + 1
    unit = scopes.unit(scope)
    detour: Mapping[str, str] = {}
    gone = f"{scope}.{around}" if around else None
    if gone is not None:
        child = scopes.unit(gone)
        detour = {child.yields[0]: child.reads[0]}

    def reference(name: str) -> object:
        name = detour.get(name, name)
        if inside(name, scope) and (scopes.is_tensor(name) or not scopes.is_source(name)):
            return name[cut:]
        return unit.reads.index(name)

    parts = []
    for node in scopes.nodes(scope):
        if gone is None or not inside(node.name, gone):
            owner = scopes.plan.owner(node)
            parts.append(
                (
                    node.name[cut:],
                    scopes.expression(node.name).text,
                    owner[cut:] if owner else None,
                    tuple(reference(source) for source in node.inputs),
                )
            )
    layers = tuple(
        (path[cut:], frame(scopes.plan.leaves[path]))
        for path in scopes.leaves(scope)
        if gone is None or not inside(path, gone)
    )
    return tuple(parts), layers, tuple(reference(name) for name in unit.yields), len(unit.reads)


def families(scopes: Scopes) -> dict[str, Family]:
    """The family of every scope that can be called."""
    paths: list[str] = []
    queue = [""]
    while queue:
        found = [unit.path for unit in scopes.units(queue.pop(0)) if unit.is_scope]
        paths += found
        queue += found
    by_key: dict[Key, list[str]] = {}
    for path in paths:
        by_key.setdefault(_key(scopes, path), []).append(path)
    made = {key: Family(scopes, members, members[0]) for key, members in by_key.items()}
    for key, members in by_key.items():
        _join_optional(scopes, made, key, members)
    return {path: family for family in made.values() for path in family.members}


def _join_optional(scopes: Scopes, made: dict[Key, Family], key: Key, members: Sequence[str]) -> None:
    """Join a family to the one that is like it but for a child that the data go around, if there is one."""
    model = members[0]
    for child in scopes.units(model):
        local = child.path[len(model) + 1 :]
        if not child.is_scope or "." in local or len(child.reads) != 1 or len(child.yields) != 1:
            continue
        if local[-1].isdigit():  # one of several of its kind, not a part with a purpose of its own
            continue
        other = made.get(_key(scopes, model, local))
        if other is None or other is made[key] or other.optional is not None or made[key].optional is not None:
            continue
        joined = Family(scopes, sorted([*members, *other.members], key=_place(scopes)), model, local)
        for k in [k for k, family in made.items() if family is other or family is made[key]]:
            made[k] = joined
        return


def _place(scopes: Scopes) -> Any:
    order = {node.name: i for i, node in enumerate(scopes.plan.graph.nodes)}
    return lambda path: order[scopes.unit(path).yields[0]]
