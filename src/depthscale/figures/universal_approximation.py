"""One hidden layer: the sup-norm error against width, for a smooth, a cusped and a rough function."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import INK, SERIES, picture
from depthscale.foundations.approximator import approximate, sup_error

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

Array = NDArray[np.float64]
TERMS = 12  # of Weierstrass's sum
ROUGHNESS = math.log(2) / math.log(3)  # Hölder exponent of Σ 2⁻ⁿ cos(3ⁿ π x)


def smooth(x: Array) -> Array:
    """Sin 2πx: the error falls as width⁻²."""
    found: Array = np.sin(2 * np.pi * x)
    return found


def cusped(x: Array) -> Array:
    """√x: the slope is infinite at 0, the error falls as width^(−1/2)."""
    found: Array = np.sqrt(x)
    return found


def rough(x: Array) -> Array:
    """Weierstrass's function, nowhere differentiable in the limit: the error falls as width^(−log 2 / log 3)."""
    found: Array = sum((0.5**n * np.cos(3**n * np.pi * x) for n in range(TERMS)), np.zeros_like(x))
    return found


FUNCTIONS = {"smooth": (smooth, 2.0), "cusped": (cusped, 0.5), "rough": (rough, ROUGHNESS)}


def run(quick: bool, seed: int, say: Say) -> Data:
    """Builds the networks of Cybenko's theorem explicitly and measures their largest error on [0, 1]."""
    widths = [2**k for k in range(1, 10 if quick else 12)]
    data: Data = {"width": widths, "exponent_expected": {n: e for n, (_, e) in FUNCTIONS.items()}}
    grid = np.linspace(0, 1, 1501)
    data["grid"] = grid.tolist()
    for name, (f, _) in FUNCTIONS.items():
        say(name)
        data[f"error_{name}"] = [sup_error(f, approximate(f, 0, 1, w), 0, 1) for w in widths]
        data[f"steps_{name}"] = [sup_error(f, approximate(f, 0, 1, w, "step"), 0, 1) for w in widths]
        data[f"f_{name}"] = f(grid).tolist()
        data[f"net_{name}"] = approximate(f, 0, 1, 16)(grid).tolist()
    data["exponent"] = {n: _slope(widths, data[f"error_{n}"]) for n in FUNCTIONS}
    return data


def _slope(widths: list[int], errors: list[float]) -> float:
    """Minus the slope of log error against log width, over the wider half."""
    half = len(widths) // 2
    return -float(np.polyfit(np.log(widths[half:]), np.log(errors[half:]), 1)[0])


def judge(data: Data) -> Verdict:
    """Holds if all errors shrink towards 0, at about the exponent that the smoothness of the function says."""
    gap = {n: abs(data["exponent"][n] - data["exponent_expected"][n]) for n in FUNCTIONS}
    shrinks = max(data[f"{kind}_{n}"][-1] / data[f"{kind}_{n}"][0] for n in FUNCTIONS for kind in ("error", "steps"))
    ok = max(gap.values()) < 0.15 and shrinks < 0.25
    said = ", ".join(f"{n} {data['exponent'][n]:.2f} ({data['exponent_expected'][n]:.2f} expected)" for n in FUNCTIONS)
    return Verdict(
        "holds" if ok else "fails",
        f"error falls as width to the minus: {said}, 0.15 off allowed; at {data['width'][-1]} units every error is at "
        f"most {shrinks:.2g} of that at {data['width'][0]} (0.25 allowed)",
    )


def draw(data: Data) -> "Picture":
    """The three functions with 16 units, and all errors against width."""
    figure, axes = picture(1, 4, width=10.5, height=3.2, width_ratios=[1, 1, 1, 1.5])
    for a, name, colour in zip(axes, FUNCTIONS, SERIES, strict=False):
        a.plot(data["grid"], data[f"f_{name}"], color=INK, linewidth=0.7)
        a.plot(data["grid"], data[f"net_{name}"], color=colour)
        a.set_title(f"{name}, 16 units")
        axes[3].loglog(data["width"], data[f"error_{name}"], "o-", markersize=3, color=colour, label=f"{name}, ReLU")
        axes[3].loglog(data["width"], data[f"steps_{name}"], "--", color=colour, linewidth=1, label=f"{name}, steps")
    axes[3].set_xlabel("hidden units")
    axes[3].set_title("sup |f − network|")
    axes[3].legend(fontsize=7, ncols=1, loc="lower left")
    return figure


FIGURE = Figure(
    name="universal-approximation",
    title="One hidden layer comes as near as you like",
    claim="For any continuous function the largest error of a network with one hidden layer goes to zero with its "
    "width, as fast as the function is smooth: width⁻² where it is, more slowly at a cusp or where it is rough.",
    source="Cybenko 1989; Hornik, Stinchcombe & White 1989; rates from the modulus of continuity",
    order=50,
    run=run,
    judge=judge,
    draw=draw,
)
