"""Layered layout of boxes and the wires between them (Sugiyama, Tagawa & Toda 1981).

Rows by longest path; a wire that runs past a row is given a lane in it, so that no wire can cross a box; rows
ordered by barycentres; boxes that continue one another put on one straight strand (after Brandes & Köpf 2002) and
strands moved towards what they are wired to. Everything is decided by order, so equal input gives equal output.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

LANE = 18.0  # width kept free for a wire that passes a row
APART = 16.0  # least distance between neighbours in a row
GAP = 18.0  # least distance between rows
DRIFT = 200.0  # boxes whose ports would put their middles further apart are not wired straight

Point = tuple[float, float]


@dataclass(frozen=True)
class Item:
    """A box to place; ``edge`` is −1 for a port at the top, +1 for one at the bottom."""

    width: float
    height: float
    edge: int = 0


@dataclass(frozen=True)
class Net:
    """A wire from one item to others; places on the items are distances from their left sides."""

    source: tuple[int, float]
    targets: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Segment:
    """The part of a net that crosses the gap below row ``row``: its two ends, and whether it is a lane's."""

    net: int
    row: int
    upper: int
    lower: int
    upper_x: float
    lower_x: float


@dataclass
class Layout:
    """Where everything is: left and top of each item (lanes behind the items), rows, and the wires' segments."""

    x: list[float]
    y: list[float]
    width: list[float]
    height: list[float]
    row_of: list[int]
    rows: list[list[int]]
    tops: list[float]
    bottoms: list[float]
    segments: list[Segment]
    lane_net: dict[int, int] = field(default_factory=dict)

    def start(self, s: Segment) -> Point:
        """Where a segment leaves its upper item."""
        return self.x[s.upper] + s.upper_x, self.y[s.upper] + self.height[s.upper]

    def end(self, s: Segment) -> Point:
        """Where a segment meets its lower item."""
        return self.x[s.lower] + s.lower_x, self.y[s.lower]


def arrange(items: Sequence[Item], nets: Sequence[Net]) -> Layout:
    """The layout of items wired by nets, which must form no cycle; x and y start at 0."""
    row_of = _rows(items, nets)
    layout, rows = _with_lanes(items, nets, row_of)
    order = _ordered(rows, layout.segments)
    layout.rows = order
    _across(layout)
    _down(layout)
    return layout


def _rows(items: Sequence[Item], nets: Sequence[Net]) -> list[int]:
    """Row of each item: below everything that feeds it; what nothing feeds stands just above its first reader."""
    feeds: dict[int, list[int]] = defaultdict(list)
    waits = [0] * len(items)
    for net in nets:
        for target, _ in net.targets:
            feeds[net.source[0]].append(target)
            waits[target] += 1
    fed = [w > 0 for w in waits]
    row = [1 if item.edge == 0 else 0 for item in items]
    ready = [i for i, w in enumerate(waits) if w == 0]
    order = []
    while ready:
        i = ready.pop(0)
        order.append(i)
        for j in feeds[i]:
            row[j] = max(row[j], row[i] + 1)
            waits[j] -= 1
            if waits[j] == 0:
                ready.append(j)
    last = max((r for r, item in zip(row, items, strict=True) if item.edge <= 0), default=0) + 1
    for i in reversed(order):
        if items[i].edge > 0:
            row[i] = last
        elif items[i].edge == 0 and not fed[i] and feeds[i]:
            row[i] = min(row[j] for j in feeds[i]) - 1
    used = {r: k for k, r in enumerate(sorted(set(row)))}  # a row that nothing stands in is no row
    return [used[r] for r in row]


def _with_lanes(items: Sequence[Item], nets: Sequence[Net], row_of: Sequence[int]) -> tuple[Layout, list[list[int]]]:
    """The layout before placing, with one lane per net and row that it passes, and the rows in their first order."""
    width, height, row = [i.width for i in items], [i.height for i in items], list(row_of)
    rows: list[list[int]] = [[] for _ in range(max(row_of) + 1)]
    for i, r in enumerate(row_of):
        rows[r].append(i)
    segments: list[Segment] = []
    lane_net: dict[int, int] = {}
    for n, net in enumerate(nets):
        upper, upper_x = net.source
        for r in range(row_of[upper], max(row_of[t] for t, _ in net.targets)):
            for target, x in net.targets:
                if row_of[target] == r + 1:
                    segments.append(Segment(n, r, upper, target, upper_x, x))
            if any(row_of[t] > r + 1 for t, _ in net.targets):
                lane = len(width)
                width.append(LANE)
                height.append(0.0)
                row.append(r + 1)
                rows[r + 1].append(lane)
                lane_net[lane] = n
                segments.append(Segment(n, r, upper, lane, upper_x, LANE / 2))
                upper, upper_x = lane, LANE / 2
    zeros = [0.0] * len(width)
    return Layout(zeros, zeros[:], width, height, row, [], [], [], segments, lane_net), rows


def _ordered(rows: list[list[int]], segments: Sequence[Segment], sweeps: int = 12) -> list[list[int]]:
    """Rows reordered by barycentres, the fewest crossings kept; ties keep their order."""
    above: dict[int, list[Segment]] = defaultdict(list)
    below: dict[int, list[Segment]] = defaultdict(list)
    gaps: list[list[Segment]] = [[] for _ in rows]
    for s in segments:
        above[s.lower].append(s)
        below[s.upper].append(s)
        gaps[s.row].append(s)
    rows = [list(row) for row in rows]
    best, least = [list(row) for row in rows], _crossings(rows, gaps)
    for sweep in range(sweeps):
        if least == 0:
            break
        down = sweep % 2 == 0
        for r in range(1, len(rows)) if down else range(len(rows) - 2, -1, -1):
            fixed = {i: k for k, i in enumerate(rows[r - 1 if down else r + 1])}
            rows[r] = _by_barycentre(rows[r], fixed, above if down else below, down)
        count = _crossings(rows, gaps)
        if count < least:
            best, least = [list(row) for row in rows], count
    return best


def _by_barycentre(row: list[int], fixed: dict[int, int], wires: dict[int, list[Segment]], down: bool) -> list[int]:
    """A row sorted by the mean place of what its items are wired to; an item without wires keeps its place."""
    keys = {}
    for place, i in enumerate(row):
        ends = [_spot(fixed, s, down) for s in wires[i]]
        keys[i] = sum(ends) / len(ends) if ends else float(place)
    return sorted(row, key=lambda i: keys[i])


def _spot(fixed: dict[int, int], s: Segment, down: bool) -> float:
    """Where a segment ends in the fixed row; ports of one item are told apart."""
    return fixed[s.upper] + 1e-4 * s.upper_x if down else fixed[s.lower] + 1e-4 * s.lower_x


def _crossings(rows: list[list[int]], gaps: list[list[Segment]]) -> int:
    """Number of pairs of segments that cross, gap by gap; segments of one net do not count."""
    total = 0
    for r, gap in enumerate(gaps[:-1]):
        top = {i: k for k, i in enumerate(rows[r])}
        bottom = {i: k for k, i in enumerate(rows[r + 1])}
        ends = sorted((_spot(top, s, True), _spot(bottom, s, False), s.net) for s in gap)
        for k, (a, b, n) in enumerate(ends):
            total += sum(1 for c, d, m in ends[k + 1 :] if a < c and d < b and m != n)
    return total


class _Strands:
    """Items tied to one another by straight wires, which move as one."""

    def __init__(self, count: int) -> None:
        self.of = list(range(count))
        self.shift = [0.0] * count  # left side of an item from its strand's origin
        self.members: list[list[int]] = [[i] for i in range(count)]

    @staticmethod
    def drifts(layout: Layout, s: Segment) -> bool:
        """Whether a straight wire would push two boxes far aside of one another."""
        thin = min(layout.width[s.upper], layout.width[s.lower]) <= LANE  # lanes and ports go where wires go
        return not thin and abs(_centred(layout, s) - (s.upper_x - s.lower_x)) > DRIFT

    def tie(self, s: Segment) -> None:
        """Put the lower end of a segment straight under the upper."""
        a, b = self.of[s.upper], self.of[s.lower]
        move = self.shift[s.upper] + s.upper_x - s.lower_x - self.shift[s.lower]
        for i in self.members[b]:
            self.of[i] = a
            self.shift[i] += move
        self.members[a] += self.members[b]
        self.members[b] = []


def _centred(layout: Layout, s: Segment) -> float:
    """How far right of its upper item's left side the lower one begins when their middles are in line."""
    return (layout.width[s.upper] - layout.width[s.lower]) / 2


def _tied(layout: Layout) -> _Strands:
    """The strands: at most one straight wire above and below each item, none crossing another."""
    strands = _Strands(len(layout.x))
    gaps: dict[int, list[Segment]] = defaultdict(list)
    for s in layout.segments:
        gaps[s.row].append(s)
    lanes = set(layout.lane_net)
    for r in range(len(layout.rows) - 1):
        top = {i: k for k, i in enumerate(layout.rows[r])}
        bottom = {i: k for k, i in enumerate(layout.rows[r + 1])}
        taken: list[tuple[int, int]] = []
        for s in sorted(gaps[r], key=lambda s: _preference(s, gaps[r], lanes, top, bottom)):
            a, b = top[s.upper], bottom[s.lower]
            if not strands.drifts(layout, s) and all((a < c) == (b < d) and a != c and b != d for c, d in taken):
                taken.append((a, b))
                strands.tie(s)
    return strands


def _preference(
    s: Segment, gap: Sequence[Segment], lanes: set[int], top: dict[int, int], bottom: dict[int, int]
) -> tuple[float, ...]:
    """Sorts a gap's segments by how much they should be straight: within a lane first, then middles, then firsts."""
    out = [t for t in gap if t.upper == s.upper and t.lower not in lanes]
    into = [t for t in gap if t.lower == s.lower and t.upper not in lanes]
    out_places, in_places = sorted(bottom[t.lower] for t in out), sorted(top[t.upper] for t in into)
    off_middle = 0.0
    for places, place in ((out_places, bottom[s.lower]), (in_places, top[s.upper])):
        if len(places) > 2 and place in places:
            off_middle += abs(places.index(place) - (len(places) - 1) // 2)
    within = s.upper in lanes and s.lower in lanes
    half = (s.upper in lanes) != (s.lower in lanes)
    return (0 if within else 2 if half else 1, off_middle, top[s.upper] + bottom[s.lower], bottom[s.lower])


def _across(layout: Layout) -> None:
    """Set x: strands as near to what they are wired to as the order within rows lets them."""
    strands = _tied(layout)
    left: dict[int, list[tuple[int, float]]] = defaultdict(list)  # strand: (strand to the left, least distance)
    right: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for row in layout.rows:
        for i, j in pairwise(row):
            a, b = strands.of[i], strands.of[j]
            apart = strands.shift[i] + layout.width[i] + _apart(layout, i, j) - strands.shift[j]
            left[b].append((a, apart))
            right[a].append((b, apart))
    pulls: dict[int, list[tuple[int, float]]] = defaultdict(list)  # strand: (other strand, wished distance)
    for s in layout.segments:
        a, b = strands.of[s.upper], strands.of[s.lower]
        if a != b:
            aside = _centred(layout, s) if strands.drifts(layout, s) else s.upper_x - s.lower_x
            wish = strands.shift[s.upper] - strands.shift[s.lower] + aside
            pulls[b].append((a, wish))
            pulls[a].append((b, -wish))
    x = _packed(strands, left)
    order = sorted(x, key=lambda k: (x[k], k))
    for sweep in range(24):
        for k in reversed(order) if sweep % 2 == 0 else order:
            low = max((x[a] + d for a, d in left[k]), default=float("-inf"))
            high = min((x[b] - d for b, d in right[k]), default=float("inf"))
            if pulls[k]:
                wish = sum(x[o] + d for o, d in pulls[k]) / len(pulls[k])
                x[k] = min(max(wish, low), high)
    layout.x = [x[strands.of[i]] + strands.shift[i] for i in range(len(layout.x))]
    least = min(layout.x)
    layout.x = [round(v - least, 2) for v in layout.x]


def _apart(layout: Layout, i: int, j: int) -> float:
    return APART / 4 if i in layout.lane_net and j in layout.lane_net else APART


def _packed(strands: _Strands, left: dict[int, list[tuple[int, float]]]) -> dict[int, float]:
    """Strands as far left as they go, by longest path."""
    x = {k: 0.0 for k, members in enumerate(strands.members) if members}
    for _ in range(len(x) + 1):
        moved = False
        for k in x:
            for a, d in left[k]:
                if x[a] + d > x[k] + 1e-9:
                    x[k], moved = x[a] + d, True
        if not moved:
            break
    return x


def _down(layout: Layout) -> None:
    """Set y: rows under one another, gaps wider where wires run far aside; items in the middle of their rows."""
    reach = [0.0] * len(layout.rows)
    for s in layout.segments:
        aside = abs(layout.x[s.upper] + s.upper_x - layout.x[s.lower] - s.lower_x)
        reach[s.row] = max(reach[s.row], aside)
    talls = [max(layout.height[i] for i in row) for row in layout.rows]
    y = 0.0
    for r, (row, tall) in enumerate(zip(layout.rows, talls, strict=True)):
        layout.tops.append(round(y, 2))
        layout.bottoms.append(round(y + tall, 2))
        for i in row:
            if i in layout.lane_net:
                layout.y[i], layout.height[i] = y, tall
            else:
                layout.y[i] = round(y + (tall - layout.height[i]) / 2, 2)
        port = tall == 0 or talls[r + 1 : r + 2] == [0.0]  # the frame's own space is around it
        y += tall + (GAP / 2 if port else GAP) + min(24.0, reach[r] / 10)
