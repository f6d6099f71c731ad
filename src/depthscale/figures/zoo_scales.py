"""Signal and gradient through every network of the zoo: theory's prediction beside what built networks do.

Each network is built with its own parameter laws for several seeds, in training mode, and fed white noise; a gradient
of independent unit-variance entries is pulled back from its outputs. Measured at every node: the mean square of the
value and of the gradient. Theory is asked the same for the same image size and batch. By depth (weighted layers on the
longest path) this gives two curves a network, and a growth per layer on the way in and on the way back.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import ACCENT, GRID, INK, SECOND, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

    from depthscale.graph import Graph

QUICK = (
    "mlp", "convnet", "lenet5", "resnet20", "resnet56", "resnetv2_110", "densenet40_k12", "metaqnn", "nasbench201",
    "vit_small_image",
)  # fmt: skip
SEEDS, QUICK_SEEDS = 3, 2
LARGE = 12e9  # multiply-adds an image beyond which images of half the side are used
WORK, MEMORY = 20e9, 1.2e9  # multiply-adds and bytes of activations that a batch may take
# |log10(predicted/measured)| that is allowed: median over all nodes of all networks, and for a ratio of two layers
FORWARD, BACKWARD, RATIO = 0.01, 0.06, 0.3
SHARE = 0.9  # of networks whose first-to-last gradient ratio must lie within RATIO


def setting(name: str) -> tuple["Graph", int]:
    """The graph of a network as it is measured, and the examples in a batch: 2 to 8, as many as its cost allows."""
    from depthscale import zoo
    from depthscale.errors import GraphError

    graph = zoo.get(name)
    cost = graph.cost()
    shape = graph.shapes()[graph.inputs[0]]
    if cost.multiply_adds > LARGE and len(shape) == 4:
        options: dict[str, Any] = {"image_size": shape[-1] // 2}
        if "small" in zoo.entry(name).takes:
            options["small"] = False
        try:
            graph = zoo.get(name, **options)
            cost = graph.cost()
        except GraphError:  # patches that do not fit into half an image
            pass
    fits = min(WORK / max(cost.multiply_adds, 1), MEMORY / cost.activation_bytes)
    return graph, int(min(max(fits, 2), 8))


def simulate(graph: "Graph", seed: int, batch: int) -> dict[str, tuple[float, float]]:
    """The mean squares of every node's value and of its gradient, for one seed of weights, data and output gradients.

    Nodes that no gradient reaches have 0.
    """
    import torch

    from depthscale.build import build

    def square(x: torch.Tensor) -> float:
        return float(torch.linalg.vector_norm(x, dtype=torch.float64)) ** 2 / x.numel()

    generator = torch.Generator().manual_seed(10_000 + seed)
    module = build(graph, seed).train().requires_grad_(False)
    # dropout and stochastic depth draw from the global generator: lend it and put it back
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = graph.shapes(batch)[graph.inputs[0]]
        x = torch.randn(shape, generator=generator).requires_grad_()
        values = module.intermediates(x)
        values[graph.inputs[0]] = x
        q = {name: square(v.detach()) for name, v in values.items()}
        g = dict.fromkeys(values, 0.0)
        outputs = [values[name] for name in graph.outputs]
        for name, v in values.items():
            if v.requires_grad:
                v.register_hook(lambda grad, name=name: g.__setitem__(name, square(grad)))  # type: ignore[no-untyped-call]
        del values
        cotangents = [torch.randn(o.shape, generator=generator) for o in outputs]
        cotangents = [
            c / math.sqrt(square(c)) for c in cotangents
        ]  # few outputs: their chance size is not the network's
        torch.autograd.backward(outputs, cotangents)
    for name, o in zip(graph.outputs, cotangents, strict=True):
        g[name] = square(o)
    return {name: (q[name], g[name]) for name in q}


def compare(name: str, runs: Sequence[Mapping[str, tuple[float, float]]], graph: "Graph", batch: int) -> Data:
    """Prediction and measurements (one mapping a seed, as ``simulate`` gives) of one network, as plain data.

    q and energy are by depth, averaged over the layers of one depth: predicted (depths,), measured (seeds, depths).
    errors: |log10(predicted/measured mean)| over all nodes, median and 90th percentile, with the noise of the mean.
    """
    from depthscale.graph import ops
    from depthscale.theory.propagate import propagate

    theory = propagate(graph, batch=batch)
    depth = graph.fold(lambda op, *d: max(d, default=0) + isinstance(op, ops.LAYERS))
    rows = [r for r in theory.rows if isinstance(r.op, ops.LAYERS) and r.g > 0]
    levels = sorted({depth[r.name] for r in rows})
    at = [[r for r in rows if depth[r.name] == d] for d in levels]

    def by_level(q: Mapping[str, float], g: Mapping[str, float]) -> tuple[list[float], list[float]]:
        sizes = {r.name: math.prod(r.shape[1:]) for r in rows}
        return (
            [float(np.mean([q[r.name] for r in same])) for same in at],
            [float(np.mean([g[r.name] * sizes[r.name] for r in same])) for same in at],
        )

    q, energy = by_level({r.name: r.q for r in rows}, {r.name: r.g for r in rows})
    seen = [by_level({n: v[0] for n, v in run.items()}, {n: v[1] for n, v in run.items()}) for run in runs]
    # what does not depend on the data (a gate of parameters alone) gets no gradient in ``simulate``
    fed = graph.fold(lambda op, *x: isinstance(op, ops.Input) or any(x))
    names = [r.name for r in theory.rows if r.name in runs[0] and fed[r.name]]
    return {
        "name": name,
        "image": list(graph.shapes()[graph.inputs[0]][1:]),
        "batch": batch,
        "depth": levels,
        "predicted": {"q": q, "energy": energy},
        "measured": {"q": [s[0] for s in seen], "energy": [s[1] for s in seen]},
        "forward": _errors([theory[n].q for n in names], [[run[n][0] for n in names] for run in runs]),
        "backward": _errors([theory[n].g for n in names], [[run[n][1] for n in names] for run in runs]),
    }


def _errors(predicted: Sequence[float], measured: Sequence[Sequence[float]]) -> Data:
    """Errors in decades over nodes, and the standard error of the measured mean beside them."""
    p, m = np.array(predicted), np.array(measured)  # (nodes,), (seeds, nodes)
    mean = m.mean(axis=0)
    alive = (p > 1e-30) | (mean > 1e-30)  # both zero: what is behind a branch that starts at zero
    p, m, mean = np.maximum(p[alive], 1e-300), m[:, alive], np.maximum(mean[alive], 1e-300)
    off = np.abs(np.log10(p / mean))
    noise = m.std(axis=0, ddof=1) / mean / math.sqrt(len(m)) / math.log(10) if len(m) > 1 else np.full_like(p, np.nan)
    return {
        "nodes": len(p),
        "median": float(np.median(off)),
        "p90": float(np.quantile(off, 0.9)),
        "noise": float(np.median(noise)),
        "noise_p90": float(np.quantile(noise, 0.9)),
        "all": [float(v) for v in off],
    }


def growth(curve: Sequence[float], depth: Sequence[int], *, back: bool = False) -> float:
    """The factor per layer between the first and the last depth; of gradients on their way ``back``."""
    if len(curve) < 2 or min(curve[0], curve[-1]) <= 0:
        return math.nan
    ratio = curve[0] / curve[-1] if back else curve[-1] / curve[0]
    return float(ratio ** (1 / max(depth[-1] - depth[0], 1)))


def decades(curve: Sequence[float], *, back: bool = False) -> float:
    """log10 of last over first; of gradients (``back``) first over last."""
    if len(curve) < 2 or min(curve[0], curve[-1]) <= 0:
        return math.nan
    return math.log10(curve[0] / curve[-1] if back else curve[-1] / curve[0])


def mean_curve(network: Data, what: str) -> list[float]:
    """The measured curve averaged over seeds."""
    return [float(v) for v in np.mean(network["measured"][what], axis=0)]


def ratio_error(network: Data) -> float:
    """|log10| of predicted over measured first-to-last gradient energy, as a ratio of root mean squares."""
    predicted = decades(network["predicted"]["energy"], back=True)
    return abs(predicted - decades(mean_curve(network, "energy"), back=True)) / 2


def run(quick: bool, seed: int, say: Say) -> Data:
    """Predict and measure; ``quick``: ten networks of small images, two seeds."""
    from depthscale import zoo

    count = QUICK_SEEDS if quick else SEEDS
    names: Iterable[str] = QUICK if quick else zoo.names()
    networks = []
    for name in names:
        graph, batch = setting(name)
        say(f"{name}: {len(graph)} nodes, {count} seeds of {batch} examples")
        runs = [simulate(graph, count * seed + k, batch) for k in range(count)]
        networks.append(compare(name, runs, graph, batch))
    return {"seeds": count, "networks": networks}


def judge(data: Data) -> Verdict:
    """By the median error over nodes, and by the share of networks whose first-to-last gradient ratio is right.

    Every network counts once: counting nodes, the deepest few of a selection would decide alone.
    """
    networks = data["networks"]
    forward, backward = (float(np.median([n[way]["median"] for n in networks])) for way in ("forward", "backward"))
    errors = [e for n in networks if not math.isnan(e := ratio_error(n))]
    share = float(np.mean([e <= RATIO for e in errors])) if errors else 0.0
    reason = (
        f"|log10(predicted/measured)|, median over nodes, median over networks: {forward:.4f} forward "
        f"(bound {FORWARD}) and {backward:.4f} backward (bound {BACKWARD}); first-to-last gradient ratio "
        f"within {RATIO} decades for {share:.0%} of {len(errors)} networks (bound {SHARE:.0%})"
    )
    holds = forward <= FORWARD and backward <= BACKWARD and share >= SHARE
    return Verdict("holds" if holds else "fails", reason)


def draw(data: Data) -> "Picture":
    """Small multiples: lines are predicted, dots measured (seeds averaged); blue the signal, orange the gradient."""
    networks = data["networks"]
    columns = min(10, max(4, math.ceil(math.sqrt(len(networks)))))
    rows = math.ceil(len(networks) / columns)
    figure, axes = picture(rows, columns, width=max(1.75 * columns, 7.2), height=1.5 * rows + 0.9)
    for ax, network in zip(axes, networks, strict=False):
        _panel(ax, network)
    for ax in axes[len(networks) :]:
        ax.set_axis_off()
    figure.suptitle(
        "Scale against depth, in decades: the signal (blue, first layer = 0) and the gradient's energy\n(brown, last "
        f"layer = 0). Lines: mean-field theory. Dots: built networks, mean of {data['seeds']} seeds.",
        fontsize=9.5, color=INK,
    )  # fmt: skip
    return figure


def _panel(ax: "Axes", network: Data) -> None:
    depth = network["depth"]
    for what, colour, base in (("q", ACCENT, 0), ("energy", SECOND, -1)):
        for kind in ("measured", "predicted"):
            curve = network["predicted"][what] if kind == "predicted" else mean_curve(network, what)
            y = np.log10(np.maximum(curve, 1e-300))
            y = y - y[base]
            if kind == "predicted":
                ax.plot(depth, y, color=colour, linewidth=1.0)
            else:
                ax.plot(depth, y, ".", color=colour, markersize=3.0, markeredgewidth=0, alpha=0.75)
    low, high = ax.get_ylim()
    if high - low < 1:  # nothing below a tenth of a decade should look like a cliff
        ax.set_ylim((low + high) / 2 - 0.5, (low + high) / 2 + 0.5)
    ax.axhline(0, color=GRID, linewidth=0.8, zorder=0)
    ax.set_title(network["name"], fontsize=7.5, color=INK, pad=2)
    ax.tick_params(labelsize=6, length=2, color=GRID, labelcolor=INK, pad=1)
    ax.grid(False)
    ax.locator_params(axis="both", nbins=4)


FIGURE = Figure(
    name="zoo-scales",
    title="Signal and gradient through every network of the zoo",
    claim=(
        "At initialisation mean-field theory gives the scale of the signal and of the gradient at every node of every "
        f"network of the zoo: the middle network's median error over nodes is at most {FORWARD} decades forward and "
        f"{BACKWARD} backward, and the first-to-last gradient ratio is within {RATIO} decades "
        f"for at least {SHARE:.0%} of the networks."
    ),
    source="Schoenholz et al. 2017 (Deep information propagation) and Yang et al. 2019, carried to whole graphs",
    order=150,
    run=run,
    judge=judge,
    draw=draw,
)
