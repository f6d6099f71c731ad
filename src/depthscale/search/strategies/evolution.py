"""Regularised evolution: Real et al. 2019, "Regularized evolution for image classifier architecture search"."""

from collections import deque

from depthscale.search.space import Domain, Value, fits
from depthscale.search.strategy import Plan, Seen, Strategy


class RegularizedEvolution(Strategy):
    """The best of ``tournament`` members of the population has a child with one decision changed; the oldest dies."""

    def __init__(self, seed: int = 0, *, population: int = 10, tournament: int = 3) -> None:
        from depthscale.errors import SearchError

        if not 1 <= tournament <= population:
            raise SearchError(f"expected 1 ≤ tournament ≤ population, got {tournament} and {population}")
        self.population, self.tournament = population, tournament
        super().__init__(seed)

    def restart(self) -> None:
        """No members yet."""
        self.members: deque[Seen] = deque(maxlen=self.population)

    def begin(self, plan: Plan) -> None:
        """Choose a parent and the decision to change; at random until the population is full."""
        if len(self.members) < self.population:
            return
        picked = plan.rng.choice(len(self.members), size=self.tournament, replace=False)
        parent = max((self.members[int(i)] for i in picked), key=lambda s: s.score)
        changeable = [n for n, v in parent.decisions.items() if parent.domains[n].others(v)]
        if changeable:
            plan.notes = (parent, changeable[int(plan.rng.integers(len(changeable)))])

    def choose(self, plan: Plan, name: str, domain: Domain) -> Value:
        """The parent's value, another one for the decision that changes, a random one for what the parent lacks."""
        if plan.notes is None:
            return domain.draw(plan.rng)
        parent, changed = plan.notes
        value = parent.decisions.get(name)
        if value is None or not fits(domain, value):
            return domain.draw(plan.rng)
        others = domain.others(value)
        return others[int(plan.rng.integers(len(others)))] if name == changed and others else value

    def learn(self, seen: Seen) -> None:
        """Every finished trial joins; the oldest leaves."""
        if seen.score > float("-inf"):
            self.members.append(seen)
