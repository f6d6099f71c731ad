"""Does reinforcement learning beat random search on NAS-Bench-201, at equal queries?"""

from typing import TYPE_CHECKING

import numpy as np

from depthscale.figures import _tables as tables
from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import INK, SERIES, picture
from depthscale.search.compare import paired

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

LEARNERS = ("policy", "q-learning")
OTHERS = ("evolution", "mcts", "local")
SMALL = 0.05  # p below which a difference counts
LITTLE = 0.25  # points of accuracy: what two trainings of one network differ by


def run(quick: bool, seed: int, say: Say) -> Data:
    """Runs every strategy with the same seeds and queries; paired differences to random search."""
    queries, n, fewer = (100, 60, 20) if quick else (150, 100, 60)
    curves: dict[str, list[list[float]]] = {}
    for name in ("random", *LEARNERS, *OTHERS):
        runs = fewer if name in OTHERS else n
        say(f"{name}: {runs} runs of {queries} queries")
        curves[name] = [tables.run(name, seed * 1000 + s, queries).incumbent.tolist() for s in range(runs)]
    last = {name: [c[-1] for c in found] for name, found in curves.items()}
    tests = {name: paired(last[name], last["random"][: len(last[name])]) for name in (*LEARNERS, *OTHERS)}
    return {
        "queries": queries,
        "n": n,
        "mean": {k: np.mean(v, axis=0).tolist() for k, v in curves.items()},
        "difference": {k: t.difference for k, t in tests.items()},
        "error": {k: t.error for k, t in tests.items()},
        "p": {k: t.p for k, t in tests.items()},
        "best": float(tables.table().test200.max()),
    }


def judge(data: Data) -> Verdict:
    """Holds if both learners beat random search significantly; fails if one does not and what it gains is little."""
    won = [k for k in LEARNERS if data["difference"][k] > 0 and data["p"][k] < SMALL]
    most = {k: data["difference"][k] + tables.Z * data["error"][k] for k in LEARNERS if k not in won}
    said = ", ".join(f"{k} {data['difference'][k]:+.2f} (p = {data['p'][k]:.2g})" for k in (*LEARNERS, *OTHERS))
    rest = "".join(f"; {k} at most {v:+.2f} with 95 % certainty (bound {LITTLE})" for k, v in most.items())
    kind = "holds" if not most else "fails" if min(most.values()) < LITTLE else "undecided"
    return Verdict(
        kind,  # type: ignore[arg-type]
        f"{len(won)} of {len(LEARNERS)} learners beat random search with p < {SMALL} after {data['queries']} queries, "
        f"{data['n']} pairs: {said} points of test accuracy{rest}",
    )


def draw(data: Data) -> "Picture":
    """Incumbents over queries, and the paired differences."""
    figure, (left, right) = picture(1, 2, width=9.0, height=3.8)
    for (name, values), colour in zip(data["mean"].items(), SERIES, strict=False):
        left.plot(range(1, len(values) + 1), values, color=colour, label=name)
    left.axhline(data["best"], color=INK, linewidth=0.8, linestyle="--")
    left.set_ylim(92, data["best"] + 0.15)
    left.set_xlabel("networks queried")
    left.set_ylabel("test accuracy of the chosen cell, %")
    left.legend(fontsize=8)
    names = list(data["difference"])
    for i, name in enumerate(names):
        right.errorbar(data["difference"][name], i, xerr=1.96 * data["error"][name], fmt="o", color=SERIES[i + 1])
    right.axvline(0, color=INK, linewidth=0.8)
    right.set_yticks(range(len(names)), [f"{k}\np = {data['p'][k]:.2g}" for k in names])
    right.set_xlabel("less random search, points, 95 % interval")
    return figure


FIGURE = Figure(
    name="rl-against-random",
    title="Learning to search, beside not learning at all",
    claim="On NAS-Bench-201 (CIFAR-10), policy gradient and Q-learning choose better cells than random search at equal "
    "queries.",
    source="Baker et al. 2017 and Zoph & Le 2017 against the baselines of Li & Talwalkar 2019; table: Dong & Yang 2020",
    order=400,
    run=run,
    judge=judge,
    draw=draw,
)
