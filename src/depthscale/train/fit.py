"""Training in one call, and the configuration that suits a data set."""

import os
from typing import Any

from torch import nn

from depthscale.errors import TrainingError
from depthscale.graph import Graph
from depthscale.record import Record
from depthscale.train.augment import Augment
from depthscale.train.batches import DatasetLike
from depthscale.train.checkpoint import FILE
from depthscale.train.config import TrainConfig
from depthscale.train.result import TrainResult
from depthscale.train.trainer import OnEpoch, Trainer


def fit(
    network: Graph | nn.Module,
    dataset: DatasetLike,
    *,
    config: TrainConfig | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    record: Record | None = None,
    on_epoch: OnEpoch | None = None,
    progress: bool | str = True,
) -> TrainResult:
    """The result of training ``network`` on ``dataset``: a Graph is built with the configuration's seed, a module is
    trained in place.

    Without ``config``, ``suggest(dataset)``. ``out`` is a directory for checkpoints, run.jsonl and the final
    model.safetensors; with ``resume`` a run found there goes on where it was. ``on_epoch`` sees every EpochReport and
    may return True to stop. Raises TrainingError for what does not fit together, and rather than overwrite a run.
    """
    config = config or suggest(dataset)
    if out is not None and not resume and os.path.exists(os.path.join(out, FILE)):
        raise TrainingError(f"expected {os.fspath(out)!r} to hold no run yet; resume it, or choose another directory")
    model = _built(network, config)
    trainer = Trainer(model, dataset, config, out=out, record=record, on_epoch=on_epoch, progress=progress)
    try:
        if resume:
            trainer.resume()
        result = trainer.run()
        if result.status != "interrupted":
            trainer.save_weights()
        return result
    finally:
        trainer.close()


def _built(network: Graph | nn.Module, config: TrainConfig) -> nn.Module:
    if isinstance(network, nn.Module):
        return network
    if isinstance(network, Graph):
        from depthscale.build import build

        model: nn.Module = build(network, seed=config.seed)
        return model
    raise TrainingError(f"expected a Graph or a torch.nn.Module to train, got {type(network).__name__}")


def suggest(dataset: DatasetLike, **changes: Any) -> TrainConfig:
    """A configuration that suits a data set's size and kind, ``changes`` applied on top.

    AdamW on one cycle of ten epochs; small batches for few rows; images get random shifts of a 28th of their width
    (nothing that could turn one class into another).
    """
    rows, shape = len(dataset.train.y), dataset.train.x.shape[1:]
    values: dict[str, Any] = {"batch": 128 if rows >= 5_000 else 32, "lr": 3e-3}
    if len(shape) == 3 and min(shape[1:]) >= 7:
        values["augment"] = Augment(shift=max(1, round(min(shape[1:]) / 28)))
    return TrainConfig(**{**values, **changes})
