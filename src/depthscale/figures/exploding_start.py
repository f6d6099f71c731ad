"""A start from a plain normal law that explodes after a few steps, and the clipping of gradients that saves it."""

from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale import zoo
from depthscale.data import load
from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import ACCENT, INK, SECOND, THIRD, picture
from depthscale.graph import laws
from depthscale.train import Budget, Member, TrainConfig, train_ensemble

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

WIDTH, DEPTH, LR, CLIP = 100, 8, 0.01, 1.0
STD = 0.25  # N(0, 1/16) whatever the width: sw2 = 6.25, three times what ReLU keeps lengths at
SAVED = 0.8  # training accuracy
HIGHEST = 1e8  # loss that is still drawn
LOWEST = 1e-12  # of a loss on a logarithmic axis


def run(quick: bool, seed: int, say: Say) -> Data:
    """ReLU networks: N(0, 1/16) as it is, the same with clipped gradients, and He's law."""
    seeds, steps = (6, 200) if quick else (16, 400)
    data = load("digits")
    base = TrainConfig(
        budget=Budget(steps=steps), batch=32, optimiser="sgd", lr=LR, momentum=0.9, nesterov=False, weight_decay=0.0,
        schedule="constant", warmup=0.0, seed=seed,
    )  # fmt: skip

    def network(law: laws.Law) -> Any:
        return zoo.mlp(
            (64, *[WIDTH] * DEPTH, 10), "relu", input_shape=data.input_shape, weight=law, first=law, last=law
        )

    arms = {
        "normal": (laws.Normal(STD), None),
        "normal, clipped": (laws.Normal(STD), CLIP),
        "He": (laws.HE, None),
    }
    found = {}
    for name, (law, clip) in arms.items():
        say(f"{name}: {seeds} networks")
        result = train_ensemble(
            network(law), data, [Member(seed=seed + k) for k in range(seeds)],
            config=base.with_(clip=clip), score_rows=600,
        )  # fmt: skip
        found[name] = {
            "accuracy": [m.train["accuracy"] for m in result],
            "diverged_at": [m.steps if m.diverged else None for m in result],
            "losses": [m.losses.tolist() for m in result],  # of every batch
        }
    return {"steps": steps, "arms": found}


def judge(data: Data) -> Verdict:
    """Holds if most networks break or stay at chance without clipping, and with it train."""
    chance = 0.2
    plain, clipped = data["arms"]["normal"], data["arms"]["normal, clipped"]
    lost = [d is not None or a < chance for d, a in zip(plain["diverged_at"], plain["accuracy"], strict=True)]
    saved = [d is None and a >= SAVED for d, a in zip(clipped["diverged_at"], clipped["accuracy"], strict=True)]
    when = [d for d in plain["diverged_at"] if d is not None]
    words = (
        f"{sum(lost)} of {len(lost)} networks break or stay below {chance} accuracy unclipped"
        f"{f' (numbers break at step {int(np.median(when))} in the middle)' if when else ''}, {sum(saved)} of "
        f"{len(saved)} reach {SAVED} clipped; expected three quarters of both"
    )
    return Verdict("holds" if np.mean(lost) >= 0.75 and np.mean(saved) >= 0.75 else "fails", words)


def _smoothed(y: np.ndarray) -> np.ndarray:
    """Geometric means over a tenth of the steps to either side: the first ten steps stay as they are."""
    tenth = np.arange(1, len(y) + 1) // 10
    logs = np.log(np.maximum(y, LOWEST))
    return np.exp([logs[max(t - n, 0) : t + n + 1].mean() for t, n in enumerate(tenth)])


def draw(data: Data) -> "Picture":
    """Loss over steps, a cross where a network's numbers broke."""
    figure, (axes,) = picture()
    for (name, arm), colour in zip(data["arms"].items(), (SECOND, ACCENT, THIRD), strict=True):
        for k, losses in enumerate(arm["losses"]):
            y = _smoothed(np.minimum(np.array(losses, dtype=float), HIGHEST))
            broken = arm["diverged_at"][k] is not None
            axes.plot(np.arange(1, len(y) + 1), y, color=colour, linewidth=1, alpha=0.6, label=name if k == 0 else None)
            if broken:
                axes.plot(len(y), np.nan_to_num(y[-1], nan=HIGHEST), "x", color=INK, markersize=6, zorder=5)
    axes.plot([], [], "x", color=INK, label="numbers broke")
    axes.set_yscale("log")
    axes.set_xscale("log")
    axes.set_xlim(1, data["steps"])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("step")
    axes.set_ylabel("loss of the batch, means over ±10 % of the steps")
    axes.legend()
    return figure


FIGURE = Figure(
    name="exploding-start",
    title="A start that explodes, and what saves it",
    claim="Weights from one normal law for every layer make a deep ReLU network explode within a few steps; the same "
    "network trains when its gradients are clipped to a norm of one.",
    source="Pascanu, Mikolov & Bengio 2013, 'On the difficulty of training recurrent neural networks', algorithm 1; He "
    "et al. 2015",
    order=331,
    run=run,
    judge=judge,
    draw=draw,
)
