"""When to grow: training has saturated, so that more of the same network would bring little."""

import statistics

from depthscale.grow.policies.policy import Policy
from depthscale.grow.training import Training

WINDOW = 60  # steps that are compared with the same number before
LEAST = 0.01  # relative decrease below which training counts as saturated


class Saturation:
    """The mean loss of the last steps is hardly below that of the steps before."""

    name = "saturation"

    def __call__(self, training: Training) -> bool:  # noqa: D102
        losses = training.losses
        if len(losses) < 2 * WINDOW or len(losses) % 10:
            return False
        now, then = statistics.fmean(losses[-WINDOW:]), statistics.fmean(losses[-2 * WINDOW : -WINDOW])
        return now > (1 - LEAST) * then


POLICY = Policy("saturation", "when", "the training loss has stopped falling", "Kilcher et al. 2018", Saturation())
