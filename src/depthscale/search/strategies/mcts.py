"""Monte Carlo tree search over the decisions: UCT (Kocsis & Szepesvári 2006); AlphaX (Wang et al. 2019) for networks.

The tree's nodes are prefixes of decisions. From the root, the child with the largest upper confidence bound is taken
until a node with an untried option is reached; below it decisions are random (a roll-out), and the real score of the
finished trial is backed up along the path. Numbers are widened progressively: a node with n visits may have about
n^½ of them (Couëtoux et al. 2011). A network gives the same score however often it is asked for, so branches whose
networks were all tried are closed and not entered again.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from depthscale.search.space import Choice, Domain, Value
from depthscale.search.strategies.q_learning import Standard
from depthscale.search.strategy import Plan, Seen, Strategy


@dataclass
class _Branch:
    """A prefix: visits, the sum of its rewards, and what was decided next from here, by name and value.

    closed: every network that begins so was tried.
    """

    visits: int = 0
    total: float = 0.0
    best: float = 0.0
    closed: bool = False
    children: dict[tuple[str, Value], "_Branch"] = field(default_factory=dict)


class TreeSearch(Strategy):
    """UCT; ``exploration`` is the constant before the square root, ``greed`` weighs a branch's best against its mean.

    Rewards are ranks among the trials so far, 0 to 1.
    """

    def __init__(self, seed: int = 0, *, exploration: float = 0.3, greed: float = 0.5) -> None:
        self.exploration, self.greed = exploration, greed
        super().__init__(seed)

    def restart(self) -> None:
        """An empty tree."""
        self.root = _Branch()
        self.standard = Standard()

    def begin(self, plan: Plan) -> None:
        """Every trial starts at the root."""
        plan.notes = self.root

    def choose(self, plan: Plan, name: str, domain: Domain) -> Value:
        """By upper confidence bound inside the tree, at random below it."""
        branch: _Branch | None = plan.notes
        value = domain.draw(plan.rng) if branch is None else self._select(branch, name, domain, plan.rng)
        plan.notes = branch.children.get((name, value)) if branch is not None else None
        return value

    def _select(self, branch: _Branch, name: str, domain: Domain, rng: np.random.Generator) -> Value:
        known = {v: c for (n, v), c in branch.children.items() if n == name}
        if isinstance(domain, Choice):
            untried = [o for o in domain.options if o not in known]
            if untried:
                return untried[int(rng.integers(len(untried)))]
        elif len(known) < max(1.0, math.sqrt(branch.visits)):
            return domain.draw(rng)
        log = math.log(max(branch.visits, 1))

        def bound(child: _Branch) -> float:
            worth = (1 - self.greed) * child.total / child.visits + self.greed * child.best
            return worth + self.exploration * math.sqrt(log / child.visits)

        unfinished = [v for v, c in known.items() if not c.closed] or list(known)
        return max(unfinished, key=lambda v: bound(known[v]))

    def learn(self, seen: Seen) -> None:
        """Grow the tree by one node along this trial and back its reward up."""
        reward = self.standard.add(seen.score)
        path = [self.root]
        for step in seen.decisions.items():
            grown = step not in path[-1].children
            path.append(path[-1].children.setdefault(step, _Branch()))
            if grown:
                break
        for branch in path:
            branch.visits += 1
            branch.total += reward
            branch.best = max(branch.best, reward)
        if len(path) == len(seen.decisions) + 1:
            self._close(path, seen)

    def _close(self, path: list[_Branch], seen: Seen) -> None:
        """The network at the path's end is done, and so is every prefix of which nothing else is left."""
        path[-1].closed = True
        for branch, (name, domain) in zip(path[-2::-1], reversed(seen.domains.items()), strict=True):
            options = domain.options if isinstance(domain, Choice) else ()
            ends = [branch.children.get((name, o)) for o in options]
            branch.closed = bool(ends) and all(e is not None and e.closed for e in ends)
            if not branch.closed:
                return
