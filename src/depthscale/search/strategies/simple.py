"""Random search, and local search: White, Nolen & Savani 2021, "Exploring the loss landscape in NAS"."""

import math
from dataclasses import dataclass, field

import numpy as np

from depthscale.search.space import Domain, Value, fits
from depthscale.search.strategy import Plan, Seen, Strategy


class Random(Strategy):
    """Every decision at random, each option as likely."""

    def choose(self, plan: Plan, name: str, domain: Domain) -> Value:
        """Any value."""
        return domain.draw(plan.rng)


@dataclass
class _Climb:
    """Where local search stands, and which of its neighbours were evaluated: (decision, its other value) → trial."""

    here: Seen
    order: list[tuple[str, Value]]
    tried: dict[tuple[str, Value], Seen] = field(default_factory=dict)


class LocalSearch(Strategy):
    """Evaluate all neighbours (one decision changed), move to the best, start anew at random in a local optimum.

    ``first``: move as soon as a neighbour is better, instead of evaluating all of them.
    """

    def __init__(self, seed: int = 0, *, first: bool = False) -> None:
        self.first = first
        super().__init__(seed)

    def restart(self) -> None:
        """Nowhere yet."""
        self.climb: _Climb | None = None

    def begin(self, plan: Plan) -> None:
        """Take a neighbour that was neither evaluated nor is being evaluated; a random start where there is none."""
        if self.climb is None:
            return
        busy = {_difference(self.climb.here.decisions, d) for d in self.open}
        left = (c for c in self.climb.order if c not in self.climb.tried and c not in busy)
        plan.notes = next(left, None)

    def choose(self, plan: Plan, name: str, domain: Domain) -> Value:
        """As the neighbour has it; at random where it says nothing."""
        if plan.notes is None or self.climb is None:
            return domain.draw(plan.rng)
        if name == plan.notes[0]:
            value: Value = plan.notes[1]
            return value
        kept = self.climb.here.decisions.get(name)
        return kept if kept is not None and fits(domain, kept) else domain.draw(plan.rng)

    def learn(self, seen: Seen) -> None:
        """A start is where we are; a neighbour may be where we go."""
        if self.climb is None:
            if math.isfinite(seen.score):
                self.climb = self._at(seen)
            return
        change = _difference(self.climb.here.decisions, seen.decisions)
        if change is not None and change in self.climb.order:
            self.climb.tried[change] = seen
        while self.climb is not None and self.climb.tried:
            best = max(self.climb.tried.values(), key=lambda s: (s.score, -s.number))
            better = best.score > self.climb.here.score
            whole = len(self.climb.tried) == len(self.climb.order)
            if not (whole or (self.first and better)):
                return
            self.climb = self._at(best) if better else None

    def _at(self, here: Seen) -> _Climb:
        """A new place: its neighbours in random order, those that some earlier trial was already marked as tried."""
        changes = [(name, v) for name, value in here.decisions.items() for v in here.domains[name].others(value)]
        order = np.random.default_rng((self.seed, here.number, 1)).permutation(len(changes))
        climb = _Climb(here, [changes[int(i)] for i in order])
        for seen in self.history:
            if seen.decisions.keys() == here.decisions.keys():
                apart = [n for n in here.decisions if seen.decisions[n] != here.decisions[n]]
                if len(apart) == 1 and (apart[0], seen.decisions[apart[0]]) in changes:
                    climb.tried[apart[0], seen.decisions[apart[0]]] = seen
        return climb


def _difference(here: dict[str, Value], there: dict[str, Value]) -> tuple[str, Value] | None:
    """The first decision in which a trial differs; what depends on it may differ too."""
    for name, value in there.items():
        if name in here and here[name] != value:
            return name, value
    return None
