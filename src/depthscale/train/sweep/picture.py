"""From a heat map of a sweep to what its picture shows."""

import numpy as np

from depthscale.report.plots import INK, SECOND, THIRD
from depthscale.report.sweep_plot import Curve, SweepPicture
from depthscale.train.sweep.agreement import RULE
from depthscale.train.sweep.predict import predict
from depthscale.train.sweep.result import HeatMap

_FINE = 241  # points of a curve


def picture(found: HeatMap, data_length: float) -> SweepPicture:
    """The heat map with theory's curves, which are drawn on a grid of their own."""
    sw2 = np.array(found.sw2)
    fine = np.unique(np.append(np.linspace(sw2.min(), sw2.max(), _FINE), sw2))
    c = found.chosen
    curve = predict(str(c["activation"]), fine, c["sb2"], residual=c["residual"], data_length=data_length)
    score = found.agreement
    curves = [Curve(f"{RULE:g} ξ$_c$", fine, RULE * curve.xi_c, "--", INK)]
    if np.isfinite(score.constant):
        curves.append(Curve(f"{score.constant:.1f} ξ$_c$ (fitted)", fine, score.constant * curve.xi_c, "-", SECOND))
    curves.append(Curve("length within 1 % of q*", fine, curve.settled, ":", THIRD))
    split, kind = found.metric.split("_")
    words = {"train": "training", "val": "validation"}[split]
    mean, error, count = score.side["all"]
    note = f"mean |log₁₀(measured/predicted)| = {mean:.2f} ± {error:.2f} over {count} columns" if count else ""
    measured = np.array([column.measured for column in score.columns])
    low = 0.0 if kind == "r2" else score.half - (np.nanmax(found.accuracy) - score.half)
    return SweepPicture(
        title=found.title,
        label=f"{words} {'accuracy' if kind == 'accuracy' else 'r²'}",
        depth=np.array(found.depth, dtype=float),
        sw2=sw2,
        score=found.accuracy,
        low=float(low),
        high=1.0 if kind == "accuracy" else float(np.nanmax(found.accuracy)),
        measured=measured,
        curves=curves,
        critical=curve.critical,
        footnote=note,
    )
