"""Q-learning: Baker et al. 2017, "Designing neural network architectures using reinforcement learning" (MetaQNN).

The state is the decision to be made and the one made before; the action is its value. An ε-greedy policy draws, ε
falling from 1 to ``least`` over ``schedule`` trials in steps, and past trials are replayed. The reward comes at the
end; ``shaped``, it is shared out over the decisions (Zhong et al. 2018, "Practical block-wise neural network
architecture generation", section 3.2).
"""

import bisect

import numpy as np

from depthscale.search.space import Choice, Domain, Range, Value
from depthscale.search.strategy import Plan, Seen, Strategy

BINS = 8  # a range of numbers is learned in this many parts
State = tuple[str, object]


def bins(domain: Domain) -> int:
    """How many actions a domain has."""
    return len(domain.options) if isinstance(domain, Choice) else BINS


def bin_of(domain: Domain, value: Value) -> int:
    """The action that a value belongs to."""
    if isinstance(domain, Choice):
        return domain.options.index(value)
    return min(int(domain.share(float(value)) * BINS), BINS - 1)


def value_of(domain: Domain, action: int, rng: np.random.Generator) -> Value:
    """A value of the action."""
    return domain.options[action] if isinstance(domain, Choice) else _inside(domain, action, rng)


def _inside(domain: Range, action: int, rng: np.random.Generator) -> Value:
    return domain.at((action + float(rng.random())) / BINS)


class Standard:
    """Scores as ranks among those seen so far, 0 to 1, so that no strategy depends on the unit of the score."""

    def __init__(self) -> None:
        self.scores: list[float] = []

    def add(self, score: float) -> float:
        """Remember the score and give its rank; 0 for a failed trial."""
        if score == float("-inf"):
            return 0.0
        bisect.insort(self.scores, score)
        return self.rank(score)

    def rank(self, score: float) -> float:
        """The middle of the scores equal to this one, among all, 0 to 1."""
        low, high = bisect.bisect_left(self.scores, score), bisect.bisect_right(self.scores, score)
        return (low + high) / 2 / max(len(self.scores), 1)


class QLearning(Strategy):
    """Tabular Q-learning over (decision, previous value) with an ε schedule and experience replay."""

    def __init__(
        self,
        seed: int = 0,
        *,
        rate: float = 0.1,
        replay: int = 20,
        schedule: int = 100,
        least: float = 0.1,
        shaped: bool = False,
    ) -> None:
        self.rate, self.replay, self.schedule, self.least, self.shaped = rate, replay, schedule, least, shaped
        super().__init__(seed)

    def restart(self) -> None:
        """Every action is worth 0.5 before it was tried."""
        self.q: dict[State, list[float]] = {}  # lists: a few numbers at a time are quicker than arrays
        self.standard = Standard()
        self.memory: list[tuple[list[tuple[State, int, int]], float]] = []

    def epsilon(self, trials: int) -> float:
        """Explores wholly for the first tenth…, then less in ten equal steps."""
        step = int(10 * min(trials / self.schedule, 1.0))
        return max(1.0 - step * (1.0 - self.least) / 9, self.least)

    def begin(self, plan: Plan) -> None:
        """Explore or exploit is drawn per decision, with the ε of this trial."""
        plan.notes = self.epsilon(len(self.history))

    def choose(self, plan: Plan, name: str, domain: Domain) -> Value:
        """The best action known with probability 1 − ε."""
        known = self.q.get(self._state(name, plan.made, plan.domains))
        if known is None or len(known) != bins(domain) or plan.rng.random() < plan.notes:
            return domain.draw(plan.rng)
        most = max(known)
        best = [i for i, q in enumerate(known) if q == most]
        return value_of(domain, best[int(plan.rng.integers(len(best)))], plan.rng)

    def learn(self, seen: Seen) -> None:
        """Update along this trial, and along a sample of those before."""
        path: list[tuple[State, int, int]] = []
        made: dict[str, Value] = {}
        for name, value in seen.decisions.items():
            domain = seen.domains[name]
            path.append((self._state(name, made, seen.domains), bin_of(domain, value), bins(domain)))
            made[name] = value
        if not path:
            return
        self.memory.append((path, seen.score))
        self.standard.add(seen.score)
        rng = np.random.default_rng((self.seed, seen.number, 2))
        for i in [len(self.memory) - 1, *rng.integers(len(self.memory), size=min(self.replay, len(self.memory)))]:
            self._update(*self.memory[int(i)])

    def _update(self, path: list[tuple[State, int, int]], score: float) -> None:
        reward = self.standard.rank(score) if score > float("-inf") else 0.0
        ahead = 0.0  # what is to be had from the next state on
        share = reward / len(path) if self.shaped else 0.0
        for i, (state, action, n) in enumerate(reversed(path)):
            table = self.q.get(state)
            if table is None:
                table = self.q[state] = [0.5] * n
            if len(table) != n:
                continue
            target = share + ahead if self.shaped else (reward if i == 0 else ahead)
            table[action] += self.rate * (target - table[action])
            ahead = max(table)

    @staticmethod
    def _state(name: str, made: dict[str, Value], domains: dict[str, Domain]) -> State:
        if not made:
            return name, None
        last = next(reversed(made))
        return name, bin_of(domains[last], made[last])
