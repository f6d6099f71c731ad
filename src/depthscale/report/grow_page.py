"""The page of a network that grew: its film, its curves, every stage with what it changed; from plain values."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthscale.graph import Graph
from depthscale.report import plots, words
from depthscale.report.data import Environment
from depthscale.report.html import templates, write_text


@dataclass(frozen=True)
class StageRow:
    """One stage: its score on validation, its size, and what its action changed (None: nothing measured)."""

    name: str
    used: float
    score: float | None
    loss: float | None
    parameters: int
    flops: float  # of a forward pass of one row
    edits: Sequence[str]
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True)
class GrowPage:
    """Everything that the page says. ``score`` is on the test rows, or on the validation rows."""

    data: str
    schedule: str
    about: str
    status: str
    score_name: str
    score: float | None
    percent: bool
    parameters: int
    largest: int
    cap: int
    spent: float
    budget: float
    film: str
    graph: str
    stages: Sequence[StageRow]
    environment: Environment
    usage: str = ""


def write_grow_page(path: str | os.PathLike[str], page: GrowPage) -> Path:
    """Write the page as one self-contained HTML file, whole or not at all.

    Raises DepthscaleError where the file cannot be written.
    """
    return write_text(path, render_grow(page))


def render_grow(page: GrowPage) -> str:
    """The page as HTML text."""
    from markupsafe import Markup

    graph = Graph.from_json(page.graph)
    environment = templates()
    environment.globals.update(w=words)

    def value(x: float | None) -> str:
        return "–" if x is None else words.percent(x) if page.percent else words.number(x)

    return environment.get_template("grow.html.j2").render(
        d=page,
        value=value,
        film=Markup(page.film),
        drawing=Markup(graph.draw()),
        outline=graph.outline(),
        cost=graph.cost(),
        pictures={name: Markup(svg) for name, svg in _pictures(page).items()},
    )


def _pictures(page: GrowPage) -> dict[str, str]:
    scores = [(100 * s.used, s.score) for s in page.stages if s.score is not None]
    sizes = [(100 * s.used, float(s.parameters)) for s in page.stages]
    chi = [(float(i), float(s.after["chi1"])) for i, s in enumerate(page.stages, 1) if s.after.get("chi1") is not None]
    found = {
        "score": plots.curves(
            [plots.Line(scores, "", "strong")],
            x="budget spent, %",
            y=f"validation {page.score_name}",
            says=f"Validation {page.score_name} against the share of the budget spent",
        )
        if scores
        else "",
        "size": plots.curves(
            [plots.Line(sizes, "", "strong")],
            x="budget spent, %",
            y="parameters",
            says="Parameters against the share of the budget spent",
        ),
    }
    if chi:
        found["chi"] = plots.curves(
            [
                plots.Line(chi, "", "strong"),
                plots.Line([(1.0, 1.0), (float(len(page.stages)), 1.0)], "critical", dashed=True),
            ],
            x="stage",
            y="χ₁",
            says="Factor per layer of the gradient's energy behind every stage's action; 1 is critical",
        )
    return {name: found.get(name, "") for name in ("score", "size", "chi")}
