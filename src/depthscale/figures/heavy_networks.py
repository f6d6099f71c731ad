"""Is reinforcement learning learning to find heavy networks?"""

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata, spearmanr

from depthscale.figures import _tables as tables
from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import ACCENT, SECOND, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

LATE = 3  # the last third of a run is looked at
HALF = 0.5


def run(quick: bool, seed: int, say: Say) -> Data:
    """Runs policy gradient; what late choices are worth among all cells, and among cells of their size."""
    queries, n = (150, 10) if quick else (150, 60)
    t = tables.table()
    worth = 100 * (rankdata(t.val12) - 0.5) / len(t)  # percentile among all cells
    same = np.array([50.0] * len(t))
    for size in np.unique(t.size):
        rows = t.size == size
        same[rows] = worth[rows].mean()
    found = []
    for s in range(n):
        say(f"policy gradient, run {s + 1} of {n}")
        rows = tables.run("policy", seed * 1000 + s, queries).rows
        found.append(rows)
    late = [r[-queries // LATE :] for r in found]
    blocks = np.array([[b.mean() for b in np.array_split(t.size[r], 10)] for r in found])
    return {
        "queries": queries,
        "n": n,
        "size_over_time": blocks.mean(0).tolist(),
        "worth_over_time": np.mean([[b.mean() for b in np.array_split(worth[r], 10)] for r in found], 0).tolist(),
        "same_over_time": np.mean([[b.mean() for b in np.array_split(same[r], 10)] for r in found], 0).tolist(),
        "correlation": [float(spearmanr(np.arange(len(r)), t.size[r]).statistic) for r in found],
        "advantage": [float((worth[r] - 50.0).mean()) for r in late],
        "left": [float((worth[r] - same[r]).mean()) for r in late],
    }


def judge(data: Data) -> Verdict:
    """Holds if choices grow with time and less than half of the advantage is left among equals of size."""
    size, low, _ = tables.interval(data["correlation"])
    ratios = _ratios(data["left"], data["advantage"])
    share = sum(data["left"]) / sum(data["advantage"])
    words = (
        f"correlation of size with time {size:.2f} (95 % from {low:.2f}); {100 * share:.0f} % of the advantage is left "
        f"among cells of equal size (95 % {100 * ratios[0]:.0f} to {100 * ratios[1]:.0f}, bound {100 * HALF:.0f} %), "
        f"{data['n']} runs"
    )
    if low > 0 and ratios[1] < HALF:
        return Verdict("holds", words)
    return Verdict("fails" if low <= 0 or ratios[0] > HALF else "undecided", words)


def _ratios(left: list[float], whole: list[float]) -> tuple[float, float]:
    a, b = np.asarray(left), np.asarray(whole)
    i = np.random.default_rng(0).integers(len(a), size=(2000, len(a)))
    low, high = np.quantile(a[i].sum(1) / b[i].sum(1), [0.025, 0.975])
    return float(low), float(high)


def draw(data: Data) -> "Picture":
    """Size over time; worth among all cells and what their size alone would give."""
    figure, (left, right) = picture(1, 2, width=9.0, height=3.8)
    x = [(i + 0.5) * data["queries"] / 10 for i in range(10)]
    left.plot(x, data["size_over_time"], "o-", color=ACCENT)
    left.set_xlabel("networks queried")
    left.set_ylabel("parameters of the choices, millions")
    right.plot(x, data["worth_over_time"], "o-", color=ACCENT, label="the choices")
    right.plot(x, data["same_over_time"], "o--", color=SECOND, label="all cells of the same sizes")
    right.axhline(50, linewidth=0.8, color="grey")
    right.set_xlabel("networks queried")
    right.set_ylabel("percentile of validation accuracy")
    right.legend()
    return figure


FIGURE = Figure(
    name="heavy-networks",
    title="Is it learning, or is it growing?",
    claim="What policy gradient learns on NAS-Bench-201 is mostly to choose heavy networks: they grow over time, and "
    "among cells of equal size less than half of its advantage over chance is left.",
    source="own question; table: Dong & Yang 2020; REINFORCE after Zoph & Le 2017",
    order=410,
    run=run,
    judge=judge,
    draw=draw,
)
