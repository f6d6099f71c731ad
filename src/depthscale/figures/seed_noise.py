"""Late in a search: the noise between training seeds beside the differences that are chased."""

from typing import TYPE_CHECKING

import numpy as np

from depthscale.figures import _tables as tables
from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import ACCENT, SECOND, picture
from depthscale.zoo.nasbench201 import published_form

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

TOP = 10  # networks that a search has to choose among at its end


def run(quick: bool, seed: int, say: Say) -> Data:
    """Noise from cells that are one network but were trained apart; differences from the best ten of every search."""
    queries, n = (150, 60) if quick else (150, 300)
    t = tables.table()
    say("cells that are one network")
    groups: dict[str, list[int]] = {}
    for i, cell in enumerate(t.cells):
        groups.setdefault(published_form(cell), []).append(i)
    level = np.quantile(t.val12, 0.95)
    pairs = [g for g in groups.values() if len(g) > 1 and t.val12[g].mean() >= level]
    spread, worth = [], []
    for s in range(n):
        say(f"evolution, run {s + 1} of {n}")
        rows = tables.run("evolution", seed * 1000 + s, queries).rows
        best = rows[np.argsort(-t.val12[rows])[:TOP]]
        spread.append(float(t.val12[best].std(ddof=1)))
        worth.append(float(t.test200[best].std(ddof=1)))
    apart = np.concatenate([t.val12[g] - t.val12[g].mean() for g in pairs])
    freedom = sum(len(g) - 1 for g in pairs)
    return {
        "queries": queries,
        "n": n,
        "groups": len(pairs),
        "noise": float(np.sqrt((apart**2).sum() / freedom)),
        "each": [float(t.val12[g].std(ddof=1)) for g in pairs],
        "spread": spread,
        "spread_test": worth,
    }


def judge(data: Data) -> Verdict:
    """Holds if the noise is larger than the true differences of the best ten: their variance less the noise's."""
    noise = data["noise"] ** 2
    variance, low, high = tables.interval([s * s for s in data["spread"]])
    true, least, most = (max(v - noise, 0.0) ** 0.5 for v in (variance, low, high))
    words = (
        f"deviation between seeds {data['noise']:.2f} points of 12-epoch validation accuracy ({data['groups']} "
        f"networks that were trained more than once); true deviation of the best {TOP} after {data['queries']} queries "
        f"{true:.2f} (95 % {least:.2f} to {most:.2f}, {data['n']} runs; what is seen less the noise)"
    )
    kind = "holds" if data["noise"] > most else "fails" if data["noise"] < least else "undecided"
    return Verdict(kind, words)  # type: ignore[arg-type]


def draw(data: Data) -> "Picture":
    """Both as histograms."""
    figure, (axes,) = picture()
    top = max(*data["each"], *data["spread"])
    bins = np.linspace(0, top, 30).tolist()
    axes.hist(data["each"], bins, density=True, color=ACCENT, alpha=0.6, label="one network, several seeds")
    axes.hist(data["spread"], bins, density=True, color=SECOND, alpha=0.6, label=f"the best {TOP} of a search")
    axes.axvline(data["noise"], color=ACCENT)
    axes.axvline(float(np.mean(data["spread"])), color=SECOND)
    axes.set_xlabel("standard deviation of validation accuracy after 12 epochs, points")
    axes.set_ylabel("density")
    axes.legend()
    return figure


FIGURE = Figure(
    name="seed-noise",
    title="Chasing noise",
    claim="Late in a search the noise between training seeds is larger than the differences between the networks it "
    "has to choose among.",
    source="own question; networks that NAS-Bench-201 trained more than once under different names (Dong & Yang 2020)",
    order=430,
    run=run,
    judge=judge,
    draw=draw,
)
