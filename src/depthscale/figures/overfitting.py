"""Polynomials of orders 0 to 9 on ten noisy points of a sine: too stiff, right, too free."""

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np

from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import ACCENT, INK, SECOND, picture
from depthscale.foundations import PolynomialCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

POINTS, NOISE, HIGHEST = 10, 0.3, 9
SHOWN = (1, 3, 9)


def run(quick: bool, seed: int, say: Say) -> Data:
    """Fits every order to many draws of the noise; errors are mean squares, on the points and on fresh ones."""
    draws = 500 if quick else 5000
    x = np.linspace(0, 2 * np.pi, POINTS)
    fresh = np.linspace(0, 2 * np.pi, 201)
    y = np.sin(x)[:, None] + NOISE * np.random.default_rng(seed).normal(size=(POINTS, draws))
    train, test = np.zeros((draws, HIGHEST + 1)), np.zeros((draws, HIGHEST + 1))
    curves: dict[str, list[float]] = {}
    for order in range(HIGHEST + 1):
        say(f"order {order}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the condition number
            model = PolynomialCurve(order).fit(x[:, None], y)  # every draw is a target of its own
        values = model.predict(fresh[:, None])
        train[:, order] = np.mean((model.predict(x[:, None]) - y) ** 2, axis=0)
        test[:, order] = np.mean((values - np.sin(fresh)[:, None]) ** 2, axis=0) + NOISE**2
        if order in SHOWN:
            curves[str(order)] = values[:, 0].tolist()
    best = int(test.mean(axis=0).argmin())
    excess = {o: test[:, o] - test[:, best] for o in (0, HIGHEST)}
    return {
        "order": list(range(HIGHEST + 1)),
        "train_error": train.mean(axis=0).tolist(),
        "test_error": test.mean(axis=0).tolist(),
        "test_standard_error": (test.std(axis=0) / math.sqrt(draws)).tolist(),
        "best_order": best,
        "excess_at_0": float(excess[0].mean()),
        "excess_at_0_standard_error": float(excess[0].std() / math.sqrt(draws)),
        "excess_at_9": float(excess[HIGHEST].mean()),
        "excess_at_9_standard_error": float(excess[HIGHEST].std() / math.sqrt(draws)),
        "draws": draws,
        "x": x.tolist(),
        "y": y[:, 0].tolist(),
        "fresh": fresh.tolist(),
        "curves": curves,
    }


def judge(data: Data) -> Verdict:
    """Holds if training error falls all the way while test error is least inside, both ends being worse by 3 SE."""
    steps = np.diff(data["train_error"])
    z = [data[f"excess_at_{o}"] / max(data[f"excess_at_{o}_standard_error"], 1e-300) for o in (0, 9)]
    said = (
        f"test error is least at order {data['best_order']} ({min(data['test_error']):.3g}); orders 0 and 9 are worse "
        f"by {z[0]:.1f} and {z[1]:.1f} standard errors (n = {data['draws']}, 3 needed)"
    )
    if steps.max() > 1e-12:
        return Verdict("fails", f"training error rises by {steps.max():.3g} at order {int(steps.argmax()) + 1}")
    if not 0 < data["best_order"] < HIGHEST:
        return Verdict("fails", said)
    if min(z) < 3:
        return Verdict("undecided" if min(z) > 0 else "fails", said)
    return Verdict("holds", said)


def draw(data: Data) -> "Picture":
    """Three fits to one draw; errors against the order."""
    figure, axes = picture(1, 4, width=10, height=3.2, width_ratios=[1, 1, 1, 1.5])
    for a, order in zip(axes, SHOWN, strict=False):
        a.plot(data["fresh"], np.sin(data["fresh"]), color=INK, linewidth=0.8, linestyle="--", label="sin x")
        a.plot(data["fresh"], data["curves"][str(order)], color=SECOND, label="fit")
        a.plot(data["x"], data["y"], "o", color=ACCENT, markersize=4)
        a.set_ylim(-1.9, 1.9)
        a.set_title(f"order {order}")
    axes[0].legend(loc="lower left", fontsize=8)
    last = axes[3]
    last.semilogy(data["order"], np.maximum(data["train_error"], 1e-4), "o-", color=ACCENT, label="training points")
    last.errorbar(data["order"], data["test_error"], data["test_standard_error"], fmt="o-", color=SECOND,
                  label="fresh points")  # fmt: skip
    last.axhline(NOISE**2, color=INK, linewidth=0.8, linestyle=":")
    last.annotate("noise", (0, NOISE**2), xytext=(0, -10), textcoords="offset points", fontsize=8)
    last.set_ylim(5e-5, None)
    last.set_xticks(range(HIGHEST + 1))
    last.set_xlabel("order")
    last.set_title("mean squared error")
    last.legend(fontsize=8, loc="lower left")
    return figure


FIGURE = Figure(
    name="overfitting",
    title="Too stiff, right, too free",
    claim="Fitted to ten noisy points of a sine, polynomials of rising order do ever better on these points, but on "
    "fresh ones they get better and then worse again.",
    source="Bishop 2006, Pattern Recognition and Machine Learning, §1.1",
    order=10,
    run=run,
    judge=judge,
    draw=draw,
)
