"""What to prune by movement: units whose readers moved towards zero since the stage began (Sanh et al. 2020).

Movement is w (w − w₀) summed over what reads the unit: positive where weights grew.
"""

from depthscale.grow.policies.policy import Policy
from depthscale.grow.training import Training
from depthscale.grow.units import Array, Units


class Movement:
    """Σ w (w − w₀) over what reads the unit."""

    name = "movement"

    def __call__(self, training: Training) -> dict[str, Array]:  # noqa: D102
        units = Units(training.graph)
        moved = {}
        for n, p in training.live.module.named_parameters():
            if p.dim() > 1:
                was = training.since.get(n)
                start = was if was is not None and was.shape == p.shape else 0.0
                moved[n] = (p.detach() * (p.detach() - start)).double()
        return {n: units.heard(n, moved) for n in units.layers}


POLICY = Policy("movement", "prune", "whether what reads a unit moves away from zero", "Sanh et al. 2020", Movement())
