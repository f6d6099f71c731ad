"""The spaces, by name: each a function that makes decisions and returns a network."""

from collections.abc import Callable
from typing import Any

from depthscale.errors import SearchError
from depthscale.search.space import Space

_SPACES: dict[str, tuple[str, str]] = {
    "layerwise": ("chains", "layerwise"),
    "blockwise": ("cells", "blockwise"),
    "whole": ("chains", "whole"),
    "wired": ("cells", "wired"),
    "mlp": ("chains", "mlp"),
    "nasbench101": ("cells", "nasbench101_space"),
    "nasbench201": ("cells", "nasbench201_space"),
}


def names() -> tuple[str, ...]:
    """The spaces that ``space`` knows."""
    return tuple(_SPACES)


def space(name: str, **options: Any) -> Space:
    """The space of this name; ``options`` are its function's: input_shape and outputs for all of them.

    Raises SearchError for a name that is none, with the nearest.
    """
    from importlib import import_module

    if name not in _SPACES:
        import difflib

        near = difflib.get_close_matches(name, _SPACES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SearchError(f"expected a search space ({', '.join(_SPACES)}), got {name!r}{hint}")
    module, function = _SPACES[name]
    make: Callable[..., Space] = getattr(import_module(f"depthscale.search.spaces.{module}"), function)
    return make(**options)
