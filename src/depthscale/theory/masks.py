"""Gradients that pass two activations in a row along a shortcut: their slopes are not independent.

In x' = f(φ(h) + b) with b from a branch, the unit that was active in φ(h) is likely active in f as well, so what flows
back along the shortcut and through φ carries E[f'² φ'²], not the product of the averages: for post-activation
residual networks of ReLUs a quarter more on the shortcut's part. A batch normalisation of φ(h) in between changes
nothing of that.

The same holds where each channel is convolved on its own: of the K terms of ψ's argument one is a function of the
very entry that φ' is taken at. For ReLUs that averages out over the signs of weights, for smooth functions it does not:
both slopes grow with the size of their arguments.
"""

from functools import lru_cache

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
    """E[f'φ' f'φ'] / (E[f'f'] E[φ'φ']) by class of h, for f(total), total = x + branch, x = φ(h) or affine in it."""
    f, phi = averages_of(outer), averages_of(inner)
    values = _values(h)
    rest = max((total.length - total.average**2) - (x.length - x.average**2), 0.0)
    z, weights = _line()
    b = total.average - x.average + np.sqrt(rest) * z
    with np.errstate(all="ignore"):
        some, times = copula.runs(phi.f(values) if x.law is None else x.law)  # a ramp is 0 for half of them
        slopes = f.derivative((some[:, None] + b).ravel()).reshape(len(some), len(b))
        own = phi.derivative(values)
    first, second = (np.repeat(m @ weights, times) for m in (slopes, slopes * slopes))
    near = _ratio(copula.average(second * own**2), copula.average(second), copula.average(own**2))
    far = _ratio(copula.average(first * own), copula.average(first), copula.average(own)) ** 2
    _, _, rho = standard(h)
    rho = h.kappa if h.kappa is not None else rho
    return np.asarray(far + (near - far) * np.clip(rho, 0.0, 1.0))


def depthwise_agreement(outer: ops.Activation, inner: ops.Activation, h: State, taps: int, kurtosis: float) -> Array:
    """The same, averaged over taps, for ψ = ``outer`` of a normalised sum of ``taps`` terms w φ(h), one of them ours.

    y = a φ̃ + √(1 − a²) ξ with φ̃ = φ(h) standardised and a = w/|w|, of which the gradient carries a² again: the
    average is E[taps a² …]. kurtosis: E[w⁴]/E[w²]² of the weights.
    """
    psi, phi = averages_of(outer), averages_of(inner)
    values = _values(h)
    with np.errstate(all="ignore"):
        own, shown = phi.derivative(values), phi.f(values)
        shown = shown - copula.average(shown)
        size = np.sqrt(copula.average(shown * shown))
        if not size > 0:
            return np.ones(h.q.shape)
        some, times = copula.runs(shown / size)
        z, gauss = _line()
        base = psi.derivative(z)
        near = far = 0.0
        for a, share in zip(*_shares(taps, kurtosis), strict=True):
            for sign in (-1.0, 1.0):
                y = sign * a * some[:, None] + np.sqrt(1 - a * a) * z
                slopes = psi.derivative(y.ravel()).reshape(y.shape)
                first, second = (np.repeat(m @ gauss, times) for m in (slopes, slopes * slopes))
                near += share / 2 * copula.average(second * own**2)
                far += share / 2 * copula.average(first * own) ** 2
    near = _ratio(near, float(base**2 @ gauss), copula.average(own**2))
    far = _ratio(far, float(base @ gauss) ** 2, copula.average(own) ** 2)
    _, _, rho = standard(h)
    rho = h.kappa if h.kappa is not None else rho
    return np.asarray(far + (near - far) * np.clip(rho, 0.0, 1.0))


@lru_cache(maxsize=64)
def _shares(taps: int, kurtosis: float) -> tuple[Array, Array]:
    """Values of a = |w|/√Σw² and their weights in E[taps a² …], which add up to one.

    a² is taken as Beta with mean 1/taps and E[a⁴] = κ/(taps (taps + κ − 1)): exact for Gaussian weights.
    """
    from scipy.special import roots_jacobi

    mean, square = 1.0 / taps, kurtosis / (taps * (taps + kurtosis - 1.0))
    total = (mean - square) / (square - mean * mean)  # α + β
    x, w = roots_jacobi(8, total * (1 - mean) - 1.0, total * mean)  # times a²: α + 1
    return np.sqrt((1 + x) / 2), np.asarray(w / w.sum())


@lru_cache(maxsize=1)
def _line() -> tuple[Array, Array]:
    """Points and weights of a sum over a standard Gaussian: symmetrical, and none at 0."""
    z = np.linspace(-6.0, 6.0, 60)
    weights = np.exp(-(z**2) / 2)
    return z, weights / weights.sum()


def _ratio(both: float, one: float, other: float) -> float:
    return both / (one * other) if one * other > 1e-12 else 1.0


def bonus(g: State, h: State, agreement: Array) -> State:
    """What is added to g, of mean zero: g (agreement − 1)."""
    a, b = aligned(g, State(h.axes, np.asarray(0.0), agreement - 1.0))
    return state(a.axes, a.q * b.q)
