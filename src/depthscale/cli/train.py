"""``depthscale train NET DATA``: train one network."""

from pathlib import Path
from typing import Annotated, Any

import typer

from depthscale.cli import common


def train(
    net: Annotated[str, typer.Argument(help=common.NET_HELP)],
    data: Annotated[str, typer.Argument(help=common.DATA_HELP)],
    epochs: Annotated[float | None, typer.Option(help="Passes over the training rows.  [default: 10]")] = None,
    budget: Annotated[str | None, typer.Option(help="Training time, such as 90s or 5m, instead of --epochs.")] = None,
    lr: Annotated[float, typer.Option(help="Largest learning rate.")] = 3e-3,
    batch: Annotated[int | None, typer.Option(help="Rows a step.  [default: by the number of rows]")] = None,
    optimiser: Annotated[str, typer.Option(help="adamw or sgd.")] = "adamw",
    weight_decay: Annotated[float, typer.Option(help="Decay of matrices and kernels.")] = 1e-2,
    schedule: Annotated[str, typer.Option(help="onecycle, cosine, linear or constant.")] = "onecycle",
    augment: Annotated[
        str | None, typer.Option(help="For images: none, shift, affine or shift+flip.  [default: small shifts]")
    ] = None,
    precision: Annotated[str, typer.Option(help="float32, bf16 or fp16.")] = "float32",
    patience: Annotated[int | None, typer.Option(help="Stop after this many epochs without improvement.")] = None,
    critical: Annotated[bool, typer.Option("--critical", help="Initialise critically by theory first.")] = False,
    target: common.Target = None,
    task: common.Task = None,
    out: Annotated[Path, typer.Option(help="Folder that everything is written to.")] = Path("out/train"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    skip_bad: common.SkipBad = False,
    seed: common.Seed = 0,
    device: common.Device = "auto",
    as_json: common.Json = False,
) -> None:
    """Train one network on a data set and test it once, at the end."""
    from depthscale.cli.watching import Shower, watching
    from depthscale.data import load
    from depthscale.design import write
    from depthscale.design.budget import seconds
    from depthscale.design.race import augmentation, threads
    from depthscale.train import Budget, evaluate, fit, suggest

    limits: dict[str, Any] = {"seconds": seconds(budget)} if budget is not None else {"epochs": epochs or 10}
    if epochs is not None and budget is not None:
        limits["epochs"] = epochs
    with watching(Shower, quiet=as_json) as watcher:
        dataset = load(data, target=target, task=task, seed=seed, skip_bad=skip_bad, progress=watcher.loading)
    graph = common.network(net, dataset)
    if critical:
        from depthscale.theory.initialise import critical as initialise

        graph = initialise(graph)
    given: dict[str, Any] = {} if batch is None else {"batch": batch}
    if augment is not None:
        given["augment"] = augmentation(augment, min(dataset.input_shape[-2:]))
    config = suggest(
        dataset,
        **given,
        budget=Budget(**limits),
        lr=lr,
        optimiser=optimiser,
        weight_decay=weight_decay,
        schedule=schedule,
        precision=precision,
        patience=patience,
        device=device,
        seed=seed,
    )
    folder = write.prepare(out)
    with threads(graph, config.batch):
        result = fit(graph, dataset, config=config, out=folder, resume=resume, progress=not as_json)
    if result.status == "interrupted":
        raise KeyboardInterrupt
    metrics = evaluate(result.model, dataset.test(), dataset.task)
    write.network(folder, graph, result.model, dataset)
    found = {
        "network": net,
        "data": dataset.name,
        "parameters": result.parameters,
        "status": result.status,
        "why": str(result.divergence) if result.divergence is not None else "",
        "epochs": result.epochs,
        "seconds": result.seconds,
        "validation": dict(result.val),
        "test": {"n": metrics.n, **metrics.summary()},
        "out": str(folder),
    }
    if as_json:
        common.print_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    screen = common.console()
    screen.print(
        f"{found['network']}: {found['parameters']:,} parameters, {found['status']} after {found['epochs']:.3g} epochs "
        f"and {found['seconds']:.1f} s of training" + (f" ({found['why']})" if found["why"] else "")
    )
    for split in ("validation", "test"):
        screen.print(f"  {split}: " + ", ".join(f"{k} {v:.5g}" for k, v in found[split].items()))
    print(f"written to {found['out']}")
