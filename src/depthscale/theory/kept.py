"""Properties that are computed once: ``functools.cached_property`` without its lock, which costs more than they do."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class kept(Generic[T]):
    """A property whose value stays in the object once it is known."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute, self._name, self.__doc__ = compute, compute.__name__, compute.__doc__

    @overload
    def __get__(self, owner: None, kind: type[Any]) -> "kept[T]": ...
    @overload
    def __get__(self, owner: object, kind: type[Any]) -> T: ...
    def __get__(self, owner: object | None, kind: type[Any]) -> "kept[T] | T":
        if owner is None:
            return self
        value = owner.__dict__[self._name] = self._compute(owner)
        return value
