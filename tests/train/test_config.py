"""Configurations: what is refused, in which words, and what a budget's fraction is."""

import json
import math
from typing import Any

import pytest

from depthscale.errors import TrainingError
from depthscale.train import Augment, Budget, TrainConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch", 0),
        ("batch", 1.5),
        ("batch", True),
        ("optimiser", "adam"),
        ("lr", 0.0),
        ("lr", -1),
        ("lr", math.nan),
        ("lr", "fast"),
        ("weight_decay", -0.1),
        ("momentum", 1.0),
        ("betas", (0.9, 1.0)),
        ("betas", (0.9,)),
        ("schedule", "step"),
        ("warmup", 1.1),
        ("clip", 0.0),
        ("loss", "hinge"),
        ("label_smoothing", 1.0),
        ("ema", 1.0),
        ("patience", 0),
        ("monitor", "f1"),
        ("precision", "fp8"),
        ("budget", 10),
        ("seed", -1),
        ("explode", 1.0),
    ],
)
def test_bad_fields_are_named(field: str, value: Any) -> None:
    with pytest.raises(TrainingError, match=f"expected {field} .*got"):
        TrainConfig(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("shift", -1), ("shift", 1.0), ("flip", 1), ("rotate", 181), ("scale", 1.0), ("mixup", math.inf), ("cutout", "4")],
)
def test_bad_augmentation_is_named(field: str, value: Any) -> None:
    with pytest.raises(TrainingError, match=field):
        Augment(**{field: value})


@pytest.mark.parametrize(
    "bad", [{}, {"epochs": 0}, {"seconds": -1}, {"steps": 0}, {"steps": 1.5}, {"seconds": math.inf}]
)
def test_bad_budgets(bad: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="expected"):
        Budget(**bad)


def test_the_first_limit_counts() -> None:
    budget = Budget(epochs=2.5, steps=1000, seconds=60)
    assert budget.total_steps(100) == 250
    assert budget.fraction(50, 0.0, 100) == pytest.approx(0.2)
    assert budget.fraction(50, 30.0, 100) == pytest.approx(0.5)
    assert budget.fraction(250, 0.0, 100) == 1.0
    assert budget.fraction(10, 61.0, 100) == 1.0
    assert Budget(seconds=1).total_steps(100) is None
    assert Budget(epochs=1e-9).total_steps(100) == 1  # never nothing


def test_plain_values_and_back() -> None:
    config = TrainConfig(Budget(seconds=3), betas=(0.8, 0.9), augment=Augment(shift=2, mixup=0.2), clip=1.0, seed=7)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.with_(seed=8).seed == 8
    with pytest.raises(TrainingError, match="depth"):
        TrainConfig.from_dict({"depth": 3})
