"""What becomes of trials whose worker has died: lost, and queued again."""

import dataclasses
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from depthscale.search.job import Owner
from depthscale.search.strategy import LOST

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

OWN, OUTCOME, ATTEMPT = "own", "outcome", "attempt"
RETRIES = 3  # times that a network may take its worker along before it counts as failed
REAP_SECONDS = 2.0  # between looks
GRACE = timedelta(seconds=10)  # a trial that nobody owns yet is being drawn, for so long at most


def reap(studies: "dict[Any, optuna.Study]", dead: "set[str] | None" = None) -> int:
    """Trials whose worker is gone are lost and queued again; how many.

    dead: names of workers that are known to have died; processes of this machine are looked up besides.
    """
    from optuna.trial import TrialState

    lost = 0
    for study in studies.values():
        for t in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            own = t.user_attrs.get(OWN)
            if own is None:
                gone = t.datetime_start is None or datetime.now() - t.datetime_start > GRACE
            else:
                owner = Owner(**{f.name: own[f.name] for f in dataclasses.fields(Owner)})
                gone = owner.gone or (dead is not None and owner.worker in dead)
            if gone and _give_up(study, t):
                lost += 1
    return lost


def _give_up(study: "optuna.Study", trial: "FrozenTrial") -> bool:
    """Mark a trial as lost and queue it again; False where somebody else did."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    storage = study._storage
    attempt = int(trial.user_attrs.get(ATTEMPT, 1))
    try:
        if attempt < RETRIES:
            storage.set_trial_user_attr(trial._trial_id, LOST, True)
        else:
            why = f"its worker died {attempt} times"
            failed = {"score": None, "seconds": 0.0, "epochs": 0.0, "failed": why}
            storage.set_trial_user_attr(trial._trial_id, OUTCOME, failed)
        if not storage.set_trial_state_values(trial._trial_id, TrialState.FAIL):
            return False
    except (UpdateFinishedTrialError, KeyError):
        return False
    if attempt < RETRIES and OWN in trial.user_attrs:
        study.enqueue_trial(trial.params, user_attrs={ATTEMPT: attempt + 1})
    return True
