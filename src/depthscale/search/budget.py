"""How much a search may spend: seconds, trials or epochs, whichever is used up first."""

import math
import re
from dataclasses import dataclass

from depthscale.errors import DepthscaleError, SearchError

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds(text: str | float) -> float:
    """Seconds of a budget such as 60, "60s", "8m" or "1.5h".

    Raises DepthscaleError for anything else and for budgets that are not positive.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", str(text).lower())
    if match is None or match[2] not in _UNITS:
        raise DepthscaleError(f"expected a budget such as 60s, 8m or 1.5h, got {str(text)!r}")
    value = float(match[1]) * _UNITS[match[2]]
    if not value > 0 or not math.isfinite(value):
        raise DepthscaleError(f"expected a budget of more than 0 seconds, got {str(text)!r}")
    return value


@dataclass(frozen=True)
class Limits:
    """What one study (a strategy with one seed) may spend; None: no limit of this kind.

    trials: different networks evaluated. seconds, epochs: of evaluation, as charged (a table charges what training
    took when it was recorded).
    """

    trials: int | None = None
    seconds: float | None = None
    epochs: float | None = None

    def __post_init__(self) -> None:
        given = {"trials": self.trials, "seconds": self.seconds, "epochs": self.epochs}
        if all(v is None for v in given.values()):
            raise SearchError("expected a budget in seconds, trials or epochs, got none of them")
        for name, value in given.items():
            if value is not None and not (math.isfinite(value) and value > 0):
                raise SearchError(f"expected a budget of more than 0 {name}, got {value}")
        if self.trials is not None and self.trials != int(self.trials):
            raise SearchError(f"expected a whole number of trials, got {self.trials}")

    def used(self, trials: int, seconds: float, epochs: float) -> float:
        """The largest share of a limit that this much is; 1 and more: used up."""
        pairs = ((trials, self.trials), (seconds, self.seconds), (epochs, self.epochs))
        return max(spent / limit for spent, limit in pairs if limit is not None)
