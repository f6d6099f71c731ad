"""Search by a learned predictor: an ensemble guesses the score of candidates, the most promising is tried.

``Predictor`` is Bayesian optimisation with an ensemble (White, Neiswanger & Savani 2021, "BANANAS"): each member is
fitted to another resample of the trials, one member drawn at random ranks the candidates (independent Thompson
sampling), which are mutations of the best trials and random draws. ``Progressive`` is the idea of Liu et al. 2018
("Progressive neural architecture search"): decisions are fixed one after the other, and prefixes are ranked by the
surrogate's mean over random completions, widening the beam.

The members are ridge regressions on the decisions and their products, two at a time: a draw of an afternoon's table
(every decision's every value, and pairs of them), which is exact where scores are sums over parts and pairs of parts.
``features`` adds columns of the caller's, such as scores without training.
"""

from collections.abc import Callable, Mapping

import numpy as np

from depthscale.search.space import Choice, Domain, Value, fits
from depthscale.search.strategy import Plan, Seen, Strategy

Array = np.ndarray
Features = Callable[[Mapping[str, Value]], "Array"]


class Encoder:
    """Decisions as columns: one per value met of a choice, one per number; and the products of each two."""

    def __init__(self, domains: Mapping[str, Domain], features: Features | None, *, pairs: bool = True) -> None:
        self.domains, self.features, self.pairs = dict(domains), features, pairs

    def __call__(self, decisions: Mapping[str, Value]) -> Array:
        """One row."""
        parts: list[Array] = []
        for name, domain in self.domains.items():
            value = decisions.get(name)
            held = value is not None and fits(domain, value)
            if isinstance(domain, Choice):
                parts.append(np.array([held and value == o for o in domain.options], dtype=float))
            else:
                parts.append(np.array([domain.share(float(value)), 1.0] if held else [0.0, 0.0]))  # type: ignore[arg-type]
        one = np.concatenate(parts) if parts else np.zeros(0)
        own = [] if self.features is None else [np.asarray(self.features(decisions), dtype=float)]
        if not self.pairs:
            return np.concatenate([one, *own])
        edges = np.cumsum([0, *(len(p) for p in parts)])
        crossed = [np.outer(one[: edges[i]], parts[i]).ravel() for i in range(1, len(parts))]
        return np.concatenate([one, *crossed, *own])


class Ensemble:
    """Ridge regressions on resamples; rows and targets are standardised."""

    def __init__(self, x: Array, y: Array, members: int, rng: np.random.Generator, penalty: float) -> None:
        n = len(x)
        self.shift, spread = x.mean(0), x.std(0)
        self.scale = np.where(spread > 0, spread, 1.0)
        z = (x - self.shift) / self.scale / np.sqrt(x.shape[1])
        self.mean = float(y.mean())
        kernel = z @ z.T
        self.z, self.duals = z, np.zeros((members, n))
        for m in range(members):
            weights = rng.dirichlet(np.ones(n)) * n  # the Bayesian bootstrap: every trial counts, unequally
            self.duals[m] = np.linalg.solve(kernel + np.diag(penalty / np.maximum(weights, 1e-3)), y - self.mean)
        self.coefficients = self.duals @ z

    def __call__(self, x: Array) -> Array:
        """Predictions, shape (members, rows)."""
        z = (x - self.shift) / self.scale / np.sqrt(x.shape[1])
        return np.asarray(self.coefficients @ z.T + self.mean)


class Predictor(Strategy):
    """Thompson sampling with an ensemble over mutations of the best trials and random draws.

    start: random trials before the first fit. refit: trials between fits. space: where given, candidates are complete
    draws of it, as its conditional decisions need; otherwise decisions are changed one at a time within the domains
    that were met. features: further columns for the predictor, by the decisions.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        start: int = 10,
        refit: int = 1,
        members: int = 5,
        candidates: int = 100,
        penalty: float = 0.3,
        features: Features | None = None,
    ) -> None:
        self.start, self.refit, self.members = start, refit, members
        self.candidates, self.penalty, self.features = candidates, penalty, features
        super().__init__(seed)

    def restart(self) -> None:
        """Nothing known."""
        self.domains: dict[str, Domain] = {}
        self.rows: dict[tuple[tuple[str, Value], ...], Array] = {}
        self.ensemble: Ensemble | None = None
        self.encoder: Encoder | None = None
        self.fitted = 0

    def learn(self, seen: Seen) -> None:
        """Remember the domains; fitting waits until a candidate is wanted."""
        for name, domain in seen.domains.items():
            self.domains.setdefault(name, domain)

    def begin(self, plan: Plan) -> None:
        """Rank candidates, plan the best that was not tried."""
        scored = [s for s in self.history if s.score > float("-inf")]
        if len(scored) < self.start:
            return
        if self.ensemble is None or len(scored) - self.fitted >= self.refit:
            self._fit(scored)
        assert self.ensemble is not None
        pool = self._pool(scored, plan.rng)
        if pool:
            guess = self.ensemble(np.array([self._row(c) for c in pool]))
            member = guess[int(plan.rng.integers(len(guess)))]
            plan.notes = pool[int(np.argmax(member))]

    def choose(self, plan: Plan, name: str, domain: Domain) -> Value:
        """As planned; at random where the plan says nothing."""
        value = plan.notes.get(name) if plan.notes is not None else None
        return value if value is not None and fits(domain, value) else domain.draw(plan.rng)

    def _fit(self, scored: list[Seen]) -> None:
        if self.encoder is None or self.encoder.domains.keys() != self.domains.keys():
            self.encoder = Encoder(self.domains, self.features)
            self.rows = {}
        x = np.array([self._row(s.decisions) for s in scored])
        y = np.array([s.score for s in scored])
        low = np.quantile(y, 0.1)  # a few very bad trials must not decide the fit
        y = np.maximum(y, low - (np.quantile(y, 0.9) - low))
        y = (y - y.mean()) / (y.std() or 1.0)
        rng = np.random.default_rng((self.seed, len(scored), 3))
        self.ensemble, self.fitted = Ensemble(x, y, self.members, rng, self.penalty), len(scored)

    def _row(self, decisions: Mapping[str, Value]) -> Array:
        assert self.encoder is not None
        point = tuple(decisions.items())
        row = self.rows.get(point)
        if row is None:
            row = self.rows[point] = self.encoder(decisions)
        return row

    def _pool(self, scored: list[Seen], rng: np.random.Generator) -> list[dict[str, Value]]:
        """Candidates: neighbours of the best trials, two changes for some, and random ones; none tried before."""
        tried = {tuple(sorted(s.decisions.items())) for s in self.history}
        best = sorted(scored, key=lambda s: -s.score)[:10]
        found: dict[tuple[tuple[str, Value], ...], dict[str, Value]] = {}
        for _ in range(4 * self.candidates):
            if len(found) >= self.candidates:
                break
            base = dict(best[int(rng.integers(len(best)))].decisions)
            changes = len(base) if rng.random() < 0.2 else 1 + int(rng.random() < 0.3)
            for name in rng.permutation(list(base))[:changes]:
                base[str(name)] = self.domains[str(name)].draw(rng)
            point = tuple(sorted(base.items()))
            if point not in tried:
                found[point] = base
        return list(found.values())


class Progressive(Predictor):
    """Decisions fixed one after the other by the surrogate's mean over random completions.

    At every decision each option is completed ``completions`` times at random and the option with the best upper
    quantile is kept; so short prefixes are judged first, and only the promising ones are made longer.
    """

    def __init__(self, seed: int = 0, *, completions: int = 8, quantile: float = 0.8, **options: int) -> None:
        self.completions, self.quantile = completions, quantile
        super().__init__(seed, **options)  # type: ignore[arg-type]

    def begin(self, plan: Plan) -> None:
        """Fit; options are ranked when they are asked for."""
        scored = [s for s in self.history if s.score > float("-inf")]
        if len(scored) >= self.start and (self.ensemble is None or len(scored) - self.fitted >= self.refit):
            self._fit(scored)

    def choose(self, plan: Plan, name: str, domain: Domain) -> Value:
        """The option whose random completions look best to one member of the ensemble."""
        if self.ensemble is None or name not in self.domains or plan.rng.random() < 0.1:
            return domain.draw(plan.rng)
        options = domain.options if isinstance(domain, Choice) else tuple(domain.at(x) for x in plan.rng.random(5))
        rows, left = [], [n for n in self.domains if n not in plan.made and n != name]
        for option in options:
            for _ in range(self.completions):
                rest = {n: self.domains[n].draw(plan.rng) for n in left}
                made = {**plan.made, name: option, **rest}
                rows.append(self._row({n: made[n] for n in self.domains if n in made}))
        if plan.notes is None:
            plan.notes = int(plan.rng.integers(self.members))
        guess = self.ensemble(np.array(rows))[plan.notes].reshape(len(options), -1)
        return options[int(np.argmax(np.quantile(guess, self.quantile, axis=1)))]
