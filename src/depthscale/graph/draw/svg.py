"""The picture as one self-contained SVG: no scripts, no outside fonts, selectable text, colours for light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from xml.sax.saxutils import escape

from depthscale.graph.draw.boxes import FONT, LABEL_HEIGHT, SMALL, UNIT_HEIGHT, Box, Chip, Wire
from depthscale.graph.draw.outline import totals
from depthscale.graph.draw.picture import picture
from depthscale.graph.draw.words import FAMILIES, text_width
from depthscale.graph.graph import Graph

MARGIN = 20.0
LINE = 17.0  # between lines under the picture
LEAST = 300.0  # width for totals and legend under a narrow picture
ROUND = 7.0

Label = tuple[str, str, float]  # text, family ("" for none), width with the space behind it

# family: (fill, stroke) on light and on dark paper
COLOURS = {
    "contraction": ("#d9e6f7", "#5580b8", "#1f3a5c", "#6f9bd1"),
    "norm": ("#f6ecd2", "#a8894a", "#453a1e", "#c2a566"),
    "activation": ("#dcefdf", "#5c9468", "#20402a", "#74b283"),
    "pool": ("#eae2f5", "#8467b0", "#382a52", "#a68cd0"),
    "join": ("#f9dfdc", "#b56a60", "#522824", "#d68d83"),
    "layout": ("#eceef2", "#8a93a3", "#2c323c", "#8d97a8"),
    "source": ("#ffffff", "#6b7585", "#14181e", "#98a2b3"),
    "title": ("#f4f6f9", "#a9b2c0", "#20252d", "#6b7585"),
}


def _style() -> str:
    families = "".join(f".dsg .{k}{{fill:{a};stroke:{b}}}" for k, (a, b, _, _) in COLOURS.items())
    dark = "".join(f".dsg .{k}{{fill:{c};stroke:{d}}}" for k, (_, _, c, d) in COLOURS.items())
    return (
        ".dsg{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif}"
        ".dsg .paper{fill:#fff}.dsg text{fill:#1c2430}.dsg .faint{fill:#5a6473}"
        ".dsg .scope{fill:#8090a8;fill-opacity:.07;stroke:#8090a8;stroke-opacity:.55}"
        ".dsg .wire{fill:none;stroke:#6d7787;stroke-width:1.3}.dsg .skip{stroke:#b3572b;stroke-width:1.6}"
        ".dsg .tip{fill:#6d7787}.dsg .name{font-weight:600}"
        + families
        + "@media screen and (prefers-color-scheme:dark){"
        ".dsg .paper{fill:#14181e}.dsg text{fill:#e6eaf0}.dsg .faint{fill:#a3adbb}"
        ".dsg .wire{stroke:#8d97a8}.dsg .skip{stroke:#e08a5a}.dsg .tip{fill:#8d97a8}" + dark + "}"
    )


@dataclass
class Drawn:
    """A picture with absolute places: what is on it, for writing and for checking."""

    width: float
    height: float
    units: list[Box] = field(default_factory=list)
    scopes: list[Box] = field(default_factory=list)  # outer before inner
    wires: list[Wire] = field(default_factory=list)
    foot: list[list[Label]] = field(default_factory=list)  # lines under the picture


def draw(graph: Graph) -> Drawn:
    """The picture of a graph, every box and wire in the coordinates of the page."""
    root = picture(graph)
    used = {chip.family for unit in _units_of(root) for chip in unit.chips}
    words = [(part, "", text_width(part, FONT) + 16) for part in totals(graph).split(" · ")]
    legend = [(FAMILIES[f], f, text_width(FAMILIES[f], SMALL) + 26) for f in FAMILIES if f in used]
    width = max(root.width, LEAST)
    foot = [*_lines(words, width), *_lines(legend, width)]
    drawn = Drawn(width + 2 * MARGIN, root.height + 2 * MARGIN + 14 + LINE * len(foot), foot=foot)
    _flatten(root, (drawn.width - root.width) / 2, MARGIN, drawn)
    return drawn


def _lines(words: list[Label], width: float) -> list[list[Label]]:
    """Words in lines no wider than this."""
    lines: list[list[Label]] = [[]]
    for word in words:
        if lines[-1] and sum(w for _, _, w in lines[-1]) + word[2] > width:
            lines.append([])
        lines[-1].append(word)
    return lines


def _units_of(box: Box) -> Iterator[Box]:
    for child in box.inside:
        yield from _units_of(child) if child.inside else [child]


def _flatten(box: Box, x: float, y: float, drawn: Drawn) -> None:
    box.x, box.y = x, y
    for wire in box.wires:
        wire.points = [(px + x, py + y) for px, py in wire.points]
    drawn.wires += box.wires
    for child in box.inside:
        if child.inside:
            drawn.scopes.append(child)
            _flatten(child, x + child.x, y + child.y, drawn)
        else:
            child.x, child.y = x + child.x, y + child.y
            drawn.units.append(child)


def svg(graph: Graph) -> str:
    """The network as a self-contained SVG: scopes as frames, ops coloured by family, shapes where they change.

    Repeats are drawn once with "×N"; wires that skip layers run beside them. The same graph gives the same text.
    Raises GraphError where shapes do not fit.
    """
    drawn = draw(graph)
    words = totals(graph)
    body = "".join([*_scopes(drawn), *_wires(drawn), *_units(drawn), *_foot(drawn)])
    ends = f"from {', '.join(graph.inputs)} to {', '.join(graph.outputs)}"
    told = f"{len(graph)} ops {ends}; {words}. Repeated blocks are drawn once with their number."
    mark = blake2b(body.encode(), digest_size=4).hexdigest()
    size = f'width="{drawn.width:.0f}" height="{drawn.height:.0f}" viewBox="0 0 {drawn.width:.0f} {drawn.height:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="dsg" {size} role="img" '
        f'aria-labelledby="dsg{mark}t dsg{mark}d"><title id="dsg{mark}t">Drawing of the network</title>'
        f'<desc id="dsg{mark}d">{escape(told)}</desc><style>{_style()}</style>'
        f'<rect class="paper" width="100%" height="100%" rx="8"/>{body}</svg>\n'
    )


def _n(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def _text(x: float, y: float, words: str, size: float, kind: str = "", anchor: str = "") -> str:
    extra = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{_n(x)}" y="{_n(y)}" font-size="{size:g}"{extra}>{escape(words)}</text>'


def _scopes(drawn: Drawn) -> Iterator[str]:
    for box in drawn.scopes:
        yield (
            f'<rect class="scope" x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.width)}" height="{_n(box.height)}"'
            f' rx="{ROUND:g}"/>'
        )
        yield _text(box.x + 10, box.y + 15, box.label, FONT, "name")
        right = box.x + box.width - 10
        if box.aside:
            yield _text(right, box.y + 15, box.aside, SMALL, "faint", "end")
            right -= text_width(box.aside, SMALL) + 8
        if box.times:
            yield _text(right, box.y + 15, box.times, FONT, "name", "end")


def _wires(drawn: Drawn) -> Iterator[str]:
    for skip in (True, False):  # where a wire is both, it is not all skip
        paths = [stroke(wire) for wire in drawn.wires if wire.skip == skip]
        if paths:
            yield f'<path class="wire{" skip" if skip else ""}" d="{"".join(dict.fromkeys(paths))}"/>'
    tips = dict.fromkeys(wire.points[-1] for wire in drawn.wires if wire.arrow)
    if tips:
        d = "".join(f"M{_n(x)},{_n(y)}l-3.5,-6h7z" for x, y in tips)
        yield f'<path class="tip" d="{d}"/>'


def stroke(wire: Wire) -> str:
    """The path of a wire: straight down, an S where it moves aside, or rounded corners on the way to a column."""
    (x, y), *rest = wire.points
    d = f"M{_n(x)},{_n(y)}"
    if wire.square:
        for (px, py), (qx, qy), (rx, ry) in zip(wire.points, rest, rest[1:], strict=False):
            r = min(8.0, (abs(qx - px) + abs(qy - py)) / 2, (abs(rx - qx) + abs(ry - qy)) / 2)
            ax, ay = _towards((qx, qy), (px, py), r)
            bx, by = _towards((qx, qy), (rx, ry), r)
            d += f"L{_n(ax)},{_n(ay)}Q{_n(qx)},{_n(qy)} {_n(bx)},{_n(by)}"
        return d + f"L{_n(rest[-1][0])},{_n(rest[-1][1])}"
    for px, py in rest:
        if abs(px - x) < 0.05:
            d += f"V{_n(py)}"
        else:
            middle = (y + py) / 2
            d += f"C{_n(x)},{_n(middle)} {_n(px)},{_n(middle)} {_n(px)},{_n(py)}"
        x, y = px, py
    return d


def _towards(start: tuple[float, float], end: tuple[float, float], distance: float) -> tuple[float, float]:
    length = abs(end[0] - start[0]) + abs(end[1] - start[1]) or 1.0  # the two differ along one axis only
    return (
        start[0] + (end[0] - start[0]) * distance / length,
        start[1] + (end[1] - start[1]) * distance / length,
    )


def _units(drawn: Drawn) -> Iterator[str]:
    for unit in drawn.units:
        x = unit.x + (unit.width - unit.chips_width) / 2
        last = len(unit.chips) - 1
        for k, chip in enumerate(unit.chips):
            yield (
                f"<g><title>{escape(chip.story)}</title>{_chip(x, unit.y, chip, k == 0, k == last)}"
                + _text(x + chip.width / 2, unit.y + 15, chip.text, FONT, "name" * (chip.family == "title"), "middle")
                + "</g>"
            )
            x += chip.width
        if unit.shape:
            centre = unit.x + unit.width / 2
            yield _text(centre + 5, unit.y + UNIT_HEIGHT + LABEL_HEIGHT - 3, unit.shape, SMALL, "faint")


def _chip(x: float, y: float, chip: Chip, first: bool, last: bool) -> str:
    """A rectangle whose outer corners are round."""
    w, h, r = chip.width, UNIT_HEIGHT, 5.0
    if first and last:
        return f'<rect class="{chip.family}" x="{_n(x)}" y="{_n(y)}" width="{_n(w)}" height="{_n(h)}" rx="{r:g}"/>'
    a, b = (r if first else 0.0), (r if last else 0.0)
    d = f"M{_n(x + a)},{_n(y)}H{_n(x + w - b)}"
    d += f"q{b:g},0 {b:g},{b:g}V{_n(y + h - b)}q0,{b:g} -{b:g},{b:g}" if last else f"V{_n(y + h)}"
    d += f"H{_n(x + a)}"
    d += f"q-{a:g},0 -{a:g},-{a:g}V{_n(y + a)}q0,-{a:g} {a:g},-{a:g}z" if first else "z"
    return f'<path class="{chip.family}" d="{d}"/>'


def _foot(drawn: Drawn) -> Iterator[str]:
    """Totals, then what the colours mean."""
    y = drawn.height - MARGIN - LINE * (len(drawn.foot) - 1)
    for line in drawn.foot:
        x = MARGIN
        for words, family, width in line:
            if family:
                yield f'<rect class="{family}" x="{_n(x)}" y="{_n(y - 8)}" width="9" height="9" rx="2"/>'
            yield _text(x + 13, y, words, SMALL, "faint") if family else _text(x, y, words, FONT)
            x += width
        y += LINE
