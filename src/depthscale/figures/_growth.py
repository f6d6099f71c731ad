"""What the figures of growth share: every schedule has a colour and a marker of its own, the same in all of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale.figures.style import ACCENT, INK, SECOND, THIRD
from depthscale.grow import verdict as v

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = {
    "developmental": (ACCENT, "*"),
    "developmental-units": ("#7db4e6", "P"),
    "rigl": (SECOND, "o"),
    "set": ("#e0a030", "s"),
    "grow-only": (THIRD, "^"),
    "prune-only": ("#a33a5a", "v"),
    "lottery": ("#d58fb0", "X"),
    "fixed-large": (INK, "D"),
    "fixed-small": ("#8a95a3", "d"),
    "random": ("#7d5aa6", "h"),
}


def mark(name: str) -> dict[str, Any]:
    """How points of a schedule are drawn; the one that is asked about is larger than the rest."""
    colour, shape = MARKS[name]
    size = 12 if name == "developmental" else 6
    return {
        "marker": shape,
        "color": colour,
        "markersize": size,
        "ls": "",
        "label": name,
        "zorder": 3 if size > 6 else 2,
    }


def apart(names: Sequence[str]) -> dict[str, float]:
    """Factors by which points of equal size are set apart on a logarithmic axis, so that their bars can be told."""
    steps = np.linspace(-0.045, 0.045, len(names)) if len(names) > 1 else np.zeros(1)
    return {n: float(10**d) for n, d in zip(names, steps, strict=True)}


def spot(axes: "Axes", name: str, x: Sequence[float], y: Sequence[float], *, sideways: bool = False) -> None:
    """The mean of a schedule's runs (x and y of every seed) with the standard errors of y, and of x if ``sideways``."""
    values = [np.asarray(v, dtype=float) for v in (x, y)]
    if not len(values[1]):
        return
    ex, ey = (float(v.std(ddof=1)) / len(v) ** 0.5 if len(v) > 1 else 0.0 for v in values)
    axes.errorbar([values[0].mean()], [values[1].mean()], xerr=[ex] if sideways else None, yerr=[ey], **mark(name))


def sizes(axes: "Axes", rows: Sequence[v.Row], setting: str) -> None:
    """Accuracy in % against parameters at the end, of all schedules in a setting."""
    from matplotlib.ticker import LogLocator

    names = [n for n in MARKS if n in v.schedules_of(rows)]
    for name, factor in apart(names).items():
        x = [factor * r for r in v.values(rows, setting, name, "parameters").values()]
        spot(axes, name, x, [100 * r for r in v.values(rows, setting, name).values()])
    axes.set_title(setting)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("parameters at the end (set apart)")
