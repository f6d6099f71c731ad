"""The picture of a phase diagram: how deep signals reach, and where order turns into chaos.

Drawn from plain arrays: colours are 6 xi_c (the depth up to which plain networks were seen to train), dark on the
critical line; thin lines are levels of q*; dots are initialisations that people use.
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
from depthscale.report.plots import INK, SECOND

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
_SHALLOW, _DEEP = 3.0, 3000.0  # layers: the ends of the colour scale
_NO_FIXED_POINT = 3
_NAMES = {0: "ordered", 2: "chaotic", 3: "no fixed point"}


@dataclass(frozen=True)
class Mark:
    """A named point of the plane."""

    name: str
    sw2: float
    sb2: float


@dataclass(frozen=True)
class PhasePicture:
    """What the picture shows. sw2 (W,), sb2 (B,); q, depth (layers, = 6 xi_c) and phase (0 ordered, 1 critical,
    2 chaotic, 3 no fixed point) of shape (B, W); line: the critical line's points (sw2, sb2); unstable: those where the
    length is no stable fixed point.
    """

    title: str
    sw2: Array
    sb2: Array
    q: Array
    depth: Array
    phase: NDArray[np.int8]
    line: Sequence[tuple[float, float]]
    marks: Sequence[Mark]
    unstable: Sequence[tuple[float, float]] = ()


def draw_phase(picture: PhasePicture, paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Draws the picture into each of ``paths`` (.png or .svg) and returns them; files are replaced whole."""
    return save(phase_figure(picture), paths)


def phase_figure(picture: PhasePicture) -> "Figure":
    """The Matplotlib figure of a phase diagram; nothing global changes."""
    from matplotlib.colors import LogNorm

    if picture.depth.shape != (len(picture.sb2), len(picture.sw2)):
        raise DepthscaleError(
            f"Expected depths of shape {(len(picture.sb2), len(picture.sw2))}, but got {picture.depth.shape}."
        )
    with heat_map(picture.title, 5.0) as (figure, axes):
        shown = np.where(picture.phase == _NO_FIXED_POINT, np.nan, np.clip(picture.depth, _SHALLOW, _DEEP))
        image = axes.pcolormesh(
            picture.sw2, picture.sb2, np.ma.masked_invalid(shown), cmap=colours(), norm=LogNorm(_SHALLOW, _DEEP),
            shading="nearest", rasterized=True,
        )  # fmt: skip
        colour_bar(figure, axes, image, "layers that signals reach, 6 ξ$_c$ (empirical rule)", extend="both")
        _lengths(axes, picture)
        _line(axes, picture)
        _regions(axes, picture)
        axes.set_xlim(float(picture.sw2[0]), float(picture.sw2[-1]))
        axes.set_ylim(float(picture.sb2[0]), float(picture.sb2[-1]))
        _marks(axes, picture)
        axes.set_ylabel("σ$_b$²  (variance of a bias)")
    return figure


def _lengths(axes: "Axes", picture: PhasePicture) -> None:
    """Levels of q*: straight lines in this plane."""
    q = np.where(np.isfinite(picture.q), picture.q, np.nan)
    inside = q[np.isfinite(q) & (q > 0)]
    if min(picture.q.shape) < 3 or len(inside) < 10:
        return
    levels = [v for v in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0) if inside.min() < v < inside.max()]
    if not levels:
        return
    lines = axes.contour(picture.sw2, picture.sb2, q, levels=levels, colors=INK, linewidths=0.6, alpha=0.45)
    width = 0.12 * float(picture.sw2[-1] - picture.sw2[0])
    roomy = [  # crowded levels go without their number
        level
        for level, segments in zip(lines.levels, lines.allsegs, strict=True)
        if any(len(s) and np.ptp(s[:, 0]) > width for s in segments)
    ]
    axes.clabel(lines, roomy, fmt=lambda v: f"q* = {v:g}", fontsize=7.5, inline_spacing=3)


def _line(axes: "Axes", picture: PhasePicture) -> None:
    points = np.array([p for p in picture.line if np.isfinite(p).all()]).reshape(-1, 2)
    if len(points) == 1:
        axes.plot(*points[0], marker="D", color=SECOND, markersize=7, zorder=5, clip_on=False, label="critical")
    elif len(points):
        axes.plot(points[:, 0], points[:, 1], color=SECOND, linewidth=2.2, zorder=4, label="critical line, χ₁ = 1")
    other = np.array([p for p in picture.unstable if np.isfinite(p).all()]).reshape(-1, 2)
    if len(other) > 1:
        axes.plot(
            other[:, 0], other[:, 1], ":", color=SECOND, linewidth=1.6, zorder=4, label="the same, length unstable"
        )
    if len(points) or len(other) > 1:
        axes.legend(loc="upper left", framealpha=0.85, edgecolor="none")


def _regions(axes: "Axes", picture: PhasePicture) -> None:
    """The name of each phase, where it has most room."""
    for code, name in _NAMES.items():
        mask = picture.phase == code
        if mask.mean() < 0.04:
            continue
        # the middle of the longest run of the row at 60 % of the height, else of the row with most cells
        row = int(0.6 * (len(mask) - 1))
        if mask[row].sum() < 0.08 * mask.shape[1]:
            row = int(np.argmax(mask.sum(axis=1)))
        columns = np.flatnonzero(mask[row])
        x, y = float(picture.sw2[int(np.median(columns))]), float(picture.sb2[row])
        box: Any = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "boxstyle": "round,pad=0.25"}
        axes.text(x, y, name, ha="center", va="center", fontsize=11, bbox=box, zorder=6)


def _marks(axes: "Axes", picture: PhasePicture) -> None:
    """Dots where initialisations lie; an arrow at the edge for one that lies to the left or right of the window."""
    low, high = axes.get_xlim()
    floor, top = axes.get_ylim()
    rise = (top - floor) * 0.035
    box: Any = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "boxstyle": "round,pad=0.15"}
    taken, level = -np.inf, 0
    for mark in sorted(picture.marks, key=lambda m: m.sw2):
        x = min(max(mark.sw2, low), high)
        y = min(max(mark.sb2, floor), top)
        outside = x != mark.sw2
        shape = "o" if not outside else ("<" if mark.sw2 < low else ">")
        axes.plot(x, y, shape, color="white", markeredgecolor=INK, markersize=7, zorder=7, clip_on=False)
        label = f"{mark.name} ({mark.sw2:.3g})" if outside else mark.name
        side = "left" if x < low + 0.1 * (high - low) else ("right" if x > high - 0.1 * (high - low) else "center")
        level = level + 1 if x - taken < 0.3 * (high - low) else 0  # a step up where it would run into the last
        taken = x
        axes.text(x, y + rise * (1 + 1.25 * (level % 3)), label, ha=side, va="bottom", fontsize=8, bbox=box, zorder=8)
