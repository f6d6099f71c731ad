"""How every callable scope is written: as a class, as layers in a row, or inline where it stands.

The form is the one that needs the fewest lines over the whole file, as a person would choose: a class pays if it is
used again, a row if its layers only follow one another, and the rest is said on the spot.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from depthscale.build.writing.classes import Family
from depthscale.build.writing.scopes import Scopes, Unit, label, parent

Form = Literal["class", "row", "inline"]
LOOP = 4  # a run of equals this long is a loop


class Forms:
    """The form of every family, decided from the outermost to the innermost."""

    def __init__(self, scopes: Scopes, families: dict[str, Family]) -> None:
        self.scopes, self.families = scopes, families
        self.form: dict[int, Form] = {}
        self._sites: Counter[int] = Counter()
        self._modules: set[int] = set()  # families that must be modules, because a row calls them
        self._looped: set[int] = set()  # families that must be classes, because a loop makes them
        self._heights: dict[int, int] = {}
        self._visit("", 1)
        distinct = {id(f): f for f in families.values()}
        for family in sorted(distinct.values(), key=self._height, reverse=True):
            if count := self._sites[id(family)]:
                self._decide(family, count)

    def of(self, path: str) -> Form:
        """The form of a scope."""
        return self.form[id(self.families[path])]

    def _height(self, family: Family) -> int:
        if id(family) not in self._heights:
            inner = [u for member in family.members for u in self.scopes.units(member) if u.is_scope]
            self._heights[id(family)] = 1 + max((self._height(self.families[u.path]) for u in inner), default=0)
        return self._heights[id(family)]

    def _visit(self, scope: str, count: int) -> None:
        """Count the scopes that the text of a scope mentions."""
        units = self.scopes.units(scope)
        long = {u.path for run in runs(self, units) for u in run[1:]}
        for unit in units:
            if unit.is_scope and unit.path not in long:
                self._sites[id(self.families[unit.path])] += count
        for run in runs(self, units):
            self._looped.add(id(self.families[run[0].path]))

    def _decide(self, family: Family, count: int) -> None:
        units = self.scopes.units(family.model)
        made = len(family.children_with_layers)
        steps = sum(not u.is_scope and u.path not in self.scopes.plan.callers for u in units) // 2 + 1
        listed = 1 if made <= 2 else 4 if len(units) >= LOOP and len(runs(self, units, 3)) == 1 else made + 2
        costs: dict[Form, int] = {"class": 8 + made + steps + count}
        several = len(units) > 1 or id(family) in self._modules
        fixed = family.optional is not None or id(family) in self._looped
        if not fixed and several and is_row(self.scopes, family.model):
            costs["row"] = count * listed
        if not fixed and id(family) not in self._modules:
            costs["inline"] = count * ((1 if made == 1 else made + 2) + steps)
        chosen: Form = min(costs, key=lambda form: (costs[form], ("row", "inline", "class").index(form)))
        if made > 12 and count == 1 and chosen == "inline":
            chosen = "class"  # no shorter, but a large part is easier to read by itself
        self.form[id(family)] = chosen
        self._visit(family.model, 1 if chosen == "class" else count)
        if chosen == "row":
            self._modules.update(id(self.families[u.path]) for u in units if u.is_scope)
        if family.optional is not None:
            self._modules.add(id(self.families[f"{family.model}.{family.optional}"]))


def is_row(scopes: Scopes, scope: str) -> bool:
    """Whether a scope is nothing but layers and callable scopes, each fed by the one before."""
    units = scopes.units(scope)
    whole = scopes.unit(scope)
    if len(whole.reads) != 1 or whole.yields != units[-1].yields:
        return False
    return is_chain(scopes, scope, units) and scopes.leaves(scope) == [
        leaf for u in units for leaf in ([u.path] if not u.is_scope else scopes.leaves(u.path))
    ]


def is_chain(scopes: Scopes, scope: str, units: Sequence[Unit]) -> bool:
    """Whether these are modules directly in a scope, each fed by the one before and by nothing else."""
    for i, unit in enumerate(units):
        called = unit.is_scope or (
            unit.path in scopes.plan.callers and scopes.expression(unit.path).text == "leaf_(in0_)"
        )
        own = unit.is_scope or scopes.plan.owner(scopes.plan.graph[unit.path]) == unit.path
        if not (called and own and parent(unit.path) == scope and len(unit.reads) == len(unit.yields) == 1):
            return False
        if i and unit.reads[0] != units[i - 1].yields[0]:
            return False
        if i + 1 < len(units) and only_read_in(scopes, unit.yields[0], units[i + 1]) is False:
            return False
    return bool(units)


def only_read_in(scopes: Scopes, value: str, unit: Unit) -> bool:
    """Whether a value is read by one unit and by nothing else."""
    if value in scopes.plan.graph.outputs:
        return False
    return all(
        user == unit.path or (unit.is_scope and user.startswith(unit.path + ".")) for user in scopes.consumers(value)
    )


def numbered(name: str) -> tuple[str, int]:
    """The stem and the number of a label: block12 is ("block", 12); without a number it is −1."""
    match = re.fullmatch(r"(.*?)(0|[1-9]\d*)", name)
    return (match[1], int(match[2])) if match else (name, -1)


def runs(forms: Forms, units: Sequence[Unit], least: int = LOOP) -> list[list[Unit]]:
    """Runs of scopes of one family with running numbers, each feeding only the next."""
    found: list[list[Unit]] = []
    run: list[Unit] = []
    for unit in units:
        if run and _follows(forms, run[-1], unit, link(run)):
            run.append(unit)
            continue
        found += [run] if len(run) >= least else []
        run = [unit] if unit.is_scope and len(unit.yields) == 1 else []
    return found + ([run] if len(run) >= least else [])


def link(run: Sequence[Unit]) -> int | None:
    """The argument that takes the result of the scope before; None for a run of one."""
    return run[1].reads.index(run[0].yields[0]) if len(run) > 1 else None


def _follows(forms: Forms, before: Unit, unit: Unit, linked: int | None) -> bool:
    families, scopes = forms.families, forms.scopes
    if not unit.is_scope or families[unit.path] is not families[before.path] or len(unit.yields) != 1:
        return False
    (stem, i), (other, j) = numbered(label(before.path)), numbered(label(unit.path))
    if parent(before.path) != parent(unit.path) or stem != other or i < 0 or j != i + 1:
        return False
    value = before.yields[0]
    if value not in unit.reads or not only_read_in(scopes, value, unit):
        return False
    place = unit.reads.index(value)
    if linked is not None and place != linked:
        return False
    rest = [r for k, r in enumerate(unit.reads) if k != place]
    return rest == [r for k, r in enumerate(before.reads) if k != place]
