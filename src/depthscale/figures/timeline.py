"""The three waves of artificial intelligence, as a drawing."""

from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import ACCENT, INK, SECOND, THIRD, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

# year, work, authors: what histories name (Goodfellow, Bengio & Courville 2016, §1.2; Schmidhuber 2015)
MILESTONES = (
    (1943, "neurons as logic", "McCulloch & Pitts"),
    (1949, "Hebb's rule", "Hebb"),
    (1958, "perceptron", "Rosenblatt"),
    (1960, "ADALINE", "Widrow & Hoff"),
    (1962, "convergence proof", "Novikoff"),
    (1969, "limits of perceptrons", "Minsky & Papert"),
    (1974, "back-propagation, thesis", "Werbos"),
    (1980, "neocognitron", "Fukushima"),
    (1982, "associative memory", "Hopfield"),
    (1985, "Boltzmann machine", "Ackley, Hinton & Sejnowski"),
    (1986, "back-propagation", "Rumelhart, Hinton & Williams"),
    (1989, "convolution, learned", "LeCun et al."),
    (1989, "universal approximation", "Cybenko; Hornik et al."),
    (1991, "vanishing gradients", "Hochreiter"),
    (1995, "support vectors", "Cortes & Vapnik"),
    (1997, "LSTM", "Hochreiter & Schmidhuber"),
    (1998, "LeNet-5", "LeCun et al."),
    (2006, "deep belief nets", "Hinton, Osindero & Teh"),
    (2010, "initialisation", "Glorot & Bengio"),
    (2012, "AlexNet", "Krizhevsky, Sutskever & Hinton"),
    (2014, "adversarial nets", "Goodfellow et al."),
    (2015, "batch normalisation", "Ioffe & Szegedy"),
    (2015, "residual nets", "He et al."),
    (2016, "architecture search", "Zoph & Le"),
    (2017, "Transformer", "Vaswani et al."),
    (2018, "BERT", "Devlin et al."),
    (2020, "GPT-3", "Brown et al."),
)
WAVES = (("cybernetics", 1943, 1969), ("connectionism", 1980, 1998), ("deep learning", 2006, 2020))


def run(quick: bool, seed: int, say: Say) -> Data:
    """Counts the milestones inside the waves and in the lulls between them."""
    years = [m[0] for m in MILESTONES]
    inside = sum(any(a <= y <= b for _, a, b in WAVES) for y in years)
    length = sum(b - a + 1 for _, a, b in WAVES)
    span = max(years) - min(years) + 1
    return {
        "year": years,
        "work": [m[1] for m in MILESTONES],
        "authors": [m[2] for m in MILESTONES],
        "wave": [w[0] for w in WAVES],
        "begins": [w[1] for w in WAVES],
        "ends": [w[2] for w in WAVES],
        "inside": inside,
        "in_lulls": len(years) - inside,
        "per_decade_inside": 10 * inside / length,
        "per_decade_in_lulls": 10 * (len(years) - inside) / (span - length),
        "widest_gaps": sorted(np.diff(sorted(years)).tolist(), reverse=True)[:3],
    }


def judge(data: Data) -> Verdict:
    """Holds if milestones come at least three times as often inside the waves as in the lulls."""
    ratio = data["per_decade_inside"] / max(data["per_decade_in_lulls"], 1e-9)
    return Verdict(
        "holds" if ratio >= 3 else "fails",
        f"{data['per_decade_inside']:.1f} of the {len(data['year'])} milestones listed come in a decade of a wave, "
        f"{data['per_decade_in_lulls']:.1f} in one of a lull: {ratio:.1f} times as many, 3 needed; the list is a "
        "selection",
    )


def draw(data: Data) -> "Picture":
    """Milestones along the years, over the waves."""
    figure, (a,) = picture(width=10.5, height=5.4)
    for name, begin, end, colour in zip(
        data["wave"], data["begins"], data["ends"], (ACCENT, SECOND, THIRD), strict=True
    ):
        x = np.linspace(begin - 4, end + 4, 200)
        middle, half = (begin + end) / 2, (end - begin) / 2 + 4
        a.fill_between(
            x, 0, 1.6 * np.cos((x - middle) / half * np.pi / 2) ** 1.2, color=colour, alpha=0.16, linewidth=0
        )
        title = f"{name}\n{begin}–{end if end < 2020 else 'today'}"
        a.text(middle, 0.35, title, ha="center", va="center", color=colour, fontsize=11)
    a.axhline(0, color=INK, linewidth=1)
    paper: Any = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    last = dict.fromkeys(range(9), -np.inf)
    for year, work, authors in zip(data["year"], data["work"], data["authors"], strict=True):
        width = 0.62 * max(len(work) + 5, len(authors) * 0.8)
        level = min((n for n in last if last[n] < year), default=min(last, key=lambda n: last[n]))
        last[level] = year + width
        y = -0.55 - 0.62 * level
        a.plot([year, year], [0, y], color=INK, linewidth=0.5, alpha=0.5)
        a.plot(year, 0, "o", color=INK, markersize=3)
        a.text(year + 0.4, y, f"{year} {work}", fontsize=8, va="bottom", bbox=paper)
        a.text(year + 0.4, y, authors, fontsize=6.5, va="top", color="#586271", bbox=paper)
    a.set_xlim(1940, 2034)
    a.set_ylim(-0.9 - 0.62 * max(n for n in last if np.isfinite(last[n])), 1.75)
    a.set_yticks([])
    a.grid(visible=False)
    a.spines["left"].set_visible(False)
    a.spines["bottom"].set_visible(False)
    a.set_xticks(range(1940, 2021, 10))
    return figure


FIGURE = Figure(
    name="timeline",
    title="Three waves",
    claim="The milestones of neural networks come in three waves, 1943–1969, 1980–1998 and from 2006 on, with lulls "
    "between them in which few are to be found.",
    source="After Goodfellow, Bengio & Courville 2016, fig. 1.7",
    order=5,
    run=run,
    judge=judge,
    draw=draw,
)
