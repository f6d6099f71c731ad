"""Two classes that no line separates become separable as the degree rises, and stay so."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import ACCENT, INK, SECOND, picture
from depthscale.foundations import PolynomialClassifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

HIGHEST = 8
GRID = 81
SHOWN = 4


def run(quick: bool, seed: int, say: Say) -> Data:
    """Rings of alternating class, degree by degree; and many labellings of points on a line."""
    rng = np.random.default_rng(seed)
    x, y = _rings(60 if quick else 120, rng)
    ticks = np.linspace(-1.15, 1.15, GRID)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    feasible, margins, residuals, regions = [], [], [], {}
    for degree in range(1, HIGHEST + 1):
        say(f"degree {degree}")
        model = PolynomialClassifier(degree).fit(x, y)
        proof = model.certificates_[0]
        feasible.append(bool(model.feasible_))
        margins.append(0.0 if proof else float(model.margins_[0]))
        residuals.append(float(proof.residual) if proof else 0.0)
        regions[str(degree)] = (model.decision_function(grid) > 0).astype(int).reshape(GRID, GRID).tolist()
    trials = 60 if quick else 400
    changes, needed = [], []
    for _ in range(trials):
        labels = rng.integers(0, 2, rng.integers(3, 9))
        line = np.sort(rng.uniform(size=len(labels)))[:, None]
        changes.append(int((np.diff(labels) != 0).sum()))
        needed.append(int(PolynomialClassifier("auto").fit(line, labels).degree_))
    return {
        "degree": list(range(1, HIGHEST + 1)),
        "feasible": feasible,
        "margin": margins,
        "certificate_residual": residuals,
        "sign_changes": changes,
        "degree_needed": needed,
        "x": x.tolist(),
        "y": y.tolist(),
        "regions": regions,
    }


def _rings(n: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """A disc and two rings around it, of alternating class."""
    ring = np.arange(n) % 3
    radius = np.array([0.0, 0.45, 0.9])[ring] + rng.uniform(0, [[0.25], [0.2], [0.15]], (3, n))[ring, np.arange(n)]
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]), (ring == 1).astype(np.intp)


def judge(data: Data) -> Verdict:
    """Holds if degrees turn from infeasible (certified) to feasible once, and a line needs its sign changes."""
    feasible = data["feasible"]
    first = feasible.index(True) if True in feasible else -1
    wrong = sum(a != b for a, b in zip(data["sign_changes"], data["degree_needed"], strict=True))
    said = (
        f"infeasible below degree {data['degree'][first]}, feasible from there on; certificates are right to "
        f"{max(data['certificate_residual']):.1g}; on a line {len(data['sign_changes']) - wrong} of "
        f"{len(data['sign_changes'])} labellings need as high a degree as they have sign changes"
    )
    if first < 1:
        return Verdict(
            "fails", f"{sum(feasible)} of {len(feasible)} degrees are feasible, expected low ones not, high ones"
        )
    if not all(feasible[first:]) or wrong or max(data["certificate_residual"]) > 1e-8:
        return Verdict("fails", said)
    if min(m for m, f in zip(data["margin"], feasible, strict=True) if f) <= 0:
        return Verdict("fails", "a feasible degree has a margin of 0 or less")
    return Verdict("holds", said)


def draw(data: Data) -> "Picture":
    """Regions of four degrees around the turn, and which are feasible."""
    first = data["feasible"].index(True)
    degrees = sorted({1, max(1, first // 2 + 1), max(1, first), data["degree"][first]})
    degrees = (degrees + [d for d in data["degree"] if d not in degrees])[:SHOWN]
    figure, axes = picture(1, SHOWN, width=10, height=2.9)
    x, y = np.array(data["x"]), np.array(data["y"])
    for a, degree in zip(axes, sorted(degrees), strict=True):
        at = data["degree"].index(degree)
        region = np.array(data["regions"][str(degree)])
        a.contourf(
            np.linspace(-1.15, 1.15, GRID), np.linspace(-1.15, 1.15, GRID), region,
            levels=[-0.5, 0.5, 1.5], colors=["#f6e3d6", "#dbe7f5"],
        )  # fmt: skip
        for label, colour in ((0, SECOND), (1, ACCENT)):
            a.plot(*x[y == label].T, "o", color=colour, markersize=4, markeredgecolor="white", markeredgewidth=0.4)
        a.set_title(f"degree {degree}: {'separated' if data['feasible'][at] else 'infeasible, certified'}", color=INK)
        a.set_xticks([])
        a.set_yticks([])
        a.set_aspect("equal")
        a.grid(visible=False)
    return figure


FIGURE = Figure(
    name="feasibility",
    title="Classes become separable as the degree rises",
    claim="Whether a polynomial of degree d separates two classes is a convex question; from some degree on the answer "
    "is yes, below it a certificate proves no, and on a line that degree is the number of sign changes.",
    source="Gordan 1873; Farkas 1902; Cover 1965",
    order=15,
    run=run,
    judge=judge,
    draw=draw,
)
