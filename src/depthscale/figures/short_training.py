"""Short training as a stand-in for long training: over all cells, and among the best."""

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import spearmanr

from depthscale.figures import _tables as tables
from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import ACCENT, SECOND, picture
from depthscale.search.table import DATASETS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

ENOUGH = 0.5  # rank correlation that a stand-in should have


def run(quick: bool, seed: int, say: Say) -> Data:
    """Spearman of 12-epoch validation with 200-epoch test accuracy; among the best 1 % with a bootstrap interval."""
    rng = np.random.default_rng(seed)
    found: Data = {"all": {}, "best": {}, "low": {}, "high": {}, "n": {}, "points": {}}
    for name in DATASETS:
        say(name)
        t = tables.table(name)
        order = np.argsort(-t.test200)[: len(t) // 100]
        x, y = t.val12[order], t.test200[order]
        drawn = [spearmanr(x[i], y[i]).statistic for i in rng.integers(len(x), size=(300 if quick else 2000, len(x)))]
        found["all"][name] = float(spearmanr(t.val12, t.test200).statistic)
        found["best"][name] = float(spearmanr(x, y).statistic)
        found["low"][name], found["high"][name] = (float(v) for v in np.quantile(drawn, [0.025, 0.975]))
        found["n"][name] = len(order)
        some = rng.choice(len(t), 1500, replace=False)
        found["points"][name] = {
            "some": [t.val12[some].tolist(), t.test200[some].tolist()],
            "best": [x.tolist(), y.tolist()],
        }
    return found


def judge(data: Data) -> Verdict:
    """Holds if both correlations reach a half on all data sets; fails if one does not on most of them."""
    names = list(data["all"])
    words = "; ".join(
        f"{k}: {data['all'][k]:.2f} over all, {data['best'][k]:.2f} (95 % {data['low'][k]:.2f} to "
        f"{data['high'][k]:.2f}) among the best {data['n'][k]}"
        for k in names
    )
    short = sum(data["best"][k] < ENOUGH or data["all"][k] < ENOUGH for k in names)  # all cells there are: no sample
    kind = "holds" if short == 0 else "fails" if 2 * short > len(names) else "undecided"
    return Verdict(kind, f"{words}; bound {ENOUGH}")  # type: ignore[arg-type]


def draw(data: Data) -> "Picture":
    """12 epochs against 200, the best 1 % in colour."""
    names = list(data["all"])
    figure, axes = picture(1, len(names), width=9.6, height=3.6)
    for a, name in zip(axes, names, strict=True):
        a.plot(*data["points"][name]["some"], ".", color=ACCENT, alpha=0.25, markersize=3)
        a.plot(*data["points"][name]["best"], ".", color=SECOND, markersize=4)
        a.set_title(f"{name}: {data['all'][name]:.2f}; best 1 %: {data['best'][name]:.2f}")
        a.set_xlabel("validation accuracy, 12 epochs, %")
    axes[0].set_ylabel("test accuracy, 200 epochs, %")
    return figure


FIGURE = Figure(
    name="short-training",
    title="Twelve epochs instead of two hundred",
    claim="Accuracy after 12 epochs ranks networks as 200 epochs do: rank correlation of at least a half, over all "
    "cells of NAS-Bench-201 and among its best 1 %.",
    source="the early stopping of Baker et al. 2017 and Zhong et al. 2018; table: Dong & Yang 2020",
    order=420,
    run=run,
    judge=judge,
    draw=draw,
)
