"""DARTS: skip connections crowd out what has to be learned, seen on the supernet's weights over time."""

from typing import TYPE_CHECKING

import numpy as np

from depthscale.figures import _tables as tables
from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import SERIES, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

OPS = ("skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
MOST = 2 / 3  # of the edges, beyond which a cell counts as collapsed
ENOUGH = 10  # epochs of the supernet before which skips that have not risen prove nothing; 50 were published


def run(quick: bool, seed: int, say: Say) -> Data:
    """Trains supernets on scikit-learn's digits, as published and with the fair remedy; weights over time."""
    from depthscale.data import load
    from depthscale.search.oneshot import Darts, darts
    from depthscale.zoo.nasbench201 import OPS as ALL, parse

    dataset = load("digits", seed=seed)
    n, epochs = (2, 1.5) if quick else (6, 40)
    found: Data = {"n": n, "epoch": [], "variants": {}}
    for name, fair in (("darts", False), ("fair", True)):
        histories, skips, cells = [], [], []
        for s in range(n):
            say(f"{name}, supernet {s + 1} of {n}")
            config = Darts(fair=fair, epochs=epochs, width=4, batch=32, alpha_rate=0.05)
            got = darts(dataset, config, seed=seed * 1000 + s)
            weights = np.array([m.weights for m in got.moments])  # (moments, 6, 5)
            histories.append([weights[:, :, ALL.index(op)].mean(1).tolist() for op in OPS])
            skips.append(float(np.mean([op == "skip_connect" for op in parse(got.cell)])))
            cells.append(got.cell)
            found["epoch"] = [m.epoch for m in got.moments]
        found["variants"][name] = {
            "history": np.mean(histories, axis=0).tolist(),  # operation, moment
            "rise": [h[0][-1] - h[0][0] - float(np.mean([g[-1] - g[0] for g in h[1:]])) for h in histories],
            "skips": skips,
            "cells": cells,
        }
    return found


def judge(data: Data) -> Verdict:
    """Holds if skips rise above the rest and take two edges in three as published, and fewer with the remedy."""
    plain, fair = data["variants"]["darts"], data["variants"]["fair"]
    rise, low, high = tables.interval(plain["rise"])
    share, with_remedy = float(np.mean(plain["skips"])), float(np.mean(fair["skips"]))
    words = (
        f"weight of skips less that of the other operations changes by {rise:+.3f} (95 % {low:+.3f} to {high:+.3f}); "
        f"{100 * share:.0f} % of the edges end as skips (bound {100 * MOST:.0f} %), {100 * with_remedy:.0f} % with the "
        f"remedy; {data['n']} supernets each, {data['epoch'][-1]:g} epochs ({ENOUGH} needed to say no)"
    )
    if low > 0 and share >= MOST and with_remedy < share:
        return Verdict("holds", words)
    open_still = data["epoch"][-1] < ENOUGH or (low > 0 and with_remedy < share)
    return Verdict("undecided" if open_still else "fails", words)


def draw(data: Data) -> "Picture":
    """Mean weights of the operations over time, as published and with the remedy."""
    figure, axes = picture(1, 2, width=9.0, height=3.8)
    titles = {"darts": "as published (softmax)", "fair": "with the remedy (sigmoids)"}
    for a, (name, found) in zip(axes, data["variants"].items(), strict=True):
        for op, values, colour in zip(OPS, found["history"], SERIES, strict=False):
            a.plot(data["epoch"], values, color=colour, label=op, linewidth=2.2 if op == "skip_connect" else 1.2)
        a.set_title(f"{titles[name]}: {100 * np.mean(found['skips']):.0f} % of edges are skips")
        a.set_xlabel("epochs of the supernet")
    axes[0].set_ylabel("weight of the operation, mean over edges")
    axes[0].legend(fontsize=8)
    return figure


FIGURE = Figure(
    name="darts-collapse",
    title="The rich get richer",
    claim="In first-order DARTS skip connections gain weight faster than operations that have to be learned, until "
    "they take two edges in three of the cell; with sigmoids and a zero-one loss they take fewer.",
    source="Liu et al. 2019, equation 7 with ξ = 0; Zela et al. 2020; Chu et al. 2020, Fair DARTS; data: digits",
    order=440,
    run=run,
    judge=judge,
    draw=draw,
)
