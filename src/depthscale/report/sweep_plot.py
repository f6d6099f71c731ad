"""The picture of a sweep: accuracy over depth and σ_w², with theory's boundary laid over it.

Drawn from plain arrays. Colours are accuracies, light where nothing was learned; the line is the fitted multiple of
ξ_c, dashed the rule of thumb 6 ξ_c; dots are where accuracy was measured to fall through half-way.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from depthscale.errors import DepthscaleError
from depthscale.report.heat_map import colour_bar, colours, heat_map, save
from depthscale.report.plots import ACCENT, INK, SECOND

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A curve of depths over sw2; nan where there is none."""

    name: str
    sw2: Array
    depth: Array
    style: str = "-"
    colour: str = SECOND


@dataclass(frozen=True)
class SweepPicture:
    """What the picture shows. depth (D,), sw2 (W,); score (D, W), drawn from ``low`` to ``high``; ``measured`` the
    boundary's depth per sw2; ``critical`` the sw2 of the critical line (nan: none); ``footnote`` below the axes.
    """

    title: str
    label: str
    depth: Array
    sw2: Array
    score: Array
    low: float
    high: float
    measured: Array
    curves: Sequence[Curve]
    critical: float
    footnote: str = ""


def sweep_figure(picture: SweepPicture) -> "Figure":
    """The Matplotlib figure of a sweep; nothing global changes."""
    if picture.score.shape != (len(picture.depth), len(picture.sw2)):
        raise DepthscaleError(
            f"expected scores of shape {(len(picture.depth), len(picture.sw2))}, got {picture.score.shape}"
        )
    with heat_map(picture.title, 5.6) as (figure, axes):
        axes.set_yscale("log")
        image = axes.pcolormesh(
            _edges(picture.sw2), np.exp(_edges(np.log(picture.depth))), np.ma.masked_invalid(picture.score),
            cmap=colours(), vmin=picture.low, vmax=picture.high, rasterized=True,
        )  # fmt: skip
        colour_bar(figure, axes, image, picture.label)
        _lines(axes, picture)
        axes.set_ylabel("depth (hidden layers)")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        ticks = [d for d in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if axes.get_ylim()[0] <= d <= axes.get_ylim()[1]]
        axes.set_yticks(ticks)
        if picture.footnote:
            figure.supxlabel(picture.footnote, fontsize=8, x=0.01, ha="left", color=INK)
    return figure


def _edges(centres: Array) -> Array:
    """Cell borders half-way between centres."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def _lines(axes: "Axes", picture: SweepPicture) -> None:
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    halo: Any = {"color": "white", "linewidth": 3.6, "alpha": 0.8}
    for curve in picture.curves:
        with np.errstate(invalid="ignore"):
            depth = np.where(np.isfinite(curve.depth), np.clip(curve.depth, low / 10, high * 10), np.nan)
        if curve.style != ":":
            axes.plot(curve.sw2, depth, **halo)
        axes.plot(curve.sw2, depth, curve.style, color=curve.colour, linewidth=1.9, label=curve.name)
    seen = np.isfinite(picture.measured)
    if seen.any():
        axes.plot(
            picture.sw2[seen], picture.measured[seen], "o", color="white", markeredgecolor=INK, markersize=5.5,
            label="measured: half-way", zorder=5,
        )  # fmt: skip
    if left < picture.critical < right:
        axes.axvline(picture.critical, color=ACCENT, linewidth=1.4, linestyle=(0, (1, 1.5)), label="critical, χ₁ = 1")
    axes.set_ylim(low, high)
    axes.set_xlim(left, right)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False, fontsize=8.5)


def draw_sweep(picture: SweepPicture, paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Draws the picture into each of ``paths`` (.png or .svg) and returns them; files are replaced whole."""
    return save(sweep_figure(picture), paths)
