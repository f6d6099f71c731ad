"""Linear layers, however many, make a plane; one bend makes the difference."""

from typing import TYPE_CHECKING

import numpy as np

from depthscale.figures._nets import fit
from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import INK, picture
from depthscale.foundations.multilayer import IDENTITY, RELU, forward, make

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

CORNERS = [[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]
TARGETS = [0.0, 0.0, 1.0, 1.0]  # exclusive or
GRID = 41
BEST_PLANE = 0.125  # ½ · ¼: no plane does better than the constant ½


def run(quick: bool, seed: int, say: Say) -> Data:
    """Trains linear and ReLU stacks of several depths on exclusive or; how far is each from the nearest plane?"""
    rng = np.random.default_rng(seed)
    x, y = np.array(CORNERS), np.array(TARGETS)[:, None]
    ticks = np.linspace(-0.5, 1.5, GRID)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    plane = np.column_stack([np.ones(len(grid)), grid])
    data: Data = {"depth": [1, 2, 4] if quick else [1, 2, 4, 8], "ticks": ticks.tolist()}
    for name, activation in (("linear", IDENTITY), ("relu", RELU)):
        off, losses = [], []
        for depth in data["depth"]:
            say(f"{name}, {depth} hidden layers")
            tries = [fit(make((2, *[8] * depth, 1), activation, rng), x, y, iterations=400) for _ in range(3)]
            layers, loss = min(tries, key=lambda t: t[1])
            values = forward(layers, grid)[0][:, 0]
            nearest = plane @ np.linalg.lstsq(plane, values, rcond=None)[0]
            off.append(float(np.abs(values - nearest).max()))
            losses.append(loss)
        data[f"{name}_distance_from_a_plane"], data[f"{name}_loss"] = off, losses
        data[f"{name}_values"] = values.reshape(GRID, GRID).tolist()
    return data


def judge(data: Data) -> Verdict:
    """Holds if linear stacks are planes to rounding and learn nothing, and ReLU ones are no planes and learn."""
    flat = max(data["linear_distance_from_a_plane"])
    bent = min(data["relu_distance_from_a_plane"])
    stuck, learned = min(data["linear_loss"]), max(data["relu_loss"])
    ok = flat < 1e-10 and stuck > BEST_PLANE - 1e-9 and bent > 0.1 and learned < 1e-3
    return Verdict(
        "holds" if ok else "fails",
        f"linear stacks are at most {flat:.1g} from a plane (bound 1e-10) with a loss of {stuck:.4f} (a plane's best "
        f"is 0.125); ReLU stacks are at least {bent:.2g} from one (bound 0.1) with a loss of at most {learned:.1g}",
    )


def draw(data: Data) -> "Picture":
    """The two functions after training, the deepest of each."""
    figure, axes = picture(1, 2, width=7.2, height=3.4, sharey=True)
    for a, name, title in zip(axes, ("linear", "relu"), ("linear layers", "with ReLU between them"), strict=True):
        values = np.array(data[f"{name}_values"])
        shown = a.contourf(data["ticks"], data["ticks"], values, levels=np.linspace(-0.5, 1.5, 21), cmap="PuOr_r",
                           extend="both")  # fmt: skip
        a.contour(data["ticks"], data["ticks"], values, levels=[0.5], colors=INK, linewidths=1)
        for (p, q), t in zip(CORNERS, TARGETS, strict=True):
            a.plot(p, q, "o", markersize=9, markeredgecolor=INK, color="white" if t == 0 else INK)
        a.set_title(f"{data['depth'][-1]} {title}: loss {data[f'{name}_loss'][-1]:.2g}", fontsize=9)
        a.set_aspect("equal")
        a.grid(visible=False)
    figure.colorbar(shown, ax=axes, label="output", shrink=0.85, ticks=[-0.5, 0, 0.5, 1, 1.5])
    return figure


FIGURE = Figure(
    name="linear-stack",
    title="Stacked linear layers are one plane",
    claim="However many linear layers are stacked, the network is a plane and cannot learn exclusive or; with a ReLU "
    "between them it is not and can.",
    source="Minsky & Papert 1969; Rumelhart, Hinton & Williams 1986",
    order=30,
    run=run,
    judge=judge,
    draw=draw,
)
