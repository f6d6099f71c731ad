"""What ``design`` proposes for a data set: plain and residual MLPs for tables, convolutional networks for images.

A candidate is drawn by an Optuna trial, decision by decision, so any Optuna sampler can steer the search. The ranges
reach further than theory allows (plain networks 64 layers deep, say): what cannot train is dropped before training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from depthscale import zoo
from depthscale.graph import Graph
from depthscale.zoo.convnet import convnet

if TYPE_CHECKING:
    import optuna

    from depthscale.data import Dataset

ACTIVATIONS = ["relu", "tanh", "gelu", "silu"]


@dataclass(frozen=True)
class Facts:
    """What proposals depend on: no values of the data, only its shape."""

    kind: str
    task: str
    input_shape: tuple[int, ...]
    outputs: int
    rows: int

    @staticmethod
    def of(dataset: "Dataset") -> "Facts":
        """The facts of a data set's training split."""
        return Facts(dataset.kind, dataset.task, tuple(dataset.input_shape), dataset.outputs, len(dataset.train.x))


@dataclass(frozen=True)
class Candidate:
    """One proposal: the network (laws still to be set by theory) and how to train it."""

    graph: Graph
    words: str
    training: Mapping[str, Any]  # learning_rate, weight_decay, batch_size, augment


def propose(trial: "optuna.trial.BaseTrial", facts: Facts) -> Candidate:
    """A candidate for the data, every decision made by the trial.

    Raises GraphError where the decisions make no valid network.
    """
    image = facts.kind == "image" and min(facts.input_shape[1:]) >= 4
    families = ["convnet", "resnet"] if image else ["mlp", "residual mlp"]
    family = trial.suggest_categorical("family", families)
    graph, words = _MAKE[family](trial, facts)
    training: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-4, 1e-1, log=True),
        "batch_size": trial.suggest_categorical("batch_size", _batches(facts.rows)),
        "augment": trial.suggest_categorical("augment", ["none", "shift", "affine", "shift+flip"]) if image else "none",
    }
    return Candidate(graph, words, training)


def first_guesses(facts: Facts) -> list[dict[str, Any]]:
    """Decisions that an experienced person would try first; the search starts from them."""
    batch = _batches(facts.rows)[0]
    common = {"learning_rate": 3e-3, "weight_decay": 1e-2, "batch_size": batch}
    if facts.kind == "image" and min(facts.input_shape[1:]) >= 4:
        # full resolution costs most: larger images start with fewer channels
        width, per_stage = (32, 2) if min(facts.input_shape[1:]) <= 12 else (16, 1)
        plain = {"family": "convnet", "act": "relu", "norm": "batch", "width": width, "per_stage": per_stage}
        plain["hidden"] = 128
        residual = {"family": "resnet", "act": "relu", "norm": "batch", "width": width // 2, "per_stage": 1}
        return [
            {**common, **plain, "dropout": 0.2, "augment": "shift"},
            {**common, **residual, "augment": "shift"},
            {**common, **plain, "norm": "none", "act": "gelu", "dropout": 0.2, "augment": "affine"},
            {**common, **residual, "norm": "none", "act": "relu", "per_stage": 2, "augment": "affine"},
        ]
    small = {**common, "learning_rate": 1e-3}
    return [
        {**small, "family": "mlp", "act": "relu", "norm": "none", "width": 128, "depth": 2, "dropout": 0.1},
        {**small, "family": "residual mlp", "act": "gelu", "norm": "layer", "width": 128, "depth": 4, "dropout": 0.1},
        {**small, "family": "mlp", "act": "tanh", "norm": "none", "width": 64, "depth": 3, "dropout": 0.0},
        {**small, "family": "residual mlp", "act": "silu", "norm": "none", "width": 64, "depth": 8, "dropout": 0.0},
    ]


def _batches(rows: int) -> list[int]:
    """Batch sizes that give a data set of this size at least some tens of steps an epoch."""
    return [32, 64] if rows < 5_000 else [128, 64, 256]


def _stages(facts: Facts) -> int:
    """Halvings until the image is about four pixels wide."""
    size, stages = min(facts.input_shape[1:]), 1
    while size > 7 and stages < 4:
        size, stages = size // 2, stages + 1
    return max(stages, 2)


def _convnet(trial: "optuna.trial.BaseTrial", facts: Facts) -> tuple[Graph, str]:
    act = trial.suggest_categorical("act", ACTIVATIONS)
    norm = trial.suggest_categorical("norm", ["none", "batch"])
    width = trial.suggest_int("width", 8, 48, step=8)
    depth = trial.suggest_int("per_stage", 1, 16, log=True)
    hidden = trial.suggest_categorical("hidden", [0, 64, 128, 256])
    dropout = trial.suggest_float("dropout", 0.0, 0.4, step=0.1)
    stages = (depth,) * _stages(facts)
    graph = convnet(
        stages,
        width,
        facts.outputs,
        in_channels=facts.input_shape[0],
        image_size=facts.input_shape[1:],
        act=act,
        norm=norm,
        hidden=hidden,
        dropout=dropout,
    )
    return graph, f"plain convolutional, {sum(stages)} conv layers, {width} channels, {act}{_normed(norm)}"


def _resnet(trial: "optuna.trial.BaseTrial", facts: Facts) -> tuple[Graph, str]:
    act = trial.suggest_categorical("act", ACTIVATIONS)
    norm = trial.suggest_categorical("norm", ["none", "batch"])
    width = trial.suggest_int("width", 8, 48, step=8)
    depth = trial.suggest_int("per_stage", 1, 16, log=True)
    stages = (depth,) * _stages(facts)
    graph = zoo.resnet(
        18,
        facts.outputs,
        in_channels=facts.input_shape[0],
        image_size=facts.input_shape[1:],
        stages=stages,
        width=width,
        norm=norm,
        act=act,
    )
    return graph, f"residual convolutional, {2 * sum(stages)} conv layers, {width} channels, {act}{_normed(norm)}"


def _mlp(trial: "optuna.trial.BaseTrial", facts: Facts, *, residual: bool = False) -> tuple[Graph, str]:
    act = trial.suggest_categorical("act", ACTIVATIONS)
    norm = trial.suggest_categorical("norm", ["none", "layer", "batch"])
    width = trial.suggest_int("width", 16, 512, log=True)
    depth = trial.suggest_int("depth", 1, 64, log=True)
    dropout = trial.suggest_float("dropout", 0.0, 0.5, step=0.1)
    features = 1
    for size in facts.input_shape:
        features *= size
    graph = zoo.mlp(
        (features, *[width] * depth, facts.outputs),
        act,
        input_shape=facts.input_shape,
        residual=residual,
        norm=norm,
        dropout=dropout,
    )
    kind = "residual" if residual else "plain"
    return graph, f"{kind} MLP, {depth} × {width}, {act}{_normed(norm)}"


def _residual_mlp(trial: "optuna.trial.BaseTrial", facts: Facts) -> tuple[Graph, str]:
    return _mlp(trial, facts, residual=True)


def _normed(norm: str) -> str:
    return "" if norm == "none" else f", {norm} norm"


_MAKE = {"convnet": _convnet, "resnet": _resnet, "mlp": _mlp, "residual mlp": _residual_mlp}
