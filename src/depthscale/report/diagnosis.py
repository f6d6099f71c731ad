"""The page of a diagnosis (and of a repair): verdict, cause, remedy, curves and every layer's numbers, in one file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from depthscale.report import plots
from depthscale.report.html import templates

Plain = Mapping[str, Any]
SIZE = (4.9, 3.0)  # of a curve, in inches: small enough that a phone shows all of it in letters that can be read
TOP, BOTTOM = 1e30, 1e-30  # what curves are cut to: beyond, only the direction matters


def render_diagnosis(diagnosis: Plain, *, before: Plain | None = None, changes: Sequence[Plain] = ()) -> str:
    """A diagnosis (``Diagnosis.to_dict()`` and a ``headline``) as HTML.

    before: the diagnosis before a repair, drawn beside it. changes: what a repair did, each with ``path``, ``was``,
    ``now`` and ``why``.
    """
    from markupsafe import Markup

    shown = before or diagnosis
    pictures = {name: Markup(svg) for name, svg in _pictures(diagnosis, before).items()}
    return (
        templates()
        .get_template("diagnosis.html.j2")
        .render(
            d=diagnosis,
            b=before,
            told=shown,
            changes=changes,
            pictures=pictures,
            n=number,
            share=share,
            measured=any("measured" in r for r in diagnosis["rows"]),
        )
    )


def number(value: float | None) -> str:
    """A number for a table: four digits, a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.4g}"


def share(value: float | None) -> str:
    """A share as a percentage."""
    return "–" if value is None or math.isnan(value) else f"{value:.0%}"


def _pictures(d: Plain, before: Plain | None) -> dict[str, str]:
    found = {}
    for key, y, log in (("q", "signal: E[x²]", True), ("g", "gradient: E[g²]", True), ("c", "correlation c", False)):
        lines = [plots.Line(_points(d, key), "after" if before else "predicted", "strong")]
        if before is not None:
            lines.append(plots.Line(_points(before, key), "before", "strong", dashed=True))
        seen = _measured(d, key)
        if seen:
            lines.append(plots.Line(seen, "measured", "usual", dashed=True))
        if any(len(line.points) > 1 for line in lines):
            found[key] = plots.curves(
                lines, x="node, in the order of data", y=y, log_y=log, says=f"{y} at every node", size=SIZE
            )
    return found


def _points(d: Plain, key: str) -> list[tuple[float, float]]:
    points = [(float(i), r[key]) for i, r in enumerate(d["rows"])]
    kept = [(x, min(max(y, BOTTOM), TOP)) for x, y in points if y is not None and math.isfinite(y) and y != 0]
    if key == "c":
        kept = [(x, round(y, 9)) for x, y in points if y is not None and math.isfinite(y)]
    return _thin(kept)


def _measured(d: Plain, key: str) -> list[tuple[float, float]]:
    if key == "c":
        return []
    found = [(float(i), r["measured"][key]) for i, r in enumerate(d["rows"]) if "measured" in r]
    return _thin([(x, min(max(y, BOTTOM), TOP)) for x, y in found if math.isfinite(y) and y > 0])


def _thin(points: list[tuple[float, float]], most: int = 900) -> list[tuple[float, float]]:
    if len(points) <= most:
        return points
    return [points[i * (len(points) - 1) // (most - 1)] for i in range(most)]
