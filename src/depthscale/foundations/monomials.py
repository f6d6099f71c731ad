"""Monomials: how many a polynomial has, which they are, and their values.

A polynomial of degree d in N variables is a sum over the monomials x^e = x_1^e_1 … x_N^e_N, |e| = e_1 + … + e_N ≤ d.
There are Q(N, d) = C(N + d, d) of them: as many as ways to put d stones on N + 1 squares, the extra square being 1.
"""

import math
from itertools import combinations_with_replacement

import numpy as np
import psutil
from numpy.typing import NDArray

from depthscale.errors import DepthscaleError

Array = NDArray[np.float64]
_WORD = 8  # bytes of a coefficient
_SHARE = 0.5  # of the free memory that one matrix may take


def coefficients(variables: int, degree: int) -> int:
    """Q(N, d) = C(N + d, d): the number of coefficients of a polynomial of degree d in N variables, exactly."""
    for name, value in (("variables", variables), ("degree", degree)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
            raise DepthscaleError(f"expected {name} to be a whole number of at least 0, got {value!r}")
    return math.comb(int(variables) + int(degree), int(degree))


def exponents(variables: int, degree: int) -> NDArray[np.intp]:
    """All exponents e with |e| ≤ degree, (Q, N), by total degree; the constant first."""
    found = np.zeros((coefficients(variables, degree), variables), np.intp)
    row = 1
    for total in range(1, degree + 1):
        for chosen in combinations_with_replacement(range(variables), total):
            np.add.at(found[row], list(chosen), 1)
            row += 1
    return found


def monomials(x: Array, degree: int) -> Array:
    """The values of all monomials, (rows, Q), for points ``x`` (rows, N); columns in the order of ``exponents``.

    Each monomial is one of a degree less times one variable, so this takes one multiplication a value.
    """
    rows, variables = x.shape
    out = np.empty((rows, coefficients(variables, degree)))
    out[:, 0] = 1.0
    # the monomials of one total degree that contain no variable before k stand from begins[k] to the end of the degree
    begins, end = np.zeros(variables, np.intp), 1
    for _ in range(degree):
        new_begins, column = np.empty_like(begins), end
        for k in range(variables):
            new_begins[k] = column
            block = out[:, begins[k] : end]
            np.multiply(block, x[:, k : k + 1], out=out[:, column : column + block.shape[1]])
            column += block.shape[1]
        begins, end = new_begins, column
    return out


def gradients(x: Array, degree: int) -> Array:
    """The derivatives of all monomials by each variable, (rows, Q, N): ∂x^e/∂x_k = e_k x^(e − 1_k)."""
    powers = exponents(x.shape[1], degree)
    place = {tuple(e): column for column, e in enumerate(powers.tolist())}
    values = monomials(x, degree)
    out = np.zeros((*values.shape, x.shape[1]))
    for column, e in enumerate(powers.tolist()):
        for k, power in enumerate(e):
            if power:
                lower = place[(*e[:k], power - 1, *e[k + 1 :])]
                out[:, column, k] = power * values[:, lower]
    return out


def refuse_absurd(rows: int, variables: int, degree: int, *, copies: int = 3, limit: int | None = None) -> int:
    """Q, if the matrix of ``rows`` × Q and its working ``copies`` fit into half of the free memory (or ``limit``).

    Raises DepthscaleError, before anything is allocated, with the largest degree that would fit.
    """
    free = psutil.virtual_memory().available * _SHARE if limit is None else float(limit)
    words = free / (max(rows, 1) * _WORD * copies)  # coefficients that fit

    def fits(d: int) -> bool:
        return _magnitude(variables, d) < 15 and coefficients(variables, d) <= words

    if fits(degree):
        return coefficients(variables, degree)
    low, high = -1, degree  # bisect for the largest degree that fits
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    q = _magnitude(variables, degree)
    count = f"{coefficients(variables, degree):,}" if q < 18 else f"about 10^{q:.0f}"
    raise DepthscaleError(
        f"a polynomial of degree {degree} in {variables} variables has {count} coefficients, which with {rows:,} rows "
        f"do not fit into the {free / 2**30:.3g} GiB of memory that may be used; "
        + (f"the largest degree that does is {low}" if low >= 0 else "take fewer rows")
    )


def _magnitude(variables: int, degree: int) -> float:
    """log10 Q(N, d), quickly."""
    n, d = variables, degree
    return (math.lgamma(n + d + 1) - math.lgamma(d + 1) - math.lgamma(n + 1)) / math.log(10)
