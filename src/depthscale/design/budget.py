"""How much a design may spend: seconds of wall time, or a number of trials (which is reproducible)."""

import math
import time
from dataclasses import dataclass

from depthscale.errors import DepthscaleError
from depthscale.search.budget import seconds as seconds


@dataclass(frozen=True)
class Plan:
    """How a budget is shared out. With ``total=None`` only the number of trials limits, and epochs are counted."""

    total: float | None
    trials: int | None

    @property
    def search(self) -> float:
        """Seconds for the search (∞ when trials are counted)."""
        return math.inf if self.total is None else 0.50 * self.total

    @property
    def final(self) -> float:
        """Seconds for retraining the winner."""
        return math.inf if self.total is None else 0.32 * self.total

    @property
    def baseline(self) -> float:
        """Seconds for each baseline."""
        return 60.0 if self.total is None else max(0.05 * self.total, min(3.0, self.total / 8))


class Clock:
    """Seconds used so far, those of interrupted runs of the same design included."""

    def __init__(self, used: float = 0.0) -> None:
        self._start = time.monotonic() - used

    def __call__(self) -> float:
        """Seconds used."""
        return time.monotonic() - self._start


def plan(budget: str | float | None, trials: int | None) -> Plan:
    """The plan for what the user asked for; 60 s when nothing was.

    Raises DepthscaleError for a budget or number of trials that is not positive.
    """
    if trials is not None and trials < 1:
        raise DepthscaleError(f"expected at least 1 trial, got {trials}")
    if budget is None and trials is not None:
        return Plan(None, trials)
    return Plan(seconds(60 if budget is None else budget), trials)
