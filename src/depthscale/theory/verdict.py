"""From moments per layer to one line: does it train, and if not, why.

The thresholds are measured: networks of 3 to 100 layers were trained on digits by SGD with momentum and Adam at four
rates each (benchmarks/results/verdicts.md). Adaptive steps undo scales, so networks train far beyond six depth scales
(e⁻⁶; Schoenholz et al. 2017): one is called vanishing when the gradient's energy falls below e⁻¹⁸ on the way, exploding
beyond e¹², or e²⁴ where normalisation undoes the scale of most layers. Inputs have collapsed when less than 5·10⁻⁷ of
what told them apart is left.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from depthscale.graph import ops
from depthscale.graph.graph import Graph
from depthscale.numerics.estimate import Array
from depthscale.theory.walk import CEILING

if TYPE_CHECKING:
    from depthscale.theory.propagate import Row

VANISHING, EXPLODING = -18.0, 12.0  # ln of (gradient energy at the first weighted layer / at the last)
NORMALISED = 24.0  # the same as EXPLODING where most layers are normalised, so that their weights' scale is undone
COLLAPSED = 5e-7  # (1 − c) at the end over (1 − c) of the inputs
SMALL, LARGE = 1e-12, 1e12  # second moments of the output that no optimiser recovers from
DEAD = 0.9  # share of a layer's units that are negative for every input


@dataclass(frozen=True)
class Totals:
    """The network in a few numbers.

    depth: weighted layers on the longest path. growth_forward, growth_backward: factor per weighted layer by which
    the second moment grows on the way in, and the gradient's energy on the way back. gradient_ratio: energy at the
    first weighted layer over that at the last. weight_gradient_ratio: root mean square of the first layer's weight
    gradient over the last's. c_end, q_end: at the output. xi_grad = 1/|ln growth_backward|; xi_c: from the tail of
    the correlations, nan where they do not move; xi the smaller. dead: largest share of dead units. normalised: share
    of the weighted layers that are normalised right behind.
    """

    depth: int
    growth_forward: float
    growth_backward: float
    gradient_ratio: float
    weight_gradient_ratio: float
    c_end: float
    q_end: float
    xi_grad: float
    xi_c: float
    dead: float
    normalised: float = 0.0

    @property
    def xi(self) -> float:
        """The depth scale, in weighted layers."""
        known = [x for x in (self.xi_grad, self.xi_c) if not math.isnan(x)]
        return min(known, default=math.nan)


@dataclass(frozen=True)
class Verdict:
    """kind: fine, vanishing, exploding, ordered, chaotic, dead, gradient (signals reach the end, gradients do not come
    back) or disconnected; reason: one line with the numbers; why: what decided, for who looks for the layer responsible
    (the kind, or "length" or "collapse").
    """

    kind: str
    reason: str
    why: str = ""

    @property
    def trains(self) -> bool:
        """Whether nothing stands in the way."""
        return self.kind == "fine"


def summarise(graph: Graph, rows: Sequence["Row"], gradients: Mapping[str, float]) -> Totals:
    """The totals of a propagation."""
    depth = graph.fold(lambda op, *d: max(d, default=0) + isinstance(op, ops.LAYERS))
    by_name = {row.name: row for row in rows}
    layers = [by_name[n.name] for n in graph.nodes if isinstance(n.op, ops.LAYERS) and by_name[n.name].g > 0]
    end = by_name[graph.outputs[0]]
    inputs = [row for row in rows if isinstance(row.op, ops.Input)]
    dead = max((r.dead for r in rows if not math.isnan(r.dead)), default=0.0)
    behind = [graph.consumers[n.name] for n in graph.nodes if isinstance(n.op, ops.LAYERS)]
    normed = sum(any(isinstance(graph[u].op, ops.NORMS) for u in users) for users in behind)
    normalised = normed / max(len(behind), 1)
    if len(layers) < 2:
        known = layers[0] if layers else (inputs[0] if inputs else end)
        return Totals(
            len(layers),
            1.0,
            1.0,
            1.0,
            1.0,
            end.c,
            end.q,
            math.inf,
            math.nan,
            known.dead if known.dead > 0 else dead,
            normalised,
        )
    levels = sorted({depth[r.name] for r in layers})
    by_level: dict[int, list[Row]] = {d: [] for d in levels}
    for r in layers:
        by_level[depth[r.name]].append(r)
    energy, q, c = (
        np.array([sum(getattr(r, key) for r in some) / len(some) for some in by_level.values()])
        for key in ("energy", "q", "c")
    )
    weights = [
        gradients.get(f"{getattr(r.op, 'shared', None) or r.name}.weight", math.nan) for r in (layers[0], layers[-1])
    ]
    return totals_of(
        levels,
        energy,
        q,
        c,
        weight_gradient_ratio=math.sqrt(weights[0] / weights[1]) if weights[1] > 0 else math.nan,
        c_end=end.c,
        q_end=end.q,
        dead=dead,
        normalised=normalised,
    )


def totals_of(
    levels: Sequence[int],
    energy: Array,
    q: Array,
    c: Array,
    *,
    weight_gradient_ratio: float,
    c_end: float,
    q_end: float,
    dead: float,
    normalised: float,
) -> Totals:
    """Totals from what is known level by level (at least two): gradient energy, second moment and correlation."""
    steps = max(levels[-1] - levels[0], 1)
    ratio = float(energy[0] / energy[-1]) if energy[-1] > 0 else 0.0
    growth = ratio ** (1 / steps) if ratio > 0 else 0.0
    return Totals(
        depth=levels[-1],
        growth_forward=float((q[-1] / q[0]) ** (1 / steps)) if q[0] > 0 else math.nan,
        growth_backward=growth,
        gradient_ratio=ratio,
        weight_gradient_ratio=weight_gradient_ratio,
        c_end=c_end,
        q_end=q_end,
        xi_grad=_scale(growth),
        xi_c=_tail_scale(np.array(levels, dtype=float), c),
        dead=dead,
        normalised=normalised,
    )


def _scale(growth: float) -> float:
    if growth <= 0:
        return 0.0
    return 1.0 / abs(math.log(growth)) if growth != 1 else math.inf


def _tail_scale(levels: Array, c: Array) -> float:
    """The depth scale of the correlations: from the decay of their steps over the second half of the network."""
    if len(c) < 6 or not np.all(np.isfinite(c)):
        return math.nan
    step = np.abs(np.diff(c) / np.diff(levels))
    at = (levels[1:] + levels[:-1]) / 2
    tail = (at >= np.median(at)) & (step > 1e-9)
    if tail.sum() < 3:
        return math.nan
    slope = float(np.polyfit(at[tail], np.log(step[tail]), 1)[0])
    return -1.0 / slope if slope < 0 else math.nan


def judge(rows: Sequence["Row"], totals: Totals) -> Verdict:
    """The verdict on a propagation; thresholds as at the head of this file."""
    bad = next((r for r in rows if not r.q < 0.999 * CEILING), None)
    if bad is not None:
        return Verdict("exploding", f"the signal overflows at {bad.name}", "length")
    inputs = [r for r in rows if isinstance(r.op, ops.Input)]
    if totals.depth == 0:
        return Verdict("fine", "there is no layer with weights")
    if not any(r.g > 0 for r in inputs) and totals.gradient_ratio == 0:
        return Verdict("disconnected", "no gradient reaches the first layer", "disconnected")
    if totals.dead > DEAD:
        return Verdict("dead", f"{totals.dead:.0%} of a layer's units are active for no input of the batch", "dead")
    log = math.log(totals.gradient_ratio) if totals.gradient_ratio > 0 else -math.inf
    steady = abs(math.log(max(totals.growth_forward, 1e-300))) * totals.depth < 3
    apart = _apart(inputs, totals)
    per = f"gradient energy × {totals.growth_backward:.3g} per layer over {totals.depth} layers"
    numbers = f"{per}, {totals.gradient_ratio:.2g} in all"
    if log < VANISHING:
        if steady and apart < 0.1:
            return Verdict("ordered", f"inputs collapse to one point and gradients vanish: {numbers}", "ordered")
        kind = "gradient" if steady or totals.normalised > 0.3 else "vanishing"
        return Verdict(kind, f"gradients vanish: {numbers}", kind)
    if log > (NORMALISED if totals.normalised > 0.5 else EXPLODING):
        if steady and totals.normalised == 0:
            return Verdict("chaotic", f"nearby inputs are torn apart and gradients explode: {numbers}", "chaotic")
        kind = "gradient" if totals.normalised > 0.3 else "exploding"
        return Verdict(kind, f"gradients explode: {numbers}", kind)
    if totals.q_end < SMALL or totals.q_end > LARGE:
        kind = "vanishing" if totals.q_end < SMALL else "exploding"
        return Verdict(kind, f"the output's second moment is {totals.q_end:.2g}", "length")
    if apart < COLLAPSED:
        reason = f"inputs collapse to one point: correlation {totals.c_end:.6f} at the output"
        return Verdict("ordered", reason, "collapse")
    return Verdict("fine", f"signals and gradients reach both ends: {numbers}", "")


def _apart(inputs: Sequence["Row"], totals: Totals) -> float:
    """How much of what tells two inputs apart is left at the output: (1 − c_end)/(1 − c_in)."""
    before = [1 - r.c for r in inputs if not math.isnan(r.c)]
    if math.isnan(totals.c_end) or not before or max(before) <= 0:
        return 1.0
    return (1 - totals.c_end) / max(before)
