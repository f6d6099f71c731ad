"""What a check found: a row per node, totals, a verdict, the layer responsible, the cause and what to do about it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from depthscale.graph import ops
from depthscale.graph.draw.words import describe
from depthscale.theory.propagate import Row
from depthscale.theory.verdict import Totals

VERDICTS = {
    "trains": "trains",
    "vanishing": "the signal and its gradient vanish",
    "exploding": "the signal and its gradient explode",
    "ordered": "inputs collapse to one point (ordered)",
    "chaotic": "nearby inputs are torn apart (chaotic)",
    "dead": "dead units",
    "gradient": "fine forward, but the gradient is not",
}
SHOWN = (*ops.LAYERS, *ops.NORMS, ops.Activation, ops.PReLU, ops.Embedding, ops.Add, ops.Multiply, ops.Concat)
FOLD = 36  # rows of a text table, at most


@dataclass(frozen=True)
class Measured:
    """The same quantities on the real model, from seed to seed: geometric means and deviations of ln.

    q: E[x²] of a node's value; g: E[(∂/∂x)²], scaled as the prediction is; spread: standard deviation of ln q over
    ``seeds`` (nan for one).
    """

    q: float
    g: float
    spread: float = math.nan
    seeds: int = 1


@dataclass(frozen=True)
class Diagnosis:
    """Whether a network will train, and if not, where, why and what to change.

    kind: a key of ``VERDICTS``. where: the first layer responsible, by its path in the model ("" where none is).
    cause: one sentence. remedy: sentences with numbers, the first one first. notes: what else one should know.
    rows: moments of every node (``theory.propagate.Row``), in the order of data. totals: see ``theory.verdict.Totals``.
    measured: by node name, where the real model was run too. inputs: what the data were taken to be.
    """

    model: str
    kind: str
    reason: str
    where: str
    cause: str
    remedy: tuple[str, ...]
    notes: tuple[str, ...]
    rows: tuple[Row, ...]
    totals: Totals
    levels: Mapping[str, int]
    inputs: str
    measured: Mapping[str, Measured] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        """Whether nothing stands in the way."""
        return self.kind == "trains"

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        return VERDICTS[self.kind]

    @property
    def trains_to_depth(self) -> float:
        """Weighted layers that signal and gradient reach by the rule of six depth scales; inf where nothing decays."""
        return 6 * self.totals.xi if not math.isnan(self.totals.xi) else math.inf

    @property
    def layers(self) -> tuple[Row, ...]:
        """The rows that people ask about: weights, normalisations, functions, sums, products; data and layout not."""
        plain = ("identity", "affine", "neg")
        return tuple(r for r in self.rows if isinstance(r.op, SHOWN) and getattr(r.op, "function", "") not in plain)

    def __str__(self) -> str:
        """A text table and the verdict below it."""
        return "\n".join([*_table(self), "", *self.words()])

    def words(self) -> list[str]:
        """The verdict, its place, cause and remedy, line by line."""
        lines = [f"{self.model}: {self.verdict}" + (f", first at {self.where}" if self.where else "")]
        lines.append(f"  {self.reason}")
        if self.cause:
            lines.append(f"  cause: {self.cause}")
        lines += [f"  remedy: {r}" for r in self.remedy]
        lines += [f"  note: {n}" for n in self.notes]
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, fit for JSON (numbers may be nan or inf)."""
        totals = {name: getattr(self.totals, name) for name in Totals.__dataclass_fields__}
        return {
            "model": self.model,
            "verdict": self.kind,
            "trains": self.trains,
            "reason": self.reason,
            "where": self.where or None,
            "cause": self.cause or None,
            "remedy": list(self.remedy),
            "notes": list(self.notes),
            "inputs": self.inputs,
            "totals": totals | {"xi": self.totals.xi, "trains_to_depth": self.trains_to_depth},
            "rows": [self._row(r) for r in self.rows],
        }

    def _row(self, r: Row) -> dict[str, Any]:
        out = {
            "path": r.name,
            "kind": r.kind,
            "shape": list(r.shape[1:]),
            "level": self.levels[r.name],
            **{k: getattr(r, k) for k in ("q", "mean", "c", "g", "chi", "dead", "error", "g_error")},
        }
        seen = self.measured.get(r.name)
        if seen is not None:
            out["measured"] = {"q": seen.q, "g": seen.g, "spread": seen.spread, "seeds": seen.seeds}
        return out

    def to_html(self) -> str:
        """The diagnosis as one self-contained page, with curves."""
        from depthscale.report.diagnosis import render_diagnosis

        return render_diagnosis(self.to_dict() | {"headline": self.verdict})

    def write(self, folder: str | Path) -> list[Path]:
        """Write diagnosis.html and diagnosis.json to a folder; the paths written."""
        from depthscale.record import dumps
        from depthscale.report.html import write_text

        paths = [Path(folder) / "diagnosis.html", Path(folder) / "diagnosis.json"]
        for path, text in zip(paths, (self.to_html(), dumps(self.to_dict()) + "\n"), strict=True):
            write_text(path, text)
        return paths


def _table(d: Diagnosis) -> list[str]:
    rows = _folded(d.layers, d.where)
    wide = min(max((len(r.name) for r in d.layers), default=5), 44)
    head = f"{'layer':<{wide}}  {'kind':<26} {'q':>10} {'c':>8} {'gradient':>10} {'chi':>8} {'dead':>5} {'±':>5}"
    if d.measured:
        head += f" {'q seen':>10} {'g seen':>10}"
    lines = [head]
    for r in rows:
        if r is None:
            lines.append(f"{'…':<{wide}}")
            continue
        dead = "" if math.isnan(r.dead) else f"{r.dead:.0%}"
        c = "" if math.isnan(r.c) else f"{r.c:.4f}"
        chi = "" if math.isnan(r.chi) else f"{r.chi:.3g}"
        line = f"{_short(r.name, wide):<{wide}}  {describe(r.op):<26.26} {r.q:>10.3g} {c:>8} {r.g:>10.3g} {chi:>8}"
        error = "" if math.isnan(r.error) else f"{r.error:.0%}"
        line += f" {dead:>5} {error:>5}"
        if d.measured:
            seen = d.measured.get(r.name)
            line += f" {seen.q:>10.3g} {seen.g:>10.3g}" if seen else ""
        lines.append(line + (" ◄" if r.name == d.where else ""))
    return lines


def _short(name: str, wide: int) -> str:
    return name if len(name) <= wide else "…" + name[-(wide - 1) :]


def _folded(rows: Sequence[Row], where: str) -> list[Row | None]:
    """All rows, or the first ones, those about the culprit and the last ones with gaps (None) between."""
    if len(rows) <= FOLD:
        return list(rows)
    third = FOLD // 3
    keep = {*range(third), *range(len(rows) - third, len(rows))}
    at = next((i for i, r in enumerate(rows) if r.name == where), len(rows) // 2)
    keep |= {i for i in range(at - third // 2, at + third // 2) if 0 <= i < len(rows)}
    out: list[Row | None] = []
    for i, row in enumerate(rows):
        if i in keep:
            out.append(row)
        elif out and out[-1] is not None:
            out.append(None)
    return out
