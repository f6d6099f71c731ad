"""What a search has found, as plain data and with the winner's network."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthscale.errors import SearchError
from depthscale.search.compare import Paired, paired
from depthscale.search.evaluate import Outcome
from depthscale.search.job import StudyOf
from depthscale.search.space import Value
from depthscale.search.work import OUTCOME, OWN, PARAMETERS, REPEAT, outcome_in

if TYPE_CHECKING:
    import optuna
    from torch import nn

    from depthscale.data import Dataset
    from depthscale.graph import Graph


@dataclass(frozen=True)
class Tried:
    """One network that a strategy evaluated, in the order it began."""

    number: int
    words: str
    key: str
    state: str  # complete, pruned, failed
    parameters: int
    decisions: Mapping[str, Value]
    outcome: Outcome


@dataclass(frozen=True)
class Run:
    """One strategy with one seed."""

    strategy: str
    seed: int
    tried: tuple[Tried, ...]
    exhausted: str = ""

    @property
    def best(self) -> Tried:
        """The best by the selection signal; the earlier one of equals.

        Raises SearchError where nothing came out.
        """
        done = [t for t in self.tried if t.state != "failed"]
        if not done:
            whys = sorted({t.outcome.failed for t in self.tried if t.outcome.failed})
            raise SearchError(
                f"expected {self.strategy} to train at least one network within its budget, got none "
                f"({'; '.join(whys[:2]) or 'no time'}); give a larger budget"
            )
        whole = [t for t in done if t.state == "complete"] or done
        return max(whole, key=lambda t: (t.outcome.score, -t.number))

    @property
    def incumbents(self) -> list[float]:
        """The best selection signal after every network."""
        best, found = float("-inf"), []
        for t in self.tried:
            best = max(best, t.outcome.score)
            found.append(best)
        return found

    @property
    def reports(self) -> list[float]:
        """What a table says of the best by selection, after every network; empty where nothing is reported."""
        best, worth, found = float("-inf"), float("nan"), []
        for t in self.tried:
            if t.outcome.report is None:
                return []
            if t.outcome.score > best:
                best, worth = t.outcome.score, t.outcome.report
            found.append(worth)
        return found

    @property
    def seconds(self) -> list[float]:
        """Seconds charged until after every network."""
        total, found = 0.0, []
        for t in self.tried:
            total += t.outcome.seconds
            found.append(total)
        return found


@dataclass(frozen=True, eq=False)
class Final:
    """A network that was trained to the end and tested, or looked up.

    strategy: who found it ("" for a network given beside). value: test accuracy (%, of a table) or metric.
    """

    strategy: str
    seed: int
    words: str
    parameters: int
    metrics: Mapping[str, float]
    value: float  # larger is better
    seconds: float = 0.0
    graph: "Graph | None" = None
    module: "nn.Module | None" = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search found, and what its baselines found under the same budget.

    value_name: what ``Final.value`` is. finals: one per strategy and seed, and the networks given beside.
    """

    space: str
    data: str
    strategy: str
    signal: str
    value_name: str
    runs: tuple[Run, ...]
    finals: tuple[Final, ...]
    budget: str
    seconds: float
    seed: int
    command: str = ""
    out: Path | None = None
    dataset: "Dataset | None" = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def strategies(self) -> tuple[str, ...]:
        """The strategy, then its baselines."""
        return tuple(dict.fromkeys(r.strategy for r in self.runs))

    def of(self, strategy: str) -> list[Run]:
        """The runs of a strategy, by seed."""
        return [r for r in self.runs if r.strategy == strategy]

    def values(self, strategy: str) -> list[float]:
        """Final values of a strategy, by seed."""
        return [f.value for f in sorted(self.finals, key=lambda f: f.seed) if f.strategy == strategy]

    @property
    def winner(self) -> Final:
        """The strategy's network whose selection signal was best over its seeds: nobody looked at the test."""
        best = max(self.of(self.strategy), key=lambda r: (r.best.outcome.score, -r.seed))
        return next(f for f in self.finals if f.strategy == self.strategy and f.seed == best.seed)

    def against(self, baseline: str) -> Paired:
        """The strategy's final values less a baseline's, paired by seed."""
        return paired(self.values(self.strategy), self.values(baseline))

    def spread(self, strategy: str) -> tuple[float, float]:
        """Mean and standard deviation of the final values (0 for one seed)."""
        values = self.values(strategy)
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0

    def summary(self) -> dict[str, Any]:
        """The result as plain data."""
        won = self.winner
        return {
            "space": self.space,
            "data": self.data,
            "strategy": self.strategy,
            "selected_by": self.signal,
            "budget": self.budget,
            "network": won.words,
            "parameters": won.parameters,
            self.value_name: won.value,
            "metrics": dict(won.metrics),
            "strategies": {s: self._row(s) for s in self.strategies},
            "beside": [
                {"name": f.words, "parameters": f.parameters, **f.metrics} for f in self.finals if not f.strategy
            ],
            "notes": list(self.notes),
            "seconds": self.seconds,
            "seed": self.seed,
            "out": None if self.out is None else str(self.out),
        }

    def _row(self, strategy: str) -> dict[str, Any]:
        mean, spread = self.spread(strategy)
        row: dict[str, Any] = {
            "n": len(self.values(strategy)),
            "mean": mean,
            "deviation": spread,
            "networks": [len(r.tried) for r in self.of(strategy)],
            "best_selection": [r.best.outcome.score for r in self.of(strategy)],
            "parameters": [r.best.parameters for r in self.of(strategy)],
        }
        if strategy != self.strategy:
            test = self.against(strategy)
            row["paired"] = {"difference": test.difference, "error": test.error, "p": test.p, "n": test.n}
        return row


def run_of(of: StudyOf, study: "optuna.Study") -> Run:
    """A study's networks without repeats and draws that made none."""
    tried = [
        Tried(
            number=t.number,
            words=t.user_attrs[OWN]["words"],
            key=t.user_attrs[OWN]["key"],
            state={"COMPLETE": "complete", "PRUNED": "pruned"}.get(t.state.name, "failed"),
            parameters=t.user_attrs.get(PARAMETERS, 0),
            decisions=dict(t.params),
            outcome=outcome_in(t),
        )
        for t in study.get_trials(deepcopy=False)
        if t.state.is_finished() and OUTCOME in t.user_attrs and OWN in t.user_attrs and REPEAT not in t.user_attrs
    ]
    return Run(of.strategy, of.seed, tuple(tried), str(study.user_attrs.get("exhausted", "")))


def words(strategies: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(strategies[:-1]), strategies[-1]] if len(strategies) > 1 else list(strategies))
