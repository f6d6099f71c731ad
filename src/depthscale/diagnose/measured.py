"""What the real model does, laid beside what theory says of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale.diagnose.diagnosis import Diagnosis, Measured

if TYPE_CHECKING:
    from depthscale.capture import Capture


def lay_beside(
    diagnosis: Diagnosis, captured: "Capture", make: Callable[[int], Any] | None = None, seeds: int = 1
) -> Diagnosis:
    """The diagnosis with moments and gradients measured on ``seeds`` modules ``make(seed)``, on white noise.

    Without ``make`` the captured module is run on the weights that it has. Raises TrainingError where a value is not
    finite.
    """
    from depthscale.measure.moments import measure

    module = captured.program.module
    found = measure(captured, make or (lambda seed: module), seeds=seeds)
    rows = {}
    for name, q in found.q.items():
        g = found.g.get(name)
        with np.errstate(divide="ignore"):
            logs = np.log(q)
            back = float(np.exp(np.log(g).mean())) if g is not None else float("nan")
        spread = float(logs.std(ddof=1)) if len(q) > 1 else float("nan")
        rows[name] = Measured(float(np.exp(logs.mean())), back, spread, len(q))
    return replace(diagnosis, measured=rows)
