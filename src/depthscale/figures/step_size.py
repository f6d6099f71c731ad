"""Gradient descent below and beyond 2/λₘₐₓ."""

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from depthscale.figures._nets import fit, objective, pack
from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import INK, SERIES, picture
from depthscale.foundations.descent import descend
from depthscale.foundations.multilayer import TANH, make

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

Array = NDArray[np.float64]
Loss = Callable[[Array], tuple[float, Array]]
MOMENTA = (0.0, 0.5, 0.9)
SHOWN = (0.1, 0.5, 0.95, 1.02, 1.2)  # rates, as shares of 2/λₘₐₓ


def run(quick: bool, seed: int, say: Say) -> Data:
    """Bisects the rate at which descent turns from falling to rising, on real regressions and around a network's
    minimum, and puts it beside 2 (1 + μ)/λₘₐₓ.
    """
    from sklearn.datasets import load_diabetes

    rng = np.random.default_rng(seed)
    x, y = load_diabetes(return_X_y=True)
    x, y = x / x.std(axis=0), (y - y.mean()) / y.std()
    losses: dict[str, tuple[Loss, Array, Array]] = {"regression": _regression(x, y)}
    say("training the network whose minimum is looked at")
    losses["network"] = _network(rng)
    data: Data = {"problem": [], "momentum": [], "rate_found": [], "rate_predicted": [], "ratio": []}
    for name, (loss, minimum, hessian) in losses.items():
        top = float(np.linalg.eigvalsh(hessian)[-1])
        for mu in MOMENTA:
            say(f"{name}, momentum {mu}")
            predicted = 2 * (1 + mu) / top
            found = _turn(loss, minimum, predicted, mu, 9 if quick else 16)
            data["problem"].append(name)
            data["momentum"].append(mu)
            data["rate_found"].append(found)
            data["rate_predicted"].append(predicted)
            data["ratio"].append(found / predicted)
    loss, minimum, hessian = losses["regression"]
    top = float(np.linalg.eigvalsh(hessian)[-1])
    start = minimum + rng.normal(size=minimum.shape)
    floor = loss(minimum)[0]
    data["shares"] = list(SHOWN)
    data["curves"] = {
        str(s): [v - floor for v in descend(loss, start, rate=s * 2 / top, steps=60, tolerance=0).losses] for s in SHOWN
    }
    return data


def _regression(x: Array, y: Array) -> tuple[Loss, Array, Array]:
    """½ mean squared error of a linear model: loss, minimum and Hessian."""
    n = len(y)

    def loss(w: Array) -> tuple[float, Array]:
        off = x @ w - y
        return float(off @ off) / (2 * n), x.T @ off / n

    minimum: Array = np.asarray(np.linalg.lstsq(x, y, rcond=None)[0], np.float64)
    return loss, minimum, x.T @ x / n


def _network(rng: np.random.Generator) -> tuple[Loss, Array, Array]:
    """A small tanh network, at a minimum; its Hessian from central differences of the gradient by hand."""
    x = np.linspace(-3, 3, 40)[:, None]
    y = 2 * np.sin(x)
    start = make((1, 6, 1), TANH, rng, sw2=1.0)
    layers, _ = fit(start, x, y, iterations=5000, ridge=1e-3)
    loss, w, h = objective(layers, x, y, 1e-3), pack(layers), 1e-5
    rows = [(loss(w + h * e)[1] - loss(w - h * e)[1]) / (2 * h) for e in np.eye(len(w))]
    hessian = np.array(rows)
    return loss, w, (hessian + hessian.T) / 2


def _turn(loss: Loss, minimum: Array, guess: float, momentum: float, halvings: int) -> float:
    """The rate at which a tiny push away from a minimum stops dying out, by bisection between guess/4 and 4 guess."""
    push = 1e-5 * np.random.default_rng(0).normal(size=minimum.shape)
    low, high = guess / 4, guess * 4
    for _ in range(halvings):
        middle = float(np.sqrt(low * high))
        found = descend(loss, minimum + push, rate=middle, momentum=momentum, steps=1500, tolerance=0)
        grown = found.status == "diverged" or np.linalg.norm(found.w - minimum) > np.linalg.norm(push)
        low, high = (low, middle) if grown else (middle, high)
    return float(np.sqrt(low * high))


def judge(data: Data) -> Verdict:
    """Holds if every turn lies within 3 % of prediction, losses fall below it and rise beyond."""
    off = max(abs(r - 1) for r in data["ratio"])
    falls = all(b <= a * (1 + 1e-9) + 1e-12 for s in SHOWN if s < 1 for a, b in _pairs(data["curves"][str(s)]))
    rises = all(data["curves"][str(s)][-1] > data["curves"][str(s)][0] for s in SHOWN if s > 1)
    ends = [data["curves"][str(s)][-1] / data["curves"][str(s)][0] for s in SHOWN]
    return Verdict(
        "holds" if off < 0.03 and falls and rises else "fails",
        f"the rate at which descent turns is within {100 * off:.2g} % of 2 (1 + μ)/λₘₐₓ in {len(data['ratio'])} cases "
        f"(3 % allowed); after 60 steps the loss is {max(e for e, s in zip(ends, SHOWN, strict=True) if s < 1):.2g} of "
        f"its start or less below 2/λₘₐₓ, and {min(e for e, s in zip(ends, SHOWN, strict=True) if s > 1):.2g} or more "
        "beyond",
    )


def _pairs(values: list[float]) -> list[tuple[float, float]]:
    return list(pairwise(values))


def draw(data: Data) -> "Picture":
    """Losses at rates around the bound; found against predicted bounds."""
    from matplotlib.ticker import LogLocator

    figure, (a, b) = picture(1, 2, width=9.2, height=3.6, width_ratios=[1.5, 1])
    for share, colour in zip(data["shares"], SERIES, strict=False):
        a.semilogy(np.maximum(data["curves"][str(share)], 1e-12), color=colour, label=f"{share} · 2/λ$_{{max}}$")
    a.set_xlabel("step")
    a.set_ylabel("loss above the minimum")
    a.set_ylim(1e-4, 1e9)
    a.legend(title="rate", fontsize=8, loc="upper left")
    for problem, marker in (("regression", "o"), ("network", "s")):
        at = [i for i, p in enumerate(data["problem"]) if p == problem]
        b.loglog([data["rate_predicted"][i] for i in at], [data["rate_found"][i] for i in at], marker, label=problem)
    ends = [min(data["rate_predicted"]) / 1.5, max(data["rate_predicted"]) * 1.5]
    b.loglog(ends, ends, color=INK, linewidth=0.8, linestyle="--", label="equal")
    for axis in (b.xaxis, b.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    b.set_xlabel("2 (1 + μ)/λ$_{max}$")
    b.set_ylabel("rate at which descent turns")
    b.legend(fontsize=8)
    return figure


FIGURE = Figure(
    name="step-size",
    title="Small steps descend, steps beyond 2/λₘₐₓ diverge",
    claim="Gradient descent falls below a rate of 2 (1 + μ)/λₘₐₓ and diverges beyond, λₘₐₓ being the largest "
    "eigenvalue of the Hessian: exactly on a regression, and near its minimum for a network too.",
    source="Polyak 1964; LeCun, Bottou, Orr & Müller 1998, Efficient BackProp",
    order=40,
    run=run,
    judge=judge,
    draw=draw,
)
