"""A strategy on a table: ask, look up, tell, as fast as Optuna's memory allows."""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale.search.space import Decider, Domain, Range, Space, Value
from depthscale.search.strategy import Plan, Seen, Strategy
from depthscale.search.table import Curve, Table, replay

if TYPE_CHECKING:
    import optuna
    from optuna.samplers import BaseSampler


class TrialDecider(Decider):
    """Asks an Optuna trial."""

    def __init__(self, trial: "optuna.trial.BaseTrial") -> None:
        super().__init__()
        self.trial = trial

    def answer(self, name: str, domain: Domain) -> Value:
        """What the study's sampler suggests.

        Raises SearchError where the study knows the decision with other choices.
        """
        from depthscale.errors import SearchError

        value: Value
        try:
            if isinstance(domain, Range) and domain.whole:
                value = self.trial.suggest_int(name, int(domain.low), int(domain.high), log=domain.log)
            elif isinstance(domain, Range):
                value = self.trial.suggest_float(name, domain.low, domain.high, log=domain.log)
            else:
                value = self.trial.suggest_categorical(name, domain.options)  # type: ignore[assignment]
        except ValueError as error:
            raise SearchError(
                f"decision {name!r} has other choices than in an earlier trial ({error}); "
                "give decisions that differ names that differ"
            ) from None
        return value


def search_table(
    space: Space,
    table: Table,
    sampler: "BaseSampler",
    queries: int,
    *,
    select: str = "val12",
    report: str = "test200",
    on_query: Callable[[int], None] = lambda n: None,
    most_asks: int = 20,
) -> Curve:
    """Search a table with any Optuna sampler until ``queries`` different networks were looked up.

    Networks are told apart by their row. One that was asked before is told again without being charged (a table's user
    would look it up in the notes), up to ``most_asks`` asks per query; after that, repeats count.
    """
    signal = getattr(table, select)
    asked = _directly(space, sampler) if isinstance(sampler, Strategy) else _through_optuna(space, sampler)
    rows: list[int] = []
    charged: set[int] = set()
    asks = 0
    cell = next(asked)
    while True:
        row = table.row(cell)
        asks += 1
        if row not in charged or asks > most_asks * queries:
            charged.add(row)
            rows.append(row)
            on_query(len(rows))
        if len(rows) >= queries:
            return replay(table, rows, select=select, report=report)
        cell = asked.send(float(signal[row]))


def _through_optuna(space: Space, sampler: "BaseSampler") -> Generator[Any, float, None]:
    """Architectures that a sampler asks for, in a study of its own; their scores are sent back."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    while True:
        trial = study.ask()
        score = yield space.draw(TrialDecider(trial)).architecture
        study.tell(trial, score)


def _directly(space: Space, strategy: Strategy) -> Generator[Any, float, None]:
    """The same for a strategy of ours, without a study: several times as fast, and draw for draw the same."""
    number = 0
    while True:
        plan = Plan(number, np.random.default_rng((strategy.seed, number)))
        strategy.begin(plan)
        draw = space.draw(_Planned(strategy, plan))
        score = yield draw.architecture
        seen = Seen(number, draw.decisions, draw.domains, score)
        strategy.history.append(seen)
        strategy.learn(seen)
        number += 1


class _Planned(Decider):
    """Asks a strategy about one trial."""

    def __init__(self, strategy: Strategy, plan: Plan) -> None:
        super().__init__()
        self.strategy, self.plan = strategy, plan

    def answer(self, name: str, domain: Domain) -> Value:
        """What the strategy chooses."""
        value = self.strategy.choose(self.plan, name, domain)
        self.plan.made[name], self.plan.domains[name] = value, domain
        return value


def largest(table: Table, queries: int, rng: np.random.Generator, **signals: str) -> Curve:
    """The baseline "largest network wins": queries in the order of parameter count, ties at random."""
    order = np.lexsort((rng.random(len(table)), -table.size))
    return replay(table, [int(i) for i in order[:queries]], **signals)
