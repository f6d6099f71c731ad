"""The degradation problem: more layers make plain networks train worse, and residual ones not."""

from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale import zoo
from depthscale.data import load
from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import ACCENT, SECOND, picture
from depthscale.graph import laws
from depthscale.train import Budget, Member, TrainConfig, train_ensemble

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

WIDTH = 32
DROP = 0.1  # of training accuracy: what plain networks must lose, and residual ones must not


def run(quick: bool, seed: int, say: Say) -> Data:
    """Plain and residual ReLU networks at He initialisation, the same steps for all, each at its best rate of three."""
    depths = (4, 16, 64) if quick else (2, 4, 8, 16, 32, 64, 128)
    seeds, steps = (3, 250) if quick else (5, 600)
    rates = (0.01, 0.03, 0.1)
    data = load("digits")
    config = TrainConfig(
        budget=Budget(steps=steps), batch=32, optimiser="sgd", momentum=0.0, nesterov=False, weight_decay=0.0,
        schedule="constant", warmup=0.0, seed=seed,
    )  # fmt: skip
    found: dict[str, Any] = {"plain": [], "residual": []}
    for kind, rows in found.items():
        for depth in depths:
            say(f"{kind}, {depth} layers")
            graph = zoo.mlp(
                (64, *[WIDTH] * depth, 10),
                "relu",
                input_shape=data.input_shape,
                residual=kind == "residual",
                weight=laws.HE,
            )
            members = [Member(seed=seed + k, lr=lr) for lr in rates for k in range(seeds)]
            result = train_ensemble(graph, data, members, config=config)
            scores = {
                split: np.array([0.1 if m.diverged else getattr(m, split)["accuracy"] for m in result]).reshape(
                    len(rates), seeds
                )
                for split in ("train", "val")
            }
            best = int(scores["train"].mean(1).argmax())
            rows.append({"depth": depth, "lr": rates[best], **{s: v[best].tolist() for s, v in scores.items()}})
    return {"width": WIDTH, "steps": steps, "rates": list(rates), **found}


def judge(data: Data) -> Verdict:
    """Holds if the deepest plain networks train worse than shallower ones, and the deepest residual ones do not."""
    mean = {k: [float(np.mean(r["train"])) for r in data[k]] for k in ("plain", "residual")}
    error = {k: [float(np.std(r["train"], ddof=1) / np.sqrt(len(r["train"]))) for r in data[k]] for k in mean}
    lost = {k: max(v) - v[-1] for k, v in mean.items()}
    ahead = mean["residual"][-1] - mean["plain"][-1]
    noise = 2 * float(np.hypot(error["residual"][-1], error["plain"][-1]))
    deepest = data["plain"][-1]["depth"]
    words = (
        f"at {deepest} layers training accuracy is {lost['plain']:.3f} below the best depth for plain networks (bound "
        f"{DROP}), {lost['residual']:.3f} for residual ones; residual lead by {ahead:.3f} (noise {noise:.3f})"
    )
    return Verdict("holds" if lost["plain"] > DROP >= lost["residual"] and ahead > noise else "fails", words)


def draw(data: Data) -> "Picture":
    """Accuracy against depth, training solid and validation dashed."""
    figure, (axes,) = picture()
    for kind, colour in (("plain", SECOND), ("residual", ACCENT)):
        depth = [r["depth"] for r in data[kind]]
        for split, style, words in (("train", "-", "training"), ("val", "--", "validation")):
            values = np.array([r[split] for r in data[kind]])
            error = values.std(1, ddof=1) / np.sqrt(values.shape[1])
            axes.errorbar(depth, values.mean(1), yerr=error, fmt="o" + style, color=colour, markersize=4,
                          label=f"{kind}, {words}")  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xticks([r["depth"] for r in data["plain"]])
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("hidden layers")
    axes.set_ylabel(f"accuracy after {data['steps']} steps")
    axes.legend()
    return figure


FIGURE = Figure(
    name="degradation",
    title="The degradation problem",
    claim="With the same number of steps, deeper plain networks reach a lower training accuracy than shallower ones, "
    "and residual networks do not.",
    source="He, Zhang, Ren & Sun 2016, 'Deep residual learning for image recognition', figs. 1 and 4",
    order=321,
    run=run,
    judge=judge,
    draw=draw,
)
