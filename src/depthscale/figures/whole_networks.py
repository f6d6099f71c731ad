"""Whole-network and randomly wired spaces against blockwise ones, at equal parameters, on real data."""

from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import INK, SERIES, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

    from depthscale.graph import Graph

SPACES = ("blockwise", "whole", "wired")
MARGIN = 0.01  # accuracy below which a difference is none
CLOSE = 0.15  # relative difference of parameters that counts as equal
TARGET = 50_000  # parameters; randomly wired networks have 39,000 at the least, most of them in their head
TRIES = 100  # draws for each network wanted


def run(quick: bool, seed: int, say: Say) -> Data:
    """Draws networks of every space with about as many parameters, trains all alike, validates."""
    from depthscale.build import build
    from depthscale.data import load
    from depthscale.train import Budget, TrainConfig, Trainer

    dataset = load("digits", seed=seed)
    n, target, epochs = (4, TARGET, 1.5) if quick else (24, TARGET, 12)
    found: Data = {"target": target, "epochs": epochs, "accuracy": {}, "parameters": {}}
    for name in SPACES:
        count = 2 if quick and name == "wired" else n  # beside the question, and the slowest
        graphs = _drawn(name, tuple(dataset.input_shape), dataset.outputs, count, target, seed)
        accuracy = []
        for i, graph in enumerate(graphs):
            say(f"{name}, network {i + 1} of {count}")
            config = TrainConfig(budget=Budget(epochs=epochs), batch=32, lr=5e-3, seed=seed, device="cpu")
            trainer = Trainer(build(graph, seed), dataset, config, progress=False)
            trainer.run()
            accuracy.append(float(trainer.result().val.get("accuracy", 0.0)))
        found["accuracy"][name] = accuracy
        found["parameters"][name] = [g.cost().parameters for g in graphs]
    return found


def _drawn(name: str, shape: tuple[int, ...], outputs: int, n: int, target: int, seed: int) -> "list[Graph]":
    """Networks of a space within 15 % of the target: the width is chosen for every draw."""
    from depthscale.errors import GraphError, SearchError
    from depthscale.search.space import Script
    from depthscale.search.spaces import space

    options: dict[str, dict[str, Any]] = {
        "blockwise": {"nodes": 4, "repeats": 1},
        "whole": {"nodes": 12},
        "wired": {"nodes": 6},
    }
    rng = np.random.default_rng(seed)
    found: list[Graph] = []
    for _ in range(TRIES * n):
        try:
            drawn = space(name, input_shape=shape, outputs=outputs, width=8, **options[name]).sample(rng)
            sized = [
                space(name, input_shape=shape, outputs=outputs, width=w, **options[name])
                .draw(Script(drawn.decisions))
                .architecture
                for w in range(4, 25, 2)
            ]
        except GraphError:
            continue
        best = min(sized, key=lambda g: abs(g.cost().parameters - target))
        if abs(best.cost().parameters - target) <= CLOSE * target:
            found.append(best)
        if len(found) == n:
            return found
    raise SearchError(
        f"expected space {name} to have networks of about {target:,} parameters, found {len(found)} of {n}"
    )


def judge(data: Data) -> Verdict:
    """Holds if whole networks are better than blocks by more than the margin; fails if surely by less."""
    block, whole = (np.array(data["accuracy"][k]) for k in ("blockwise", "whole"))
    drawn = np.random.default_rng(0)
    i = drawn.integers(len(whole), size=(2000, len(whole)))
    j = drawn.integers(len(block), size=(2000, len(block)))
    low, high = np.quantile(whole[i].mean(1) - block[j].mean(1), [0.025, 0.975])
    means = ", ".join(f"{k} {100 * np.mean(v):.1f} %" for k, v in data["accuracy"].items())
    words = (
        f"{means} ({len(whole)} networks each of about {data['target']:,} parameters); whole less blockwise "
        f"{100 * (whole.mean() - block.mean()):+.1f} points (95 % {100 * low:+.1f} to {100 * high:+.1f}, margin "
        f"{100 * MARGIN:.0f})"
    )
    return Verdict("holds" if low > 0 else "fails" if high < MARGIN else "undecided", words)


def draw(data: Data) -> "Picture":
    """Every network by its size and accuracy, and the means."""
    figure, (left, right) = picture(1, 2, width=9.0, height=3.8)
    for i, (name, colour) in enumerate(zip(SPACES, SERIES, strict=False)):
        accuracy = 100 * np.array(data["accuracy"][name])
        left.plot(data["parameters"][name], accuracy, "o", color=colour, alpha=0.7, label=name)
        right.plot(np.full(len(accuracy), i), accuracy, "o", color=colour, alpha=0.5)
        right.plot([i - 0.25, i + 0.25], [accuracy.mean()] * 2, color=INK)
    left.xaxis.set_major_formatter("{x:,.0f}")
    left.locator_params(axis="x", nbins=5)
    left.set_xlabel("parameters")
    left.set_ylabel("validation accuracy, %")
    left.legend()
    right.set_xticks(range(len(SPACES)), SPACES)
    right.set_ylabel("validation accuracy, %")
    return figure


FIGURE = Figure(
    name="whole-networks",
    title="What repeating a block gives up",
    claim="At equal parameters, networks drawn from a space without repeated blocks are better than networks drawn "
    "from a blockwise space.",
    source="own question after Zhong et al. 2018 and Xie et al. 2019; data: digits",
    order=450,
    run=run,
    judge=judge,
    draw=draw,
)
