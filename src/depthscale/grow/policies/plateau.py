"""When to stop: the last stages brought nothing on the validation rows."""

from depthscale.grow.policies.policy import Policy
from depthscale.grow.training import Training

PATIENCE = 3  # stages
LEAST = 1e-3  # relative improvement that counts as one


class Plateau:
    """None of the last stages was better on validation than the best before them."""

    name = "plateau"

    def __call__(self, training: Training) -> bool:  # noqa: D102
        losses = [p.val["loss"] for p in training.points if "loss" in p.val]
        return len(losses) > PATIENCE and min(losses[-PATIENCE:]) > (1 - LEAST) * min(losses[:-PATIENCE])


POLICY = Policy("plateau", "when", "validation has not improved for three stages", "Prechelt 1998", Plateau())
