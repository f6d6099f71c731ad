"""How fast the length of a signal forgets where it began: |q_t − q*| against exp(−t/ξ_q), in sampled networks."""

from typing import TYPE_CHECKING, Any

import numpy as np

from depthscale.figures.figure import Data, Figure, Say, Verdict
from depthscale.figures.style import INK, SERIES, picture
from depthscale.theory import phase_point

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

SB2 = 0.05
SW2 = (1.3, 2.0, 4.0)
START = (1.4, 0.6)  # times q*: from above and from below
WINDOW = (0.5, 0.02)  # of q*: where the rate is measured
BOUND = 0.1  # relative, of the rate 1/ξ_q


def run(quick: bool, seed: int, say: Say) -> Data:
    """Two lengths through each of many random tanh networks, layer by layer.

    Half their difference falls at the same rate as either gap, while what a finite network adds to both cancels.
    """
    width, networks, depth = (400, 40, 9) if quick else (1000, 100, 10)
    rng = np.random.default_rng(seed)
    rows = []
    for sw2 in SW2:
        say(f"{networks} networks of width {width} at sw2 = {sw2:g}")
        point = phase_point("tanh", sw2, SB2)
        goal = float(point.q)
        q = np.empty((networks, depth + 1, 2))
        for k in range(networks):
            h = rng.standard_normal((width, 1))
            h = h / np.sqrt(np.mean(h**2)) * np.sqrt(np.array(START) * goal)  # (width, 2)
            for t in range(depth + 1):
                q[k, t] = np.mean(h**2, 0)
                w = rng.standard_normal((width, width), dtype=np.float32)
                b = np.sqrt(SB2) * rng.standard_normal((width, 1))
                h = np.sqrt(sw2 / width) * (w @ np.tanh(h).astype(np.float32)) + b
        gap = (q[:, :, 0] - q[:, :, 1]) / (2 * goal)
        rows.append(
            {
                "sw2": sw2,
                "q_star": goal,
                "xi_q": float(point.xi_q),
                "above": q[:, :, 0].mean(0).tolist(),
                "below": q[:, :, 1].mean(0).tolist(),
                "gap": gap.mean(0).tolist(),
                "error": (gap.std(0, ddof=1) / np.sqrt(networks)).tolist(),
            }
        )
    return {"width": width, "networks": networks, "rows": rows}


def rate(row: dict[str, Any]) -> tuple[float, float, int]:
    """The rate at which the gap falls per layer, its standard error, and the layers that it was fitted to."""
    gap, error = np.array(row["gap"]), np.array(row["error"])
    good = (gap <= WINDOW[0]) & (gap >= np.maximum(WINDOW[1], 3 * error))
    t = np.arange(len(gap))[np.cumprod(good).astype(bool)]
    if len(t) < 2:
        return np.nan, np.nan, len(t)
    y, spread = np.log(gap[t]), np.maximum(error[t] / gap[t], 1e-3)  # the start is exact
    weight = 1 / spread**2
    off = t - np.average(t, weights=weight)
    size = float(np.sum(weight * off**2))
    return -float(np.sum(weight * off * y)) / size, size**-0.5, len(t)


def judge(data: Data) -> Verdict:
    """Holds if every measured rate is within a tenth of 1/ξ_q (or two standard errors, if those are larger)."""
    words, bad = [], False
    for row in data["rows"]:
        measured, error, layers = rate(row)
        if layers < 2:
            return Verdict("undecided", f"only {layers} layers above the noise at sw2 = {row['sw2']:g}; more networks")
        if error * row["xi_q"] > BOUND:
            return Verdict("undecided", f"the rate at sw2 = {row['sw2']:g} is known to {error * row['xi_q']:.2f} only")
        off = measured * row["xi_q"] - 1
        bad = bad or abs(off) > max(BOUND, 2 * error * row["xi_q"])
        words.append(f"{measured:.3f} ± {error:.3f} against 1/xi_q = {1 / row['xi_q']:.3f} at sw2 = {row['sw2']:g}")
    return Verdict("fails" if bad else "holds", f"rates per layer (bound {BOUND:.0%}): " + ", ".join(words))


def draw(data: Data) -> "Picture":
    """The gaps on a logarithmic axis; theory's lines have no free constant: they begin where the signals do."""
    figure, (axes,) = picture()
    for row, colour in zip(data["rows"], SERIES, strict=False):
        t = np.arange(len(row["gap"]))
        for side, marker in (("above", "^"), ("below", "v")):
            away = np.abs(np.array(row[side]) / row["q_star"] - 1)
            axes.plot(t, away, marker, markersize=4, color=colour, alpha=0.45, linewidth=0)
        axes.errorbar(t, row["gap"], yerr=row["error"], fmt="o", markersize=4.5, color=colour, linewidth=1,
                      label=f"σ$_w$² = {row['sw2']:g}, ξ$_q$ = {row['xi_q']:.2f}")  # fmt: skip
        axes.plot(t, row["gap"][0] * np.exp(-t / row["xi_q"]), color=colour, linewidth=1.2)
    axes.plot([], [], "^", color=INK, alpha=0.45, label="|q$_t$ − q*|/q* from above")
    axes.plot([], [], "v", color=INK, alpha=0.45, label="|q$_t$ − q*|/q* from below")
    axes.set_yscale("log")
    axes.set_ylim(1e-3, 1)
    axes.set_xlabel("layer t")
    axes.set_ylabel("half the difference of the two lengths, over q*")
    axes.legend(title=f"tanh, σ$_b$² = {SB2:g}; lines: exp(−t/ξ$_q$)")
    return figure


FIGURE = Figure(
    name="length-convergence",
    title="Lengths are forgotten exponentially fast",
    claim="In random tanh networks the length of a signal approaches q* as exp(−t/ξ_q), with the ξ_q that mean-field "
    "theory predicts.",
    source="Poole et al. 2016, fig. 2; Schoenholz et al. 2017, eq. 9 and fig. 2",
    order=305,
    run=run,
    judge=judge,
    draw=draw,
)
