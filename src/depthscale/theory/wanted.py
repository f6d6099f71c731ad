"""Which weights give a network the depth one wants.

A correlation decays over xi_c layers, and networks were seen to train up to about 6 xi_c of them (an empirical rule:
Schoenholz et al. 2017). Turned round: for a depth L, the slope of the correlation map at c* must be exp(−6/L) or
nearer to 1, which bounds sw2 on either side of the critical line.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscale.errors import TheoryError
from depthscale.numerics.estimate import Array
from depthscale.numerics.gaussian import number
from depthscale.numerics.roots import all_roots, refine
from depthscale.theory.activations import Activation
from depthscale.theory.critical import critical_point
from depthscale.theory.maps import Q_GRID, layer_map
from depthscale.theory.phase import TRAINABLE, solve_cells
from depthscale.theory.resolve import activation as resolve


@dataclass(frozen=True)
class WeightRange:
    """The range of sw2 that carries signals ``depth`` layers deep at this sb2: from ``ordered`` to ``chaotic`` (inf
    where chaos never gets too strong), around ``critical``.
    """

    activation: str
    depth: float
    sb2: float
    ordered: float
    critical: float
    chaotic: float


def weights_for_depth(activation: Any, depth: float, sb2: float = 0.0) -> WeightRange:
    """The sw2 between which 6 xi_c ≥ depth, at a bias variance sb2 ≥ 0.

    Raises TheoryError where the activation has no critical point at this sb2 (see ``critical_point``).
    """
    act = resolve(activation)
    depth, sb2 = number("depth", depth), number("sb2", sb2)
    if not (np.isfinite(depth) and depth > 0):
        raise TheoryError(f"depth must be a positive number of layers, but got {depth}.")
    centre = float(critical_point(act, sb2=sb2).sw2)
    slope = float(np.exp(-TRAINABLE / depth))
    if act.homogeneous:
        # beyond the critical line lengths explode; the angle between inputs no longer depends on sw2
        return WeightRange(str(act), depth, sb2, centre * slope, centre, centre)
    ordered = _ordered(act, slope, sb2, centre)
    return WeightRange(str(act), depth, sb2, ordered, centre, _chaotic(act, slope, sb2, centre))


def _ordered(act: Activation, slope: float, sb2: float, centre: float) -> float:
    """The largest sw2 below the critical one with chi1 = slope: sw2 = slope/E[φ'²] at a q with q = sw2 E[φ²] + sb2."""
    if sb2 == 0 and abs(float(act(0.0))) == 0.0:
        return slope / float(act.derivative_second_moment(0.0))

    def gap(q: Array) -> Array:
        table = act.averages(q)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.asarray(1 - slope * table[:, 1] / (table[:, 2] * q) - sb2 / q)

    roots = all_roots(gap, Q_GRID)
    sw2 = slope / act.derivative_second_moment(roots) if len(roots) else np.zeros(0)
    below = sw2[sw2 < centre]
    return float(below.max()) if len(below) else 0.0


def _chaotic(act: Activation, slope: float, sb2: float, centre: float) -> float:
    """The smallest sw2 above the critical one where the slope of the correlation map at c* has fallen to ``slope``."""
    sample = layer_map(act, 1.0, 0.0)

    def gap(sw2: Array) -> Array:
        cells = solve_cells(sample, sw2, np.full_like(sw2, sb2), 1.0)
        return np.asarray(np.where(np.isfinite(cells["slope"]), cells["slope"], 0.0) - slope)

    factors = centre * (1 + np.geomspace(1e-6, 100.0, 60))
    values = gap(factors)
    fallen = np.flatnonzero(values < 0)
    if not len(fallen):
        return float("inf")
    k = int(fallen[0])
    if k == 0:
        return centre
    lo, hi = factors[k - 1 : k], factors[k : k + 1]
    return float(refine(gap, lo, hi, values[k - 1 : k], values[k : k + 1])[0])
