"""Decisions: where and when to grow, what to prune, when to stop. One file each, found by themselves."""

import difflib
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from depthscale.errors import DepthscaleError
from depthscale.grow.policies.policy import Grow, Kind, Policy, Proposal, Prune, When

__all__ = ["Grow", "Kind", "Policy", "Proposal", "Prune", "When", "policies", "policy"]


@lru_cache(maxsize=1)
def policies() -> dict[str, Policy]:
    """All policies by name."""
    found = {}
    for module in sorted(iter_modules(__path__), key=lambda m: m.name):
        if module.name != "policy" and not module.name.startswith("_"):
            made: Policy = import_module(f"{__name__}.{module.name}").POLICY
            found[made.name] = made
    return found


def policy(name: str, kind: Kind) -> Any:
    """The policy of this name. Raises DepthscaleError for one that is unknown or of another kind."""
    known = {n: p for n, p in policies().items() if p.kind == kind}
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DepthscaleError(f"expected a policy to {kind}, one of {', '.join(known)}, got {name!r}{hint}")
    return known[name].call
