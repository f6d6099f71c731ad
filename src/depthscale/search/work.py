"""The loop of a worker: ask, draw, evaluate, tell; one of them alone or many on one storage.

What a trial is lies in its user attributes: ``own`` (who runs it, the network's key, size and words) when it begins,
``outcome`` (what the evaluation gave and what is charged) when it ends. A trial without an outcome was not finished.
"""

import dataclasses
import math
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from depthscale.errors import DepthscaleError, GraphError, SearchError
from depthscale.search.evaluate import Evaluation, Outcome
from depthscale.search.job import AT_WORK, Job, Owner, StudyOf, overdue
from depthscale.search.reaping import OUTCOME as OUTCOME, OWN as OWN, REAP_SECONDS, reap
from depthscale.search.space import TRAINING, Draw, Space
from depthscale.search.storage import open_storage
from depthscale.search.strategies import ONE_SHOT
from depthscale.search.strategy import LOST, Strategy
from depthscale.search.tabular import TrialDecider

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

PARAMETERS, REPEAT, WHY = "parameters", "repeat", "why"
GIVEN = "given"  # of a study: the decisions that a search by gradient ended in
DRAWING = 2.0  # seconds that others are given to say which network they have drawn
PATIENCE = 0.05  # seconds to wait for others
MOST_BARREN = 200  # draws in a row without a new network after which a space counts as exhausted

Told = Callable[[StudyOf, "FrozenTrial"], None]


def key_of(space: Space, draw: Draw) -> str:
    """What tells trials apart: the network, and the decisions about its training."""
    training = sorted((k, v) for k, v in draw.decisions.items() if k.startswith(TRAINING))
    return f"{space.key(draw.architecture)}" + (f" {training}" if training else "")


def words_of(draw: Draw) -> str:
    """The draw in words: as it is written, or its decisions."""
    if isinstance(draw.architecture, str):
        return draw.architecture
    return ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in draw.decisions.items())


def open_study(job: Job, of: StudyOf, storage: "BaseStorage") -> "optuna.Study":
    """The study of a strategy and seed, made where it is not there yet."""
    import optuna

    return optuna.create_study(
        study_name=of.name,
        storage=storage,
        load_if_exists=True,
        directions=["maximize", "minimize"] if of.two_objectives else ["maximize"],
        pruner=job.pruning(),
        sampler=optuna.samplers.RandomSampler(seed=0),  # ours is put in before it is asked
    )


class Worker:
    """Runs trials of a job's studies until all are over."""

    def __init__(self, job: Job, name: str = "", storage: "BaseStorage | None" = None) -> None:
        self.job, self.space, self.me = job, job.space.make(), Owner.me(name or f"alone-{uuid.uuid4().hex[:8]}")
        self.storage = open_storage(job.storage) if storage is None else storage
        self.studies = {of: open_study(job, of, self.storage) for of in job.studies}
        self._samplers: dict[StudyOf, Any] = {}
        self._over: set[StudyOf] = set()
        self._barren: dict[StudyOf, int] = dict.fromkeys(job.studies, 0)
        self._silent: set[int] = set()  # trials that began long ago, and never said which network they are

    def run(self, told: Told | None = None, stop: Callable[[], bool] = lambda: False) -> None:
        """Trials, always of the study that has used the smallest share of its limits.

        Raises SearchError where the space or the data are at fault.
        """
        AT_WORK.add(self.me.worker)
        try:
            self._run(told, stop)
        finally:
            AT_WORK.discard(self.me.worker)

    def _run(self, told: Told | None, stop: Callable[[], bool]) -> None:
        looked = time.monotonic()
        while not stop() and not overdue(self.job):
            of = self._next()
            if of is None:
                if len(self._over) == len(self.studies):
                    return
                time.sleep(PATIENCE)  # others are evaluating the last ones; should one be lost, it is ours to do
                if time.monotonic() - looked > REAP_SECONDS:
                    looked = time.monotonic()
                    reap(self.studies)
                continue
            number = self.trial(of)
            if told is not None and number is not None:
                told(of, self.studies[of].get_trials(deepcopy=False)[number])

    def _next(self) -> StudyOf | None:
        shares = {}
        seed = None
        for of in self.job.studies:  # seed by seed
            if of in self._over or (seed is not None and of.seed != seed):
                continue
            share = self._used(of)
            if share >= 1:
                self._over.add(of)
                continue
            seed = of.seed
            if not self._too_many(self.studies[of]):
                shares[of] = share
        return min(shares, key=lambda s: (shares[s], s.rank), default=None)

    def _used(self, of: StudyOf) -> float:
        study = self.studies[of]
        if "exhausted" in study.user_attrs:
            return math.inf
        spent = charged(study)
        if of.strategy in ONE_SHOT and spent[0]:
            return math.inf  # there is one cell to evaluate
        return self.job.limits.used(*spent)

    def trial(self, of: StudyOf) -> int | None:
        """One trial; its number, None where nothing came of it."""
        from optuna.trial import TrialState

        study = self.studies[of]
        study.sampler = self._sampler(of)
        trial = study.ask()
        try:
            draw = self.space.draw(TrialDecider(trial))
            key = key_of(self.space, draw)
        except GraphError as error:
            trial.set_user_attr(WHY, str(error))
            study.tell(trial, state=TrialState.FAIL)
            return self._fruitless(of, trial.number, f"the last made no network: {error}")
        except BaseException:
            _lose(study, trial)
            raise
        trial.set_user_attr(OWN, {**dataclasses.asdict(self.me), "key": key, "words": words_of(draw)})
        earlier, busy = self._earlier(study, trial.number, key)
        if busy or self._too_many(study, trial.number):
            _lose(study, trial)
            time.sleep(PATIENCE)
            return None
        if earlier is not None:
            self._repeat(of, trial, earlier)
            return self._fruitless(of, trial.number, "all the rest were drawn before")
        self._barren[of] = 0
        try:
            self._evaluate(of, trial, draw, key)
        except BaseException:
            _lose(study, trial)  # Ctrl-C, a full disk, a table without the cell: the trial is not finished
            raise
        return trial.number

    def _sampler(self, of: StudyOf) -> Any:
        found = self._samplers.get(of)
        if found is None:
            trials = self.studies[of].get_trials(deepcopy=False)
            given = self.studies[of].user_attrs.get(GIVEN)
            found = self.job.sampler(of, sum(LOST not in t.user_attrs for t in trials), self.space, given)
            if isinstance(found, Strategy):
                self._samplers[of] = found
        return found

    def _fruitless(self, of: StudyOf, number: int, why: str) -> int:
        self._barren[of] += 1
        if self._barren[of] >= MOST_BARREN:
            study = self.studies[of]
            n = sum(OUTCOME in t.user_attrs and REPEAT not in t.user_attrs for t in study.get_trials(deepcopy=False))
            if n == 0:
                raise SearchError(
                    f"expected space {self.space.name} to make networks, but {MOST_BARREN} draws in a row gave none "
                    f"({why})"
                )
            study.set_user_attr("exhausted", f"{MOST_BARREN} draws in a row gave no new network after {n}: {why}")
        return number

    def _earlier(self, study: "optuna.Study", number: int, key: str) -> "tuple[FrozenTrial | None, bool]":
        """The finished trial of this network, and whether another one is evaluating it."""
        from optuna.trial import TrialState

        until = time.monotonic() + DRAWING
        while drawing := {
            t._trial_id
            for t in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if t.number < number and OWN not in t.user_attrs and t._trial_id not in self._silent
        }:
            if time.monotonic() > until:
                self._silent |= drawing  # killed while it drew, it seems: waited for once, not at every trial
                break
            time.sleep(PATIENCE / 5)
        busy = False
        for t in study.get_trials(deepcopy=False):
            if t.number == number or t.user_attrs.get(OWN, {}).get("key") != key or REPEAT in t.user_attrs:
                continue
            if OUTCOME in t.user_attrs and t.state.is_finished():
                return t, False
            busy |= t.number < number and not t.state.is_finished()
        return None, busy

    def _too_many(self, study: "optuna.Study", number: float = math.inf) -> bool:
        """Whether finished trials, and those begun before this one, use up the limit of trials."""
        if self.job.limits.trials is None:
            return False
        from optuna.trial import TrialState

        done, open_ = 0, 0
        for t in study.get_trials(deepcopy=False):
            done += OUTCOME in t.user_attrs and REPEAT not in t.user_attrs and t.state.is_finished()
            open_ += t.state == TrialState.RUNNING and t.number < number
        return done + open_ >= self.job.limits.trials

    def _repeat(self, of: StudyOf, trial: "optuna.Trial", earlier: "FrozenTrial") -> None:
        trial.set_user_attr(REPEAT, earlier.number)
        trial.set_user_attr(PARAMETERS, earlier.user_attrs[PARAMETERS])
        self._tell(of, trial, outcome_in(earlier), earlier.user_attrs[PARAMETERS], earlier.state)

    def _evaluate(self, of: StudyOf, trial: "optuna.Trial", draw: Draw, key: str) -> None:
        from optuna.trial import TrialState

        known = self._known(of, key)
        if known is not None:  # trained for another strategy: the same answer, charged as if it had been for this one
            outcome, parameters = known
            evaluation = Evaluation(parameters, lambda rung: outcome)
            trial.set_user_attr("shared", True)
        else:
            evaluation = self.job.evaluator.begin(self.space, draw, of.seed)
        trial.set_user_attr(PARAMETERS, evaluation.parameters)
        state = TrialState.COMPLETE
        for rung in self.job.evaluator.rungs:
            outcome = evaluation.run(rung)
            if outcome.failed or not math.isfinite(outcome.score):
                state = TrialState.FAIL
                break
            if of.two_objectives:
                continue
            last = rung == self.job.evaluator.rungs[-1]
            if known is not None and not last:
                continue
            trial.report(outcome.score, rung)
            if not last and (trial.should_prune() or overdue(self.job)):
                state = TrialState.PRUNED
                break
        self._tell(of, trial, outcome, evaluation.parameters, state)

    def _known(self, of: StudyOf, key: str) -> tuple[Outcome, int] | None:
        """What the whole evaluation of this network gave another strategy of the same seed."""
        from optuna.trial import TrialState

        for other, study in self.studies.items():
            if other == of or other.seed != of.seed:
                continue
            for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                if t.user_attrs.get(OWN, {}).get("key") == key and REPEAT not in t.user_attrs:
                    return outcome_in(t), t.user_attrs[PARAMETERS]
        return None

    def _tell(self, of: StudyOf, trial: "optuna.Trial", outcome: Outcome, parameters: int, state: Any) -> None:
        from optuna.trial import TrialState

        finite = outcome.score if math.isfinite(outcome.score) else None
        trial.set_user_attr(OUTCOME, {**dataclasses.asdict(outcome), "score": finite})
        study = self.studies[of]
        if state == TrialState.COMPLETE:
            study.tell(trial, [outcome.score, float(parameters)] if of.two_objectives else outcome.score)
            return
        if state == TrialState.PRUNED and REPEAT in trial.user_attrs:
            trial.report(outcome.score, self.job.evaluator.rungs[0])
        study.tell(trial, state=state)


def outcome_in(trial: "FrozenTrial") -> Outcome:
    """The outcome of a finished trial."""
    fields = trial.user_attrs[OUTCOME]
    return Outcome(**{**fields, "score": -math.inf if fields["score"] is None else fields["score"]})


def charged(study: "optuna.Study") -> tuple[int, float, float]:
    """Trials, seconds and epochs that a study has been charged."""
    n, seconds, epochs = 0, 0.0, 0.0
    for t in study.get_trials(deepcopy=False):
        outcome = t.user_attrs.get(OUTCOME)
        if outcome is not None and REPEAT not in t.user_attrs and t.state.is_finished():
            n, seconds, epochs = n + 1, seconds + outcome["seconds"], epochs + outcome["epochs"]
    return n, seconds, epochs


def _lose(study: "optuna.Study", trial: "optuna.Trial") -> None:
    """End a trial as if it had never been asked for."""
    from optuna.trial import TrialState

    try:
        trial.set_user_attr(LOST, True)
        study.tell(trial, state=TrialState.FAIL)
    except (DepthscaleError, RuntimeError, ValueError, KeyError):
        return  # the storage is out of reach; whoever resumes finds the trial unfinished
