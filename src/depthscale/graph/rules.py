"""Rules: one small function per op, found by the op's type, and loud when one is missing."""

from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

from depthscale.errors import GraphError, MissingRuleError

R = TypeVar("R")
P = ParamSpec("P")
S = TypeVar("S")


class Rule(Generic[R]):
    """A function of (op, *values) with one implementation per op type; starts with none.

    Without an implementation it raises MissingRuleError, which names the op, the rule and the file (``where``)
    that rules of this name live in.
    """

    def __init__(self, name: str, where: str) -> None:
        self.name, self.where = name, where
        self._table: dict[type, Callable[..., R]] = {}

    def register(self, *kinds: type) -> Callable[[Callable[P, S]], Callable[P, S]]:
        """Decorator: the function below is the rule of these op types; a second rule for one is an error."""

        def keep(function: Callable[P, S]) -> Callable[P, S]:
            for kind in kinds:
                if kind in self._table:
                    raise GraphError(f"expected one {self.name} rule per op, got a second one for {kind.__name__}")
                self._table[kind] = function  # type: ignore[assignment]
            return function

        return keep

    def __contains__(self, kind: type) -> bool:
        return kind in self._table

    def __call__(self, op: object, *values: Any) -> R:
        """The rule of ``type(op)``, applied."""
        try:
            function = self._table[type(op)]
        except KeyError:
            raise MissingRuleError(
                f"there is no {self.name} rule for op {type(op).__name__}; register one in {self.where} to use it here"
            ) from None
        return function(op, *values)
