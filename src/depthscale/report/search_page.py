"""The page of a search: regret curves, the path through the space, sizes, the best networks; from plain values."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthscale.errors import DepthscaleError
from depthscale.report import plots, words
from depthscale.report.data import Environment

MOST_DECISIONS = 40  # rows of the picture of the path


@dataclass(frozen=True)
class StrategyRow:
    """One strategy: its winners by seed, and the paired comparison with the strategy that was asked for."""

    name: str
    n: int
    networks: float  # evaluated, mean over seeds
    selection: float  # best selection signal, mean over seeds
    value: float  # final value, mean over seeds
    deviation: float
    parameters: Sequence[int]
    paired: str = ""  # asked-for strategy less this one


@dataclass(frozen=True)
class Curve:
    """The incumbent of one run: (networks or seconds, value)."""

    strategy: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Step:
    """One network of the path: its score (None: failed), parameters, and for every decision its place among options."""

    number: int
    words: str
    state: str
    score: float | None
    parameters: int
    places: Mapping[str, float]


@dataclass(frozen=True)
class Drawn:
    """A network drawn: where it comes from, what it is worth, its picture (SVG) and its text."""

    title: str
    words: str
    picture: str
    outline: str = ""


@dataclass(frozen=True)
class SearchPage:
    """Everything that the page says. value_name: of the final values; percent: whether they are shares of 1."""

    title: str
    space: str
    data: str
    strategy: str
    signal: str
    value_name: str
    percent: bool
    budget: str
    rows: Sequence[StrategyRow]
    beside: Sequence[tuple[str, int, float]]  # name, parameters, value
    by_network: Sequence[Curve]
    by_seconds: Sequence[Curve]
    seconds_name: str
    reports: Sequence[Curve]
    path: Sequence[Step]
    drawn: Sequence[Drawn]
    environment: Environment
    notes: Sequence[str] = ()
    usage: str = ""


def write_search_page(path: str | os.PathLike[str], page: SearchPage) -> Path:
    """Write the page as one self-contained HTML file, whole or not at all.

    Raises DepthscaleError where the file cannot be written.
    """
    target = Path(path)
    draft = target.with_name(f".{target.name}.draft")
    try:
        draft.write_text(render_search(page), encoding="utf-8")
        os.replace(draft, target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise DepthscaleError(f"cannot write the report {target}: {error.strerror}") from None
    return target


def render_search(page: SearchPage) -> str:
    """The page as HTML text."""
    from jinja2 import Environment as Templates, PackageLoader, StrictUndefined
    from markupsafe import Markup

    templates = Templates(
        loader=PackageLoader("depthscale.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals.update(w=words)

    def value(x: float) -> str:
        return words.percent(x) if page.percent else words.number(x)

    pictures = {name: Markup(svg) for name, svg in _pictures(page).items()}
    return templates.get_template("search.html.j2").render(
        d=page, pictures=pictures, value=value, drawn=[(x, Markup(x.picture)) for x in page.drawn]
    )


def _pictures(page: SearchPage) -> dict[str, str]:
    found = {
        "networks": _curves(page, page.by_network, "networks evaluated", page.signal),
        "seconds": _curves(page, page.by_seconds, page.seconds_name, page.signal),
        "sizes": _sizes(page),
    }
    if page.reports:
        found["reports"] = _curves(page, page.reports, page.seconds_name, page.value_name)
    if page.path:
        found["path"] = _path(page)
    return {name: found.get(name, "") for name in ("networks", "seconds", "sizes", "reports", "path")}


def _curves(page: SearchPage, curves: Sequence[Curve], x: str, y: str) -> str:
    lines = []
    named: set[str] = set()
    for name in dict.fromkeys([page.strategy, *(c.strategy for c in curves)]):
        mine = [c for c in curves if c.strategy == name and c.points]
        if not mine:
            continue
        middle = _mean(mine)
        named.add(name)
        lines.append(plots.Line(middle, name, "strong" if name == page.strategy else "usual"))
    return (
        plots.curves(lines, x=x, y=y, says=f"{y} of the best so far against {x}: {', '.join(named)}") if lines else ""
    )


def _mean(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """The mean of step curves over where all of them are known."""
    if len(curves) == 1:
        return list(curves[0].points)
    xs = sorted({x for c in curves for x, _ in c.points})
    start = max(c.points[0][0] for c in curves)
    end = min(c.points[-1][0] for c in curves)
    kept = [x for x in xs if start <= x <= end]
    if len(kept) > 300:
        kept = [kept[i * (len(kept) - 1) // 299] for i in range(300)]

    def at(c: Curve, x: float) -> float:
        return [v for p, v in c.points if p <= x][-1]

    return [(x, sum(at(c, x) for c in curves) / len(curves)) for x in kept]


def _sizes(page: SearchPage) -> str:
    points = [(float(s.parameters), s.score) for s in page.path if s.score is not None and s.parameters]
    if len(points) < 2:
        return ""
    return plots.scatter(points, x="parameters", y=page.signal, says=f"{page.signal} against parameters, every network")


def _path(page: SearchPage) -> str:
    """Decisions over time as colour: one column a network, one row a decision; grey where it was not made."""
    import numpy as np

    names = list(dict.fromkeys(n for s in page.path for n in s.places))[:MOST_DECISIONS]
    if not names:
        return ""
    values = np.full((len(names), len(page.path)), np.nan)
    for j, step in enumerate(page.path):
        for i, name in enumerate(names):
            if name in step.places:
                values[i, j] = step.places[name]
    return plots.strips(
        values.tolist(),
        names,
        x="network, in the order of the search",
        says="Every decision of every network: colour is the place of the choice among its options",
    )


def environment(**fields: Any) -> Environment:
    """What the numbers were made with."""
    return Environment(**fields)
