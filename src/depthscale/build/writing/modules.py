"""The text of one class: what its ``__init__`` makes and what its ``forward`` does."""

import keyword
import re
from collections.abc import Sequence

from torch import nn

from depthscale.build.writing.classes import Family
from depthscale.build.writing.forms import LOOP, Forms, is_chain, link, numbered, runs
from depthscale.build.writing.layout import WIDTH, wrap
from depthscale.build.writing.scopes import Scopes, Unit, inside, label, parent
from depthscale.build.writing.statements import NAMES, Body, Statement
from depthscale.build.writing.templates import layer_text
from depthscale.graph import ops

# what the bodies of functions use themselves
_USED = {
    "F",
    "_",
    "at",
    "causal",
    "causal_logits",
    "drop_path",
    "float",
    "getattr",
    "i",
    "nn",
    "range",
    "self",
    "str",
    "torch",
}
_TAKEN = {*dir(nn.ModuleDict()), *dir(nn.Sequential()), "training"}


def is_attribute(name: str) -> bool:
    """Whether a label can be an attribute of every kind of module."""
    return name.isidentifier() and not keyword.iskeyword(name) and name not in _TAKEN and not name.startswith("__")


def is_writable(name: str) -> bool:
    """Whether a label can stand in written code: as an attribute, or as a number."""
    return is_attribute(name) or numbered(name)[0] == ""


class Module:
    """Writes one class, or the network itself (the family of the empty path)."""

    def __init__(self, scopes: Scopes, forms: Forms, family: Family, flat: bool = False) -> None:
        self.scopes, self.forms, self.family, self.flat = scopes, forms, family, flat
        self.path = family.model
        self.kept: dict[str, None] = {}  # arguments that forward reads
        self.helpers: set[str] = set()

    # --- what runs ----------------------------------------------------------------------------------------------

    def items(self, scope: str) -> list[Unit]:
        """The units of the body; scopes that are written inline are replaced by theirs, rows by one call."""
        found: list[Unit] = []
        for unit in self.scopes.units(scope):
            if not unit.is_scope or self.forms.of(unit.path) != "inline":
                found.append(unit)
                continue
            inner = self.scopes.units(unit.path)
            called = self._row(unit.path)
            if called:
                start = inner.index(called[0])
                row = Unit(unit.path, called[0].reads, called[-1].yields, True)
                inner = [*inner[:start], row, *inner[start + len(called) :]]
                found += inner
            else:
                found += self.items(unit.path)
        return found

    def _row(self, scope: str) -> list[Unit]:
        """The layers of an inline scope if they only follow one another, so that the scope can be called."""
        inner = self.scopes.units(scope)
        held = [i for i, u in enumerate(inner) if self._holds(u)]
        if len(held) < 2 or held != list(range(held[0], held[-1] + 1)):
            return []
        part = [inner[i] for i in held]
        if any(u.is_scope and self.forms.of(u.path) == "inline" for u in part) or not is_chain(
            self.scopes, scope, part
        ):
            return []
        made = [leaf for u in part for leaf in (self.scopes.leaves(u.path) if u.is_scope else [u.path])]
        return part if made == self.scopes.leaves(scope) and len(part) < LOOP else []

    def _holds(self, unit: Unit) -> bool:
        return unit.is_scope or self.scopes.plan.owner(self.scopes.plan.graph[unit.path]) is not None

    def is_called(self, path: str) -> bool:
        """Whether a scope is a module that is called (else it only holds what is in it)."""
        if path not in self.forms.families or inside(self.path, path) or path == self.path:
            return False
        return self.forms.of(path) != "inline" or bool(self._row(path))

    # --- forward ------------------------------------------------------------------------------------------------

    def access(self, path: str) -> str:
        """The module at a path as seen from the class."""
        if self.flat:
            self.helpers.add("at")
            return f'at(self, "{path}")'
        text, at = "self", self.path
        for part in path[len(at) + 1 if at else 0 :].split("."):
            outer, at = at, f"{at}.{part}" if at else part
            if is_attribute(part):
                text += f".{part}"
            elif outer == self.path or self._is_class(outer):
                text = f'getattr({text}, "{part}")'
            elif self.is_called(outer):
                text += f"[{part}]"
            else:
                text += f'["{part}"]'
        return text

    def _is_class(self, path: str) -> bool:
        return path in self.forms.families and self.forms.of(path) == "class"

    def forward(self) -> list[str]:
        """The lines of ``forward``, its head included."""
        unit = self.family.unit if self.path else None
        graph = self.scopes.plan.graph
        reads = unit.reads if unit else graph.inputs
        names = _arguments(reads, self.path == "")
        body = Body(dict(zip(reads, names, strict=True)))
        items = self.items(self.path)
        looped = {u.path: run for run in runs(self.forms, items) for u in run if self.forms.of(u.path) != "inline"}
        for item in items:
            run = looped.get(item.path)
            if run is None:
                body.add(self._statement(item))
            elif run[0] is item:
                body.add(self._loop(run))
        outputs = unit.yields if unit else graph.outputs
        signature = ", ".join(["self", *names])
        lines = body.lines([self._value(o) for o in outputs], 8)
        return [f"    def forward({signature}):", *lines]

    def _value(self, name: str) -> str:
        """What stands for a node's value: its name, or the place of a tensor that is held in this class."""
        if self.scopes.is_tensor(name) and inside(name, self.path) and name not in self._given:
            node = self.scopes.plan.graph[name]
            owner = self.scopes.plan.owner(node)
            assert owner is not None
            return self.scopes.expression(name).write([], self.access(owner), [])
        return name

    @property
    def _given(self) -> tuple[str, ...]:
        return self.family.unit.reads if self.path else ()

    def _statement(self, unit: Unit) -> Statement:
        args: list[str | Statement] = [self._value(r) for r in unit.reads]
        if unit.is_scope:
            module = self.access(unit.path)
            place = parent(unit.path) if self.forms.of(unit.path) != "inline" else unit.path
            return Statement(unit.yields, args, lambda words: f"{module}({', '.join(words)})", place, weight="scope")
        node = self.scopes.plan.graph[unit.path]
        template = self.scopes.expression(unit.path)
        owner = self.scopes.plan.owner(node)
        leaf = self.access(owner) if owner else ""
        local = self.family.relative(unit.path)
        holes = [self._kept(self.family.write(("node", local, i))) for i in range(len(template.numbers))]
        self.helpers.update(h for h in ("drop_path", "causal", "causal_logits") if f"{h}(" in template.text)
        weight = "layer" if isinstance(node.op, ops.LAYERS) else ""

        def write(words: Sequence[str]) -> str:
            text = template.write(words, leaf, holes)
            # a slice between names has spaces around its colon
            return re.sub(r"(self\.\w+):", r"\1 :", re.sub(r":(self\.)", r": \1", text)) if self.kept else text

        return Statement(unit.yields, args, write, parent(unit.path), weight=weight)

    def _kept(self, text: str) -> str:
        """An expression of arguments, read back from the instance."""
        for argument in self.family.arguments:
            if re.search(rf"\b{argument.name}\b", text):
                self.kept[argument.name] = None
                return re.sub(rf"\b{argument.name}\b", f"self.{argument.name}", text)
        return text

    def _loop(self, run: Sequence[Unit]) -> Statement:
        first, scope = run[0], parent(run[0].path)
        (stem, low), (_, high) = numbered(label(first.path)), numbered(label(run[-1].path))
        place = link(run) or 0
        key = f'f"{stem}{{i}}"' if stem else "str(i)"
        module = f"self.get_submodule({key})" if scope == self.path else f"{self.access(scope)}[{key}]"
        args: list[str | Statement] = [self._value(r) for r in first.reads]
        head = f"for i in range({low}, {high + 1}):" if low else f"for i in range({high + 1}):"
        return Statement(run[-1].yields, args, lambda words: f"{module}({', '.join(words)})", scope, head, place)

    # --- __init__ -----------------------------------------------------------------------------------------------

    def init(self) -> list[str]:
        """The lines of ``__init__``, its head included; ``forward`` must have been written before."""
        names = [a.name for a in self.family.arguments] + ["optional"] * (self.family.optional is not None)
        if self.family.optional:
            names[-1] = self.family.optional
        lines = [*wrap(f"def __init__({', '.join(['self', *names])}):", 4), "        super().__init__()"]
        if self.flat:
            self.helpers.add("put")
            for path in self.scopes.plan.leaves:
                lines += wrap(f'put(self, "{path}", {self._made(path)})', 8)
            return lines
        lines += [f"        self.{name} = {name}" for name in self.kept]
        runs_here = [run for run in runs(self.forms, self.items(self.path)) if parent(run[0].path) == self.path]
        looped = {label(u.path): run for run in runs_here for u in run}
        for child in self.family.children_with_layers:
            path = f"{self.path}.{child}" if self.path else child
            if run := looped.get(child):
                if child == label(run[0].path):
                    lines += self._registered(run)
                continue
            made = self._made(path)
            if child == self.family.optional:
                lines += self._optional(child, made)
                continue
            lines += wrap(f"self.{child} = {made}" if is_attribute(child) else f'self.add_module("{child}", {made})', 8)
        return lines

    def _optional(self, child: str, made: str) -> list[str]:
        """A child that some instances have; the others hand on what comes in."""
        short = wrap(f"self.{child} = {made} if {child} else nn.Identity()", 8)
        if len(short) == 1 and len(short[0]) <= WIDTH:
            return short
        return [
            f"        self.{child} = nn.Identity()",
            f"        if {child}:",
            *wrap(f"self.{child} = {made}", 12),
        ]

    def _registered(self, run: Sequence[Unit]) -> list[str]:
        """Numbered children made in a loop."""
        stem, low = numbered(label(run[0].path))
        name = self.forms.families[run[0].path].name
        table = self._table([u.path for u in run])
        start = f", {low}" if low else ""
        key = f'f"{stem}{{i}}"' if stem else "str(i)"
        head, arguments = f"for i, row in enumerate({table}{start}):", "*row"
        if not self.forms.families[run[0].path].arguments:
            head, arguments = f"for i in range({f'{low}, ' if low else ''}{low + len(run)}):", ""
        return [*wrap(head, 8), f"            self.add_module({key}, {name}({arguments}))"]

    def _made(self, path: str) -> str:
        """The expression that makes the module at a path."""
        plan = self.scopes.plan
        if path in plan.leaves:
            layer = plan.leaves[path]
            self.helpers.update({layer.kind} if layer.is_piece else (), {"without"} if layer.without else ())
            return layer_text(layer, self.family.relative(path), self.family.write)
        if self._is_class(path):
            family = self.forms.families[path]
            return f"{family.name}({', '.join(family.call(path, self.family))})"
        cut = len(path) + 1
        children = list(dict.fromkeys(leaf[cut:].partition(".")[0] for leaf in self.scopes.leaves(path)))
        paths = [f"{path}.{child}" for child in children]
        return self._sequence(paths) if self.is_called(path) else self._holder(paths)

    def _run_of(self, paths: Sequence[str]) -> bool:
        """Whether these are instances of one class with running numbers."""
        classes = {id(self.forms.families[p]) if self._is_class(p) else 0 for p in paths}
        labels = [numbered(label(p)) for p in paths]
        running = [(labels[0][0], labels[0][1] + i) for i in range(len(paths))]
        return len(classes) == 1 and 0 not in classes and labels == running and labels[0][1] >= 0

    def _sequence(self, paths: Sequence[str]) -> str:
        labels = [label(p) for p in paths]
        in_order = labels == [str(i) for i in range(len(paths))]
        if len(paths) >= LOOP - 1 and self._run_of(paths):
            name, table = self.forms.families[paths[0]].name, self._table(paths)
            if in_order:
                self.helpers.add("in_a_row")
                return f"in_a_row({name}, {table})"
            stem, low = numbered(labels[0])
            if low == 1:
                self.helpers.update(("repeat", "named"))
                return f'repeat("{stem}", {name}, {table})'
        made = [self._made(p) for p in paths]
        if in_order:
            return f"nn.Sequential({', '.join(made)})"
        self.helpers.add("named")
        if all(map(is_attribute, labels)):
            return f"named({', '.join(f'{a}={m}' for a, m in zip(labels, made, strict=True))})"
        return f"named(**{{{', '.join(f'{literal_key(a)}: {m}' for a, m in zip(labels, made, strict=True))}}})"

    def _holder(self, paths: Sequence[str]) -> str:
        """Modules that are only held: their scope is no module that could be called."""
        if len(paths) >= LOOP and self._run_of(paths):
            (stem, low), name = numbered(label(paths[0])), self.forms.families[paths[0]].name
            self.helpers.add("numbered")
            first = f", {low}" if low != 1 else ""
            return f'nn.ModuleDict(numbered("{stem}", {name}, {self._table(paths)}{first}))'
        entries = ", ".join(f"{literal_key(label(p))}: {self._made(p)}" for p in paths)
        return f"nn.ModuleDict({{{entries}}})"

    def _table(self, paths: Sequence[str]) -> str:
        """The arguments of a run of one class, equal rows counted, evenly growing numbers as a range."""
        rows = [self.forms.families[p].call(p, self.family) for p in paths]
        return table(rows)


def literal_key(name: str) -> str:
    """A label as a key."""
    return f'"{name}"'


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of arguments as Python, in short."""
    moving = [i for i in range(len(rows[0])) if len({row[i] for row in rows}) > 1]
    if len(rows) >= LOOP and len(moving) == 1 and all(row[moving[0]].isdigit() for row in rows):
        numbers = [int(row[moving[0]]) for row in rows]
        step = numbers[1] - numbers[0]
        if step and numbers == [numbers[0] + step * i for i in range(len(rows))]:
            row = ["n" if i == moving[0] else word for i, word in enumerate(rows[0])]
            return f"[{_tuple(row)} for n in range({numbers[0]}, {numbers[-1] + (1 if step > 0 else -1)}, {step})]"
    groups: list[tuple[str, int]] = []
    for text in map(_tuple, rows):
        if groups and groups[-1][0] == text:
            groups[-1] = (text, groups[-1][1] + 1)
        else:
            groups.append((text, 1))
    parts: list[str] = []
    singles: list[str] = []
    for text, count in groups:
        if count == 1:
            singles.append(text)
            continue
        parts += [f"[{', '.join(singles)}]"] * bool(singles) + [f"{count} * [{text}]"]
        singles = []
    return " + ".join(parts + [f"[{', '.join(singles)}]"] * bool(singles))


def _tuple(words: Sequence[str]) -> str:
    return f"({', '.join(words)}{',' if len(words) == 1 else ''})"


def _arguments(reads: Sequence[str], root: bool) -> list[str]:
    """Names for the arguments of ``forward``."""
    if len(reads) == 1:
        return ["x"]
    names = [label(r) for r in reads]
    usable = all(is_attribute(n) and n not in _USED for n in names)
    if root and len(set(names)) == len(names) and usable:
        return names
    return list(NAMES[: len(reads)]) if len(reads) <= len(NAMES) else [f"x{i}" for i in range(1, len(reads) + 1)]


__all__ = ["Module", "is_writable", "table"]
