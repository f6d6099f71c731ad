"""Is it worth changing a network's structure while it learns? Static data: development against everything simpler."""

from typing import TYPE_CHECKING

import numpy as np

from depthscale.figures._growth import sizes
from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import picture
from depthscale.grow import verdict as v
from depthscale.grow.experiment import SCHEDULES, Rows, Setting, drawn, run_one
from depthscale.zoo import mlp

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

QUICK = ("developmental", "prune-only", "rigl", "fixed-large", "fixed-small")


def digits(seed: int) -> Rows:
    """scikit-learn's digits: 1,000 rows to train on, 797 to test."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return drawn(x.astype(np.float32), y, seed, 1000, 797)


def cancer(seed: int) -> Rows:
    """scikit-learn's breast cancer: 300 rows to train on, 269 to test."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return drawn(x.astype(np.float32), y, seed, 300, 269)


def settings(quick: bool) -> list[Setting]:
    """Two tables; quick: a smaller budget."""
    share = 0.25 if quick else 1.0
    return [
        Setting("digits", digits, mlp((64, 64, 64, 10)), 24_000, 8_000, 1.5e9 * share, batch=32),
        Setting("breast-cancer", cancer, mlp((30, 32, 32, 2)), 6_000, 1_500, 1.7e8 * share, batch=32),
    ]


def run(quick: bool, seed: int, say: Say) -> Data:
    """Every schedule in every setting, several seeds, one budget of training operations."""
    names, seeds = (QUICK, 5) if quick else (SCHEDULES, 8)
    rows = []
    for s in range(seeds):
        for setting in settings(quick):
            for name in names:
                say(f"{setting.name}, seed {s + 1} of {seeds}: {name}")
                rows.append({k: r for k, r in run_one(setting, name, 1000 * seed + s).items() if k != "course"})
    return {"rows": rows}


def judge(data: Data) -> Verdict:
    """Holds where development is on the front everywhere and ahead of all rivals in every setting (or stream)."""
    found = v.verdict(data["rows"])
    if found.everywhere and found.wins == len(found.settings):
        return Verdict("holds", found.words)
    behind = any(
        t is not None and t.behind
        for s in found.settings
        for t in (v.against(data["rows"], s, "developmental", r) for r in v.RIVALS)
    )
    return Verdict("fails" if behind or not found.everywhere else "undecided", found.words)


def draw(data: Data) -> "Picture":
    """Accuracy against parameters, one panel a setting."""
    rows = data["rows"]
    settings_ = v.settings_of(rows)
    figure, axes = picture(1, len(settings_), width=4.6 * len(settings_), height=3.8)
    for a, s in zip(axes, settings_, strict=True):
        sizes(a, rows, s)
    axes[0].set_ylabel("test accuracy, % (± standard error)")
    axes[-1].legend(fontsize=7.5)
    return figure


FIGURE = Figure(
    name="structure-that-learns",
    title="A structure that learns",
    claim="Over-producing connections, pruning them and replacing the weakest for life beats fixed networks and RigL "
    "at the same training FLOPs, and no schedule is better at the same size.",
    source="own question; schedules after Evci et al. 2020 and 2022, Liu et al. 2021, Frankle et al. 2020",
    order=500,
    run=run,
    judge=judge,
    draw=draw,
)
