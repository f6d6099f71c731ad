"""What the pictures of sweeps and of phase diagrams have in common: canvas, colours, frame, and files."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthscale.errors import DepthscaleError
from depthscale.report.plots import GRID, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "depthscale", "font.size": 9.5, "text.color": INK}


@contextmanager
def heat_map(title: str, height: float) -> "Iterator[tuple[Figure, Axes]]":
    """A canvas to draw on, with σ_w² along it; framed and laid out at the end. Nothing global changes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(7.2, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        yield figure, axes
        axes.set_xlabel("σ$_w$²  (variance of a weight × fan-in)")
        axes.set_title(title, loc="left", fontsize=11)
        for spine in axes.spines.values():
            spine.set_color(GRID)
        figure.draw_without_rendering()  # lay out once, so that every format shows the same picture
        figure.set_layout_engine("none")


def colours() -> "Colormap":
    """Light to dark; grey where there is nothing."""
    import matplotlib as mpl

    return mpl.colormaps["YlGnBu"].with_extremes(bad="#ecebe8")


def colour_bar(figure: "Figure", axes: "Axes", image: Any, label: str, **options: Any) -> None:
    """The scale of an image beside it."""
    bar = figure.colorbar(image, ax=axes, pad=0.02, **options)
    bar.set_label(label)
    bar.outline.set_edgecolor(GRID)


def save(figure: "Figure", paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Writes a figure into each of ``paths`` (.png or .svg) and returns them; files are replaced whole."""
    import matplotlib as mpl

    written = []
    for path in map(Path, paths):
        if path.suffix not in (".png", ".svg"):
            raise DepthscaleError(f"A picture is a .png or .svg file, but got {path.name!r}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            metadata: Any = {"Date": None} if path.suffix == ".svg" else {"Software": None}
            with mpl.rc_context(_SETTINGS):
                figure.savefig(part, format=path.suffix[1:], dpi=160, metadata=metadata)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        written.append(path)
    return written
