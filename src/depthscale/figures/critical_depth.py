"""Three hundred layers of tanh: which initialisations train, at the best of several rates each."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale import zoo
from depthscale.data import load
from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import SERIES, picture
from depthscale.graph import Graph, laws
from depthscale.theory import critical_point
from depthscale.train import Budget, Member, TrainConfig, train_ensemble

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

DEPTH, WIDTH = 300, 48
SB2 = 0.001  # close to the origin of the critical line, where the spread of singular values grows most slowly
TRAINED, FAILED = 0.8, 0.5  # of training accuracy
TANH_GAIN = 5 / 3  # torch.nn.init.calculate_gain("tanh")


def arms() -> dict[str, Graph]:
    """The networks, one per initialisation."""
    sw2 = float(critical_point("tanh", sb2=SB2).sw2)
    widths = (64, *[WIDTH] * DEPTH, 10)

    def network(weight: laws.Law, bias: laws.Law) -> Graph:
        return zoo.mlp(widths, "tanh", input_shape=(1, 8, 8), weight=weight, first=weight, bias=bias)

    small = laws.Normal(math.sqrt(SB2))
    return {
        "critical, orthogonal": network(laws.Orthogonal(math.sqrt(sw2)), small),
        "critical, Gaussian": network(laws.variance(sw2), small),
        "Xavier, gain 5/3": network(laws.Uniform(TANH_GAIN * math.sqrt(3), fan="average"), laws.ZERO),
        "Xavier": network(laws.XAVIER, laws.ZERO),
        "PyTorch's default": network(laws.TORCH_DEFAULT, laws.Uniform(1 / math.sqrt(WIDTH))),
    }


def run(quick: bool, seed: int, say: Say) -> Data:
    """Every initialisation at several rates, all in one ensemble."""
    rates, seeds, steps = ((0.003, 0.01), 1, 100) if quick else ((0.001, 0.003, 0.01, 0.03), 3, 400)
    graphs = arms()
    members = [Member(seed=seed + k, lr=lr, graph=g) for g in graphs.values() for lr in rates for k in range(seeds)]
    config = TrainConfig(
        budget=Budget(steps=steps), batch=32, optimiser="sgd", momentum=0.0, nesterov=False, weight_decay=0.0,
        schedule="constant", warmup=0.0, seed=seed,
    )  # fmt: skip
    result = train_ensemble(
        members[0].graph or graphs["Xavier"], load("digits"), members, config=config,
        validate_every=max(1, steps // 10), score_rows=400,
        progress=lambda share: say(f"{len(members)} networks of {DEPTH} layers, {100 * share:.0f} %"),
    )  # fmt: skip
    found: dict[str, Any] = {}
    at = 0
    for name in graphs:
        scores = []
        for _ in rates:
            part = [result[k] for k in range(at, at + seeds)]
            at += seeds
            scores.append([0.1 if m.diverged else m.train["accuracy"] for m in part])
            curve = [[step, row["train accuracy"]] for step, row in part[0].curve]
            found.setdefault(name, {"curves": []})["curves"].append(curve)
        best = int(np.mean(scores, 1).argmax())
        found[name] |= {"lr": rates[best], "accuracy": scores[best], "curve": found[name].pop("curves")[best]}
    return {"depth": DEPTH, "width": WIDTH, "sb2": SB2, "steps": steps, "rates": list(rates), "arms": found}


def judge(data: Data) -> Verdict:
    """Holds if a critical start trains and neither Xavier's two nor PyTorch's default do, each at its best rate."""
    mean = {name: float(np.mean(arm["accuracy"])) for name, arm in data["arms"].items()}
    critical = max(v for k, v in mean.items() if k.startswith("critical"))
    others = {k: v for k, v in mean.items() if not k.startswith("critical")}
    words = ", ".join(f"{k} {v:.3f}" for k, v in mean.items())
    words = f"training accuracy after {data['steps']} steps (trained: {TRAINED}, failed: below {FAILED}): {words}"
    if critical < TRAINED:
        return Verdict("fails", words)
    return Verdict("holds" if max(others.values()) < FAILED else "fails", words)


def draw(data: Data) -> "Picture":
    """Accuracy over steps, each start at its best rate."""
    figure, (axes,) = picture()
    for (name, arm), colour in zip(data["arms"].items(), SERIES, strict=False):
        points = np.array([p for p in arm["curve"] if math.isfinite(p[1])])
        if len(points):
            axes.plot(points[:, 0], points[:, 1], "o-", markersize=3, color=colour, label=f"{name} (lr {arm['lr']:g})")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("step")
    axes.set_ylabel("training accuracy")
    axes.legend(title=f"tanh, {data['depth']} layers of {data['width']}, digits", loc="center right")
    return figure


FIGURE = Figure(
    name="critical-depth",
    title="Three hundred layers",
    claim="A tanh network of 300 layers trains from a critical initialisation, and does not from Xavier's (with or "
    "without the gain of 5/3) nor from PyTorch's default.",
    source="Schoenholz et al. 2017; Pennington, Schoenholz & Ganguli 2017; Glorot & Bengio 2010",
    order=311,
    run=run,
    judge=judge,
    draw=draw,
)
