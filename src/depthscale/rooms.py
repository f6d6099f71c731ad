"""Rooms that are called like the function that gave them their name: ``ds.build(graph)``, ``ds.design(data)``.

Importing a sub-package makes it an attribute of the package, and would hide a function of the same name; so the
module itself can be called.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def callable_room(name: str, function: Callable[..., Any]) -> None:
    """Make the module ``name`` callable as ``function``."""

    class Room(ModuleType):
        """A module that is called like its main function."""

        __doc__ = sys.modules[name].__doc__

        def __call__(self, *args: Any, **options: Any) -> Any:
            return function(*args, **options)

    sys.modules[name].__class__ = Room
