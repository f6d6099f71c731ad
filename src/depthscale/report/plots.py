"""Plots as inline SVG that follows the page's light and dark colours, or as PNG files.

Figures are drawn by Matplotlib without pyplot, so nothing global changes. Text stays text. Colours are written as CSS
variables (``--ink``, ``--grid``, ``--accent``, ``--second``) with the light colour as fallback; ids are unique to
their plot, so that many plots can stand in one page.
"""

from __future__ import annotations

import io
import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from depthscale.errors import DepthscaleError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GRID, ACCENT, SECOND, THIRD = "#27313d", "#d5dae1", "#2563ad", "#a44a17", "#3d7f56"
_VARIABLES = {INK: "--ink", GRID: "--grid", ACCENT: "--accent", SECOND: "--second", THIRD: "--third"}
_COLOURS = (ACCENT, SECOND, THIRD, "#7d5aa6", "#8a6d1f", "#a33a5a")
LEGIBLE = 20  # classes up to which a confusion matrix says its numbers
MOST_POINTS = 1500  # of a scatter plot; more are thinned evenly

Pairs = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One curve: points (x, y); ``strong`` draws it in front and names it, ``faint`` behind and pale."""

    points: Pairs
    name: str = ""
    weight: str = "usual"  # strong, usual or faint
    dashed: bool = False

    def __post_init__(self) -> None:
        if self.weight not in ("strong", "usual", "faint"):
            raise DepthscaleError(f"expected a line's weight to be strong, usual or faint, got {self.weight!r}")


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib as mpl

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "depthscale",
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9.5,
        "axes.edgecolor": GRID,
        "axes.labelcolor": INK,
        "axes.titlesize": 10,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.grid": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "path.simplify": True,
        "text.parse_math": False,  # a dollar sign in somebody's class name is a dollar sign
        "axes.formatter.useoffset": False,
    }
    with mpl.rc_context(settings):
        yield


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _finish(figure: Figure, says: str, png: str | os.PathLike[str] | None) -> str:
    if png is not None:
        save_png(figure, png)
    out = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the reader's browser has the letters
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(out.getvalue(), says)


def save_png(figure: Figure, path: str | os.PathLike[str], dpi: int = 150) -> None:
    """Write a figure as PNG on white, whole or not at all."""
    draft = f"{os.fspath(path)}.draft"
    try:
        with open(draft, "wb") as file, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
            figure.savefig(file, format="png", dpi=dpi, facecolor="white")
        os.replace(draft, path)
    except OSError as error:
        raise DepthscaleError(f"cannot write the picture {os.fspath(path)}: {error.strerror}") from None


def _inline(text: str, says: str) -> str:
    """Matplotlib's SVG made fit to stand in a page: own ids, colours by variable, a description, no fixed size."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    mark = "p" + blake2b(text.encode() + says.encode(), digest_size=4).hexdigest()
    text = re.sub(r'\bid="([^"]+)"', rf'id="{mark}\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{mark}\1)", text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{mark}\1"', text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(f": {colour}", f": var({variable}, {colour})")
    text = re.sub(r"font: ([^;\"]*?)'DejaVu Sans', sans-serif", r"font: \1 system-ui, 'DejaVu Sans', sans-serif", text)
    opening = re.compile(r"<svg([^>]*?)>", re.S)
    head = opening.match(text)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    if head is None or size is None:
        raise DepthscaleError("expected Matplotlib to write an SVG with a view box, got none; report the version")
    width, height = size.groups()
    wide, high = (f"{float(points) * 4 / 3:.0f}" for points in (width, height))  # 96 px are 72 pt
    described = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" class="plot" role="img" '
        f'aria-labelledby="{mark}t" viewBox="0 0 {width} {height}" width="{wide}" height="{high}">'
        f'<title id="{mark}t">{escape(says)}</title>'
    )
    return described + text[head.end() :].strip()


def _finite(points: Pairs) -> tuple[list[float], list[float]]:
    """Points split into x and y; what is not finite becomes a gap."""
    xs = [float(x) for x, _ in points]
    return xs, [float(y) if math.isfinite(y) else math.nan for _, y in points]


def curves(
    lines: Sequence[Line],
    *,
    x: str = "",
    y: str = "",
    says: str = "",
    log_x: bool = False,
    log_y: bool = False,
    size: tuple[float, float] = (7.2, 3.4),
    png: str | os.PathLike[str] | None = None,
) -> str:
    """Curves over a common axis, strong ones in front and named at the side; SVG text.

    With ``log_y`` what is not positive is left out. ``says`` describes the plot to those who cannot see it.
    """
    with _style():
        figure, axes = _figure(*size)
        order = {"faint": 0, "usual": 1, "strong": 2}
        crowd = sum(line.weight == "faint" for line in lines)
        paleness = max(0.05, 0.2 * min(1.0, 40 / max(crowd, 1)))  # many pale lines on one another are not pale
        colours = iter(_COLOURS * (1 + len(lines) // len(_COLOURS)))
        for line in sorted(lines, key=lambda line: order[line.weight]):
            xs, ys = _finite(line.points)
            if log_y:
                ys = [v if v > 0 else math.nan for v in ys]
            faint = line.weight == "faint"
            axes.plot(
                xs,
                ys,
                color=INK if faint else next(colours),
                alpha=paleness if faint else 1.0,
                linewidth={"faint": 0.9, "usual": 1.4, "strong": 2.2}[line.weight],
                linestyle="--" if line.dashed else "-",
                marker="o" if len(xs) < 2 or (line.weight == "strong" and len(xs) <= 40) else None,
                markersize=3,
                label=line.name or "_",
            )
        if log_x:
            axes.set_xscale("log")
            _powers(axes.xaxis)
        if log_y:
            axes.set_yscale("log")
            _powers(axes.yaxis)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if any(line.name for line in lines):
            axes.legend(loc="best", fontsize=8.5)
        return _finish(figure, says or f"{y} against {x}", png)


def _powers(axis: Any) -> None:
    """Ticks of a logarithmic axis, written without Matplotlib's mathematics."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda v, _: power(v)))
    axis.set_minor_formatter(NullFormatter())


def _thousands(axis: Any) -> None:
    """A few ticks, written 20k or 1.5M: long numbers side by side run into one another."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(EngFormatter(sep=""))


def power(value: float) -> str:
    """A power of ten as it is said on an axis: 0.01, 1, 10⁵."""
    exponent = round(math.log10(value)) if value > 0 else 0
    if -2 <= exponent <= 3:
        return f"{value:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def heat_map(
    values: Sequence[Sequence[float]],
    *,
    x: str = "",
    y: str = "",
    extent: tuple[float, float, float, float] | None = None,
    says: str = "",
    unit: str = "",
    size: tuple[float, float] = (5.6, 4.4),
    png: str | os.PathLike[str] | None = None,
) -> str:
    """A matrix as colour, first row at the bottom, with its scale; ``extent`` is (left, right, bottom, top)."""
    with _style():
        figure, axes = _figure(*size)
        axes.grid(False)
        image = axes.imshow(values, origin="lower", aspect="auto", cmap="cividis", extent=extent, interpolation="none")
        bar = figure.colorbar(image, ax=axes)
        bar.outline.set_visible(False)
        bar.set_label(unit)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        return _finish(figure, says or f"{unit} over {x} and {y}", png)


def strips(
    values: Sequence[Sequence[float]],
    names: Sequence[str],
    *,
    x: str = "",
    says: str = "",
    png: str | os.PathLike[str] | None = None,
) -> str:
    """Named rows of colour from 0 to 1, first row on top; NaN stays empty."""
    from matplotlib.ticker import MaxNLocator

    with _style():
        figure, axes = _figure(7.2, 0.9 + 0.19 * len(names))
        axes.grid(False)
        axes.imshow(values, aspect="auto", cmap="viridis", interpolation="none", vmin=0.0, vmax=1.0)
        axes.set_yticks(range(len(names)), [_cut(name, 24) for name in names], fontsize=7.5)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))  # columns are things, and half of one is none
        axes.tick_params(length=0)
        axes.set_xlabel(x)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return _finish(figure, says, png)


def confusion(
    counts: Sequence[Sequence[int]],
    labels: Sequence[str],
    *,
    says: str = "",
    png: str | os.PathLike[str] | None = None,
) -> str:
    """A confusion matrix, true classes in rows: shares of each row as colour; with its numbers up to 20 classes."""
    n = len(counts)
    totals = [sum(row) for row in counts]
    shares = [[c / t if t else 0.0 for c in row] for row, t in zip(counts, totals, strict=True)]
    short = [_cut(label) for label in labels]
    side = 1.9 + min(5.6, max(2.2, 0.42 * n)) if n <= LEGIBLE else 6.4
    with _style():
        figure, axes = _figure(side + 0.09 * max(map(len, short), default=0), side)
        axes.grid(False)
        if n <= LEGIBLE:
            _cells(axes, counts, shares)
        else:
            axes.imshow(_tinted(shares), interpolation="none")
        step = 1 if n <= 40 else math.ceil(n / 40)
        for axis, turn in ((axes.xaxis, 90 if n > 10 or max(map(len, short), default=0) > 3 else 0), (axes.yaxis, 0)):
            axis.set_ticks(range(0, n, step), short[::step])
            axis.set_tick_params(length=0, labelrotation=turn, labelsize=9 if n <= LEGIBLE else 6)
        axes.set_xlim(-0.5, n - 0.5)
        axes.set_ylim(n - 0.5, -0.5)
        axes.set_aspect("equal")
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        for spine in axes.spines.values():
            spine.set_visible(False)
        return _finish(figure, says or f"Confusion matrix of {n} classes", png)


def _cut(label: str, most: int = 14) -> str:
    label = "".join(c for c in " ".join(label.split()) if c.isprintable())
    return label if len(label) <= most else label[: most - 1] + "…"


def _cells(axes: Axes, counts: Sequence[Sequence[int]], shares: Sequence[Sequence[float]]) -> None:
    """A tinted square per cell; off the diagonal another hue, strengthened so that rare errors show."""
    from matplotlib.patches import Rectangle

    size = 9 if len(counts) <= 12 else 6.5
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            if count:
                tint = 0.5 * shares[i][j] if i == j else min(0.5, 0.22 + 2.0 * shares[i][j])
                colour = ACCENT if i == j else SECOND
                axes.add_patch(Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, facecolor=colour, alpha=tint, linewidth=0))
                axes.text(j, i, f"{count}", ha="center", va="center", fontsize=size, color=INK)
            else:
                axes.text(j, i, "·", ha="center", va="center", fontsize=size, color=INK, alpha=0.35)


def _tinted(shares: Sequence[Sequence[float]]) -> list[list[tuple[float, float, float, float]]]:
    """The matrix as transparent colour, so that it stands on light and dark paper."""
    from matplotlib.colors import to_rgb

    def tint(i: int, j: int, share: float) -> tuple[float, float, float, float]:
        r, g, b = to_rgb(ACCENT if i == j else SECOND)
        return r, g, b, share if i == j or not share else min(1.0, 0.2 + 3.0 * share)

    return [[tint(i, j, s) for j, s in enumerate(row)] for i, row in enumerate(shares)]


def scatter(
    points: Pairs,
    *,
    x: str = "",
    y: str = "",
    says: str = "",
    line: str = "",
    size: tuple[float, float] = (4.4, 3.8),
    png: str | os.PathLike[str] | None = None,
) -> str:
    """Points, thinned evenly to 1,500; ``line`` is diagonal (y = x), zero (y = 0) or nothing."""
    if line not in ("", "diagonal", "zero"):
        raise DepthscaleError(f"expected the line of a scatter plot to be diagonal, zero or '', got {line!r}")
    shown = [p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])]
    if len(shown) > MOST_POINTS:
        shown = [shown[i * len(shown) // MOST_POINTS] for i in range(MOST_POINTS)]
    with _style():
        figure, axes = _figure(*size)
        if line == "diagonal" and shown:
            ends = [min(min(p) for p in shown), max(max(p) for p in shown)]
            axes.plot(ends, ends, color=INK, linewidth=1, alpha=0.6)
        if line == "zero":
            axes.axhline(0, color=INK, linewidth=1, alpha=0.6)
        axes.plot([p[0] for p in shown], [p[1] for p in shown], "o", color=ACCENT, alpha=0.4, markersize=3.2, mew=0)
        if shown and max(abs(p[0]) for p in shown) >= 10_000:
            _thousands(axes.xaxis)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        return _finish(figure, says or f"{y} against {x}", png)
