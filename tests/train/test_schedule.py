"""Schedules against torch's own schedulers and closed forms."""

import math
from itertools import pairwise

import pytest
import torch

from depthscale.errors import TrainingError
from depthscale.train.config import SCHEDULES
from depthscale.train.schedule import factor


def test_onecycle_is_torchs() -> None:
    total, warmup, final = 101, 0.3, 1e-3
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    # torch's first phase ends at step 0.3·total − 1, and its final factor is relative to the start
    oracle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        1.0,
        total_steps=total,
        pct_start=(warmup * (total - 1) + 1) / total,
        final_div_factor=1 / (25 * final),
    )
    for step in range(total):
        want = oracle.get_last_lr()[0]
        assert factor("onecycle", step / (total - 1), warmup, final) == pytest.approx(want, rel=1e-9)
        optimiser.step()
        if step + 1 < total:
            oracle.step()


def test_cosine_without_warmup_is_torchs() -> None:
    total = 50
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, total, eta_min=0.1)
    for step in range(total):
        assert factor("cosine", step / total, 0.0, 0.1) == pytest.approx(oracle.get_last_lr()[0], rel=1e-9)
        optimiser.step()
        oracle.step()


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.2, 1.0])
def test_rises_falls_and_has_no_jumps(name: str, warmup: float) -> None:
    grid = [i / 1000 for i in range(1001)]
    values = [factor(name, f, warmup, 0.01) for f in grid]
    assert all(0 <= v <= 1 for v in values)
    assert max(values) == pytest.approx(1.0, abs=1e-5)
    jumps = [abs(b - a) for a, b in pairwise(values)]
    assert max(jumps) < 0.01  # slopes are at most π/(2·0.2)
    peak = values.index(max(values))
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    if warmup < 1 and name != "constant":
        assert values[-1] == pytest.approx(0.01)


def test_linear_in_closed_form() -> None:
    assert factor("linear", 0.1, 0.2, 0.0) == pytest.approx(0.5)
    assert factor("linear", 0.6, 0.2, 0.0) == pytest.approx(0.5)
    assert factor("cosine", 0.6, 0.2, 0.0) == pytest.approx((1 + math.cos(math.pi / 2)) / 2)


def test_unknown() -> None:
    with pytest.raises(TrainingError, match="schedule"):
        factor("steps", 0.5, 0.0, 0.0)
