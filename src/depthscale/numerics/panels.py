"""Gauss–Legendre panels: the one quadrature that everything here is made of.

An integrand is cut at its kinks, at the places where its scale changes, and where the Gaussian weight's does; on each
panel it is analytic and a rule of fixed order is exact to rounding. Panels of many integrals are laid flat in one list
(most candidate cuts fall outside the range and vanish), so a batch costs one call of the integrand.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from depthscale.numerics.estimate import Array

# Cuts of the standard Gaussian, in units of its deviation: on each of these panels ten Gauss points integrate
# exp(−z²/2) times a resolved function to rounding; beyond 9.6 lies a mass of 1e-21.
_HALF = np.array([0.0, 1.4, 2.8, 4.3, 5.9, 7.6, 9.6])
# the same out to where exp(−z²/2) underflows, for integrands that grow faster than a polynomial
_HALF_FAR = np.concatenate([_HALF, np.arange(11.5, 38.6, 1.5)])


def gaussian_cuts(far: bool = False, half: bool = False) -> Array:
    """The cuts of the z axis, ascending; only z ≥ 0 if ``half``; out to 38 instead of 9.6 if ``far``."""
    positive = _HALF_FAR if far else _HALF
    return positive if half else np.concatenate([-positive[:0:-1], positive])


@lru_cache(maxsize=32)
def legendre(n: int) -> tuple[Array, Array]:
    """Nodes and weights of the n-point Gauss–Legendre rule on [0, 1]; both of shape (n,)."""
    x, w = np.polynomial.legendre.leggauss(n)
    return (x + 1) / 2, w / 2


@dataclass(frozen=True)
class Panels:
    """Panels of positive width for a batch of integrals, flat: ``left`` and ``width`` (P,), ``owner`` (P,),
    and ``starts`` (B,), the first panel of each owner.
    """

    left: Array
    width: Array
    owner: NDArray[np.intp]
    starts: NDArray[np.intp]

    def nodes(self, n: int) -> tuple[Array, Array]:
        """Points and weights of the n-point rule on each panel: two arrays (P, n)."""
        x, w = legendre(n)
        return self.left[:, None] + self.width[:, None] * x, self.width[:, None] * w

    def halved(self) -> "Panels":
        """Each panel cut in its middle."""
        half = np.repeat(self.width / 2, 2)
        left = np.repeat(self.left, 2)
        left[1::2] += half[1::2]
        return Panels(left, half, np.repeat(self.owner, 2), self.starts * 2)

    def total(self, values: Array) -> Array:
        """Sums (P, n) contributions to one number per owner, (B,)."""
        return np.asarray(np.add.reduceat(values.ravel(), self.starts * values.shape[1]))


def lay(cuts: Array, lo: float, hi: float) -> Panels:
    """Panels between sorted, clipped cuts. cuts: (B, E), any order; the panels tile [lo, hi] for each of B rows.

    Every row must hold lo and hi among its cuts, or values beyond them, so that no owner is left without a panel.
    """
    edges = np.sort(np.clip(cuts, lo, hi), axis=1)
    width = np.diff(edges, axis=1)
    owner, column = np.nonzero(width > 0)
    starts = np.searchsorted(owner, np.arange(len(edges)))
    return Panels(edges[owner, column], width[owner, column], owner, starts)
