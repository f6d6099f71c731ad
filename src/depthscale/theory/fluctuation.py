"""Fourth moments of elementwise functions, which say how a mean over finitely many units fluctuates.

A scale-invariant function has them, and its other averages, at every variance from those at one.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from depthscale.numerics.estimate import Array
from depthscale.theory import copula
from depthscale.theory.activations import Activation
from depthscale.theory.moments import State


class Unit(NamedTuple):
    """E φ, E φ², E φ'² and E φ⁴ / E[φ²]² for u ~ N(0, 1), of a scale-invariant φ."""

    mean: float
    second: float
    slope: float
    fourth: float


@lru_cache(maxsize=256)
def at_unit(act: Activation) -> Unit | None:
    """The averages that give those at every variance; None where φ is not scale-invariant or is nothing."""
    if not act.homogeneous or not float(act.second_moment(1.0)) > 0:
        return None
    found = (act.mean(1.0), act.second_moment(1.0), act.derivative_second_moment(1.0))
    mean, second, slope = map(float, found)
    return Unit(mean, second, slope, fourth(act, 0.0, 1.0))


def fourth(act: Activation, m: float, v: float) -> float:
    """E[φ⁴] / E[φ²]² for u ~ N(m, v), to a per mille: only error bars depend on it."""
    z, w = _line()
    with np.errstate(all="ignore"):
        y2 = act.f(m + math.sqrt(v) * z) ** 2
    second = float(w @ y2)
    return float(w @ (y2 * y2)) / max(second * second, 1e-300)


@lru_cache(maxsize=1)
def _line() -> tuple[Array, Array]:
    """Points and weights of a plain sum over a standard Gaussian."""
    z = np.linspace(-8.0, 8.0, 161)
    w = np.exp(-z * z / 2)
    return z, w / w.sum()


@lru_cache(maxsize=1024)
def slope_fourth_of(act: Activation, x: State) -> float:
    """``slope_fourth`` at the law of x."""
    if x.average == 0 and act.homogeneous:  # whatever the variance
        return _slope_fourth_at_unit(act)
    return slope_fourth(act, float(x.average), max(x.length - x.average**2, 0.0))


@lru_cache(maxsize=256)
def _slope_fourth_at_unit(act: Activation) -> float:
    return slope_fourth(act, 0.0, 1.0)


def slope_fourth(act: Activation, m: float, v: float) -> float:
    """E[φ'⁴] / E[φ'²]² for u ~ N(m, v), to a per mille: only error bars depend on it."""
    with np.errstate(all="ignore"):
        squares = act.derivative(m + math.sqrt(v) * copula.nodes()) ** 2
    return copula.average(squares**2) / max(copula.average(squares) ** 2, 1e-300)
