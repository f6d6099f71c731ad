"""The film of a structure over time: one SVG that plays by itself in any browser, made from recorded frames.

A column of dots is a layer, a dot a unit (or a few, where there are many), a line one of the strongest connections (the
more there are, the more are drawn). What is new is green, what goes fades; below, the score and the size with a mark
that moves along.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from depthscale.report.plots import ACCENT, GRID, INK, SECOND, THIRD

WIDTH, HEIGHT, TOP, BOTTOM = 900, 560, 64, 150  # px
MOST_DOTS = 34  # in a column
SECONDS = 0.8  # a frame
_NEW = THIRD


def film(frames: Sequence[Mapping[str, Any]], title: str) -> str:
    """The SVG of recorded frames (``frames.frame``), oldest first; of one frame a still picture."""
    duration = max(6.0, SECONDS * len(frames))
    columns = _columns(frames)
    places = _places(columns)
    body = [*_links(frames, columns, places, duration), *_dots(frames, columns, places, duration)]
    body += [*_labels(frames, columns, duration), *_curves(frames, duration)]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" '
        f'role="img" aria-label="{escape(title)}: structure over time">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
        f'<text x="24" y="30" font-size="17" font-weight="600" fill="{INK}">{escape(title)}</text>'
    )
    return head + "".join(body) + "</svg>\n"


def _columns(frames: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Layers in the order of the last frame, those that are gone by then before them; who ever was in each."""
    names: list[str] = []
    for f in frames:
        for at, column in enumerate(f["columns"]):
            if column["name"] not in names:
                names.insert(min(at, len(names)), column["name"])
    found = []
    for name in names:
        ids: dict[int, None] = {}
        for f in frames:
            for column in f["columns"]:
                if column["name"] == name:
                    ids.update(dict.fromkeys(column["ids"]))
        order = list(ids)
        share = max(1, -(-len(order) // MOST_DOTS))
        found.append({"name": name, "dot": {unit: i // share for i, unit in enumerate(order)}, "share": share})
    return found


def _places(columns: Sequence[Mapping[str, Any]]) -> list[list[tuple[float, float]]]:
    high = HEIGHT - TOP - BOTTOM
    found = []
    for c, column in enumerate(columns):
        n = max(column["dot"].values(), default=0) + 1
        x = 60 + c * (WIDTH - 120) / max(len(columns) - 1, 1)
        step = min(high / max(n, 1), 26.0)
        top = TOP + (high - step * (n - 1)) / 2
        found.append([(x, top + step * i) for i in range(n)])
    return found


def _series(values: Sequence[float], attribute: str, duration: float, mode: str = "linear") -> str:
    """An animation of one attribute through the frames, held at the end; nothing where it does not change."""
    if len(set(values)) <= 1:
        return ""
    n = len(values)
    held = [*values, values[-1], values[-1]]
    times = [round(i / (n + 2), 4) for i in range(n)] + [round(n / (n + 2), 4), 1]
    text = ";".join(f"{v:g}" if isinstance(v, float | int) else str(v) for v in held)
    keys = ";".join(f"{t:g}" for t in times)
    return (
        f'<animate attributeName="{attribute}" values="{text}" keyTimes="{keys}" dur="{duration:g}s" '
        f'calcMode="{mode}" repeatCount="indefinite"/>'
    )


def _dots(
    frames: Sequence[Mapping[str, Any]],
    columns: Sequence[Mapping[str, Any]],
    places: Sequence[Sequence[tuple[float, float]]],
    duration: float,
) -> list[str]:
    out = []
    for c, column in enumerate(columns):
        strength = [[0.0] * len(places[c]) for _ in frames]
        for t, f in enumerate(frames):
            for shown in f["columns"]:
                if shown["name"] == column["name"]:
                    for unit, s in zip(shown["ids"], shown["strength"], strict=True):
                        dot = column["dot"][unit]
                        strength[t][dot] = max(strength[t][dot], 0.25 + 0.75 * s)
        radius = 5.5 if len(places[c]) <= 24 else 4.2
        for i, (x, y) in enumerate(places[c]):
            values = [round(row[i], 2) for row in strength]
            colours = [
                _NEW if v and (t > 0 and not values[t - 1]) else (ACCENT if c else INK) for t, v in enumerate(values)
            ]
            fill = _colour(colours, duration)
            move = _series(values, "opacity", duration)
            shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colours[-1]}" opacity="{values[-1]:g}"'
            out.append(f"{shape}>{move}{fill}</circle>" if move or fill else f"{shape}/>")
    return out


def _colour(colours: Sequence[str], duration: float) -> str:
    return _series(colours, "fill", duration) if len(set(colours)) > 1 else ""  # type: ignore[arg-type]


def _links(
    frames: Sequence[Mapping[str, Any]],
    columns: Sequence[Mapping[str, Any]],
    places: Sequence[Sequence[tuple[float, float]]],
    duration: float,
) -> list[str]:
    at = {column["name"]: i for i, column in enumerate(columns)}
    seen: dict[tuple[int, int, int, int], list[float]] = {}
    for t, f in enumerate(frames):
        for k, i, j, w in f["links"]:
            a, b = at[f["columns"][k - 1]["name"]], at[f["columns"][k]["name"]]
            key = (a, columns[a]["dot"][i], b, columns[b]["dot"][j])
            values = seen.setdefault(key, [0.0] * len(frames))
            values[t] = max(values[t], round(0.08 + 0.6 * w * w, 2))
    out = []
    for (a, i, b, j), values in seen.items():
        (x1, y1), (x2, y2) = places[a][i], places[b][j]
        line = (
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{INK}" stroke-width="1.1" '
            f'opacity="{values[-1]:g}"'
        )
        fresh = [_NEW if v and t > 0 and not values[t - 1] else INK for t, v in enumerate(values)]
        move = _series(values, "opacity", duration) + _colour(fresh, duration).replace('"fill"', '"stroke"')
        out.append(f"{line}>{move}</line>" if move else f"{line}/>")
    return out


def _labels(frames: Sequence[Mapping[str, Any]], columns: Sequence[Mapping[str, Any]], duration: float) -> list[str]:
    out = []
    for c, column in enumerate(columns):
        x = 60 + c * (WIDTH - 120) / max(len(columns) - 1, 1)
        style = f'font-size="10.5" text-anchor="middle" fill="{INK}"'
        out.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" {style}>{escape(_short(column["name"]))}</text>')
        if column["share"] > 1:
            y = HEIGHT - BOTTOM + 29
            out.append(f'<text x="{x:.1f}" y="{y}" {style} opacity="0.7">{column["share"]} units a dot</text>')
    for t, f in enumerate(frames):
        values = [float(k == t) for k in range(len(frames))]
        words = f"{f['stage']} · {f['parameters']:,} parameters" + _score(f["val"])
        move = _series(values, "opacity", duration, "discrete")
        out.append(
            f'<text x="{WIDTH - 24}" y="30" font-size="14" text-anchor="end" fill="{SECOND}" opacity="{values[-1]:g}">'
            f"{escape(words)}{move}</text>"
        )
    return out


def _score(val: Mapping[str, float]) -> str:
    if "accuracy" in val:
        return f" · accuracy {100 * val['accuracy']:.1f} %"
    return f" · RMSE {val['rmse']:.4g}" if "rmse" in val else ""


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"…{name[-21:]}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _curves(frames: Sequence[Mapping[str, Any]], duration: float) -> list[str]:
    """Score and size by the share of the budget, and a mark that moves along."""
    key = "accuracy" if any("accuracy" in f["val"] for f in frames) else "loss"
    rows = [
        ("validation " + key, [f["val"].get(key) for f in frames], ACCENT),
        ("parameters", [float(f["parameters"]) for f in frames], SECOND),
    ]
    out, left, right = [], 130, WIDTH - 30
    xs = [left + (right - left) * min(f["used"], 1.0) for f in frames]
    for r, (name, values, colour) in enumerate(rows):
        top = HEIGHT - BOTTOM + 42 + r * 50
        known = [v for v in values if v is not None]
        low, high = min(known, default=0.0), max(known, default=1.0)
        span = high - low or 1.0
        points = [(x, top + 34 - 30 * (v - low) / span) for x, v in zip(xs, values, strict=True) if v is not None]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        out += [
            f'<line x1="{left}" x2="{right}" y1="{top + 36}" y2="{top + 36}" stroke="{GRID}"/>',
            f'<text x="{left - 10}" y="{top + 16}" font-size="11" text-anchor="end" fill="{INK}">{name}</text>',
            f'<text x="{left - 10}" y="{top + 31}" font-size="11" text-anchor="end" fill="{colour}">'
            f"{_number(low)} to {_number(high)}</text>",
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>',
        ]
        if points and len(points) == len(frames):
            x, y = points[-1]
            moves = _series([round(p[0], 1) for p in points], "cx", duration)
            moves += _series([round(p[1], 1) for p in points], "cy", duration)
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}">{moves}</circle>')
    return out
