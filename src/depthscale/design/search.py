"""The search: candidates proposed by an Optuna sampler, screened by theory, raced by successive halving.

A candidate trains in rungs of 1, 3 and 9 units of the resource (seconds of training when a time budget is given,
epochs when trials are counted); after each but the last it stops unless it is among the best third of what reached
that rung (asynchronous successive halving, Li et al. 2020; Optuna's pruner). Every finished trial is a line of the
run record, and the study is rebuilt from those lines: a search that was killed goes on as if it had not been.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from depthscale.design.screen import Screened, screen
from depthscale.design.space import Candidate, Facts, first_guesses, propose
from depthscale.errors import DepthscaleError, GraphError, SearchError
from depthscale.search.strategies import ONE_SHOT, strategy as make_strategy
from depthscale.search.strategy import Strategy

if TYPE_CHECKING:
    import optuna

RUNGS = (1, 3, 9)
NEED_A_SPACE = ("largest", "screened", "nsga2", *ONE_SHOT)  # strategies that look at networks, or at two objectives
MOST_DROPPED_IN_A_ROW = 200
REDRAWS = 100


@dataclass(frozen=True)
class Progress:
    """What training a candidate up to some rung has given."""

    score: float  # larger is better
    metrics: Mapping[str, float]
    curve: Sequence[Mapping[str, float]]  # a point per epoch
    failed: str = ""  # why it cannot go on: diverged, …


# trains a screened candidate up to ``rung`` units in all; called with growing rungs
Racer = Callable[[int], Progress]
Starter = Callable[[Screened, int], Racer]


@dataclass(frozen=True)
class Trial:
    """One candidate, finished: what it was, how far it got, and why it stopped."""

    number: int
    state: str  # complete, pruned, diverged, dropped (by theory, or as a duplicate), invalid
    why: str
    words: str
    decisions: Mapping[str, Any]
    key: str = ""
    parameters: int = 0
    multiply_adds: int = 0
    score: float = -math.inf
    rung: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    curve: Sequence[Mapping[str, float]] = ()
    seconds: float = 0.0
    optuna: Mapping[str, Any] = field(default_factory=dict)  # what rebuilds the study

    @property
    def trained(self) -> bool:
        """Whether any training was spent on it."""
        return self.rung > 0


class Search:
    """A resumable race: ``finished`` trials are taken over, ``step`` runs one more."""

    def __init__(
        self,
        facts: Facts,
        seed: int,
        start: Starter,
        finished: Sequence[Trial] = (),
        most: float = math.inf,
        strategy: str = "tpe",
    ) -> None:
        """``most``: multiply-adds of one row above which the sampler is asked again.

        ``strategy``: one of ``depthscale.search``; SearchError for another name, or one that needs a space of its own.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.facts, self.seed, self.start, self.most = facts, seed, start, most
        if strategy in NEED_A_SPACE:
            raise SearchError(f"expected a strategy that designs can use, got {strategy!r}; it belongs to searches")
        self._ours = make_strategy(strategy, seed)
        self.strategy = strategy
        self.trials = list(finished)
        self._study = optuna.create_study(
            direction="maximize",
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
        )
        for trial in self.trials:
            self._study.add_trial(_frozen(trial))

    @property
    def trained(self) -> int:
        """Trials that training was spent on."""
        return sum(t.trained for t in self.trials)

    @property
    def best(self) -> Trial:
        """The trial with the best validation score.

        Raises DepthscaleError where nothing was trained.
        """
        scored = [t for t in self.trials if t.trained and math.isfinite(t.score)]
        if not scored:
            whys = {t.why for t in self.trials}
            raise DepthscaleError(
                f"expected at least one candidate to train, got none of {len(self.trials)} "
                f"({'; '.join(sorted(whys)[:3])}); give a larger budget or check the data"
            )
        return max(scored, key=lambda t: (t.score, -t.number))

    def step(self, out_of_time: Callable[[], bool]) -> Trial:
        """Propose, screen and race one candidate; returns the trial, finished."""

        number = len(self.trials)
        # what a sampler draws must depend on the seed and on finished trials alone, for a resumed run to agree
        self._study.sampler = self._sampler(number)
        guesses = first_guesses(self.facts)
        if number < len(guesses):
            self._study.enqueue_trial(guesses[number])
        ask = self._ask(number)
        started = time.monotonic()
        trial = self._race(ask, number, out_of_time)
        trial = _with(trial, seconds=time.monotonic() - started)
        self._tell(ask, trial)
        trial = _with(trial, optuna=_thawed(self._study.trials[-1]))
        self.trials.append(trial)
        return trial

    def _sampler(self, number: int) -> "optuna.samplers.BaseSampler":
        """Ours go by finished trials; of Optuna's a new one is made for every trial."""
        own = self.seed * 100_003 + number
        if isinstance(self._ours, Strategy):
            return self._ours
        return make_strategy(self.strategy, own, **({"n_startup_trials": 8} if self.strategy == "tpe" else {}))

    def _ask(self, number: int) -> "optuna.Trial":
        """A proposal that the budget can afford: others are drawn again, first guesses taken as they are."""
        from optuna.trial import TrialState

        for _ in range(REDRAWS):
            ask = self._study.ask()
            if number < len(first_guesses(self.facts)) or self._affordable(ask):
                return ask
            self._study.tell(ask, None, TrialState.FAIL)
        return self._study.ask()

    def _affordable(self, ask: "optuna.Trial") -> bool:
        try:
            return propose(ask, self.facts).graph.cost().multiply_adds <= self.most
        except GraphError:
            return True  # what is wrong with it is said when it is raced

    def _race(self, ask: "optuna.Trial", number: int, out_of_time: Callable[[], bool]) -> Trial:
        try:
            candidate = propose(ask, self.facts)
        except GraphError as error:
            return Trial(number, "invalid", str(error), "", dict(ask.params))
        screened = screen(candidate)
        trial = _described(number, candidate, screened, ask.params)
        if screened.refused:
            return _with(trial, state="dropped", why=screened.refused)
        if any(t.trained and t.key == trial.key and _same(t, trial) for t in self.trials):
            return _with(trial, state="dropped", why="the same network and training as an earlier trial")
        return self._rungs(ask, trial, self.start(screened, number), out_of_time)

    def _rungs(self, ask: "optuna.Trial", trial: Trial, run: Racer, out_of_time: Callable[[], bool]) -> Trial:
        for rung in RUNGS:
            progress = run(rung)
            trial = _with(
                trial, score=progress.score, rung=rung, metrics=dict(progress.metrics), curve=tuple(progress.curve)
            )
            if progress.failed:
                return _with(trial, state="diverged", why=progress.failed, score=-math.inf)
            ask.report(progress.score, rung)
            if rung != RUNGS[-1] and ask.should_prune():
                return _with(trial, state="pruned", why=f"not among the best third at rung {rung}")
            if rung != RUNGS[-1] and out_of_time():
                return _with(trial, state="pruned", why="the time for the search was over")
        return _with(trial, state="complete")

    def _tell(self, ask: "optuna.Trial", trial: Trial) -> None:
        from optuna.trial import TrialState

        if trial.state in ("complete", "pruned"):
            state = TrialState.COMPLETE if trial.state == "complete" else TrialState.PRUNED
            self._study.tell(ask, trial.score if trial.state == "complete" else None, state)
        else:
            self._study.tell(ask, None, TrialState.FAIL)


def _with(trial: Trial, **changes: Any) -> Trial:
    return replace(trial, **changes)


def _same(a: Trial, b: Trial) -> bool:
    names = ("learning_rate", "weight_decay", "batch_size", "augment")
    return all(a.decisions.get(n) == b.decisions.get(n) for n in names)


def _described(number: int, candidate: Candidate, screened: Screened, decisions: Mapping[str, Any]) -> Trial:
    cost = candidate.graph.cost()
    return Trial(
        number=number,
        state="",
        why="",
        words=candidate.words,
        decisions=dict(decisions),
        key=screened.graph.key,
        parameters=cost.parameters,
        multiply_adds=cost.multiply_adds,
    )


def _thawed(frozen: "optuna.trial.FrozenTrial") -> dict[str, Any]:
    """What Optuna knows of a finished trial, as plain data."""
    from optuna.distributions import distribution_to_json

    return {
        "state": frozen.state.name,
        "value": frozen.value,
        "distributions": {k: json.loads(distribution_to_json(d)) for k, d in frozen.distributions.items()},
        "intermediate": {str(k): v for k, v in frozen.intermediate_values.items()},
        "system": {k: v for k, v in frozen.system_attrs.items() if k != "fixed_params"},
    }


def _frozen(trial: Trial) -> "optuna.trial.FrozenTrial":
    """The trial as Optuna had it when it finished."""
    from optuna.distributions import json_to_distribution
    from optuna.trial import TrialState, create_trial

    data = trial.optuna
    return create_trial(
        state=TrialState[data["state"]],
        value=data["value"],
        params=dict(trial.decisions),
        distributions={k: json_to_distribution(json.dumps(d)) for k, d in data["distributions"].items()},
        intermediate_values={int(k): v for k, v in data["intermediate"].items()},
        system_attrs=dict(data["system"]),
    )


def to_fields(trial: Trial) -> dict[str, Any]:
    """A trial as plain data for the run record."""
    return asdict(trial)


def from_fields(fields: Mapping[str, Any]) -> Trial:
    """The trial that ``to_fields`` wrote."""
    known = {name: fields[name] for name in Trial.__dataclass_fields__}
    return Trial(**known)
