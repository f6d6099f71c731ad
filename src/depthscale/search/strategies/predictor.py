"""Search by a learned predictor, which guesses the score of candidates; the most promising is tried.

``Predictor`` is Bayesian optimisation over graph features with an ensemble (White, Neiswanger & Savani 2021,
"BANANAS"): candidates are mutations of the best trials and random draws, and the one of largest expected improvement
is tried. ``Progressive`` is the idea of Liu et al. 2018 ("Progressive neural architecture search"): decisions are
fixed one after the other, prefixes ranked by the surrogate over random completions. ``Screened`` learns nothing: it
tries the best of many random draws by the caller's features.
"""

import numpy as np
from scipy.stats import rankdata

from depthscale.errors import SearchError
from depthscale.search.space import Choice, Domain, Value, fits
from depthscale.search.strategies.surrogate import Array, Encoder, Features, Surrogate, stacked
from depthscale.search.strategy import Plan, Seen, Strategy

Point = tuple[tuple[str, Value], ...]
MOST_ROWS = 300  # trials that a fit looks at: the best half and the latest half of so many


class Predictor(Strategy):
    """Expected improvement by Gaussian processes over mutations of the best trials and random draws.

    start: random trials before the first fit. parents: best trials that are mutated.
    features: columns for the predictor beside the decisions (of a graph, or scores without training), by the
    decisions.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        start: int = 10,
        candidates: int = 100,
        parents: int = 10,
        features: Features | None = None,
    ) -> None:
        self.start, self.candidates, self.parents = start, candidates, parents
        self.features = features
        super().__init__(seed)

    def restart(self) -> None:
        """Nothing known."""
        self.domains: dict[str, Domain] = {}
        self.tried: set[Point] = set()
        self.scored: list[Seen] = []
        self.rows: dict[Point, tuple[Array, Array]] = {}
        self.surrogate: Surrogate | None = None
        self.encoder: Encoder | None = None
        self.fitted = 0

    def learn(self, seen: Seen) -> None:
        """Remember the trial and its domains; fitting waits until a candidate is wanted."""
        for name, domain in seen.domains.items():
            self.domains.setdefault(name, domain)
        point = _point(seen.decisions)
        if point not in self.tried:
            self.tried.add(point)
            if seen.score > float("-inf"):
                self.scored.append(seen)

    def begin(self, plan: Plan) -> None:
        """Rank candidates, plan the best that was not tried."""
        if not self._ready():
            return
        assert self.surrogate is not None
        pool = self._pool(plan.rng)
        if pool:
            plan.notes = pool[int(np.argmax(self.surrogate.improvement(self._matrix(pool))))]

    def choose(self, plan: Plan, name: str, domain: Domain) -> Value:
        """As planned; at random where the plan says nothing."""
        value = plan.notes.get(name) if plan.notes is not None else None
        return value if value is not None and fits(domain, value) else domain.draw(plan.rng)

    def _ready(self) -> bool:
        """Whether there is a surrogate; it is fitted anew where enough trials have finished."""
        n = len(self.scored)
        if n < max(self.start, 2):
            return False
        if self.encoder is None or self.encoder.domains.keys() != self.domains.keys():
            self.encoder, self.rows, self.surrogate = Encoder(self.domains, self.features), {}, None
        if self.surrogate is None or n > self.fitted:
            used = self.scored
            if n > MOST_ROWS:
                best = sorted(self.scored, key=lambda s: -s.score)[: MOST_ROWS // 2]
                used = list({s.number: s for s in [*best, *self.scored[-MOST_ROWS // 2 :]]}.values())
            x = self._matrix([s.decisions for s in used])
            width = len(self._row(used[0].decisions)[0])
            self.surrogate, self.fitted = Surrogate(x, np.array([s.score for s in used]), width), n
        return True

    def _matrix(self, points: "list[dict[str, Value]]") -> Array:
        return stacked([self._row(p) for p in points])

    def _row(self, decisions: dict[str, Value]) -> tuple[Array, Array]:
        assert self.encoder is not None
        point = _point(decisions)
        row = self.rows.get(point)
        if row is None:
            row = self.rows[point] = self.encoder(decisions)
        return row

    def _pool(self, rng: np.random.Generator) -> list[dict[str, Value]]:
        """Candidates: one or two changes to the best trials, and random ones; none tried or being tried."""
        best = sorted(self.scored, key=lambda s: -s.score)[: self.parents]
        taken = self.tried | {_point(d) for d in self.open}
        found: dict[Point, dict[str, Value]] = {}
        for _ in range(4 * self.candidates):
            if len(found) >= self.candidates:
                break
            base = dict(best[int(rng.integers(len(best)))].decisions)
            names = list(base)
            changes = len(names) if rng.random() < 0.3 else 1 + int(rng.random() < 0.4)
            for i in rng.permutation(len(names))[:changes]:
                base[names[i]] = self.domains[names[i]].draw(rng)
            point = _point(base)
            if point not in taken:
                found[point] = base
        return list(found.values())


class Progressive(Predictor):
    """Decisions fixed one after the other by the surrogate over random completions.

    At every decision each option is completed ``completions`` times at random and the option whose completions have
    the best upper quantile is kept; so short prefixes are judged first, and only the promising ones are made longer.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        completions: int = 8,
        quantile: float = 0.8,
        start: int = 10,
        features: Features | None = None,
    ) -> None:
        self.completions, self.quantile = completions, quantile
        super().__init__(seed, start=start, features=features)

    def begin(self, plan: Plan) -> None:
        """Fit; options are ranked when they are asked for."""
        plan.notes = self._ready()

    def choose(self, plan: Plan, name: str, domain: Domain) -> Value:
        """The option whose random completions look best."""
        if not plan.notes or self.surrogate is None or name not in self.domains or plan.rng.random() < 0.1:
            return domain.draw(plan.rng)
        options = domain.options if isinstance(domain, Choice) else tuple(domain.at(x) for x in plan.rng.random(5))
        left = [n for n in self.domains if n not in plan.made and n != name]
        points = [
            {**plan.made, name: option, **{n: self.domains[n].draw(plan.rng) for n in left}}
            for option in options
            for _ in range(self.completions if left else 1)
        ]
        mean, spread = self.surrogate(self._matrix(points))
        hope = (mean + spread).reshape(len(options), -1)
        return options[int(np.argmax(np.quantile(hope, self.quantile, axis=1)))]


class Screened(Strategy):
    """The best of ``candidates`` random draws by the caller's features: the sum of the logarithms of their ranks.

    features: scores without training, say, each the larger the better. Draws are made from the domains that earlier
    trials met, so the first ``start`` trials are random.
    """

    def __init__(
        self, seed: int = 0, *, features: Features | None = None, candidates: int = 100, start: int = 1
    ) -> None:
        if features is None:
            raise SearchError("expected features (scores without training) to screen candidates by, got none")
        self.features, self.candidates, self.start = features, candidates, start
        super().__init__(seed)

    def restart(self) -> None:
        """Nothing drawn."""
        self.templates: list[Seen] = []
        self.tried: set[Point] = set()

    def learn(self, seen: Seen) -> None:
        """A trial only tells which decisions there are."""
        self.tried.add(_point(seen.decisions))
        self.templates.append(seen)

    def begin(self, plan: Plan) -> None:
        """Draw candidates, plan the best."""
        if len(self.templates) < self.start:
            return
        taken = self.tried | {_point(d) for d in self.open}
        drawn: dict[Point, dict[str, Value]] = {}
        for _ in range(self.candidates):
            template = self.templates[int(plan.rng.integers(len(self.templates)))]
            decisions = {n: d.draw(plan.rng) for n, d in template.domains.items()}
            if _point(decisions) not in taken:
                drawn[_point(decisions)] = decisions
        rows = [(d, f) for d in drawn.values() if (f := self.features(d)) is not None]
        if rows:
            ranks = np.log(rankdata(np.array([f for _, f in rows]), axis=0)).sum(1)
            plan.notes = rows[int(np.argmax(ranks))][0]

    def choose(self, plan: Plan, name: str, domain: Domain) -> Value:
        """As planned; at random where the plan says nothing."""
        value = plan.notes.get(name) if plan.notes is not None else None
        return value if value is not None and fits(domain, value) else domain.draw(plan.rng)


def _point(decisions: dict[str, Value]) -> Point:
    return tuple(sorted(decisions.items()))
