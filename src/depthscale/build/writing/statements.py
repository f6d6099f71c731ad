"""A body as a person writes it: values used once go straight into the call that uses them, names are used again.

Statements are collected over symbolic values; ``lines`` puts them into one another where that changes no order of
evaluation, then gives variables to what is left.
"""

import ast
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from depthscale.build.writing.layout import WIDTH, wrap

NAMES = ("x", "y", "z", "u", "v", "w", "a", "b", "c", "d", "e", "g", "h", "p", "q", "r", "s", "t")
DEEPEST = 4  # calls within calls


@dataclass
class Statement:
    """``targets = write(args)``, which belongs to the scope ``place``.

    ``loop`` is the head of a loop in which argument ``linked`` goes round. ``weight`` tells a layer with weights
    ("layer") and a call of a scope ("scope") from all else.
    """

    targets: tuple[str, ...]
    args: list["str | Statement"]
    write: Callable[[Sequence[str]], str]
    place: str = ""
    loop: str = ""
    linked: int = 0
    weight: str = ""

    def text(self, names: Callable[[str], str]) -> str:
        """The expression, with what was put into it."""
        return self.write([a.text(names) if isinstance(a, Statement) else names(a) for a in self.args])

    @property
    def weights(self) -> set[str]:
        """The kinds of weights in this statement and what was put into it."""
        inner = [w for a in self.args if isinstance(a, Statement) for w in a.weights]
        return {self.weight, *inner} - {""}

    def takes(self, inner: "Statement") -> bool:
        """Whether a reader would want the inner statement inside this one."""
        if not self.targets:  # a return takes everything
            return True
        if inner.place != self.place:
            return False
        if self.weight and inner.weights:  # layer after layer is two lines, scope after scope is one
            return {self.weight, *inner.weights} == {"scope"}
        ended = inner.weight == "layer" and any(isinstance(a, Statement) for a in inner.args)
        return not (ended and len(self.args) == 1)  # norm, activation, layer: that was a line

    def reads(self) -> Iterator[str]:
        """The values that are read, in order."""
        for arg in self.args:
            if isinstance(arg, Statement):
                yield from arg.reads()
            else:
                yield arg


class Body:
    """The statements of one ``forward``; ``inputs`` are its arguments: value → variable."""

    def __init__(self, inputs: dict[str, str]) -> None:
        self.inputs = inputs
        self.statements: list[Statement] = []
        self._same: dict[str, str] = {}

    def add(self, statement: Statement) -> None:
        """Append a statement; one that only hands on its argument makes its target another name of it."""
        statement.args = [self._same.get(a, a) if isinstance(a, str) else a for a in statement.args]
        one = len(statement.targets) == len(statement.args) == 1 and not statement.loop
        if one and isinstance(statement.args[0], str) and statement.write(["value"]) == "value":
            self._same[statement.targets[0]] = statement.args[0]
            return
        self.statements.append(statement)

    def lines(self, outputs: Sequence[str], indent: int) -> list[str]:
        """The body as lines of Python, the last a return."""
        returned = [self._same.get(o, o) for o in outputs]
        self.statements.append(Statement((), list(returned), ", ".join))
        self._nest()
        return [line for text in self._named(indent) for line in text]

    def _nest(self) -> None:
        """Put every value that is used once, right behind where it is made, into its use."""
        uses = Counter(a for s in self.statements for a in s.args if isinstance(a, str))
        done: list[Statement] = []
        for statement in self.statements:
            if not statement.loop:
                # from the last argument to the first: what is evaluated first was made first
                for i in reversed(range(len(statement.args))):
                    arg = statement.args[i]
                    if not done or done[-1].targets != (arg,) or done[-1].loop or uses[str(arg)] != 1:
                        continue
                    if not _writes_once(statement, i) or not statement.takes(done[-1]):
                        break  # what stands before it must still be evaluated before it
                    statement.args[i] = done[-1]
                    text = statement.text(lambda name: "x")
                    if len(text) > WIDTH - 20 or _depth(text) > DEEPEST:
                        statement.args[i] = arg
                        break
                    done.pop()
            done.append(statement)
        self.statements = done

    def _named(self, indent: int) -> Iterator[list[str]]:
        last: dict[str, int] = {}
        for i, statement in enumerate(self.statements):
            for value in statement.reads():
                last[value] = i
        where = dict(self.inputs)
        for i, statement in enumerate(self.statements):
            reads = list(dict.fromkeys(statement.reads()))
            before = dict(where)
            ending = [v for v in reads if last[v] == i and v in where]
            for value in [v for v in where if last.get(v, -1) <= i]:
                del where[value]
            spare = [before[v] for v in ending]
            if statement.loop:  # the variable that goes round must be the one it starts from
                start = statement.args[statement.linked]
                assert isinstance(start, str)
                spare = [before[start]] if start in ending and start in before else []
            for target in statement.targets:
                name = spare.pop(0) if spare else _free({*where.values(), *(before.values() if statement.loop else ())})
                if target in last:
                    where[target] = name
                else:
                    where[target] = "_"
            yield self._line(statement, before, where, indent)
            for target in statement.targets:
                if target not in last:
                    del where[target]

    def _line(self, statement: Statement, before: dict[str, str], where: dict[str, str], indent: int) -> list[str]:
        def name(value: str) -> str:
            return before.get(value, value)

        if not statement.targets:
            return wrap(f"return {statement.text(name)}", indent)
        targets = ", ".join(where[t] for t in statement.targets)
        if not statement.loop:
            return wrap(f"{targets} = {statement.text(name)}", indent)
        start = str(statement.args[statement.linked])
        lines = [] if name(start) == targets else [f"{' ' * indent}{targets} = {name(start)}"]
        before[start] = targets
        step = wrap(f"{targets} = {statement.text(name)}", indent + 4)
        return [*lines, f"{' ' * indent}{statement.loop}", *step]


def _free(taken: set[str]) -> str:
    for name in NAMES:
        if name not in taken:
            return name
    i = 1
    while f"x{i}" in taken:
        i += 1
    return f"x{i}"


def _writes_once(statement: Statement, place: int) -> bool:
    """Whether an argument stands exactly once in what is written, so that it can be put there, and in order."""
    marks = [f"mark{i}_" for i in range(len(statement.args))]
    text = statement.write(marks)
    spots = [text.find(mark) for mark in marks]
    return text.count(marks[place]) == 1 and spots == sorted(spots) and " if " not in text


def _depth(text: str) -> int:
    """Calls within calls."""

    def depth(node: ast.AST) -> int:
        inner = max((depth(child) for child in ast.iter_child_nodes(node)), default=0)
        return inner + isinstance(node, ast.Call)

    return depth(ast.parse(text, mode="eval"))
