"""Residual networks behave like ensembles of shallow ones."""

from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import ACCENT, SECOND, THIRD, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture
    from torch import nn

BLOCKS, WIDTH = 20, 48
COUNTS = (0, 1, 2, 4, 6, 8, 10)
CHANCE = 0.1


def run(quick: bool, seed: int, say: Say) -> Data:
    """Trains a residual and a plain network on digits; gradient by path length, and accuracy without some blocks."""
    import torch

    from depthscale.measure.residual import lesions, path_gradients, path_lengths

    x, y = _digits()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=generator)
    train, test = order[:1400], order[1400:]
    data: Data = {"counts": list(COUNTS), "accuracy": {}, "lesions": {}}
    for name in ("residual", "plain"):
        say(f"training the {name} network")
        model = _network(name == "residual", seed)
        _train(model, x[train], y[train], 300 if quick else 1500, generator)

        def score(model: Any = model) -> float:
            with torch.no_grad():
                return float((model(x[test]).argmax(1) == y[test]).float().mean())

        data["accuracy"][name] = score()
        found = lesions(list(model[1].children()), score, COUNTS, samples=8 if quick else 30, seed=seed)
        data["lesions"][name] = {str(n): scores for n, scores in found.items()}
        if name == "residual":
            say("gradient by path length")
            some = test[:64]

            def head(h: Any, model: Any = model, some: Any = some) -> Any:
                return torch.nn.functional.cross_entropy(model[2](h), y[some])

            inner = model[0](x[some]).detach()
            norms = path_gradients(list(model[1].children()), inner, head, samples=10 if quick else 40, seed=seed)
            shares = path_lengths(BLOCKS)
            data["gradient"] = norms.tolist()
            data["lengths"] = shares.tolist()
            data["carried"] = (norms * shares / float(norms @ shares)).tolist()
    return data


def _digits() -> Any:
    import torch
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = torch.tensor((x - x.mean()) / x.std(), dtype=torch.float32)
    return x, torch.tensor(y)


def _network(residual: bool, seed: int) -> "nn.Sequential":
    """Stem, blocks and head; the plain one has the same blocks without their shortcut."""
    import torch
    from torch import nn

    class Block(nn.Module):
        """(x +) W φ(norm(x))."""

        def __init__(self) -> None:
            super().__init__()
            self.norm, self.inner = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)
            nn.init.normal_(self.inner.weight, 0.0, (2.0 / WIDTH) ** 0.5 * (BLOCKS**-0.5 if residual else 1.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            branch: torch.Tensor = self.inner(torch.relu(self.norm(x)))
            return x + branch if residual else branch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(64, WIDTH),
            nn.Sequential(*[Block() for _ in range(BLOCKS)]),
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)),
        )


def _train(model: "nn.Module", x: Any, y: Any, steps: int, generator: Any) -> None:
    import torch

    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(steps):
        at = torch.randint(0, len(x), (64,), generator=generator)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(x[at]), y[at]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def judge(data: Data) -> Verdict:
    """Holds if a deleted block costs the residual network little and the plain one most, and short paths carry more."""
    cost = {k: data["accuracy"][k] - float(np.mean(data["lesions"][k]["1"])) for k in ("residual", "plain")}
    carried = np.array(data["carried"])
    short = float(carried[: BLOCKS // 2].sum())
    mean = float(carried @ np.arange(BLOCKS + 1))
    trained = data["accuracy"]["residual"] > 0.85 and data["accuracy"]["plain"] > 0.5
    if not trained:
        return Verdict("undecided", f"the networks reached {data['accuracy']}, too little to take blocks from")
    holds = cost["residual"] < 0.1 and cost["plain"] > 3 * cost["residual"] and mean < BLOCKS / 2
    return Verdict(
        "holds" if holds else "fails",
        f"one of {BLOCKS} blocks deleted costs {cost['residual']:.3f} of accuracy with shortcuts (0.1 allowed) and "
        f"{cost['plain']:.3f} without (three times as much wanted); paths of fewer than {BLOCKS // 2} branches carry "
        f"{short:.0%} of the gradient, whose mean path passes {mean:.1f} branches (fewer than {BLOCKS / 2:g} wanted)",
    )


def draw(data: Data) -> "Picture":
    """Path lengths, gradient by length, what the lengths carry; lesions."""
    figure, (a, b, c) = picture(1, 3, width=11.5, height=3.6)
    k = np.arange(len(data["lengths"]))
    a.bar(k - 0.2, data["lengths"], 0.4, color=SECOND, label="paths: Binomial(L, ½)")
    a.bar(k + 0.2, data["carried"], 0.4, color=ACCENT, label="gradient they carry")
    a.set_xlabel("branches on the path")
    a.set_ylabel("share")
    a.margins(y=0.25)
    a.legend(fontsize=8)
    b.semilogy(k, data["gradient"], "o-", color=ACCENT, markersize=3)
    b.set_xlabel("branches on the path")
    b.set_ylabel("gradient norm of one path")
    for name, colour in (("residual", ACCENT), ("plain", THIRD)):
        found = [data["lesions"][name][str(n)] for n in data["counts"]]
        c.plot(data["counts"], [np.mean(f) for f in found], "o-", color=colour, label=name)
        c.fill_between(data["counts"], [min(f) for f in found], [max(f) for f in found], color=colour, alpha=0.15)
    c.axhline(CHANCE, color="#888888", linewidth=0.8, linestyle="--")
    c.set_xlabel(f"deleted of {BLOCKS} blocks")
    c.set_ylabel("test accuracy")
    c.set_ylim(0, 1)
    c.legend(fontsize=8)
    return figure


FIGURE = Figure(
    name="residual-ensembles",
    title="Residual networks are ensembles of short paths",
    claim="Deleting one of 20 blocks of a trained residual network costs it hardly any accuracy and a plain network "
    "most of it, and the gradient comes along paths shorter than the average one.",
    source="Veit, Wilber & Belongie 2016, Residual networks behave like ensembles of relatively shallow networks",
    order=335,
    run=run,
    judge=judge,
    draw=draw,
)
