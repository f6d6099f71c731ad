"""Closed Gaussian averages of piecewise linear activations: hard tanh, ReLU6, hard sigmoid, hard shrinkage …

With u = m + √q z, the activation is a straight line, that of the piece which holds m, plus what every break adds on the
side away from m: a ramp and, where φ jumps, a step,

    φ = a + b z + Σ_j [α_j √q (σ_j z − h_j)₊ + γ_j 1(σ_j z > h_j)],      h_j = |b_j − m|/√q,  σ_j the side,

so that nothing cancels for narrow Gaussians. Pairs of ramps and steps are moments of a truncated bivariate normal
(Rosenbaum 1961) with P(z1 > h, z2 > k) by Owen's T function (1956). For Gaussians much wider than the breaks lie apart
ramps cancel one another: the pair forms lose digits like q over the squared distance of the breaks.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy import special

from depthscale.numerics.estimate import Array
from depthscale.theory.closed_forms import ClosedForms

_ROOT_2PI = float(np.sqrt(2 * np.pi))
_WIDE = 1e4  # q over the squared extent of the breaks, up to which pairs keep about twelve digits


class Line(NamedTuple):
    """One piece: slope · x + shift."""

    slope: float
    shift: float


def _density(z: Array) -> Array:
    return np.asarray(np.exp(-0.5 * z * z) / _ROOT_2PI)


def _between(lo: Array, hi: Array) -> Array:
    """P(lo < z < hi) without cancellation in either tail or around 0."""
    root = np.sqrt(2.0)
    middle = (special.erf(hi / root) - special.erf(lo / root)) / 2
    right, left = special.ndtr(-lo) - special.ndtr(-hi), special.ndtr(hi) - special.ndtr(lo)
    return np.asarray(np.where(lo > 1, right, np.where(hi < -1, left, middle)))


def upper_orthant(h: Array, k: Array, rho: Array) -> Array:
    """P(z1 > h, z2 > k) for h, k ≥ 0 and standard Gaussians of correlation ρ, by Owen's T."""
    s = np.maximum(np.sqrt((1 - rho) * (1 + rho)), 1e-150)
    one, two = np.maximum(h, 1e-150), np.maximum(k, 1e-150)
    with np.errstate(over="ignore"):
        tails = special.owens_t(one, (two - rho * one) / (one * s)) + special.owens_t(
            two, (one - rho * two) / (two * s)
        )
    return np.asarray(np.maximum((special.ndtr(-one) + special.ndtr(-two)) / 2 - tails, 0.0))


def piecewise_linear(breaks: tuple[float, ...], lines: tuple[Line, ...]) -> ClosedForms:
    """The averages of the function that is lines[k] between breaks[k − 1] and breaks[k] (ascending)."""
    extent = breaks[-1] - breaks[0] if len(breaks) > 1 else np.inf
    return ClosedForms(
        mean=lambda q, m: _singles(breaks, lines, q, m)[0],
        second=lambda q, m: _singles(breaks, lines, q, m)[1],
        slope_second=lambda q, m: _singles(breaks, lines, q, m)[2],
        growth=lambda q, m: _growth(breaks, lines, q, m),
        pair=lambda q, c, m: _pair(breaks, lines, q, c, m),
        slope_pair=lambda q, c, m: _slope_pair(breaks, lines, q, c, m),
        pairs_up_to=_WIDE * extent * extent,
        costly=True,
    )


def _singles(breaks: tuple[float, ...], lines: tuple[Line, ...], q: Array, m: Array) -> tuple[Array, Array, Array]:
    """E φ, E φ² and E φ'² by truncated moments of every piece."""
    q, m = np.broadcast_arrays(np.asarray(q, dtype=np.float64), np.asarray(m, dtype=np.float64))
    s = np.sqrt(np.maximum(q, 1e-300))
    edges = [np.full(q.shape, -np.inf), *[(b - m) / s for b in breaks], np.full(q.shape, np.inf)]
    mean, second, slope = (np.zeros(q.shape) for _ in range(3))
    for line, lo, hi in zip(lines, edges[:-1], edges[1:], strict=True):
        share = _between(lo, hi)
        first = _density(lo) - _density(hi)
        with np.errstate(invalid="ignore"):
            square = share + np.nan_to_num(lo * _density(lo)) - np.nan_to_num(hi * _density(hi))
        a, b = line.slope * m + line.shift, line.slope * s
        mean = mean + a * share + b * first
        second = second + a * a * share + 2 * a * b * first + b * b * square
        slope = slope + line.slope**2 * share
    return mean, second, slope


def _growth(breaks: tuple[float, ...], lines: tuple[Line, ...], q: Array, m: Array) -> Array:
    """d E φ²/dq = E φ'² plus half of what the kinks and jumps of φ² add to its second derivative."""
    out = _singles(breaks, lines, q, m)[2]
    s = np.sqrt(q)
    for b, before, after in zip(breaks, lines[:-1], lines[1:], strict=True):
        left, right = before.slope * b + before.shift, after.slope * b + after.shift
        z = (b - m) / s
        bend = 2 * (right * after.slope - left * before.slope)
        out = out + (bend / s + (right**2 - left**2) * z / q) * _density(z) / 2
    return np.asarray(out)


class _Atom(NamedTuple):
    """What a break adds: α (σ x − …)₊ + γ step, at σ z > h."""

    side: float
    alpha: float
    gamma: float
    h: Array


def _atoms(breaks: tuple[float, ...], lines: tuple[Line, ...], q: Array, m: float) -> tuple[Line, list[_Atom]]:
    """The line around m, and the atoms of all breaks."""
    home = int(np.searchsorted(breaks, m))
    s = np.sqrt(np.maximum(q, 1e-300))
    found = []
    for k, (b, before, after) in enumerate(zip(breaks, lines[:-1], lines[1:], strict=True)):
        side = 1.0 if k >= home else -1.0
        jump = (after.slope - before.slope) * b + after.shift - before.shift
        found.append(_Atom(side, after.slope - before.slope, side * jump, np.abs(b - m) / s))
    return lines[home], found


def _pair(breaks: tuple[float, ...], lines: tuple[Line, ...], q: Array, c: Array, m: Array) -> Array:
    """E[φ(u1) φ(u2)]."""
    q, c, m = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (q, c, m)))
    out = np.empty(q.shape)
    for mean in np.unique(m):
        at = m == mean
        out[at] = _pair_at(breaks, lines, q[at], c[at], float(mean))
    return out


def _pair_at(breaks: tuple[float, ...], lines: tuple[Line, ...], q: Array, c: Array, m: float) -> Array:
    home, atoms = _atoms(breaks, lines, q, m)
    s = np.sqrt(q)
    a, b = home.slope * m + home.shift, home.slope * s
    out = a * a + b * b * c
    for atom in atoms:  # with the line: Stein's lemma gives E[z1 g(z2)] = c E g'
        tail, density = special.ndtr(-atom.h), _density(atom.h)
        ramp, jump = atom.alpha * s, atom.gamma
        out = out + 2 * a * (ramp * (density - atom.h * tail) + jump * tail)
        out = out + 2 * b * c * atom.side * (ramp * tail + jump * density)
    for i, j in itertools.combinations_with_replacement(range(len(atoms)), 2):
        out = out + (1 if i == j else 2) * _together(atoms[i], atoms[j], s, c)
    return np.asarray(out)


def _together(one: _Atom, two: _Atom, s: Array, c: Array) -> Array:
    """E of one atom of z1 times the other of z2, the mean of both orders."""
    h, k, rho = one.h, two.h, one.side * two.side * c
    root = np.maximum(np.sqrt((1 - rho) * (1 + rho)), 1e-150)
    both = upper_orthant(h, k, rho)
    first = _density(h) * special.ndtr((rho * h - k) / root)
    second = _density(k) * special.ndtr((rho * k - h) / root)
    ramp_one, ramp_two = one.alpha * s, two.alpha * s
    out = one.gamma * two.gamma * both
    if one.alpha and two.alpha:
        exponent = ((h - k) ** 2 + 2 * h * k * (1 - rho)) / (2 * root**2)
        corner = np.sqrt((1 - rho) * (1 + rho)) / (2 * np.pi) * np.exp(-exponent)
        out = out + ramp_one * ramp_two * ((rho + h * k) * both - k * first - h * second + corner)
    if one.alpha and two.gamma:
        out = out + ramp_one * two.gamma * (first + rho * second - h * both)
    if two.alpha and one.gamma:
        out = out + ramp_two * one.gamma * (second + rho * first - k * both)
    return np.asarray(out)


def _slope_pair(breaks: tuple[float, ...], lines: tuple[Line, ...], q: Array, c: Array, m: Array) -> Array:
    """E[φ'(u1) φ'(u2)], φ' almost everywhere."""
    q, c, m = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (q, c, m)))
    out = np.empty(q.shape)
    for mean in np.unique(m):
        at = m == mean
        home, atoms = _atoms(breaks, lines, q[at], float(mean))
        total = np.full(int(at.sum()), home.slope**2)
        for one in atoms:
            total = total + 2 * home.slope * one.side * one.alpha * special.ndtr(-one.h)
            for two in atoms:
                sign = one.side * two.side
                total = total + sign * one.alpha * two.alpha * upper_orthant(one.h, two.h, sign * c[at])
        out[at] = total
    return out
