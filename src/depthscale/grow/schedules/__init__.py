"""Schedules: when structure grows, is pruned, turns over. One file each, found by themselves."""

import difflib
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules

from depthscale.errors import DepthscaleError
from depthscale.grow.schedules.schedule import Plan, Schedule, Stage

__all__ = ["Plan", "Schedule", "Stage", "schedule", "schedules"]


@lru_cache(maxsize=1)
def schedules() -> dict[str, Schedule]:
    """All schedules by name."""
    found = {}
    for module in sorted(iter_modules(__path__), key=lambda m: m.name):
        if module.name != "schedule" and not module.name.startswith("_"):
            for made in import_module(f"{__name__}.{module.name}").SCHEDULES:
                found[made.name] = made
    return found


def schedule(name: str) -> Schedule:
    """The schedule of this name. Raises DepthscaleError for one that is unknown, with the nearest."""
    known = schedules()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DepthscaleError(f"expected --schedule to be one of {', '.join(known)}, got {name!r}{hint}")
    return known[name]
