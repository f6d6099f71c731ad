"""What mean-field theory says about the columns of a heat map: depth scales, lengths, the critical point."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from depthscale.errors import TheoryError

Array = NDArray[np.float64]
_CLOSE = 0.01  # of q*: where a length counts as converged
_FARTHEST = 2000


@dataclass(frozen=True)
class Prediction:
    """Per sw2: xi_c (layers), phase, and the depth at which the length is within 1 % of q* for good.

    ``critical``: the sw2 of the critical line at this sb2, nan where there is none.
    """

    sw2: Array
    xi_c: Array
    phase: tuple[str, ...]
    settled: Array
    critical: float


def predict(activation: str, sw2: Array, sb2: float, *, residual: float | None, data_length: float) -> Prediction:
    """The prediction for networks that read inputs of mean square ``data_length``."""
    from depthscale.theory.phase import PHASES, phase_diagram

    branch = {} if residual is None else {"skip": 1.0, "branch": residual}
    sw2 = np.asarray(sw2, dtype=float)
    diagram = phase_diagram(activation, sw2=sw2, sb2=[sb2], **branch)
    q = diagram.q[0]
    settled = np.array(
        [_settled(activation, w, sb2, branch, w * data_length + sb2, goal) for w, goal in zip(sw2, q, strict=True)]
    )
    phase = tuple(PHASES[int(p)] for p in diagram.phase[0])
    return Prediction(sw2, diagram.xi_c[0], phase, settled, _critical(activation, sb2) if residual is None else np.nan)


def _settled(activation: str, sw2: float, sb2: float, branch: dict[str, float], q: float, goal: float) -> float:
    from depthscale.theory.maps import layer_map

    if not np.isfinite(goal) or goal <= 0:
        return np.nan
    one = layer_map(activation, sw2, sb2, **branch)
    depth = 1
    while abs(q / goal - 1) > _CLOSE:
        q = float(one.length(q))
        depth += 1
        if depth > _FARTHEST or not np.isfinite(q):
            return np.nan
    return float(depth)


def _critical(activation: str, sb2: float) -> float:
    from depthscale.theory.critical import critical_point

    try:
        return float(critical_point(activation, sb2=sb2).sw2)
    except TheoryError:
        return np.nan
