"""The page: one file that needs nothing else, works offline and without scripts, prints, and reads on a phone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthscale.errors import DepthscaleError
from depthscale.graph import Graph
from depthscale.report import plots, words
from depthscale.report.data import STATES, Confusion, Predictions, ReportData, TrialRow

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_CURVES = 150  # learning curves that are drawn; beyond, the worst are left out and it is said
MOST_CURVE_POINTS = 200
FOLD_TABLE = 40  # a table of more trials is folded
MOST_CONFUSED = 8  # pairs of classes that are listed


def write_report(path: str | os.PathLike[str], results: ReportData) -> Path:
    """Write the report as one self-contained HTML file, whole or not at all; returns its path.

    Raises DepthscaleError where the file cannot be written, or the data contradict themselves.
    """
    return write_text(path, render(results))


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file, its folder made first, whole or not at all; returns its path.

    Raises DepthscaleError where it cannot be written.
    """
    target = Path(path)
    draft = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".draft", dir=target.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(draft, 0o644)
        os.replace(draft, target)
    except OSError as error:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)
        what = "the report " if target.suffix == ".html" else ""
        raise DepthscaleError(f"cannot write {what}{target}: {error.strerror}") from None
    return target


def render(results: ReportData) -> str:
    """The report as HTML text."""
    from markupsafe import Markup

    environment = templates()
    environment.globals.update(w=words, states=STATES)
    graph = Graph.from_json(results.graph)
    pictures = {name: Markup(svg) for name, svg in _pictures(results, graph).items()}
    value, meaning = words.headline(results)
    return environment.get_template("report.html.j2").render(
        d=results,
        value=value,
        meaning=meaning,
        pictures=pictures,
        cost=graph.cost(),
        outline=graph.outline(),
        metrics=_metric_names(results),
        trials=_ranked(results),
        fold=len(results.trials) > FOLD_TABLE,
        left_out=max(0, sum(bool(t.curve) for t in results.trials) - MOST_CURVES),
        confused=_confused(results),
        thinned=isinstance(results.outcome, Predictions) and len(results.outcome.truth) > plots.MOST_POINTS,
        most_points=plots.MOST_POINTS,
    )


def templates() -> Environment:
    """Where the pages' templates are read from."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("depthscale.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _metric_names(results: ReportData) -> list[str]:
    """Metrics of the standings, the deciding one first."""
    first = words.metric(results)
    names = {name: None for s in (results.result, *results.baselines) for name in s.metrics}
    return [first, *(name for name in names if name != first)]


def _ranked(results: ReportData) -> list[TrialRow]:
    """The winner, then by score; what was not trained stands last, in the order it was proposed."""
    return sorted(
        results.trials,
        key=lambda t: (t.number != results.winner, t.score is None, -(t.score or 0.0), t.number),
    )


def _pictures(results: ReportData, graph: Graph) -> dict[str, str]:
    found = {"network": graph.draw()}
    if any(t.curve for t in results.trials):
        found["curves"] = _curves(results)
    if isinstance(results.outcome, Confusion):
        found["confusion"] = plots.confusion(results.outcome.counts, results.data.classes)
    if isinstance(results.outcome, Predictions):
        found |= _residuals(results, results.outcome)
    if results.theory is not None and results.theory.layers:
        found["theory"] = _theory(results)
    return found


def _thin(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most so many points, the first and the last among them."""
    n = len(points)
    if n <= MOST_CURVE_POINTS:
        return points
    return [points[i * (n - 1) // (MOST_CURVE_POINTS - 1)] for i in range(MOST_CURVE_POINTS)]


def _curves(results: ReportData) -> str:
    shown = [t for t in _ranked(results) if t.curve][:MOST_CURVES]
    lines = []
    for trial in shown:
        won = trial.number == results.winner
        usual = "usual" if trial.state == "complete" and len(shown) <= 6 else "faint"
        name = f"trial {trial.number}, the winner" if won else ""
        lines.append(plots.Line(_thin(trial.curve), name, "strong" if won else usual))
    if results.final_curve:
        lines.append(plots.Line(_thin(results.final_curve), "final training", "usual", dashed=True))
    says = f"{results.curve_y} of {len(shown)} trials against {results.curve_x}; the winner is trial {results.winner}"
    return plots.curves(lines, x=results.curve_x, y=results.curve_y, says=says)


def _residuals(results: ReportData, outcome: Predictions) -> dict[str, str]:
    target = results.data.target or "target"
    pairs = list(zip(outcome.truth, outcome.predicted, strict=True))
    return {
        "predicted": plots.scatter(
            pairs, x=f"true {target}", y=f"predicted {target}", line="diagonal", says="Predicted against true values"
        ),
        "residuals": plots.scatter(
            [(p, p - t) for t, p in pairs],
            x=f"predicted {target}",
            y="predicted − true",
            line="zero",
            says="Residuals against predicted values",
        ),
    }


def _theory(results: ReportData) -> str:
    assert results.theory is not None  # the caller looked
    layers = results.theory.layers
    q = [(float(i), layer.q) for i, layer in enumerate(layers, 1)]
    gradient = [(float(i), layer.gradient) for i, layer in enumerate(layers, 1)]
    return plots.curves(
        [plots.Line(q, "signal: E[x²]", "strong"), plots.Line(gradient, "gradient: E[g²]", "strong", dashed=True)],
        x="layer, in the order of data",
        y="second moment",
        log_y=True,
        says="Second moment of signal and gradient at every layer, on a logarithmic scale",
    )


def _confused(results: ReportData) -> list[tuple[str, str, int, int]]:
    """The commonest confusions: true class, predicted class, how many rows, of how many."""
    if not isinstance(results.outcome, Confusion):
        return []
    names, counts = results.data.classes, results.outcome.counts
    pairs: list[Any] = [
        (names[i], names[j], count, sum(row))
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda p: -p[2])[:MOST_CONFUSED]
