"""Unit variance at every layer is not criticality."""

import math
from typing import TYPE_CHECKING

import numpy as np

from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import ACCENT, SECOND, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

DEPTH, WIDTH, EXAMPLES = 50, 256, 256
KINDS = ("LSUV", "critical")


def run(quick: bool, seed: int, say: Say) -> Data:
    """Lengths and gradients in tanh networks whose layers were scaled to unit variance, and in critical ones."""
    depth, seeds = DEPTH, 3 if quick else 10
    data: Data = {"depth": depth, "seeds": seeds, "q": {}, "gradient": {}, "ratio": {}, "predicted": _chi(depth)}
    for kind in KINDS:
        say(f"{seeds} networks, {kind}")
        lengths, gradients = [], []
        for s in range(seeds):
            q, g = _moments(kind, depth, 1000 * seed + s)
            lengths.append(q)
            gradients.append(g)
        data["q"][kind] = np.mean(lengths, 0).tolist()
        data["gradient"][kind] = np.exp(np.mean(np.log(gradients), 0)).tolist()
        data["ratio"][kind] = [float(g[-1] / g[0]) for g in gradients]
    return data


def _chi(depth: int) -> float:
    """What mean-field theory gives at q = 1 for the root mean square gradient of the last layer over the first's."""
    from depthscale.theory import activation

    act = activation("tanh")
    chi = float(act.derivative_second_moment(1.0)) / float(act.second_moment(1.0))
    return math.sqrt(chi) ** -(depth - 1)


def _moments(kind: str, depth: int, seed: int) -> tuple[list[float], list[float]]:
    """E[h²] and √E[(∂L/∂h)²] of every layer's pre-activations h, for unit-variance noise at the last one.

    The way back is δ ← (δ W) φ'(h).
    """
    import torch

    g = torch.Generator().manual_seed(seed)
    x = torch.randn(EXAMPLES, WIDTH, generator=g)
    weights, hidden = [], []
    for _ in range(depth):
        w = torch.randn(WIDTH, WIDTH, generator=g) / math.sqrt(WIDTH)
        if kind == "LSUV":
            w = torch.linalg.qr(w)[0]
            w = w / (x @ w.T).std()
        h = x @ w.T
        weights.append(w)
        hidden.append(h)
        x = torch.tanh(h)
    delta = torch.randn(EXAMPLES, WIDTH, generator=g)
    gradients = [delta]
    for w, h in zip(reversed(weights[1:]), reversed(hidden[:-1]), strict=True):
        delta = (delta @ w) * (1 - torch.tanh(h).square())
        gradients.append(delta)
    return [float(h.square().mean()) for h in hidden], [float(d.square().mean().sqrt()) for d in reversed(gradients)]


def judge(data: Data) -> Verdict:
    """Holds if variances are 1 within 5 % under LSUV and the gradient still changes tenfold and as predicted."""
    q = np.array(data["q"]["LSUV"])
    flat = float(np.max(np.abs(q - 1)))
    change = [max(r, 1 / r) for r in data["ratio"]["LSUV"]]
    typical = float(np.exp(np.mean(np.log(change))))
    steady = float(np.exp(np.mean(np.log([max(r, 1 / r) for r in data["ratio"]["critical"]]))))
    predicted = max(data["predicted"], 1 / data["predicted"])
    near = abs(math.log(typical / predicted)) < math.log(2)
    return Verdict(
        "holds" if flat < 0.05 and typical > 10 and typical > 3 * steady and near else "fails",
        f"every layer's variance is within {flat:.1%} of 1, and the gradient changes {typical:.0f}-fold between first "
        f"and last of {data['depth']} layers (10 wanted, theory {predicted:.0f}; critical weights: {steady:.1f}-fold), "
        f"n = {data['seeds']}",
    )


def draw(data: Data) -> "Picture":
    """Variance and gradient by layer."""
    figure, (a, b) = picture(1, 2, width=8.6, height=3.4)
    layers = np.arange(1, data["depth"] + 1)
    for kind, colour in zip(KINDS, (SECOND, ACCENT), strict=True):
        a.semilogy(layers, data["q"][kind], color=colour, label=kind)
        b.semilogy(layers, data["gradient"][kind], color=colour, label=kind)
    a.set_xlabel("layer")
    a.set_ylabel("variance of pre-activations")
    a.set_ylim(1e-3, 10)
    b.set_xlabel("layer")
    b.set_ylabel("gradient, root mean square")
    b.legend(fontsize=8)
    return figure


FIGURE = Figure(
    name="unit-variance",
    title="Unit variance is not critical",
    claim="A 50-layer tanh network whose layers all have unit variance (LSUV) still has a gradient that differs tens "
    "of times between its first and its last layer; with critical weights, whose variances fall, it differs less.",
    source="Mishkin & Matas 2016, All you need is a good init; Poole et al. 2016 for what unit variance leaves open",
    order=340,
    run=run,
    judge=judge,
    draw=draw,
)
