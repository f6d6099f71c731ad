"""Going back to the last good state and stepping again, carefully, up to the step that broke the run."""

import copy
import math
from collections.abc import Sequence
from functools import partial

import torch

from depthscale.train.checkpoint import State
from depthscale.train.divergence import Divergence, find_growth, find_nonfinite, first_bad_parameter
from depthscale.train.engine import Engine
from depthscale.train.evaluate import EVALUATION_BATCH


def locate(engine: Engine, good: State, factors: Sequence[float], loss: float) -> Divergence:
    """What broke within the steps taken since ``good`` with these learning-rate factors; the last one's loss is given.

    The engine ends up in the state ``good``.
    """
    engine.load(good)
    start = copy.deepcopy(engine.model)
    broken = _first_broken_step(engine, factors)
    steps = len(factors) - 1 if broken is None else broken
    engine.load(good)
    for factor in factors[:steps]:
        engine.advance(factor)
    step = engine.step
    x, y, mixed = engine.batch(step)
    try:
        if broken is None and math.isfinite(loss):
            return find_growth(engine.model, start, x, loss, step, seed=lambda: engine.seed_noise(step))
        engine.seed_noise(step)
        precision = engine.config.precision
        found = find_nonfinite(engine.model, x, lambda out: engine.loss_of(out, y, mixed), step, precision=precision)
        return found if found is not None else _update(engine, factors[steps], step, loss)
    finally:
        engine.load(good)


def _first_broken_step(engine: Engine, factors: Sequence[float]) -> int | None:
    for i, factor in enumerate(factors):
        loss = float(engine.advance(factor))
        if not math.isfinite(loss) or first_bad_parameter(engine.model) is not None:
            return i
    return None


def _update(engine: Engine, factor: float, step: int, loss: float) -> Divergence:
    """Outputs and gradients were finite: it was the optimiser, or it cannot be repeated."""
    engine.advance(factor)
    name = first_bad_parameter(engine.model)
    if name is None:
        return Divergence(
            step, "loss", None, loss, f"the loss became {loss}, which running the step again does not show"
        )
    layer = name.rpartition(".")[0] or None
    return Divergence(step, "update", layer, loss, f"the update of {name!r} is not finite though its gradient is")


def locate_in_validation(engine: Engine, loss: float) -> Divergence:
    """The layer whose output on the validation rows is the first not to be finite."""
    assert engine.val is not None
    x, y = engine.val
    model = copy.deepcopy(engine.model).eval()
    for rows, targets in zip(torch.split(x, EVALUATION_BATCH), torch.split(y, EVALUATION_BATCH), strict=True):
        found = find_nonfinite(
            model, rows, partial(engine.objective, y=targets), engine.step, precision=engine.config.precision
        )
        if found is not None:
            return Divergence(found.step, found.kind, found.layer, loss, f"in validation, {found.detail}")
    return Divergence(engine.step, "loss", None, loss, f"the validation loss is {loss}")
