"""How the gallery's pictures look: Matplotlib without pyplot, so that nothing global changes.

``picture(rows, columns)`` gives a canvas and its axes. Colours are those of the report: INK for what is said, ACCENT
and SECOND for what is compared, SERIES where there are more.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from depthscale.report.plots import ACCENT, GRID, INK, SECOND, THIRD

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

__all__ = ["ACCENT", "GRID", "INK", "SECOND", "SERIES", "THIRD", "picture", "styled"]

SERIES = (ACCENT, SECOND, THIRD, "#7d5aa6", "#8a6d1f", "#a33a5a", "#3a8a94", "#6b7785")


@contextmanager
def styled() -> Iterator[None]:
    """The gallery's settings, for everything that is drawn inside; the gallery wraps ``draw`` in it."""
    import matplotlib as mpl
    from cycler import cycler

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "depthscale",
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9.5,
        "axes.edgecolor": GRID,
        "axes.labelcolor": INK,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.grid": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=SERIES),
        "legend.frameon": False,
        "axes.formatter.useoffset": False,
        "image.cmap": "YlGnBu",
    }
    with mpl.rc_context(settings):
        yield


def picture(
    rows: int = 1, columns: int = 1, *, width: float = 7.2, height: float = 4.2, **options: Any
) -> "tuple[Picture, list[Axes]]":
    """A canvas of ``width`` × ``height`` inches and its axes, row by row; ``options`` are those of ``subplots``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, [a for row in axes for a in row]
