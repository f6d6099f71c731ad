"""The table of a finished sweep, and the heat maps in it."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthscale.errors import TrainingError
from depthscale.train.sweep.agreement import Agreement, agreement
from depthscale.train.sweep.grid import Grid
from depthscale.train.sweep.predict import Prediction, predict

Array = NDArray[np.float64]
Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class HeatMap:
    """Accuracy over depth and sw2, averaged over seeds; networks that diverged count as chance.

    ``accuracy``: (depths, sw2). ``diverged``: the share of seeds that did, alike.
    """

    title: str
    metric: str
    depth: tuple[int, ...]
    sw2: tuple[float, ...]
    accuracy: Array
    diverged: Array
    prediction: Prediction
    agreement: Agreement
    chosen: Mapping[str, Any]  # the values of the axes that this map is a slice of

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        p = self.prediction
        return {
            "title": self.title,
            "metric": self.metric,
            "axes": dict(self.chosen),
            "depth": list(self.depth),
            "sw2": list(self.sw2),
            "accuracy": self.accuracy.tolist(),
            "diverged": self.diverged.tolist(),
            "theory": {
                "xi_c": p.xi_c.tolist(),
                "phase": list(p.phase),
                "length_settled": p.settled.tolist(),
                "critical_sw2": p.critical,
            },
            "agreement": self.agreement.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class SweepResult:
    """All cells of a sweep in the grid's order, one row each.

    ``steps``: of training, the same for all. ``seconds``: wall time, interruptions left out. ``data_length``: the mean
    square of an input.
    """

    grid: Grid
    rows: tuple[Row, ...]
    data: str
    classes: int  # 0 for regression
    data_length: float
    steps: int
    seconds: float

    def to_csv(self) -> str:
        """The table: axes, status, steps, losses and scores. The same sweep gives the same bytes."""
        out = io.StringIO()
        names = list(self.rows[0])
        writer = csv.DictWriter(out, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows([{k: "" if v is None else v for k, v in row.items()} for row in self.rows])
        return out.getvalue()

    @property
    def metrics(self) -> tuple[str, ...]:
        """The scores that a heat map can show."""
        kind = "accuracy" if self.classes else "r2"
        return tuple(k for k in (f"train_{kind}", f"val_{kind}") if k in self.rows[0])

    def maps(self, metric: str | None = None) -> Iterator[HeatMap]:
        """A heat map for every activation, width, residual scale, sb2 and lr of the grid.

        ``metric``: one of ``metrics``, by default that of the training rows: what is shown is what can be trained.
        """
        metric = metric or self.metrics[0]
        if metric not in self.metrics:
            raise TrainingError(f"expected a score of this sweep ({', '.join(self.metrics)}), got {metric!r}")
        g = self.grid
        for activation in g.activation:
            for width in g.width:
                for residual in g.residual:
                    for sb2 in g.sb2:
                        for lr in g.lr:
                            yield self._map(
                                metric, activation=activation, width=width, residual=residual, sb2=sb2, lr=lr
                            )

    def _map(self, metric: str, **chosen: Any) -> HeatMap:
        g = self.grid
        rows = [r for r in self.rows if all(r[k] == v for k, v in chosen.items())]
        chance = 1 / self.classes if self.classes else 0.0
        total = np.zeros((len(g.depth), len(g.sw2)))
        broken = np.zeros_like(total)
        place = {(d, w): (i, k) for i, d in enumerate(g.depth) for k, w in enumerate(g.sw2)}
        for row in rows:
            at = place[row["depth"], row["sw2"]]
            bad = row["status"] == "diverged"
            total[at] += chance if bad else row[metric]
            broken[at] += bad
        accuracy = total / len(g.seed)
        guess = predict(
            chosen["activation"], np.array(g.sw2), chosen["sb2"],
            residual=chosen["residual"], data_length=self.data_length,
        )  # fmt: skip
        score = agreement(g.sw2, g.depth, accuracy, guess.xi_c, guess.phase, chance)
        kind = "" if chosen["residual"] is None else f" residual ({chosen['residual']:g})"
        title = f"{chosen['activation']}{kind}, width {chosen['width']}, sb2 = {chosen['sb2']:g}, lr = {chosen['lr']:g}"
        return HeatMap(title, metric, g.depth, g.sw2, accuracy, broken / len(g.seed), guess, score, chosen)


def in_order(grid: Grid, rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows of all cells, in the grid's order."""
    axes = ("activation", "width", "depth", "residual", "sw2", "sb2", "lr", "seed")
    found = {tuple(row[a] for a in axes): row for row in rows}
    return tuple(found[tuple(getattr(cell, a) for a in axes)] for cell in grid.cells())
