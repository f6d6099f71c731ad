"""How many straight pieces a 1-10-10-1 ReLU network lays along a noisy sine."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from depthscale.figures._nets import fit
from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import ACCENT, INK, SECOND, picture
from depthscale.foundations.multilayer import RELU, Layer, forward, make

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

Array = NDArray[np.float64]
WIDTHS = (1, 10, 10, 1)
BOUND = 11 * 11  # each unit of the second layer bends each of the first layer's 11 pieces at most once
UNITS = 20
LOW, HIGH, NOISE = -10.0, 10.0, 0.1


def run(quick: bool, seed: int, say: Say) -> Data:
    """Fits several networks and counts their pieces exactly, before and after training."""
    nets = 8 if quick else 40
    rng = np.random.default_rng(seed)
    x = np.linspace(LOW, HIGH, 200)[:, None]
    y = np.sin(x) + NOISE * rng.normal(size=x.shape)
    pieces, first, losses, straightness = [], [], [], []
    best: tuple[float, list[Layer]] = (np.inf, [])
    for i in range(nets):
        say(f"network {i + 1} of {nets}")
        start = make(WIDTHS, RELU, rng)
        # biases that put the bends of the first layer all along the data
        start[0].bias[:] = -start[0].weight[:, 0] * rng.uniform(LOW, HIGH, WIDTHS[1])
        layers, loss = fit(start, x, y, iterations=600 if quick else 3000)
        first.append(len(bends(start, LOW, HIGH)) + 1)
        pieces.append(len(bends(layers, LOW, HIGH)) + 1)
        losses.append(2 * loss)
        straightness.append(_bow(layers))
        if loss < best[0]:
            best = (loss, layers)
    knots = [LOW, *bends(best[1], LOW, HIGH), HIGH]
    grid = np.array(knots)[:, None]
    return {
        "pieces": pieces,
        "pieces_at_the_start": first,
        "mean_squared_error": losses,
        "largest_bow_of_a_piece": max(straightness),
        "mean_pieces": float(np.mean(pieces)),
        "variance_of_y": float(y.var()),
        "x": x[:, 0].tolist(),
        "y": y[:, 0].tolist(),
        "knots": knots,
        "values": forward(best[1], grid)[0][:, 0].tolist(),
    }


def bends(layers: Sequence[Layer], low: float, high: float) -> list[float]:
    """Where the network's slope changes, exactly: layer by layer, each unit is linear between the bends so far."""
    knots = np.array([low, high])
    for depth in range(1, len(layers)):
        z = forward(layers[:depth], knots[:, None])[1][-1][1]  # (knots, units): linear between knots
        new = [knots]
        for left, right, a, b in zip(knots[:-1], knots[1:], z[:-1], z[1:], strict=True):
            crosses = a * b < 0
            new.append(left + (right - left) * a[crosses] / (a[crosses] - b[crosses]))
        knots = np.unique(np.concatenate(new))
    middles = np.array([0.5 * (s + t) for s, t in pairwise(knots)])
    quarter = np.diff(knots) / 4
    right = forward(layers, (middles + quarter)[:, None])[0][:, 0]
    left = forward(layers, (middles - quarter)[:, None])[0][:, 0]
    slopes = (right - left) / (2 * quarter)
    same = np.abs(np.diff(slopes)) <= 1e-7 * (np.abs(slopes).max() + 1e-300)  # a dead unit bends nothing
    return [float(k) for k, flat in zip(knots[1:-1], same, strict=True) if not flat]


def _bow(layers: Sequence[Layer]) -> float:
    """The largest distance of the network from the chord of a piece, over a grid in every piece."""
    knots, worst = [LOW, *bends(layers, LOW, HIGH), HIGH], 0.0
    for left, right in pairwise(knots):
        grid = np.linspace(left, right, 17)
        values = forward(layers, grid[:, None])[0][:, 0]
        worst = max(worst, float(np.abs(values - np.interp(grid, [left, right], values[[0, -1]])).max()))
    return worst


def judge(data: Data) -> Verdict:
    """Holds if every piece is straight, no net exceeds the bound, and pieces number about as the units do."""
    most, mean = max(data["pieces"]), data["mean_pieces"]
    explained = 1 - min(data["mean_squared_error"]) / data["variance_of_y"]
    straight = data["largest_bow_of_a_piece"] < 1e-5
    ok = straight and most <= BOUND and 3 <= mean <= 2 * UNITS and explained > 0.5
    return Verdict(
        "holds" if ok else "fails",
        f"{mean:.1f} pieces on average and at most {most} (n = {len(data['pieces'])}), where 20 units could make "
        f"{BOUND} and at most 40 are expected; pieces bow by at most {data['largest_bow_of_a_piece']:.1g}; the best "
        f"fit explains {100 * explained:.0f} % of the variance",
    )


def draw(data: Data) -> "Picture":
    """The best fit with its bends, and the counts."""
    figure, axes = picture(1, 2, width=9.2, height=3.6, width_ratios=[2.2, 1])
    a, b = axes
    a.plot(data["x"], data["y"], ".", color=ACCENT, markersize=3, label="noisy sine")
    a.plot(data["knots"], data["values"], "-", color=SECOND, label=f"network: {len(data['knots']) - 1} pieces")
    a.plot(data["knots"][1:-1], data["values"][1:-1], "o", color=SECOND, markersize=4)
    a.set_xlabel("x")
    a.set_ylim(None, 1.65)
    a.legend(loc="upper right", fontsize=8, ncols=2)
    low, high = min(data["pieces"] + data["pieces_at_the_start"]), max(data["pieces"] + data["pieces_at_the_start"])
    bins = [k - 0.5 for k in range(low, high + 2)]
    b.hist([data["pieces_at_the_start"], data["pieces"]], bins=bins, color=["#c4c9d0", SECOND],
           label=["before training", "after"])  # fmt: skip
    b.axvline(UNITS, color=INK, linewidth=0.8, linestyle="--")
    b.annotate("units", (UNITS, 0), xytext=(3, 4), textcoords="offset points", fontsize=8)
    b.set_xlabel(f"pieces (bound {BOUND})")
    b.set_ylabel("networks")
    b.margins(y=0.25)
    b.locator_params(axis="y", integer=True)
    b.legend(fontsize=8, loc="upper left")
    return figure


FIGURE = Figure(
    name="relu-pieces",
    title="A ReLU network fits with straight pieces",
    claim="A 1-10-10-1 ReLU network fitted to a noisy sine on [−10, 10] is piecewise linear, with about as many pieces "
    "as it has units (20), far fewer than the 121 that it could have.",
    source="Montúfar et al. 2014 (bound); Hanin & Rolnick 2019 (typical number)",
    order=35,
    run=run,
    judge=judge,
    draw=draw,
)
