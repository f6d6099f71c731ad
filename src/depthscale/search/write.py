"""What a search leaves in its folder: the winner's network as a design leaves it, the numbers, and the page."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from depthscale.search import files
from depthscale.search.job import Job
from depthscale.search.result import Run, SearchResult, Tried
from depthscale.search.space import Choice, Domain, Script, Space, Value

if TYPE_CHECKING:
    from depthscale.graph import Graph
    from depthscale.report.search_page import Curve, Drawn, SearchPage, Step

DRAWN = 3  # networks that are drawn


def everything(folder: Path, result: SearchResult, job: Job) -> None:
    """Write graph.json, model.py, model.safetensors, preprocessing.json (where a network was trained), search.json and
    report.html.
    """
    from depthscale.report.search_page import write_search_page

    won, space = result.winner, job.space.make()
    if won.graph is not None and won.module is not None and result.dataset is not None:
        files.network(folder, won.graph, won.module, result.dataset)
    else:
        graph = _graph(space, _best(result))
        files.text(folder / "graph.json", graph.to_json())
        from depthscale.build import source

        files.text(folder / "model.py", source(graph))
    files.text(folder / "search.json", json.dumps(_finite(result.summary()), indent=1, ensure_ascii=False) + "\n")
    write_search_page(folder / "report.html", page(result, space))


def _finite(value: object) -> object:
    import math

    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def page(result: SearchResult, space: Space) -> "SearchPage":
    """The page of a result."""
    from depthscale.record import versions
    from depthscale.report.data import Environment
    from depthscale.report.search_page import SearchPage, StrategyRow

    rows = []
    for name in result.strategies:
        runs = result.of(name)
        mean, spread = result.spread(name)
        rows.append(
            StrategyRow(
                name=name,
                n=len(runs),
                networks=sum(len(r.tried) for r in runs) / len(runs),
                selection=sum(r.best.outcome.score for r in runs) / len(runs),
                value=mean,
                deviation=spread,
                parameters=[r.best.parameters for r in runs],
                paired="" if name == result.strategy else result.against(name).words,
            )
        )
    table = result.dataset is None
    return SearchPage(
        title=f"{result.strategy} on {result.space}: {result.data}",
        space=result.space,
        data=result.data,
        strategy=result.strategy,
        signal=result.signal,
        value_name=result.value_name,
        percent=result.value_name == "test accuracy",
        budget=result.budget,
        rows=rows,
        beside=[(f.words, f.parameters, f.value) for f in result.finals if not f.strategy],
        by_network=[_curve(r, list(range(1, len(r.tried) + 1)), r.incumbents) for r in result.runs],
        by_seconds=[_curve(r, _clock(r, table=table), r.incumbents) for r in result.runs],
        seconds_name="simulated hours of training" if table else "seconds of training",
        reports=[_curve(r, _clock(r, table=table), r.reports) for r in result.runs if r.reports],
        path=_path(result.of(result.strategy)[0], space),
        drawn=_drawings(result, space),
        environment=Environment(
            seed=result.seed,
            seconds=result.seconds,
            command=result.command,
            hardware=_hardware(),
            versions=versions(),
            finished=time.strftime("%Y-%m-%d %H:%M"),
        ),
        notes=result.notes,
        usage=_usage(result),
    )


def _clock(run: Run, *, table: bool) -> list[float]:
    return [s / 3600 for s in run.seconds] if table else run.seconds


def _curve(run: Run, xs: "list[float] | list[int]", ys: list[float]) -> "Curve":
    from depthscale.report.search_page import Curve

    return Curve(run.strategy, [(float(x), y) for x, y in zip(xs, ys, strict=True)])


def _path(run: Run, space: Space) -> "list[Step]":
    from depthscale.report.search_page import Step

    found = []
    for t in run.tried:
        score = None if t.state == "failed" else t.outcome.score
        places = {n: _place(d, t.decisions[n]) for n, d in _domains(space, t).items() if n in t.decisions}
        found.append(Step(t.number, t.words, t.state, score, t.parameters, places))
    return found


def _domains(space: Space, tried: Tried) -> dict[str, Domain]:
    return space.draw(Script(dict(tried.decisions))).domains


def _place(domain: Domain, value: Value) -> float:
    """Where among its options a choice stands, 0 to 1."""
    if isinstance(domain, Choice):
        return domain.options.index(value) / max(len(domain.options) - 1, 1)
    return domain.share(float(value))


def _best(result: SearchResult) -> Tried:
    won = result.winner
    return next(r for r in result.of(result.strategy) if r.seed == won.seed).best


def _graph(space: Space, tried: Tried) -> "Graph":
    return space.graph(space.draw(Script(dict(tried.decisions))).architecture)


def _drawings(result: SearchResult, space: Space) -> "list[Drawn]":
    """The winner as a whole, and the best few as cells where they are cells."""
    from depthscale.report.search_page import Drawn

    won = result.winner
    best = _best(result)
    graph = won.graph or _graph(space, best)
    found = [Drawn(f"The winner, {won.parameters:,} parameters", won.words, graph.draw(), graph.outline())]
    seen: set[str] = set()
    ranked = sorted(
        (t for r in result.of(result.strategy) for t in r.tried if t.state == "complete"),
        key=lambda t: -t.outcome.score,
    )
    for t in ranked:
        if t.key in seen or len(seen) == DRAWN:
            continue
        seen.add(t.key)
        small = _cell(space, t)
        if small is not None:
            found.append(Drawn(f"Cell {len(seen)}: {result.signal} {t.outcome.score:.4g}", t.words, small.draw()))
        elif t.key != best.key:
            whole = _graph(space, t)
            found.append(
                Drawn(
                    f"Next: {result.signal} {t.outcome.score:.4g}, {t.parameters:,} parameters", t.words, whole.draw()
                )
            )
    return found


def _cell(space: Space, tried: Tried) -> "Graph | None":
    from depthscale.zoo.nasbench201 import simplified

    architecture = space.draw(Script(dict(tried.decisions))).architecture
    return simplified(architecture) if isinstance(architecture, str) and architecture.startswith("|") else None


def _usage(result: SearchResult) -> str:
    if result.dataset is None:
        return ""
    shape = ", ".join(str(n) for n in (1, *result.dataset.input_shape))
    return (
        "import torch\n"
        "from model import load  # model.py, beside this page; needs torch, and safetensors to read the weights\n\n"
        'net = load("model.safetensors")\n'
        f"x = torch.zeros({shape})  # a row, preprocessed as preprocessing.json says\n"
        "with torch.no_grad():\n"
        "    y = net(x)\n"
    )


def _hardware() -> str:
    import platform

    import psutil

    memory = psutil.virtual_memory().total / 2**30
    return f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, {memory:.0f} GiB"
