"""No search at all: decisions that were made elsewhere."""

from collections.abc import Mapping

from depthscale.errors import SearchError
from depthscale.search.space import Domain, Value, fits
from depthscale.search.strategy import Plan, Strategy


class Given(Strategy):
    """Proposes the given decisions, and what they say nothing about at random."""

    def __init__(self, seed: int = 0, *, decisions: Mapping[str, Value] | None = None) -> None:
        if not decisions:
            raise SearchError(
                "expected decisions to propose, got none; searches by gradient are run by depthscale search"
            )
        self.decisions = dict(decisions)
        super().__init__(seed)

    def choose(self, plan: Plan, name: str, domain: Domain) -> Value:
        """As given."""
        value = self.decisions.get(name)
        return value if value is not None and fits(domain, value) else domain.draw(plan.rng)
