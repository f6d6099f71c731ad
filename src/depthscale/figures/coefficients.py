"""The number of coefficients of a polynomial, counted one by one and by formula."""

import math
from typing import TYPE_CHECKING

from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import INK, SECOND, SERIES, picture
from depthscale.foundations.monomials import coefficients, exponents

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

DEGREES = (1, 2, 3, 5, 10)
GPT3 = 1.75e11  # weights (Brown et al. 2020)
MNIST = 784  # pixels


def run(quick: bool, seed: int, say: Say) -> Data:
    """Lists the monomials where that can be done, and evaluates the formula everywhere."""
    most = 6 if quick else 9
    pairs = [(n, d) for n in range(1, most) for d in range(most)]
    say("listing monomials")
    listed = [len({tuple(e) for e in exponents(n, d)}) for n, d in pairs]
    numbers = sorted({round(10 ** (i / 4)) for i in range(17)} | {MNIST})
    return {
        "listed_variables": [n for n, _ in pairs],
        "listed_degree": [d for _, d in pairs],
        "listed": listed,
        "formula": [coefficients(n, d) for n, d in pairs],
        "variables": numbers,
        "curves": {str(d): [float(coefficients(n, d)) for n in numbers] for d in DEGREES},
        "mnist_degree_5": float(coefficients(MNIST, 5)),
        "growth": {str(d): math.log10(coefficients(10**6, d) / coefficients(10**5, d)) for d in DEGREES},
    }


def judge(data: Data) -> Verdict:
    """Holds if counting agrees with the formula, Q grows as N^d, and MNIST at degree 5 is out of reach."""
    differ = sum(a != b for a, b in zip(data["listed"], data["formula"], strict=True))
    if differ:
        return Verdict("fails", f"{differ} of {len(data['listed'])} counts differ from C(N + d, d), expected 0")
    off = max(abs(data["growth"][str(d)] - d) for d in DEGREES)
    if off > 0.01:
        return Verdict("fails", f"the power of N is off the degree by up to {off:.3g}, expected at most 0.01")
    q = data["mnist_degree_5"]
    return Verdict(
        "holds" if q > GPT3 else "fails",
        f"{len(data['listed'])} of {len(data['listed'])} counts equal C(N + d, d), Q grows as N^d to {off:.1g}, and "
        f"Q(784, 5) = {q:.3g} against {GPT3:.3g} weights of GPT-3",
    )


def draw(data: Data) -> "Picture":
    """Q against N for several degrees."""
    figure, (axes,) = picture()
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    for d, colour in zip(DEGREES, SERIES, strict=False):
        axes.loglog(data["variables"], data["curves"][str(d)], color=colour, label=f"degree {d}")
        axes.annotate(f"d = {d}", (data["variables"][-1], data["curves"][str(d)][-1]), xytext=(4, 0),
                      textcoords="offset points", va="center", color=colour, bbox=paper)  # fmt: skip
    axes.axhline(GPT3, color=INK, linewidth=0.8, linestyle="--")
    axes.annotate("weights of GPT-3", (1, GPT3), xytext=(2, 3), textcoords="offset points")
    axes.axvline(MNIST, color=INK, linewidth=0.8, linestyle=":")
    axes.annotate("pixels of an MNIST digit", (MNIST, 1.5), xytext=(-4, 0), textcoords="offset points", ha="right")
    axes.plot(MNIST, data["mnist_degree_5"], "o", color=SECOND)
    axes.set_xlabel("variables N")
    axes.set_ylabel("coefficients Q = C(N + d, d)")
    axes.set_ylim(1, 1e36)
    return figure


FIGURE = Figure(
    name="coefficients",
    title="The coefficients of a polynomial explode",
    claim="A polynomial of degree d in N variables has C(N + d, d) coefficients, which grows as N^d: already at degree "
    "5 a polynomial of the 784 pixels of a digit has more of them than GPT-3 has weights.",
    source="Combinatorics: stars and bars; the curse of dimensionality, Bellman 1961",
    order=20,
    run=run,
    judge=judge,
    draw=draw,
)
