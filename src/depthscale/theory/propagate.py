"""Mean-field propagation over a whole graph: moments forward, gradients backward, and what they say.

The rules are in ``forward`` and ``backward``, ``walk`` folds them over a graph; here are the results.
"""

import gc
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from depthscale.errors import GraphError
from depthscale.graph import ops
from depthscale.graph.graph import Graph, Node
from depthscale.graph.op import Op
from depthscale.theory import copula
from depthscale.theory.forward_elementwise import standard
from depthscale.theory.frames import frame
from depthscale.theory.fusion import fuse
from depthscale.theory.inputs import InputStats
from depthscale.theory.mixed import with_mixtures
from depthscale.theory.moments import State
from depthscale.theory.pooled import in_parts
from depthscale.theory.rules import Setting
from depthscale.theory.verdict import Totals, Verdict, judge, summarise
from depthscale.theory.walk import Backward, walk_forward


@dataclass(frozen=True)
class Row:
    """What propagation says of one node.

    mean, q, variance: E[x], E[x²], Var x of an element; c: correlation E[xx']/q of two inputs at one unit (nan where
    there is one input only); g: E[(∂/∂x)²] for unit-variance gradients at the outputs; chi: what the op multiplies the
    energy (sum of squares) of the gradient by on its way back; error, g_error: standard deviations of q and of g,
    relative to them, from network to network of this finite width; dead: share of units that no input of the batch
    activates (ReLU-like functions, else nan).
    """

    name: str
    op: Op
    shape: tuple[int, ...]
    mean: float
    q: float
    variance: float
    c: float
    g: float
    chi: float
    error: float
    g_error: float
    dead: float

    @property
    def kind(self) -> str:
        """The op's type, or the function that an Activation names."""
        return self.op.function if isinstance(self.op, ops.Activation) else type(self.op).__name__

    @property
    def energy(self) -> float:
        """Sum of squares of the gradient, per example."""
        return self.g * math.prod(self.shape[1:])


@dataclass(frozen=True, eq=False)
class Propagation:
    """Moments of every node, gradients of every parameter, and totals; see ``Row``, ``Totals`` and ``Verdict``.

    gradients: E[(∂L/∂θ)²] of an element of every parameter, by full name ("layer1.linear1.weight").
    """

    rows: tuple[Row, ...]
    gradients: Mapping[str, float]
    totals: Totals
    verdict: Verdict
    states: Mapping[str, State]
    gradient_states: Mapping[str, State]

    def __getitem__(self, name: str) -> Row:
        """The row of a node."""
        for row in self.rows:
            if row.name == name:
                return row
        raise GraphError(f"expected the name of a node, got {name!r}; {len(self.rows)} rows exist")

    @property
    def trains(self) -> bool:
        """Whether signals and gradients reach both ends; ``reason`` says what stands in the way."""
        return self.verdict.trains

    @property
    def reason(self) -> str:
        """One line: what stands in the way, or that nothing does."""
        return self.verdict.reason

    def __str__(self) -> str:
        """A text table, one line per node, and the verdict."""
        head = f"{'node':<32} {'op':<12} {'q':>10} {'c':>7} {'g':>10} {'chi':>8} {'±q':>6}"
        lines = [head]
        for r in self.rows:
            numbers = f"{r.q:>10.4g} {r.c:>7.4f} {r.g:>10.4g} {r.chi:>8.4f} {r.error:>6.1%}"
            lines.append(f"{r.name:<32.32} {r.kind:<12.12} {numbers}")
        return "\n".join([*lines, f"{'trains' if self.trains else 'will not train'}: {self.reason}"])


def propagate(
    graph: Graph,
    *,
    q_input: float = 1.0,
    c_input: float = 0.0,
    inputs: InputStats | Mapping[str, InputStats] | None = None,
    batch: int = 32,
    training: bool = True,
) -> Propagation:
    """The moments of every node's values and gradients at initialisation, in the mean-field limit.

    q_input, c_input: second moment of the data and correlation of two examples; ``inputs`` says more, for all inputs or
    by name. batch: examples that batch normalisation sees. training: dropout drops and batch normalisation uses the
    batch (else its running statistics, 0 and 1). Gradients start from independent unit-variance ones at the outputs.
    Raises GraphError (shapes that do not fit, an op without a rule) and TheoryError (a moment that does not exist).
    Poole et al. 2016, Schoenholz et al. 2017; the propagated state is derived in ``theory/moments.py``.
    """
    if batch < 1:
        raise GraphError(f"expected a batch of at least 1, got {batch}")
    stats = InputStats(q_input, c=c_input) if inputs is None else inputs
    with _collector_resting():
        return _propagate(graph, stats, Setting(batch, training))


@contextmanager
def _collector_resting() -> Iterator[None]:
    """Without the search for cycles, of which there are none among thousands of small objects that stay."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _propagate(graph: Graph, stats: InputStats | Mapping[str, InputStats], setting: Setting) -> Propagation:
    work, parts = in_parts(graph)
    work, mixtures = with_mixtures(work)
    fused = fuse(work)
    states = walk_forward(work, stats, setting, fused)
    pulled = Backward(work, states, setting, fused, parts, mixtures).run()
    rows = tuple(_row(node, states, pulled) for node in graph.nodes)
    totals = summarise(graph, rows, pulled.parameters)
    return Propagation(rows, pulled.parameters, totals, judge(rows, totals), states, pulled.shown)


_FLAT_BELOW = ("relu", "relu6", "threshold")


def _row(node: Node, states: Mapping[str, State], pulled: Backward) -> Row:
    x, g = states[node.name], pulled.shown.get(node.name)
    dead = math.nan
    if isinstance(node.op, ops.Activation) and node.op.function in _FLAT_BELOW:
        dead = dead_units(states[node.inputs[0]])
    mean, q = x.average, x.length
    return Row(
        name=node.name,
        op=node.op,
        shape=x.shape,
        mean=mean,
        q=q,
        variance=max(q - mean**2, 0.0),
        c=x.correlation if not isinstance(node.op, ops.Input) or node.op.dtype == "float" else math.nan,
        g=g.length if g is not None else 0.0,
        chi=pulled.chi.get(node.name, math.nan),
        error=math.sqrt(max(x.spread, 0.0)),
        g_error=math.sqrt(max(g.spread, 0.0)) if g is not None else 0.0,
        dead=dead,
    )


@lru_cache(maxsize=1024)  # by identity: a tensor may feed several functions
def dead_units(x: State) -> float:
    """P(a unit's pre-activation is negative for all examples and positions), from their average correlation."""
    from scipy.special import ndtr

    if len(x.axes) < 2 or x.part_axis is not None:
        return math.nan
    m, v, rho = standard(x)
    if v == 0:
        return float(m <= 0)
    over = tuple(i for i in range(len(x.axes)) if i != 1)
    n = math.prod(x.axes[i].n for i in over)
    average = float(rho[:, 0].ravel() @ frame(tuple(x.axes[i] for i in over)).pairs)
    r = (average * n - 1) / (n - 1) if n > 1 else 0.0
    r = min(max(r, 0.0), 1 - 1e-9)
    z = copula.nodes()
    below = ndtr((-m / math.sqrt(v) - math.sqrt(r) * z) / math.sqrt(1 - r))
    certain = below > 1e-290 ** (1 / n)  # the others are nothing, which a power takes long to find
    return float((below[certain] ** n) @ copula.weights()[certain])
