"""Which networks train, measured on a grid of depth and σ_w², against the depth to which theory lets signals reach."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.train import Budget
from depthscale.train.sweep import CONFIG, Grid, Progress, run_sweep
from depthscale.train.sweep.picture import picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

    from depthscale.report.sweep_plot import SweepPicture

SB2 = 0.05
BOUND = 0.2  # of mean |log10(measured/predicted)|: a factor of 1.6
FEWEST = 2  # columns on each side of criticality


def run(quick: bool, seed: int, say: Say) -> Data:
    """The sweep on digits, and what the picture needs of it as plain numbers."""
    if quick:
        grid = Grid(
            depth=(6, 10, 17, 28, 46, 76),
            sw2=(1.0, 1.2, 1.5, 1.76, 2.2, 2.8, 3.4, 4.0),
            width=(48,),
            sb2=(SB2,),
            seed=(seed,),
        )
        config = replace(CONFIG, budget=Budget(steps=300), lr=0.015, seed=seed)
    else:
        sw2 = tuple(float(f"{w:.6g}") for w in np.linspace(1, 4, 20))
        grid, config = Grid(sw2=sw2, sb2=(SB2,), seed=(seed,)), replace(CONFIG, seed=seed)
    grid = replace(grid, lr=(config.lr,))

    def watch(p: Progress) -> None:
        say(p.words or f"{p.groups} of {p.of} groups, {100 * p.share:.0f} %")

    result = run_sweep(grid, "digits", config=config, workers=1 if quick else None, watch=watch)
    found = next(result.maps())
    shown = picture(found, result.data_length)
    return {
        "networks": len(result.rows),
        "steps": result.steps,
        "sides": {k: list(v) for k, v in found.agreement.side.items()},
        "rule": {k: list(v) for k, v in found.agreement.rule.items()},
        "constant": found.agreement.constant,
        "constant_error": found.agreement.constant_error,
        "picture": _plain(shown),
    }


def judge(data: Data) -> Verdict:
    """Holds if the boundary is within a factor of 10^0.2 of K ξ_c on average, columns on both sides, K fitted once."""
    mean, error, count = data["sides"]["all"]
    few = min(data["sides"][s][2] for s in ("ordered", "chaotic"))
    if few < FEWEST:
        return Verdict("undecided", f"the boundary was met in {few} columns on one side, expected at least {FEWEST}")
    words = (
        f"mean |log10(measured/predicted)| = {mean:.3f} ± {error:.3f} over {count} columns (bound {BOUND}), ordered "
        f"{data['sides']['ordered'][0]:.3f}, chaotic {data['sides']['chaotic'][0]:.3f}, at K = {data['constant']:.2f} "
        f"(x10^±{data['constant_error']:.2f}); {data['rule']['all'][0]:.3f} with K = 6"
    )
    return Verdict("holds" if mean <= BOUND else "fails", words)


def draw(data: Data) -> "Picture":
    """Accuracy as colour, theory as lines."""
    from depthscale.report.sweep_plot import sweep_figure

    return sweep_figure(_shown(data["picture"]))


def _plain(p: "SweepPicture") -> dict[str, Any]:
    arrays = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(p).items() if k != "curves"}
    curves = [
        {"name": c.name, "sw2": c.sw2.tolist(), "depth": c.depth.tolist(), "style": c.style, "colour": c.colour}
        for c in p.curves
    ]
    return {**arrays, "curves": curves}


def _shown(data: dict[str, Any]) -> "SweepPicture":
    from depthscale.report.sweep_plot import Curve, SweepPicture

    arrays: dict[str, Any] = {
        k: np.array(v, dtype=float) if isinstance(v, list) else v for k, v in data.items() if k != "curves"
    }
    curves = [
        Curve(c["name"], np.array(c["sw2"], dtype=float), np.array(c["depth"], dtype=float), c["style"], c["colour"])
        for c in data["curves"]
    ]
    return SweepPicture(**arrays, curves=curves)


FIGURE = Figure(
    name="trainability-map",
    title="Trainability at a glance",
    claim="Plain tanh networks train up to a depth proportional to the depth scale ξ_c of mean-field theory, on both "
    "sides of the critical line.",
    source="Schoenholz, Gilmer, Ganguli & Sohl-Dickstein 2017, 'Deep information propagation', fig. 5",
    order=301,
    run=run,
    judge=judge,
    draw=draw,
)
