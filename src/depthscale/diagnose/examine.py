"""``check``: a model, or a graph, and what theory says of it before a step of training is spent."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from depthscale.diagnose.causes import Finding, explain
from depthscale.diagnose.diagnosis import Diagnosis
from depthscale.diagnose.pairs import odd_spread
from depthscale.diagnose.structure import Structure
from depthscale.errors import CaptureError, DepthscaleError, TrainingError
from depthscale.graph import Graph, Law, Op, edit, laws, ops
from depthscale.theory.inputs import InputStats
from depthscale.theory.propagate import Propagation, propagate
from depthscale.theory.verdict import VANISHING

if TYPE_CHECKING:
    from depthscale.capture import Capture

Inputs = Literal["auto", "noise", "images", "tokens", "batch"]
NOISE = InputStats()
IMAGES = InputStats(1.0, c=0.2, channels=0.9, spatial=(0.95, 0.9, 0.5))  # natural images, standardised
UNEVEN = 80.0  # relative variance of the Jacobian's squared singular values
HEARD = 0.02  # share of the output's variance that must be heard over dropout
OFTEN = 8  # uses of one layer from which it is a matter of time
FORGETS = 50.0  # ln of energies of last and first use: at 35 a tanh recurrence trained on digits, at 71 none did
FEWEST = 4  # examples from which statistics of a batch are taken


def check(
    model: Any,
    example: Any = None,
    *,
    inputs: Inputs | InputStats | Mapping[str, InputStats] = "auto",
    kwargs: Mapping[str, Any] | None = None,
    batch: int = 32,
    measure: bool = False,
    name: str | None = None,
) -> Diagnosis:
    """Whether a network will train, and if not: which layer, why, and what to change.

    model: a torch module (with ``example``: its input, or a tuple of inputs, batch first), a ``Capture``, or a Graph.
    inputs: what the data are like. "noise": white noise of unit variance; "images": statistics of natural images;
    "tokens": indices drawn evenly; "batch": the example's own moments; "auto": the example's where it is a batch of at
    least four different rows, else noise; or InputStats. batch: examples that batch normalisation sees. measure: also
    runs a module on the weights that it has, and lays what is seen beside. Nothing is changed in the model.

    A module that no graph can be made of (control flow that depends on values, an operation without a rule) is run on
    the example instead, and what its modules do is measured (``observed.Observed``); a note says why.

    Raises DepthscaleError (CaptureError for a model that does not run; GraphError for shapes that do not fit).
    """
    try:
        graph, captured, arguments = read(model, example, kwargs)
    except CaptureError as error:
        return _observed(error, model, example, kwargs, name)
    stats, words = statistics(inputs, graph, arguments)
    if captured is not None and not any(p.is_meta for p in captured.program.module.parameters()):
        from depthscale.diagnose.weights import as_seen

        graph = as_seen(captured, arguments)
    diagnosis = diagnose(graph, stats, words, batch=batch, name=name or _name(model, graph))
    if measure and captured is not None:
        from depthscale.diagnose.measured import lay_beside

        diagnosis = lay_beside(diagnosis, captured)
    return diagnosis


def _observed(
    error: CaptureError, model: Any, example: Any, kwargs: Mapping[str, Any] | None, name: str | None
) -> Diagnosis:
    """The measured diagnosis of what could not be captured; one sentence where the model does not run either."""
    if example is None or not hasattr(model, "parameters") or any(p.is_meta for p in model.parameters()):
        raise error
    from depthscale.diagnose.observed import observe

    reason = str(error).partition("; ")[0]
    try:
        return observe(model, _arguments(example), kwargs, reason=reason, name=name, inputs="the example batch")
    except TrainingError as failure:
        raise (error if "does not take" in reason else CaptureError(str(failure))) from None


def read(
    model: Any, example: Any = None, kwargs: Mapping[str, Any] | None = None
) -> tuple[Graph, "Capture | None", tuple[Any, ...]]:
    """The graph of what a user calls a model, its capture if it is a module, and the example as arguments."""
    if isinstance(model, Graph):
        return model, None, _arguments(example)
    if hasattr(model, "graph") and hasattr(model, "origins"):
        return model.graph, model, _arguments(example)
    try:
        import torch
    except ImportError:  # pragma: no cover (torch is a dependency)
        torch = None  # type: ignore[assignment]
    if torch is None or not isinstance(model, torch.nn.Module):
        raise DepthscaleError(f"expected a torch.nn.Module or a Graph to check, got {type(model).__name__}")
    if example is None:
        graph = getattr(model, "graph", None)
        if not isinstance(graph, Graph):
            raise DepthscaleError(
                f"expected an example input for {type(model).__name__}, got none; give a tensor of the shape that "
                "its forward takes, batch first"
            )
        example = examples_for(graph)
    from depthscale.capture import trace

    arguments = _arguments(example)
    captured = trace(model, *arguments, kwargs=kwargs)
    return captured.graph, captured, arguments


def examples_for(graph: Graph, batch: int = 8, seed: int = 0) -> tuple[Any, ...]:
    """Tensors that a graph's inputs take: white noise, or indices."""
    import torch

    g = torch.Generator().manual_seed(seed)
    made = []
    for name in graph.inputs:
        op = graph[name].op
        assert isinstance(op, ops.Input)
        shape = (batch, *op.shape) if op.batched else op.shape
        if op.dtype == "float":
            made.append(torch.randn(shape, generator=g))
        elif op.dtype == "int":
            most = min((n.op.entries for n in graph.nodes if isinstance(n.op, ops.Embedding)), default=2)
            made.append(torch.randint(0, most, shape, generator=g))
        else:
            made.append(torch.ones(shape, dtype=torch.bool))
    return tuple(made)


def _arguments(example: Any) -> tuple[Any, ...]:
    if example is None:
        return ()
    return tuple(example) if isinstance(example, tuple | list) else (example,)


def _name(model: Any, graph: Graph) -> str:
    return f"graph of {len(graph)} nodes" if isinstance(model, Graph) else type(model).__name__


# --- what the data are like ------------------------------------------------------------------------------------------


def statistics(
    inputs: Inputs | InputStats | Mapping[str, InputStats], graph: Graph, arguments: Sequence[Any]
) -> tuple[InputStats | Mapping[str, InputStats], str]:
    """The moments of the data, and in words what they were taken to be."""
    if isinstance(inputs, InputStats | Mapping):
        return inputs, "data with the given moments"
    if inputs not in ("auto", "noise", "images", "tokens", "batch"):
        raise DepthscaleError(f"expected inputs to be auto, noise, images, tokens or batch, got {inputs!r}")
    if inputs in ("noise", "tokens"):
        return NOISE, "white noise of unit variance" if inputs == "noise" else "tokens drawn evenly"
    if inputs == "images":
        return IMAGES, "the statistics of natural images, standardised"
    own = _of_batch(graph, arguments)
    if own:
        return own, f"the moments of the example batch of {len(arguments[0])}"
    if inputs == "batch":
        raise DepthscaleError(
            f"expected an example with at least {FEWEST} different rows for inputs='batch', got none; give a batch of "
            "data, or inputs='noise'"
        )
    return NOISE, "white noise of unit variance"


def _of_batch(graph: Graph, arguments: Sequence[Any]) -> dict[str, InputStats]:
    found: dict[str, InputStats] = {}
    floats = [n for n in graph.inputs if graph[n].op.dtype == "float"]  # type: ignore[attr-defined]
    tensors = [a for a in arguments if getattr(a, "is_floating_point", lambda: False)()]
    for name, x in zip(floats, tensors, strict=False):
        if x.is_meta or x.ndim < 2 or x.shape[0] < FEWEST:
            continue
        stats = moments_of(x)
        if stats is not None:
            found[name] = stats
    return found


def moments_of(x: Any) -> InputStats | None:
    """The moments of a batch of data (N, …): a random half of the pairs is enough; None where rows do not differ."""
    x = x.detach().double().cpu()
    square = float(x.square().mean())
    if not math.isfinite(square):
        raise DepthscaleError("expected example data without NaN or infinite values, got some; clean them first")
    if square == 0 or float(x.var(dim=0).mean()) < 1e-12 * square:
        return None
    n, mean = x.shape[0], float(x.mean())
    summed = x.sum(0)
    other = float((summed.square() - x.square().sum(0)).mean()) / (n * (n - 1))  # E[x x'] of two examples
    c = _within(other / square)
    variance = square - mean**2
    if variance <= 1e-12 * square:
        return None
    y = x - mean
    channels, spatial = 0.0, (0.0, 0.0, 0.0)
    if x.ndim >= 3:
        k = x.shape[1]
        if k > 1:
            total = float(y.sum(1).square().mean())
            channels = _within((total / k - variance) / ((k - 1) * variance))
        spatial = (_along(y, 1, variance), _along(y, 2, variance), _far(y, variance))
    return InputStats(square, mean, c, channels, spatial)


def _within(r: float) -> float:
    return min(max(r, -1.0), 1.0)


def _along(y: Any, distance: int, variance: float) -> float:
    """Correlation at a distance, averaged over the axes behind the channels."""
    values = []
    for axis in range(2, y.ndim):
        n = y.shape[axis]
        if n > distance:
            a, b = y.narrow(axis, 0, n - distance), y.narrow(axis, distance, n - distance)
            values.append(float((a * b).mean()) / variance)
    return _within(sum(values) / len(values)) if values else 0.0


def _far(y: Any, variance: float) -> float:
    """Correlation of two positions of one axis, whichever they are."""
    values = []
    for axis in range(2, y.ndim):
        n = y.shape[axis]
        if n > 1:
            total = float(y.sum(axis).square().mean())
            values.append((total / n - variance) / ((n - 1) * variance))
    return _within(sum(values) / len(values)) if values else 0.0


# --- the diagnosis ---------------------------------------------------------------------------------------------------


def diagnose(
    graph: Graph,
    stats: InputStats | Mapping[str, InputStats],
    inputs: str,
    *,
    batch: int = 32,
    name: str = "the network",
) -> Diagnosis:
    """Theory's diagnosis of a graph; see ``check``."""
    shown = propagate(graph, inputs=stats, batch=batch)
    structure = Structure(graph)
    notes: list[str] = []
    judged = shown
    closed = closed_gains(graph)
    if closed:
        opened = propagate(open_gains(graph, closed), inputs=stats, batch=batch)
        notes.append(_about_gains(graph, closed, opened))
        judged = opened if not shown.trains else shown
        if judged is opened and opened.trains and "gains" in notes[0]:
            notes.append("the verdict is that of the gains at 1: a step or two of training opens them")
    kind = {"fine": "trains", "disconnected": "gradient"}.get(judged.verdict.kind, judged.verdict.kind)
    why, reason = judged.verdict.why, judged.verdict.reason
    heard = _heard_over_dropout(graph, stats, batch, judged)
    if kind in ("trains", "exploding", "chaotic") and heard < HEARD:
        kind, why = "chaotic", "noise"
        reason = (
            f"dropout drowns the signal: of the output's variance {heard:.2g} tells inputs apart, the rest is masks"
        )
    uneven = unevenness(structure, judged)
    if kind == "trains" and uneven > UNEVEN:
        kind, why = "gradient", "spectrum"
        reason = (
            f"few directions get through: the squared singular values of the Jacobian vary by {uneven:.3g} of their "
        )
        reason += f"mean squared over {judged.totals.depth} layers"
    key, fade = through_time(structure, judged)
    if kind == "trains" and abs(fade) > -VANISHING:
        way = "fades" if fade < 0 else "grows"
        words = f"used again and again, {key} loses its early uses: the gradient's energy {way} e^{abs(fade):.0f}-fold "
        words += "from its last use to its first"
        gates = any(structure.carried.steps)
        if fade > 0 or (fade < -FORGETS and not gates):
            kind = why = "vanishing" if fade < 0 else "exploding"
            reason = words
        else:
            remedy = "; training opens its gates, ds.repair(model) does so at once" if gates else ""
            notes.append(f"{words}; late uses learn{remedy}")
    finding = Finding("", "", ())
    if kind != "trains":
        finding = explain(why, structure, judged.rows, judged.totals)
    return Diagnosis(
        model=name,
        kind=kind,
        reason=reason,
        where=finding.where,
        cause=finding.cause,
        remedy=finding.remedy,
        notes=tuple(notes),
        rows=shown.rows,
        totals=judged.totals,
        levels=structure.depth,
        inputs=inputs,
    )


def _heard_over_dropout(
    graph: Graph, stats: InputStats | Mapping[str, InputStats], batch: int, judged: Propagation
) -> float:
    """The share of the output's variance that is the same under other masks and differs from input to input."""
    if sum(isinstance(n.op, ops.Dropout) and n.op.p > 0 for n in graph.nodes) < 3:
        return 1.0
    many = stats if isinstance(stats, Mapping) else dict.fromkeys(graph.inputs, stats)
    same = {name: replace(s, c=1.0) for name, s in many.items()}
    return propagate(graph, inputs=same, batch=batch).totals.c_end - judged.totals.c_end


def through_time(s: Structure, p: Propagation) -> tuple[str, float]:
    """The shared layer whose first use hears least (or most) of its last: ln of their gradients' energies."""
    uses: dict[str, list[str]] = {}
    for name in s.sites:
        uses.setdefault(s.key(name), []).append(name)
    worst, fade = "", 0.0
    for key, names in uses.items():
        first, last = p[names[0]].energy, p[names[-1]].energy
        if len(names) >= OFTEN and first > 0 and last > 0 and abs(math.log(first / last)) > abs(fade):
            worst, fade = key, math.log(first / last)
    return worst, fade


def unevenness(s: Structure, p: Propagation) -> float:
    """The relative variance of the squared singular values of the input–output Jacobian, as of a plain chain.

    Σ over layers of Var(φ'²)/E[φ'²]², and one more for weights that are not orthogonal (Pennington et al. 2018,
    eq. 18), along the way through the network that has least of it: a trunk or a concatenated skip passes all
    directions, whatever lies beside it.
    """
    found: dict[str, float] = {}
    for node in s.graph.nodes:
        way = min((found[i] for i in node.inputs if i in s.of_data), default=0.0)
        site = s.sites.get(node.name)
        if site is not None:
            law = getattr(node.op, "weight", None)
            orthogonal = isinstance(law, laws.Orthogonal | laws.Mirrored) or getattr(law, "orthogonal", False)
            way += 0.0 if orthogonal else 1.0
            if site.after is not None:
                way += min(odd_spread(site.after, max(p[site.after.root].variance, 1e-9), False), 10.0)
        found[node.name] = way
    return max(found[name] for name in s.graph.outputs)


def closed_gains(graph: Graph) -> tuple[str, ...]:
    """Nodes that start at zero what opens in a step: normalisations and scales of gain 0, and layers of weight 0 that
    end a residual branch or give the output."""
    structure = Structure(graph)
    ends = {end for r in structure.residuals.values() for end in r.ends}
    ends |= {name for name, site in structure.sites.items() if site.feeds == "output"}
    found = []
    for node in graph.nodes:
        law = getattr(node.op, "law", None) if isinstance(node.op, ops.Scale) else getattr(node.op, "weight", None)
        zero = law == laws.ZERO
        if zero and (isinstance(node.op, (*ops.NORMS, ops.Scale)) or node.name in ends):
            found.append(node.name)
    return tuple(found)


def open_gains(graph: Graph, closed: Sequence[str]) -> Graph:
    """The graph with closed gains at 1 and closed layers at LeCun's law."""
    names = frozenset(closed)

    def change(node: Any) -> Op:
        op: Op = node.op
        if node.name not in names:
            return op
        open_law: Law = laws.ONE if isinstance(op, (*ops.NORMS, ops.Scale)) else laws.LECUN
        return replace(op, **{"law" if isinstance(op, ops.Scale) else "weight": open_law})

    return edit.map_ops(graph, change)


def _about_gains(graph: Graph, closed: Sequence[str], opened: Propagation) -> str:
    if all(name in graph.outputs for name in closed):
        return (
            f"the output layer {closed[0]} starts at zero, so the first step moves it alone; judged as if it were drawn"
        )
    what = "gain starts" if len(closed) == 1 else "gains start"
    return (
        f"{len(closed)} {what} at zero ({closed[0]} first), so those branches pass nothing at first; with gains of 1 "
        f"the gradient's energy changes {opened.totals.gradient_ratio:.3g}-fold from last to first layer"
    )
