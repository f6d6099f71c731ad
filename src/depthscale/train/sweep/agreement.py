"""Where training stops to work, measured and predicted, and how well the two agree.

Measured: per column (one sw2), the depth at which accuracy falls through half-way between chance and the best of the
grid, interpolated in log depth. Predicted: K ξ_c, the depth over which two inputs remain distinguishable (Schoenholz
et al. 2017, who found K ≈ 6); K is fitted once, to all columns together.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RULE = 6.0  # Schoenholz et al. 2017
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """One sw2: ``xi_c`` in layers, its phase, and the depth at which accuracy falls through half-way."""

    sw2: float
    phase: str
    xi_c: float
    measured: float
    beyond: str = ""


@dataclass(frozen=True)
class Agreement:
    """The score of a heat map; ``side`` maps "all", "ordered" and "chaotic" to mean |log10(measured/predicted)| with
    its standard error over columns, the fitted constant in use, and the number of columns; ``rule`` the same with
    K = 6. ``constant`` is K, ``constant_error`` its standard error (as a factor's logarithm to base 10).
    """

    half: float
    constant: float
    constant_error: float
    side: Mapping[str, tuple[float, float, int]]
    rule: Mapping[str, tuple[float, float, int]]
    columns: tuple[Column, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.side["all"][2]:
            return "the boundary lies outside the depths of this grid in every column; no agreement to score"
        words = [
            f"boundary at {self.constant:.2f} xi_c (x10^±{self.constant_error:.2f}; the rule of thumb says {RULE:g}); "
            f"mean |log10(measured/predicted)|"
        ]
        for name in ("all", "ordered", "chaotic"):
            mean, error, count = self.side[name]
            if count:
                words.append(
                    f"{name} {mean:.3f} ± {error:.3f} ({count} columns; with {RULE:g}: {self.rule[name][0]:.3f})"
                )
        return words[0] + " " + ", ".join(words[1:])


def crossing(depths: Array, accuracy: Array, half: float) -> tuple[float, str]:
    """The depth at which accuracy (D,) falls through ``half`` for good, in log depth; or nan and where it lies.

    Diverged networks (nan) count as failed. The last depth that is above decides, so that one lucky network among
    failures or one failure among successes does not move the boundary by more than its neighbours.
    """
    order = np.argsort(depths)
    x, y = np.log(depths[order]), np.nan_to_num(accuracy[order], nan=0.0)
    above = y >= half
    if above.all():
        return math.nan, "deeper"
    if not above.any():
        return math.nan, "shallower"
    # the split that misplaces fewest networks: successes on the left, failures on the right
    wrong = np.concatenate([[0], np.cumsum(~above)]) + np.concatenate([np.cumsum(above[::-1])[::-1], [0]])
    k = int(np.flatnonzero(wrong == wrong.min())[-1])
    if k == 0:
        return math.nan, "shallower"
    if k == len(x):
        return math.nan, "deeper"
    left, right = float(y[k - 1]), float(y[k])
    if left < half or right >= half or left == right:
        return float(np.exp((x[k - 1] + x[k]) / 2)), ""
    share = (left - half) / (left - right)
    return float(np.exp(x[k - 1] + share * (x[k] - x[k - 1]))), ""


def agreement(
    sw2: Sequence[float], depths: Sequence[int], accuracy: Array, xi_c: Array, phase: Sequence[str], chance: float
) -> Agreement:
    """The score of accuracies of shape (depths, sw2), for theory's xi_c (sw2,) and phases.

    Only columns with 6 ξ_c within the depths are scored: beyond, near criticality, theory sets no limit that the grid
    could show, and what does is the training time. ``Column.beyond`` tells why a column was left out.
    """
    best = float(np.nanmax(accuracy)) if np.isfinite(accuracy).any() else chance
    half = (chance + best) / 2
    columns = []
    for k, w in enumerate(sw2):
        depth, beyond = crossing(np.asarray(depths, dtype=float), accuracy[:, k], half)
        if not xi_c[k] * RULE <= max(depths):
            beyond = "predicted deeper"
        columns.append(Column(float(w), phase[k], float(xi_c[k]), depth, beyond))
    usable = [c for c in columns if not c.beyond and c.xi_c > 0]
    ratio = np.array([math.log10(c.measured / c.xi_c) for c in usable])
    constant = 10 ** float(ratio.mean()) if len(ratio) else math.nan
    error = float(ratio.std(ddof=1) / math.sqrt(len(ratio))) if len(ratio) > 1 else math.nan

    def scored(value: float) -> dict[str, tuple[float, float, int]]:
        found = {}
        for name in ("all", "ordered", "chaotic"):
            off = np.array(
                [abs(r - math.log10(value)) for r, c in zip(ratio, usable, strict=True) if name in ("all", c.phase)]
            )
            spread = float(off.std(ddof=1) / math.sqrt(len(off))) if len(off) > 1 else math.nan
            found[name] = (float(off.mean()) if len(off) else math.nan, spread, len(off))
        return found

    empty = dict.fromkeys(("all", "ordered", "chaotic"), (math.nan, math.nan, 0))
    side = scored(constant) if len(ratio) else empty
    return Agreement(half, constant, error, side, scored(RULE) if len(ratio) else empty, tuple(columns))
