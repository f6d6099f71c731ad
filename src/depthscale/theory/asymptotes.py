"""What an activation is where its inputs are so wide that only its two slopes are left.

GELU, SiLU, softplus, ELU and their kind are ramps far from the origin. At laws of standard deviation 1e12 the bend is
seen by one input in 1e12, and the closed forms of the ramp are right to rounding, where panels would have to cut the
function on every octave in two dimensions.
"""

import numpy as np

from depthscale.numerics.estimate import Array
from depthscale.theory.closed_forms import ClosedForms, ramp
from depthscale.theory.named import Elementwise

WIDE = 1e24  # variance from which a function is looked at far out
_POINTS = np.array([1e-4, 1e-2, 1.0, 8.0])  # in standard deviations
_SAME = 1e-7  # relative difference of the slopes there: an offset of b moves the nearest by b / (1e-4 s)


def ramp_far_out(f: Elementwise, q: float, m: float = 0.0) -> ClosedForms | None:
    """The forms of the ramp that f is under N(m, q), to a relative error of about 1e-12 of E f²; None where f is none.

    None for q < 1e24, for functions that grow otherwise, and for those that do not grow (their slopes are decided near
    the origin at any width).
    """
    if q < WIDE or not np.isfinite(q):
        return None
    x = _POINTS * np.sqrt(q)
    x[-1] += abs(m)
    with np.errstate(all="ignore"):
        slopes: Array = np.asarray(f(np.concatenate([-x, x]))).reshape(2, -1) / np.stack([-x, x])
    size = float(np.abs(slopes).max())
    if not np.isfinite(slopes).all() or size < _SAME or np.ptp(slopes, axis=1).max() > _SAME * size:
        return None
    negative, positive = (0.0 if abs(s) < _SAME * size else float(s) for s in slopes[:, -1])
    return ramp(negative, positive)
