"""Everything that one wants to know of an activation's phases, as one plain object: picture, table and words."""

import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscale.errors import TheoryError
from depthscale.report.phase_plot import Mark, PhasePicture
from depthscale.theory.activations import Activation
from depthscale.theory.critical import CriticalPoint, critical_line, critical_point
from depthscale.theory.initialisations import Initialisation, initialisations
from depthscale.theory.phase import PHASES, TRAINABLE, PhaseDiagram, PhasePoint, phase_diagram, phase_point
from depthscale.theory.resolve import activation as resolve

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class PhaseSummary:
    """An activation's diagram, critical line (points (sw2, sb2), and those whose length is unstable), critical point
    and the usual initialisations.

    ``critical`` is None where there is no critical point; ``why_not`` then says why.
    """

    activation: Activation
    diagram: PhaseDiagram
    line: Points
    unstable: Points
    critical: CriticalPoint | None
    why_not: str
    usual: tuple[tuple[Initialisation, PhasePoint], ...]
    fan_in: int

    def picture(self) -> PhasePicture:
        """What ``draw_phase`` draws."""
        d = self.diagram
        marks = [Mark(i.name, i.sw2, i.sb2) for i, _ in self.usual]
        title = f"Phases of random networks of {d.activation}"
        return PhasePicture(title, d.sw2, d.sb2, d.q, TRAINABLE * d.xi_c, d.phase, self.line, marks, self.unstable)

    def words(self) -> str:
        """A few lines that say what to use, and what the usual choices do."""
        lines = [f"{self.activation}: {len(self.diagram.sw2)} x {len(self.diagram.sb2)} cells"]
        if self.critical is None:
            lines.append(f"no critical point: {self.why_not}")
        else:
            lines.append(str(self.critical))
            std = np.sqrt(float(self.critical.sw2) / self.fan_in)
            bias = np.sqrt(float(self.critical.sb2))
            lines.append(
                f"to use it: weights of standard deviation {np.sqrt(float(self.critical.sw2)):.6g}/sqrt(fan_in) "
                f"({std:.6g} at fan_in {self.fan_in}), biases of {bias:.6g}"
            )
        for choice, point in self.usual:
            lines.append(f"{choice.name} (sw2 = {choice.sw2:.4g}, sb2 = {choice.sb2:.2g}): {_verdict(point)}")
        lines.append("depths are 6 xi_c layers, an empirical rule for plain networks (Schoenholz et al. 2017)")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The summary and all arrays as plain numbers and lists; None for what is not finite."""
        d = self.diagram
        critical = None
        if self.critical is not None:
            c = self.critical
            numbers = {k: {"value": e.value, "error": e.error} for k, e in _numbers(c).items()}
            critical = numbers | {"kind": c.kind, "note": c.note}
        plain = {
            "activation": d.activation,
            "critical_point": critical,
            "why_not": self.why_not,
            "critical_line": [list(p) for p in self.line],
            "critical_line_unstable": [list(p) for p in self.unstable],
            "initialisations": [
                {"name": i.name, "sw2": i.sw2, "sb2": i.sb2, "phase": p.phase, "chi1": float(p.chi1),
                 "q": float(p.q), "xi_c": float(p.xi_c), "layers": p.trainable_depth}
                for i, p in self.usual
            ],
            "phases": list(PHASES),
            "sw2": d.sw2.tolist(),
            "sb2": d.sb2.tolist(),
            **{k: getattr(d, k).tolist() for k in _COLUMNS},
        }  # fmt: skip
        return {k: _finite(v) for k, v in plain.items()}

    def to_csv(self) -> str:
        """One line per cell: sw2, sb2, phase and all quantities."""
        d, text = self.diagram, io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["sw2", "sb2", *(_COLUMNS[:-1]), "phase"])
        for i, b in enumerate(d.sb2):
            for j, w in enumerate(d.sw2):
                values = [repr(float(getattr(d, k)[i, j])) for k in _COLUMNS[:-1]]
                writer.writerow([repr(float(w)), repr(float(b)), *values, PHASES[d.phase[i, j]]])
        return text.getvalue()


_COLUMNS = ("q", "c", "chi1", "chi_q", "slope", "xi_q", "xi_c", "xi_grad", "phase")


def phase_summary(
    activation: Any,
    sw2: tuple[float, float] = (0.5, 3.0),
    sb2: tuple[float, float] | None = None,
    cells: int = 160,
    fan_in: int = 256,
) -> PhaseSummary:
    """Diagram, critical line and point, and the usual initialisations, over a window of ``cells`` × ``cells``.

    sw2, sb2: ranges; by default 0.5 … 3 and 0 … 0.25, or as much more of sb2 as shows the critical point.
    """
    act = resolve(activation)
    if cells < 2:
        raise TheoryError(f"A diagram needs at least 2 cells on a side, but got {cells}.")
    critical, why_not = None, ""
    try:
        critical = critical_point(act)
    except TheoryError as error:
        why_not = str(error)
    if sb2 is None:
        sb2 = (0.0, max(0.25, 1.25 * float(critical.sb2)) if critical else 0.25)
    for name, (low, high) in (("sw2", sw2), ("sb2", sb2)):
        if not 0 <= low < high:
            raise TheoryError(f"A range of {name} runs from low to high, both at least 0, but got {low} to {high}.")
    diagram = phase_diagram(act, sw2=np.linspace(*sw2, cells), sb2=np.linspace(*sb2, cells))
    usual = tuple((i, phase_point(act, i.sw2, i.sb2)) for i in initialisations(act, fan_in))
    line, unstable = _line(act, critical, sw2, sb2)
    return PhaseSummary(act, diagram, line, unstable, critical, why_not, usual, fan_in)


def _line(
    act: Activation, critical: CriticalPoint | None, sw2: tuple[float, float], sb2: tuple[float, float]
) -> tuple[Points, Points]:
    """The critical line's points in and around the window, where lengths are stable and where not; of a half-line,
    its end.
    """
    if critical is not None and critical.kind == "half-line":
        return (((float(critical.sw2), 0.0),) if sb2[0] == 0 else ()), ()
    try:
        line = critical_line(act, q=np.geomspace(1e-6, 1e5, 1200))
    except TheoryError:
        return (), ()
    points = np.stack([np.asarray(line.sw2.value), np.asarray(line.sb2.value)], axis=1)
    start = [(float(critical.sw2), float(critical.sb2))] if critical is not None and critical.kind == "origin" else []
    width, height = sw2[1] - sw2[0], sb2[1] - sb2[0]
    near = (
        np.isfinite(points).all(axis=1)
        & (points[:, 0] > sw2[0] - width) & (points[:, 0] < sw2[1] + width)
        & (points[:, 1] < sb2[1] + height)
    )  # fmt: skip
    stable = np.abs(np.asarray(line.chi_q.value)) <= 1 + 1e-9
    on, off = ([(float(w), float(b)) for w, b in points[near & part]] for part in (stable, ~stable))
    return (*start, *on), tuple(off)


def _finite(value: Any) -> Any:
    """The same with None for nan and infinities, which JSON lacks."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _numbers(point: CriticalPoint) -> dict[str, Any]:
    return {"sw2": point.sw2, "sb2": point.sb2, "q": point.q, "chi_q": point.chi_q}


def _verdict(point: PhasePoint) -> str:
    if point.phase == "no fixed point":
        return "no fixed point, lengths grow without end"
    if point.phase == "critical":
        return "critical, signals reach any depth"
    if not np.isfinite(float(point.chi1)):
        return f"chaotic, chi1 infinite, {point.trainable_depth:.0f} layers"
    dies = " and signals die out" if float(point.q) == 0 else ""
    return f"{point.phase}{dies}, chi1 = {float(point.chi1):.6g}, {point.trainable_depth:.0f} layers"
