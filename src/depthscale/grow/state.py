"""A run on disk: a record line and a checkpoint behind every finished stage, so that nothing finished is ever lost.

The checkpoint holds the graph, weights, optimiser, masks and position; with graph, data, seed and schedule it decides
everything that follows, so a run that was killed ends as it would have.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from depthscale.build import build
from depthscale.errors import DepthscaleError
from depthscale.graph import Graph
from depthscale.grow.live import Live, Step
from depthscale.grow.training import Point, Training
from depthscale.record import Record, read
from depthscale.train.batches import DatasetLike
from depthscale.train.checkpoint import State, read_checkpoint, write_checkpoint
from depthscale.train.config import TrainConfig
from depthscale.train.engine import Engine
from depthscale.train.optimise import load_optimiser, optimiser_tensors

RECORD, CHECKPOINT = "run.jsonl", "checkpoint.safetensors"


def pack(training: Training, stages: int, best: "Best | None", position: int | None) -> State:
    """Everything that the coming stages depend on, and the best network so far."""
    module = training.live.module
    names = {id(p): n for n, p in module.named_parameters()}
    tensors: dict[str, Tensor] = {f"model.{n}": v for n, v in module.state_dict().items()}
    assert training.live.optimiser is not None
    tensors |= {f"optimiser.{n}": v for n, v in optimiser_tensors(training.live.optimiser).items()}
    tensors |= {f"mask.{n}": v for n, v in training.live.masks.items()}
    tensors |= {f"memory.{n}": v for n, v in training.memory.items()}
    tensors |= {f"since.{n}": v for n, v in training.since.items()}
    tensors |= {f"wish.{n}": v for n, v in training.wishes.items()}
    values: dict[str, Any] = {
        "graph": training.graph.to_json(),
        "groups": [[names[id(p)] for p in g["params"]] for g in training.live.optimiser.param_groups],
        "stages": stages,
        "step": training.engine.step,
        "spent": training.spent,
        "decided": training.decided,
        "cycle": list(training.cycle),
        "loss": training.loss,
        "losses": training.losses[-500:],
        "points": [asdict(p) for p in training.points],
        "lineage": [asdict(s) for s in training.live.lineage],
        "decisions": training.decisions,
        "ids": training.ids,
        "born": training.born,
        "record": position,
    }
    if best is not None:
        tensors |= {f"best.{n}": v for n, v in best.tensors.items()}
        values["best"] = {"graph": best.graph.to_json(), "point": asdict(best.point)}
    return State({n: t.detach().clone() for n, t in tensors.items()}, values)


class Best:
    """The best network so far by validation: its graph, its weights and where it stood."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor], point: Point) -> None:
        self.graph, self.tensors, self.point = graph, tensors, point

    def module(self, seed: int) -> torch.nn.Module:
        """The network with its weights."""
        module = build(self.graph, seed)
        module.load_state_dict(dict(self.tensors))
        return module.eval()


def unpack(
    state: State, dataset: DatasetLike, config: TrainConfig, budget: float, seed: int
) -> tuple[Training, int, Best | None]:
    """The training, the number of finished stages and the best so far. Raises DepthscaleError for data that differ."""
    v = state.values
    graph = Graph.from_json(v["graph"])
    engine = Engine(build(graph, seed), dataset, config.with_(channels_last=False))
    engine.model.load_state_dict(state.part("model."))
    named = dict(engine.model.named_parameters())
    for group, names in zip(engine.optimiser.param_groups, v["groups"], strict=True):
        group["params"] = [named[n] for n in names]
    load_optimiser(engine.optimiser, state.part("optimiser."))
    engine.adopt(engine.model)
    engine.step = int(v["step"])
    lineage = tuple(Step(**s) for s in v["lineage"])
    device = engine.devices.device
    masks = {n: m.bool().to(device) for n, m in state.part("mask.").items()}
    live = Live(engine.model, engine.optimiser, lineage, masks)  # type: ignore[arg-type]
    training = Training(
        engine,
        live,
        budget,
        seed,
        spent=v["spent"],
        decided=v["decided"],
        cycle=(v["cycle"][0], v["cycle"][1]),
        loss=v["loss"],
        losses=list(v["losses"]),
        points=[Point(**p) for p in v["points"]],
        since={n: t.to(device) for n, t in state.part("since.").items()},
        memory={n: t.to(device) for n, t in state.part("memory.").items()},
        wishes={n: t.to(device) for n, t in state.part("wish.").items()},
        decisions=v["decisions"],
        ids={n: list(i) for n, i in v["ids"].items()},
        born=v["born"],
    )
    training.listen()
    best = None
    if "best" in v:
        best = Best(Graph.from_json(v["best"]["graph"]), state.part("best."), Point(**v["best"]["point"]))
    return training, int(v["stages"]), best


class Folder:
    """The folder of a run; without one it remembers nothing."""

    def __init__(self, path: Path | None, header: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        self.path, self._record = path, None
        self.stored: State | None = None
        if path is None:
            return
        record, checkpoint = path / RECORD, path / CHECKPOINT
        if resume:
            if not checkpoint.exists():
                raise DepthscaleError(
                    f"expected a folder with a run to resume, but {path} holds no {CHECKPOINT}; start without --resume"
                )
            self.stored = read_checkpoint(checkpoint)
            began = read(record).header
            for name, value in header.items():
                if began.get(name) != value:
                    raise DepthscaleError(
                        f"expected to resume with the {name} that {record} was begun with ({began.get(name)!r}), "
                        f"got {value!r}"
                    )
            self._record = Record(record, position=self.stored.values["record"])
            return
        if record.exists() and not overwrite:
            raise DepthscaleError(
                f"expected a new folder for --out, but {path} holds a run; go on with it (--resume {path}), give "
                "another folder, or --overwrite"
            )
        for old in (record, checkpoint):
            old.unlink(missing_ok=True)
        shutil.rmtree(path / "checkpoint", ignore_errors=True)
        self._record = Record(record, **header)

    def write(self, kind: str, **fields: Any) -> None:
        """Add to the record."""
        if self._record is not None:
            self._record.write(kind, **fields)

    def save(self, training: Training, stages: int, best: Best | None) -> None:
        """The record reaches the disk, then the checkpoint that says how long it is."""
        if self.path is not None and self._record is not None:
            self._record.sync()
            write_checkpoint(self.path / CHECKPOINT, pack(training, stages, best, self._record.position))

    def events(self) -> list[dict[str, Any]]:
        """What the record holds."""
        return [] if self.path is None else [dict(e) for e in read(self.path / RECORD).events]

    def close(self) -> None:
        """Close the record."""
        if self._record is not None:
            self._record.close()
