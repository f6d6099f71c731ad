"""The baseline "largest network wins": no learning, only size."""

import numpy as np

from depthscale.errors import GraphError
from depthscale.search.space import Domain, Space, Value, fits
from depthscale.search.strategy import Plan, Strategy


class Largest(Strategy):
    """Networks in the order of their parameters, the largest first, from a pool of random draws.

    Trial n takes the n-th; where the pool is used up, draws are random.
    """

    def __init__(self, seed: int = 0, *, space: Space, pool: int = 64) -> None:
        self.space, self.pool = space, pool
        super().__init__(seed)

    def restart(self) -> None:
        """Draw the pool, when it is first needed."""
        self.ranked: list[dict[str, Value]] | None = None

    def begin(self, plan: Plan) -> None:
        """The largest that was not tried."""
        if self.ranked is None:
            self.ranked = self._rank()
        tried = {tuple(sorted(d.items())) for d in [*(s.decisions for s in self.history), *self.open]}
        plan.notes = next((d for d in self.ranked if tuple(sorted(d.items())) not in tried), None)

    def choose(self, plan: Plan, name: str, domain: Domain) -> Value:
        """As drawn for the pool."""
        value = plan.notes.get(name) if plan.notes is not None else None
        return value if value is not None and fits(domain, value) else domain.draw(plan.rng)

    def _rank(self) -> list[dict[str, Value]]:
        rng = np.random.default_rng((self.seed, 4))
        found: dict[object, tuple[int, dict[str, Value]]] = {}
        for _ in range(3 * self.pool):
            if len(found) >= self.pool:
                break
            try:
                drawn = self.space.sample(rng)
                key = self.space.key(drawn.architecture)
                if key not in found:
                    size = self.space.graph(drawn.architecture).cost().parameters
                    found[key] = (size, drawn.decisions)
            except GraphError:
                continue
        return [d for _, d in sorted(found.values(), key=lambda pair: -pair[0])]
