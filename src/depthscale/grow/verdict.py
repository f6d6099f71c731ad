"""The verdict on runs of schedules, from their numbers alone: paired tests, and the front of accuracy and size.

Runs of one setting are paired by seed. ``ahead``: mean difference above zero at p < 0.05 in the paired t-test (with as
few seeds as these, tests that exchange signs could not reach it).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL, ENOUGH = 0.05, 5  # of the test; seeds below which nothing is decided
CLOSE = 1.02  # sizes within 2 % count as equal
RIVALS = ("fixed-large", "fixed-small", "rigl")  # whom development has to be ahead of

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Against:
    """One schedule less another in one setting: n pairs, mean difference, its standard error, two-sided p."""

    n: int
    difference: float
    error: float
    p: float

    @property
    def ahead(self) -> bool:
        """Better, beyond chance."""
        return self.difference > 0 and self.p < LEVEL and self.n >= ENOUGH

    @property
    def behind(self) -> bool:
        """Worse, beyond chance."""
        return self.difference < 0 and self.p < LEVEL and self.n >= ENOUGH


def values(rows: Sequence[Row], setting: str, name: str, key: str = "accuracy", share: float = 1.0) -> dict[int, float]:
    """A number by seed."""
    found = {}
    for r in rows:
        if r["setting"] == setting and r["schedule"] == name and r["share"] == share:
            found[int(r["seed"])] = float(r[key])
    return found


def against(
    rows: Sequence[Row], setting: str, name: str, other: str, key: str = "accuracy", share: float = 1.0
) -> Against | None:
    """The paired comparison over the seeds that both have; None for fewer than two."""
    a, b = values(rows, setting, name, key, share), values(rows, setting, other, key, share)
    seeds = sorted(a.keys() & b.keys())
    if len(seeds) < 2:
        return None
    d = np.asarray([a[s] - b[s] for s in seeds])
    deviation = float(d.std(ddof=1))
    if deviation == 0:
        return Against(len(d), float(d.mean()), 0.0, 1.0 if d.mean() == 0 else 0.0)
    from scipy.stats import ttest_1samp

    p = float(ttest_1samp(d, 0.0).pvalue)
    return Against(len(d), float(d.mean()), deviation / math.sqrt(len(d)), p)


def settings_of(rows: Sequence[Row]) -> list[str]:
    """Settings in the order they come."""
    return list(dict.fromkeys(r["setting"] for r in rows))


def schedules_of(rows: Sequence[Row]) -> list[str]:
    """Schedules in the order they come."""
    return list(dict.fromkeys(r["schedule"] for r in rows))


def mean(rows: Sequence[Row], setting: str, name: str, key: str = "accuracy", share: float = 1.0) -> float:
    """The mean over seeds; nan for none."""
    found = list(values(rows, setting, name, key, share).values())
    return float(np.mean(found)) if found else math.nan


def dominators(rows: Sequence[Row], setting: str, name: str, size: str = "parameters", share: float = 1.0) -> list[str]:
    """Schedules that are no larger and better beyond chance: who has none is on the front."""
    own = mean(rows, setting, name, size, share)
    found = []
    for other in schedules_of(rows):
        if other == name or math.isnan(mean(rows, setting, other, share=share)):
            continue
        test = against(rows, setting, name, other, share=share)
        if mean(rows, setting, other, size, share) <= CLOSE * own and test is not None and test.behind:
            found.append(other)
    return found


@dataclass(frozen=True)
class Verdict:
    """front: settings in which development is on the front; ahead: by setting, the rivals it is ahead of; n: seeds."""

    settings: tuple[str, ...]
    front: tuple[str, ...]
    ahead: Mapping[str, tuple[str, ...]]
    n: int

    @property
    def everywhere(self) -> bool:
        """On the front in all settings."""
        return len(self.front) == len(self.settings)

    @property
    def wins(self) -> int:
        """Settings in which it is ahead of all rivals."""
        return sum(set(RIVALS) <= set(names) for names in self.ahead.values())

    @property
    def reached(self) -> bool:
        """The goal: on the front everywhere, ahead of all rivals in at least three settings."""
        return self.everywhere and self.wins >= 3

    @property
    def words(self) -> str:
        """In a sentence."""
        each = "; ".join(
            f"{s}: ahead of {', '.join(self.ahead[s]) or 'none'} of {', '.join(RIVALS)}" for s in self.settings
        )
        return (
            f"on the front of accuracy and parameters in {len(self.front)} of {len(self.settings)} settings, ahead of "
            f"all fixed networks and RigL in {self.wins} ({each}; paired t-tests, p < {LEVEL}, n = {self.n})"
        )


def verdict(rows: Sequence[Row], name: str = "developmental", share: float = 1.0) -> Verdict:
    """The verdict on a schedule at one share of the budget."""
    settings = settings_of([r for r in rows if r["share"] == share])
    front = tuple(s for s in settings if not dominators(rows, s, name, share=share))
    ahead = {}
    counts = []
    for s in settings:
        tests = {r: against(rows, s, name, r, share=share) for r in RIVALS}
        ahead[s] = tuple(r for r, t in tests.items() if t is not None and t.ahead)
        counts.append(min((t.n if t is not None else 0 for t in tests.values()), default=0))
    return Verdict(tuple(settings), front, ahead, min(counts, default=0))
