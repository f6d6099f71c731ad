"""Meta kernels and dispatch modes without torch's compiler and its algebra.

torch wraps them so that the compiler leaves them alone, and loads the whole compiler at their first call to be told
so; they ask whether shapes are what they should be by functions for symbolic shapes, which load a computer algebra
system. That takes seconds, in a process that compiles nothing and whose shapes are numbers. ``uncompiled`` answers for
both in the meantime; whatever else is asked of them loads them, and they answer themselves.
"""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FunctionType, ModuleType
from typing import Any

import torch

_ANSWER = "__dynamo_disable"  # where a wrapper keeps what it calls


@contextmanager
def uncompiled() -> Iterator[None]:
    """Inside, functions that the compiler is to leave alone are called as they are, and plain shapes are compared
    without algebra; afterwards all is as it was.

    Nothing is done where these have been loaded already, or where torch's wrappers are not as expected.
    """
    answered = [] if "torch._dynamo" in sys.modules else _waiting()
    for function in answered:
        setattr(function, _ANSWER, function)
    places = () if any(name in sys.modules for name in _ANSWERS) else tuple(map(StandIn, _ANSWERS))
    finder = _Within()
    if places:
        sys.meta_path.insert(0, finder)
    for place in places:
        place.stand()
    try:
        yield
    finally:
        if places:
            _leave()
            sys.meta_path.remove(finder)
        for function in answered:
            if vars(function).get(_ANSWER) is function:
                delattr(function, _ANSWER)


def _waiting() -> list[Any]:
    """The functions behind wrappers that have not been called yet."""
    try:
        code = torch._compile._disable_dynamo(lambda: None).__code__
        cell = code.co_freevars.index("fn")
        if _ANSWER not in code.co_consts:
            return []
        wrappers = [f for f in gc.get_referrers(code) if isinstance(f, FunctionType) and f.__code__ is code]
        inner = [f.__closure__[cell].cell_contents for f in wrappers if f.__closure__ is not None]
        return [f for f in inner if isinstance(f, FunctionType) and _ANSWER not in vars(f)]
    except (AttributeError, ValueError):
        return []


# --- modules that others stand in for -----------------------------------------------------------------------------


class StandIn(ModuleType):
    """A module as far as numbers are concerned (``_ANSWERS``); for the rest, the module itself, loaded when asked."""

    def stand(self) -> None:
        """Takes the module's place."""
        sys.modules[self.__name__] = self
        self.__spec__ = ModuleSpec(self.__name__, None)
        around, _, own = self.__name__.rpartition(".")
        if around in sys.modules:
            setattr(sys.modules[around], own, self)
        else:
            self.__path__: list[str] = []  # submodules are looked for by ``_Within``

    def leave(self) -> None:
        """Leaves it to whoever comes next."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        around, _, own = self.__name__.rpartition(".")
        if around in sys.modules and vars(sys.modules[around]).get(own) is self:
            delattr(sys.modules[around], own)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        loaded = sys.modules.get(self.__name__, self) is not self
        if not loaded and name in _ANSWERS[self.__name__]:
            return _ANSWERS[self.__name__][name]
        return getattr(_itself(self.__name__), name)


def _leave() -> None:
    for name in _ANSWERS:
        found = sys.modules.get(name)
        if isinstance(found, StandIn):
            found.leave()


def _itself(name: str) -> ModuleType:
    """The module of this name. They need one another, so all that stand in leave."""
    _leave()
    return import_module(name)


class _Within(MetaPathFinder):
    """Finds submodules of a package that is stood in for: in the package itself."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        around = name.rpartition(".")[0]
        if not isinstance(sys.modules.get(around), StandIn):
            return None
        package = _itself(around)
        known = sys.modules.pop(name, None)  # else it would be loaded twice: whoever asks puts it back
        return ModuleSpec(name, _Known(known)) if known is not None else PathFinder.find_spec(name, package.__path__)


class _Known(Loader):
    """Loads a module that is there already."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


# --- what they answer ---------------------------------------------------------------------------------------------

_SHAPES, _FUNCTIONS, _ALGEBRA = "torch.fx.experimental.symbolic_shapes", "torch.utils._sympy.functions", "sympy"


def _where(known: Callable[..., bool], name: str, plainly: Callable[..., Any]) -> Callable[..., Any]:
    """A function for symbolic shapes that answers by itself where ``known`` of all that it is asked about."""

    def answer(*args: Any, **kwargs: Any) -> Any:
        if not kwargs and all(map(known, args)):
            return plainly(*args)
        return getattr(_itself(_SHAPES), name)(*args, **kwargs)

    return answer


def _truth(value: Any) -> bool:
    return type(value) is bool


def _number(value: Any) -> bool:
    return type(value) is int


def _size(value: Any) -> bool:
    return _number(value) or (isinstance(value, tuple | list) and all(map(_number, value)))


def _sized(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and all(map(_number, value.shape))


def _equal(x: Any, y: Any) -> bool:
    return bool(tuple(x) == tuple(y)) if not _number(x) and not _number(y) else bool(x == y)


_GUARDS = ("guard_or_false", "guard_or_true", "guard_size_oblivious", "expect_true", "statically_known_true")
_ANSWERS: dict[str, dict[str, Any]] = {
    _SHAPES: {
        **{name: _where(_truth, name, lambda a: a) for name in _GUARDS},
        "sym_and": _where(_truth, "sym_and", lambda *a: all(a)),
        "sym_or": _where(_truth, "sym_or", lambda *a: any(a)),
        "sym_eq": _where(_size, "sym_eq", _equal),
        "guard_int": _where(_number, "guard_int", lambda a: a),
        "guarding_hint_or_throw": _where(_number, "guarding_hint_or_throw", lambda a: a),
        "is_nested_int": _where(_number, "is_nested_int", lambda _: False),
        "has_guarding_hint": _where(_number, "has_guarding_hint", lambda _: True),
        "free_unbacked_symbols": _where(_sized, "free_unbacked_symbols", lambda _: frozenset()),
    },
    _FUNCTIONS: {"Max": lambda *args: _itself(_FUNCTIONS).Max(*args)},
    _ALGEBRA: {"Basic": type("Basic", (), {})},  # while it is not loaded, nothing is an expression
}


__all__ = ["StandIn", "uncompiled"]
