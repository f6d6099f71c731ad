"""Learning-rate schedules as functions of the fraction of the budget that is used, whatever the budget is in.

One-cycle: Smith & Topin 2019, "Super-convergence", with cosine flanks; cosine: Loshchilov & Hutter 2017, "SGDR", eq. 5.
"""

import math

from depthscale.errors import TrainingError

_START = 1 / 25  # where one-cycle begins, as a share of the largest rate


def factor(name: str, fraction: float, warmup: float, final: float) -> float:
    """The share of the largest learning rate at ``fraction`` ∈ [0, 1] of the budget.

    It rises over the first ``warmup`` (linearly; one-cycle: along a cosine from 1/25) and falls to ``final`` at 1.
    """
    if fraction < warmup:
        t = fraction / warmup
        return _cosine(_START, 1.0, t) if name == "onecycle" else t
    t = (fraction - warmup) / (1 - warmup) if warmup < 1 else 0.0
    if name == "constant":
        return 1.0
    if name == "linear":
        return 1.0 + (final - 1.0) * t
    if name in ("cosine", "onecycle"):
        return _cosine(1.0, final, t)
    raise TrainingError(f"expected schedule to be constant, linear, cosine or onecycle, got {name!r}")


def _cosine(start: float, end: float, t: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * t)) / 2
