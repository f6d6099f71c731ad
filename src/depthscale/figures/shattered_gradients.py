"""Shattered gradients: brown noise, white noise and what lies between."""

from typing import TYPE_CHECKING

import numpy as np

from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import ACCENT, INK, SECOND, THIRD, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture
    from torch import nn

POINTS, WIDTH = 256, 100
NAMES = ("1 layer", "24 layers, plain", "50 layers, residual")
NEAR = 4  # rows of the grid between the inputs whose gradients are compared
BROWN = 0.1  # shattering below which gradients count as whole


def run(quick: bool, seed: int, say: Say) -> Data:
    """Gradients at 256 inputs in [−2, 2] of random ReLU networks, and their correlations over networks."""
    from depthscale.measure.shattered import gradient_correlation, grid, input_gradients, shattering

    seeds = [1000 * seed + i for i in range(12 if quick else 60)]
    x = grid(POINTS)
    rng = np.random.default_rng(seed)
    data: Data = {"x": [float(v) for v in x[:, 0]], "gradients": {}, "correlation": {}, "shattering": {}}
    for name in NAMES:
        say(f"{name}: {len(seeds)} networks")
        correlation = gradient_correlation(lambda s, n=name: _network(n, s), x, seeds)  # type: ignore[misc]
        data["gradients"][name] = [float(g) for g in input_gradients(_network(name, seeds[0]), x)[:, 0]]
        data["correlation"][name] = correlation[::4, ::4].round(4).tolist()
        data["shattering"][name] = shattering(correlation, NEAR)
    noise = rng.normal(size=POINTS)
    data["noise"] = {"brown": np.cumsum(noise).tolist(), "white": noise.tolist()}
    data["networks"] = len(seeds)
    return data


def _network(name: str, seed: int) -> "nn.Module":
    """One of the three, at He's law with biases as wide as the inputs, so that kinks lie all over the grid."""
    import torch
    from torch import nn

    g = torch.Generator().manual_seed(seed)

    class Residual(nn.Module):
        """x + √(1/L) W φ(x)."""

        def __init__(self, blocks: int) -> None:
            super().__init__()
            self.inner, self.scale = _linear(WIDTH, WIDTH, g), float(blocks**-0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            branch: torch.Tensor = self.inner(torch.relu(x))
            out: torch.Tensor = x + self.scale * branch
            return out

    first, last = _linear(1, WIDTH, g, 1.0), _linear(WIDTH, 1, g, 0.0)
    if name == NAMES[0]:
        return nn.Sequential(first, nn.ReLU(), last)
    if name == NAMES[1]:
        inner = [m for _ in range(23) for m in (_linear(WIDTH, WIDTH, g), nn.ReLU())]
        return nn.Sequential(first, nn.ReLU(), *inner, last)
    return nn.Sequential(first, *[Residual(49) for _ in range(49)], nn.ReLU(), last)


def _linear(fan_in: int, fan_out: int, g: object, bias: float = 0.3) -> "nn.Linear":
    import torch
    from torch import nn

    layer = nn.Linear(fan_in, fan_out)
    with torch.no_grad():
        layer.weight.normal_(0.0, (2.0 / fan_in) ** 0.5, generator=g)  # type: ignore[arg-type]
        layer.bias.normal_(0.0, max(bias, 1e-12), generator=g)  # type: ignore[arg-type]
    return layer


def judge(data: Data) -> Verdict:
    """Holds if neighbouring gradients agree in one layer, do not in 24 plain ones, and residual ones lie between."""
    one, plain, residual = (float(data["shattering"][n]) for n in NAMES)
    holds = one < BROWN and plain > 3 * one and plain > 2 * residual and residual > one
    return Verdict(
        "holds" if holds else "fails",
        f"gradients {NEAR} of {POINTS} rows apart lose {one:.3f} of their correlation in one layer, {plain:.3f} in 24 "
        f"plain ones and {residual:.3f} in 50 residual ones, over {data['networks']} networks each (plain more than "
        "three times one layer's and twice the residual one's wanted)",
    )


def draw(data: Data) -> "Picture":
    """Gradients over the grid, their correlations, and noise to compare with."""
    figure, axes = picture(2, 5, width=12.4, height=4.6)
    shown = [(n, data["gradients"][n], c) for n, c in zip(NAMES, (ACCENT, SECOND, THIRD), strict=True)]
    shown += [(f"{k} noise", v, INK) for k, v in data["noise"].items()]
    for i, (name, values, colour) in enumerate(shown):
        top, below = axes[i], axes[5 + i]
        top.plot(data["x"], values, color=colour, linewidth=0.8)
        top.set_title(name)
        top.set_yticks([])
        top.set_xlabel("input")
        below.grid(False)
        if name in data["correlation"]:
            below.imshow(data["correlation"][name], vmin=0, vmax=1, origin="lower", extent=(-2, 2, -2, 2))
        else:
            below.imshow(_of_noise(name), vmin=0, vmax=1, origin="lower", extent=(-2, 2, -2, 2))
        below.set_xlabel("input")
    axes[0].set_ylabel("gradient")
    axes[5].set_ylabel("correlation of gradients")
    return figure


def _of_noise(name: str) -> list[list[float]]:
    """The correlation of brown noise, √(s/t) for s < t, and of white noise."""
    n = 64
    t = np.arange(1, n + 1) / n
    matrix = np.sqrt(np.minimum.outer(t, t) / np.maximum.outer(t, t)) if name.startswith("brown") else np.eye(n)
    return [[float(v) for v in row] for row in matrix]


FIGURE = Figure(
    name="shattered-gradients",
    title="Gradients shatter in deep plain networks, less so in residual ones",
    claim="Gradients at neighbouring inputs of a ReLU network lose their agreement several times as fast in 24 plain "
    "layers as in one, and faster than in 50 residual ones.",
    source="Balduzzi et al. 2017, The shattered gradients problem, figure 1",
    order=330,
    run=run,
    judge=judge,
    draw=draw,
)
