"""What a run leaves in its folder: what a design leaves, and the film and the lineage."""

import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthscale.grow.film import film
from depthscale.grow.schedules import schedule

if TYPE_CHECKING:
    from depthscale.grow.run import GrowResult
    from depthscale.report.grow_page import GrowPage, StageRow


def everything(folder: Path, result: "GrowResult") -> None:
    """Write graph.json, model.py, model.safetensors, preprocessing.json, lineage.json, film.svg and report.html."""
    from depthscale.build import save, source
    from depthscale.record import dumps
    from depthscale.report.grow_page import write_grow_page
    from depthscale.report.html import write_text

    write_text(folder / "graph.json", result.graph.to_json())
    write_text(folder / "model.py", source(result.graph))
    write_text(folder / "preprocessing.json", result.dataset.preprocessing.to_json())
    save(result.module, folder / "model.safetensors")
    write_text(folder / "lineage.json", dumps(lineage(result)) + "\n")
    title = f"{result.schedule} on {result.dataset.name}"
    picture = film(result.frames, title) if result.frames else ""
    write_text(folder / "film.svg", picture)
    write_grow_page(folder / "report.html", _page(result, picture))


def lineage(result: "GrowResult") -> dict[str, Any]:
    """Every edit with the keys of the graphs before and after it, and every stage with what it changed."""
    return {
        "schedule": result.schedule,
        "seed": result.seed,
        "edits": [vars(s) for s in result.lineage],
        "stages": [{k: v for k, v in s.items() if k not in ("frame", "time", "kind")} for s in result.stages],
    }


def _page(result: "GrowResult", picture: str) -> "GrowPage":
    import psutil

    from depthscale.record import versions
    from depthscale.report.data import Environment
    from depthscale.report.grow_page import GrowPage

    name = "accuracy" if result.dataset.task == "classification" else "rmse"
    memory = psutil.virtual_memory().total / 2**30
    metrics = result.test or result.val
    return GrowPage(
        data=result.dataset.name,
        schedule=result.schedule,
        about=schedule(result.schedule).about,
        status=result.status,
        score_name=name,
        score=metrics.get(name),
        percent=name == "accuracy",
        parameters=result.parameters,
        largest=max((p.parameters for p in result.points), default=result.parameters),
        cap=result.plan.cap,
        spent=result.flops,
        budget=result.budget,
        film=picture,
        graph=result.graph.to_json(),
        stages=[_row(s, name) for s in result.stages],
        environment=Environment(
            seed=result.seed,
            seconds=result.seconds,
            command=result.command,
            hardware=f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, {memory:.0f} GiB",
            versions=versions(),
            finished=time.strftime("%Y-%m-%d %H:%M"),
        ),
        usage=_usage(result),
    )


def _row(stage: dict[str, Any], name: str) -> "StageRow":
    from depthscale.report.grow_page import StageRow

    act = stage.get("act") or {}
    return StageRow(
        name=stage["name"],
        used=stage["used"],
        score=stage["val"].get(name),
        loss=stage["loss"],
        parameters=stage["parameters"],
        flops=stage["multiply_adds"],
        edits=[f"{e['kind']} {e['where']}" for e in act.get("edits", ())],
        before=act.get("before", {}),
        after=act.get("after", {}),
    )


def _usage(result: "GrowResult") -> str:
    shape = ", ".join(str(n) for n in (1, *result.dataset.input_shape))
    return (
        "import torch\n"
        "from model import load  # model.py, beside this page; needs torch, and safetensors to read the weights\n\n"
        'net = load("model.safetensors")\n'
        f"x = torch.zeros({shape})  # a row, preprocessed as preprocessing.json says\n"
        "with torch.no_grad():\n"
        "    y = net(x)\n"
    )
