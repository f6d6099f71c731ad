"""Gradients that pass two activations in a row along a shortcut: their slopes are not independent.

In x' = f(φ(h) + b) with b from a branch, the unit that was active in φ(h) is likely active in f as well, so what flows
back along the shortcut and through φ carries E[f'² φ'²], not the product of the averages: for post-activation
residual networks of ReLUs a quarter more on the shortcut's part.
"""

import numpy as np

from depthscale.graph import ops
from depthscale.numerics.estimate import Array
from depthscale.theory import copula
from depthscale.theory.align import aligned
from depthscale.theory.forward_elementwise import averages_of, standard
from depthscale.theory.moments import State, state


def _values(x: State) -> Array:
    """x at the nodes of its standard Gaussian."""
    if x.law is not None:
        return x.law
    m, v, _ = standard(x)
    return np.asarray(m + np.sqrt(v) * copula.nodes())


def slope_agreement(outer: ops.Activation, total: State, inner: ops.Activation, h: State, x: State) -> Array:
    """E[f'φ' f'φ'] / (E[f'f'] E[φ'φ']) by class of h, for f(total) with total = x + branch and x = φ(h)."""
    f, phi = averages_of(outer), averages_of(inner)
    values = _values(h)
    rest = max((total.length - total.average**2) - (x.length - x.average**2), 0.0)
    z = np.linspace(-6.0, 6.0, 60)  # symmetrical, and not at 0
    b = total.average - x.average + np.sqrt(rest) * z
    weights = np.exp(-(z**2) / 2)
    weights = weights / weights.sum()
    with np.errstate(all="ignore"):
        some, times = copula.runs(phi.f(values))  # a ramp is 0 for half of them
        slopes = f.derivative((some[:, None] + b).ravel()).reshape(len(some), len(b))
        own = phi.derivative(values)
    first, second = (np.repeat(m @ weights, times) for m in (slopes, slopes * slopes))
    near = _ratio(copula.average(second * own**2), copula.average(second), copula.average(own**2))
    far = _ratio(copula.average(first * own), copula.average(first), copula.average(own)) ** 2
    _, _, rho = standard(h)
    rho = h.kappa if h.kappa is not None else rho
    return np.asarray(far + (near - far) * np.clip(rho, 0.0, 1.0))


def _ratio(both: float, one: float, other: float) -> float:
    return both / (one * other) if one * other > 1e-12 else 1.0


def bonus(g: State, h: State, agreement: Array) -> State:
    """What is added to g, of mean zero: g (agreement − 1)."""
    a, b = aligned(g, State(h.axes, np.asarray(0.0), agreement - 1.0))
    return state(a.axes, a.q * b.q)
