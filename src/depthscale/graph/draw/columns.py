"""A tall picture in columns: rows are cut where a single wire passes, so that a deep network fits on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from depthscale.graph.draw.layered import Layout

if TYPE_CHECKING:
    from depthscale.graph.draw.boxes import Box, Wire

PAGE = (1080.0, 1200.0)  # the page that a picture should fit on at full size
BETWEEN = 44.0  # between columns
TURN = 14.0  # how far above and below its columns a wire turns
MOST = 8


def flow(layout: Layout, boxes: Mapping[int, Box], wires: Sequence[Wire]) -> tuple[float, float]:
    """Width and height after breaking a top-level layout into columns; moves boxes and wires in place.

    As many columns as let the picture be shown largest on a page; ``wires`` are those of ``layout.segments``.
    """
    cuts = _cuttable(layout)
    best = [(0, len(layout.rows))]
    largest = _scale(layout, best)
    for count in range(2, min(MOST, len(cuts) + 1) + 1):
        spans = _spans(layout, cuts, count)
        if (scale := _scale(layout, spans)) > largest * 1.08 ** (count - len(best)):  # a turn must be worth it
            best, largest = spans, scale
    _move(layout, best, boxes, wires)
    return _size(layout, best)


def _cuttable(layout: Layout) -> list[int]:
    """Rows below which one wire passes and nothing else."""
    passing = [0] * len(layout.rows)
    for s in layout.segments:
        passing[s.row] += 1
    return [r for r, n in enumerate(passing[:-1]) if n == 1]


def _height(layout: Layout, span: tuple[int, int]) -> float:
    return layout.bottoms[span[1] - 1] - layout.tops[span[0]]


def _edges(layout: Layout, span: tuple[int, int]) -> tuple[float, float]:
    """Leftmost and rightmost x in rows of a span."""
    members = [i for row in layout.rows[span[0] : span[1]] for i in row]
    return min(layout.x[i] for i in members), max(layout.x[i] + layout.width[i] for i in members)


def _size(layout: Layout, spans: Sequence[tuple[int, int]]) -> tuple[float, float]:
    widths = [right - left for left, right in (_edges(layout, span) for span in spans)]
    turns = 2 * TURN if len(spans) > 1 else 0.0
    return sum(widths) + BETWEEN * (len(spans) - 1), max(_height(layout, span) for span in spans) + turns


def _scale(layout: Layout, spans: Sequence[tuple[int, int]]) -> float:
    width, height = _size(layout, spans)
    return min(1.0, PAGE[0] / width, PAGE[1] / height)


def _spans(layout: Layout, cuts: Sequence[int], count: int) -> list[tuple[int, int]]:
    """Rows in at most ``count`` columns, the tallest as short as possible, filled from the first on."""
    limits = sorted({layout.bottoms[b] - layout.tops[a] for a in [0, *(c + 1 for c in cuts)] for b in [*cuts, -1]})
    low, high = 0, len(limits) - 1
    while low < high:
        middle = (low + high) // 2
        filled = _filled(layout, cuts, limits[middle])
        low, high = (low, middle) if filled is not None and len(filled) <= count else (middle + 1, high)
    return _filled(layout, cuts, limits[low]) or [(0, len(layout.rows))]


def _filled(layout: Layout, cuts: Sequence[int], limit: float) -> list[tuple[int, int]] | None:
    """Columns of at most this height, each as full as it goes; None where a piece between cuts is taller."""
    ends = [*(c + 1 for c in cuts), len(layout.rows)]
    spans: list[tuple[int, int]] = []
    start, stop = 0, 0
    for end in ends:
        if _height(layout, (start, end)) > limit:
            if stop == start or _height(layout, (stop, end)) > limit:
                return None
            spans.append((start, stop))
            start = stop
        stop = end
    return [*spans, (start, stop)]


def _move(layout: Layout, spans: Sequence[tuple[int, int]], boxes: Mapping[int, Box], wires: Sequence[Wire]) -> None:
    shift: dict[int, tuple[float, float]] = {}  # row: move
    gutter: dict[int, float] = {}  # last row of a column: x of the way to the next
    x = 0.0
    turn = TURN if len(spans) > 1 else 0.0
    for span in spans:
        left, right = _edges(layout, span)
        for r in range(*span):
            shift[r] = (x - left, turn - layout.tops[span[0]])
        x += right - left + BETWEEN
        gutter[span[1] - 1] = x - BETWEEN / 2
    for k, box in boxes.items():
        dx, dy = shift[layout.row_of[k]]
        box.x, box.y = box.x + dx, box.y + dy
    for segment, wire in zip(layout.segments, wires, strict=True):
        (ux, uy), (lx, ly) = shift[segment.row], shift[segment.row + 1]
        moved = [(px + ux, py + uy) for px, py in wire.points[:2]]
        moved += [(px + lx, py + ly) for px, py in wire.points[2:]]
        if segment.row in gutter and segment.row + 1 in shift:
            (x0, y0), (_, bottom), (x1, top), (_, y1) = moved
            side = gutter[segment.row]
            moved = [
                (x0, y0),
                (x0, bottom + TURN),
                (side, bottom + TURN),
                (side, top - TURN),
                (x1, top - TURN),
                (x1, y1),
            ]
            wire.square = True
        wire.points = moved
