"""New units at random: what the other policies have to beat."""

from collections.abc import Mapping

from depthscale.grow.policies.policy import Policy, Proposal
from depthscale.grow.training import Training
from depthscale.grow.units import Units


class RandomUnits:
    """Every layer grows alike; what new units read is drawn by the layer's law."""

    name = "random-units"

    def __call__(self, training: Training, wanted: Mapping[str, int]) -> list[Proposal]:  # noqa: D102
        units = Units(training.graph)
        return [
            Proposal(f"{n}: units", (1.0,) * (count // units.groups(n)), units.cost(n).parameters * units.groups(n), n)
            for n, count in wanted.items()
        ]


POLICY = Policy("random-units", "grow", "new units by the layers' laws, all layers alike", "baseline", RandomUnits())
