"""The measured diagnosis: for a model that no graph can be made of, what its modules do when it runs.

Rows are calls of modules in the order in which they ran; depth is counted along that order. What theory would predict
is measured instead, on the weights that the model has and one batch, so one draw stands for the ensemble.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscale.diagnose.diagnosis import Diagnosis
from depthscale.graph import ops
from depthscale.graph.draw.words import describe
from depthscale.graph.op import Op
from depthscale.measure.watched import Call, Watch, watch
from depthscale.theory.propagate import Row
from depthscale.theory.verdict import Totals, judge, totals_of

HALF = 0.5  # the first layer whose own factor is at least this share of the average one is the one responsible


@dataclass(frozen=True)
class Called:
    """A module's call, standing where a graph's op would: all that is known of it is its class."""

    module: str


@describe.register
def _(op: Called) -> str:  # type: ignore[misc]
    return op.module


@dataclass(frozen=True)
class CallRow(Row):
    """A row of a module's call; ``error`` and ``g_error`` are nan: there is one draw."""

    @property
    def kind(self) -> str:
        """The module's class, or "Input"."""
        op: Op | Called = self.op
        return op.module if isinstance(op, Called) else type(op).__name__


@dataclass(frozen=True)
class Observed(Diagnosis):
    """A ``Diagnosis`` whose numbers were measured, because no graph could be made of the model."""

    @property
    def layers(self) -> tuple[Row, ...]:
        """All calls: what each module is, nobody has told us."""
        return self.rows[:-1]

    def to_dict(self) -> dict[str, Any]:
        """As a diagnosis, and that it was measured."""
        return super().to_dict() | {"observed": True}


def observe(
    module: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    reason: str = "",
    inputs: str = "the example",
    name: str | None = None,
    seed: int = 0,
) -> Observed:
    """The measured diagnosis of a module on one batch (``args``, batch first); nothing of the module is changed.

    reason: why it was not captured, for the notes. Raises TrainingError where the model itself fails on the example.
    """
    seen = watch(module, args, kwargs, seed=seed)
    rows = _rows(seen)
    totals = _totals(seen)
    verdict = judge(rows, totals)
    kind = {"fine": "trains", "disconnected": "gradient"}.get(verdict.kind, verdict.kind)
    where, cause, remedy = ("", "", ()) if kind == "trains" else _explain(verdict.why, seen, totals)
    notes = ["measured on one draw of the weights and one batch by hooks; depth is counted along the calls of modules"]
    if reason:
        notes.insert(0, f"no graph could be made of it: {reason}")
    return Observed(
        model=name or type(module).__name__,
        kind=kind,
        reason=verdict.reason,
        where=where,
        cause=cause,
        remedy=remedy,
        notes=tuple(notes),
        rows=rows,
        totals=totals,
        levels={r.name: i for i, r in enumerate(rows)},
        inputs=inputs,
    )


def _rows(seen: Watch) -> tuple[CallRow, ...]:
    rows = [_row(call, ops.Input(call.shape[1:]), math.nan) for call in seen.inputs]
    before: Call | None = None
    for call in seen.calls:
        chi = math.nan  # of the gradient's energy on its way from one call to the one before
        if before is not None and call.g > 0:
            chi = before.g * math.prod(before.shape) / (call.g * math.prod(call.shape))
        rows.append(_row(call, Called(call.kind), chi))
        before = call
    last = seen.outputs[0]
    return (*rows, _row(last, Called("output"), math.nan))


def _row(call: Call, op: Op | Called, chi: float) -> CallRow:
    return CallRow(
        name=call.path,
        op=op,  # type: ignore[arg-type]
        shape=call.shape,
        mean=call.mean,
        q=call.q,
        variance=call.q - call.mean**2,
        c=call.c,
        g=call.g,
        chi=chi,
        error=math.nan,
        g_error=math.nan,
        dead=call.dead,
    )


def _totals(seen: Watch) -> Totals:
    layers = [c for c in seen.calls if c.weighted]
    end = seen.outputs[0]
    dead = max((c.dead for c in seen.calls if not math.isnan(c.dead)), default=0.0)
    following = zip(seen.calls, seen.calls[1:], strict=False)
    normed = sum(a.weighted and b.normalises for a, b in following)
    normalised = normed / max(len(layers), 1)
    if len(layers) < 2:
        return Totals(len(layers), 1.0, 1.0, 1.0, 1.0, end.c, end.q, math.inf, math.nan, dead, normalised)
    return totals_of(
        range(1, len(layers) + 1),
        np.array([_energy(c) for c in layers]),
        np.array([c.q for c in layers]),
        np.array([c.c for c in layers]),
        weight_gradient_ratio=_weights_ratio(seen, layers),
        c_end=end.c,
        q_end=end.q,
        dead=dead,
        normalised=normalised,
    )


def _energy(call: Call) -> float:
    return call.g * math.prod(call.shape[1:])


def _weights_ratio(seen: Watch, layers: Sequence[Call]) -> float:
    first, last = (seen.parameters.get(f"{c.path.partition(':')[0]}.weight", math.nan) for c in (layers[0], layers[-1]))
    return math.sqrt(first / last) if last > 0 else math.nan


def _explain(why: str, seen: Watch, totals: Totals) -> tuple[str, str, tuple[str, ...]]:
    """The first call responsible, what it does, and what would undo it."""
    layers = [c for c in seen.calls if c.weighted]
    if why == "dead":
        worst = max(seen.calls, key=lambda c: -1.0 if math.isnan(c.dead) else c.dead)
        return worst.path, f"{worst.dead:.0%} of its units are active for no example", ("biases of zero",)
    broken = next((c for c in seen.calls if not math.isfinite(c.q) or c.q > 1e100), None)
    if broken is not None:
        return broken.path, f"what {broken.kind} returns there is not finite", ("smaller weights up to there",)
    if why == "disconnected" or not layers:
        stuck = next((c.path for c in layers if c.g == 0), "")
        return stuck, "no gradient comes back to it", ("look for what detaches it or multiplies it by zero",)
    at, factor = _responsible(why, layers)
    layer = layers[at]
    quantity = {"length": "E[x²]", "collapse": "1 − c"}.get(why, "the gradient's energy, on its way back,")
    step = f"changes {factor:.3g}-fold" if math.isfinite(factor) else "is lost"
    cause = f"from {layers[at - 1].path or 'the input'} to {layer.path} {quantity} {step}; its weights have sw2 = "
    cause += f"Var W · fan_in = {layer.sw2:.3g}"
    return layer.path, cause, _remedy(why, layers, totals)


def _responsible(why: str, layers: Sequence[Call]) -> tuple[int, float]:
    """The index of the first layer that does at least half of the average layer's damage, and its own factor."""
    values = [{"length": c.q, "collapse": 1 - c.c}.get(why, _energy(c)) for c in layers]
    logs = np.log(np.maximum(values, 1e-300))
    steps = np.diff(logs)
    if why not in ("length", "collapse"):
        steps = -steps  # on its way back, from the later layer to the earlier
    if len(steps) == 0:
        return 0, 1.0
    average = float(steps.sum()) / len(steps)
    for i, step in enumerate(steps):
        if average != 0 and step / average >= HALF:
            return i + 1, float(np.exp(step))
    worst = int(np.abs(steps).argmax())
    return worst + 1, float(np.exp(steps[worst]))


def _remedy(why: str, layers: Sequence[Call], totals: Totals) -> tuple[str, ...]:
    growth = totals.growth_backward if why not in ("length",) else totals.growth_forward
    first: tuple[str, ...] = ()
    if growth > 0 and math.isfinite(growth) and abs(math.log(growth)) > 0.05 and why != "collapse":
        first = (f"multiply the weights of these {len(layers)} layers by {growth**-0.5:.3g}, so that a layer keeps it",)
    return (*first, "or normalise the layers, or put shortcuts around every two or three")
