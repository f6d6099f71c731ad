"""What every strategy is: an Optuna sampler that answers one decision at a time and learns from finished trials.

A strategy sees only decisions, their domains and scores, so ours work in anybody's Optuna study and anybody's sampler
on our spaces. Its state is a function of its seed and of the finished trials in their order, and what it draws for
trial n depends on these and n alone: a search that was killed and resumed goes on as if it had not been, and workers
that share a storage see the same history.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from depthscale.errors import SearchError
from depthscale.search.space import Choice, Domain, Range, Value

LOST = "lost"  # user attribute of a trial whose worker died: nothing is to be learned from it
KEEP = 512  # plans of unfinished trials kept in memory


@dataclass
class Plan:
    """One trial in the making: its number, its random generator, what was decided so far, a strategy's own notes."""

    number: int
    rng: np.random.Generator
    made: dict[str, Value] = field(default_factory=dict)
    domains: dict[str, Domain] = field(default_factory=dict)
    notes: Any = None


@dataclass(frozen=True)
class Seen:
    """A finished trial: decisions in their order, their domains, and the score (larger is better; -inf: failed)."""

    number: int
    decisions: dict[str, Value]
    domains: dict[str, Domain]
    score: float


class Strategy(BaseSampler):
    """The common part; a strategy defines ``choose``, and ``begin`` and ``learn`` where it needs them."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.history: list[Seen] = []
        self.open: list[dict[str, Value]] = []  # the decisions of trials that are running elsewhere
        self._told: set[int] = set()
        self._lost: list[int] = []  # numbers of trials that count as never begun
        self._plans: dict[int, Plan] = {}
        self.restart()

    # --- what strategies define

    def restart(self) -> None:
        """Forget everything learned; called once at the start."""

    def begin(self, plan: Plan) -> None:
        """Before the first decision of a trial."""

    def choose(self, plan: Plan, name: str, domain: Domain) -> Value:
        """The next decision of a trial."""
        raise NotImplementedError

    def learn(self, seen: Seen) -> None:
        """After a trial has finished; called in the order of their numbers as far as they are known."""

    # --- Optuna's side

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Take in what has finished since, then plan this trial."""
        self.catch_up(study)
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self.open = [dict(t.params) for t in running if t.number != trial.number and t.params]
        number = self._ordinal(trial.number)
        plan = Plan(number, np.random.default_rng((self.seed, number)))
        self._plans[trial.number] = plan
        while len(self._plans) > KEEP:
            self._plans.pop(next(iter(self._plans)))
        self.begin(plan)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: decisions are made one at a time."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing: decisions are made one at a time."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The next decision of a trial."""
        if trial.number not in self._plans:
            self.before_trial(study, trial)
        plan, domain = self._plans[trial.number], domain_of(param_distribution)
        value = self.choose(plan, param_name, domain)
        plan.made[param_name], plan.domains[param_name] = value, domain
        return value

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """The plan is no longer needed; learning happens when the next trial begins."""
        self._plans.pop(trial.number, None)

    def catch_up(self, study: optuna.Study) -> None:
        """Learn from all finished trials that were not seen yet."""
        done = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        sign = -1.0 if study.direction == StudyDirection.MINIMIZE else 1.0
        for trial in study.get_trials(deepcopy=False, states=done):
            if trial.number not in self._told:
                self._told.add(trial.number)
                if LOST in trial.user_attrs:
                    self._lost.append(trial.number)
                    continue
                domains = {k: domain_of(d) for k, d in trial.distributions.items()}
                seen = Seen(self._ordinal(trial.number), dict(trial.params), domains, _score(trial, sign))
                self.history.append(seen)
                self.learn(seen)

    def _ordinal(self, number: int) -> int:
        """The trial's number had none been lost before it, so that a search goes on as if none had been."""
        return number - sum(n < number for n in self._lost)


def _score(trial: FrozenTrial, sign: float) -> float:
    """The score of a trial; of a pruned one what it had reached; -inf for a failed one."""
    value = trial.value if trial.state == TrialState.COMPLETE else None
    if trial.state == TrialState.PRUNED and trial.intermediate_values:
        value = trial.intermediate_values[max(trial.intermediate_values)]
    return sign * value if value is not None and math.isfinite(value) else -math.inf


def domain_of(distribution: BaseDistribution) -> Domain:
    """An Optuna distribution as a domain; numbers in steps are choices."""
    if isinstance(distribution, CategoricalDistribution):
        return Choice(tuple(c for c in distribution.choices if c is not None))
    if isinstance(distribution, IntDistribution | FloatDistribution) and distribution.step not in (None, 1):
        low, step = distribution.low, distribution.step
        return Choice(tuple(low + i * step for i in range(int((distribution.high - low) / step + 1e-8) + 1)))
    if isinstance(distribution, FloatDistribution) and distribution.step == 1:
        return Choice(tuple(float(x) for x in np.arange(distribution.low, distribution.high + 0.5)))
    if isinstance(distribution, IntDistribution):
        return Range(distribution.low, distribution.high, distribution.log, whole=True)
    if isinstance(distribution, FloatDistribution):
        return Range(distribution.low, distribution.high, distribution.log)
    raise SearchError(f"expected a categorical, integer or float distribution, got {type(distribution).__name__}")
