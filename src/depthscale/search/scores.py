"""Scores of a network that was not trained: one number each, larger is better, from one batch of noise.

``score(graph)`` gives all of them. Data-free where their authors' are; the others look at one batch of standard
Gaussian noise (seeded), so that a score is a property of the architecture and of the draw of its weights.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from depthscale.errors import SearchError
from depthscale.graph import Graph, ops

if TYPE_CHECKING:
    from torch import Tensor

    from depthscale.build import GraphModule
    from depthscale.theory.propagate import Propagation

TINY = 1e-30
JOLT = 1e-2  # size of the change of the input that Zen looks at


class Subject:
    """A network as the scores see it: built once, run once, differentiated once."""

    def __init__(self, graph: Graph, seed: int, batch: int) -> None:
        import torch

        self.graph, self.seed, self.batch = graph, seed, batch
        shapes = [graph[name].op for name in graph.inputs]
        if len(shapes) != 1 or getattr(shapes[0], "dtype", "float") != "float":
            raise SearchError(f"expected a network of one input of real numbers to score, got {len(shapes)} inputs")
        noise = torch.Generator().manual_seed(seed)
        self.x = torch.randn(batch, *shapes[0].shape, generator=noise)  # type: ignore[attr-defined]

    @cached_property
    def module(self) -> "GraphModule":
        """The network at its own law, in training mode."""
        from depthscale.build import build

        return build(self.graph, self.seed)

    @cached_property
    def values(self) -> "Mapping[str, Tensor]":
        """Outputs of convolutions and linear layers, inputs of ReLU-like functions, and the network's output."""
        kinks = [n.inputs[0] for n in self.graph.nodes if isinstance(n.op, ops.Activation)]
        layers = [n.name for n in self.graph.nodes if isinstance(n.op, ops.LAYERS)]
        return self.module.intermediates(self.x, of=[*kinks, *layers, self.graph.outputs[0]])

    @cached_property
    def activations(self) -> "list[Tensor]":
        """What goes into every activation function, once each."""
        names = [
            n.inputs[0] for n in self.graph.nodes if isinstance(n.op, ops.Activation) and n.op.function != "affine"
        ]
        return [self.values[name].detach() for name in dict.fromkeys(names)]

    @cached_property
    def maps(self) -> "list[Tensor]":
        """What comes out of every convolution."""
        return [self.values[n.name].detach() for n in self.graph.nodes if isinstance(n.op, ops.Conv | ops.Linear)]

    @cached_property
    def gradients(self) -> "list[tuple[Tensor, Tensor]]":
        """(parameter, gradient of the cross-entropy of random labels) for every parameter that matters."""
        import torch

        y = self.values[self.graph.outputs[0]].flatten(1)
        labels = torch.randint(y.shape[1], (self.batch,), generator=torch.Generator().manual_seed(self.seed + 1))
        loss = torch.nn.functional.cross_entropy(y, labels)
        own = list(self.module.parameters())
        found = torch.autograd.grad(loss, own, allow_unused=True, retain_graph=True)
        return [(p.detach(), g) for p, g in zip(own, found, strict=True) if g is not None]

    @cached_property
    def codes(self) -> "list[Tensor]":
        """(batch, units) for every activation function: whether a unit is on."""
        return [(z > 0).flatten(1) for z in self.activations]

    @cached_property
    def theory(self) -> "Propagation":
        """Mean-field propagation."""
        from depthscale.theory.propagate import propagate

        return propagate(self.graph, batch=self.batch)


def grad_norm(s: Subject) -> float:
    """Σ over layers ‖∂L/∂W‖ (Abdelfattah et al. 2021, as they measured it: the norms of weights added up)."""
    return sum(float(g.norm()) for p, g in s.gradients if p.dim() > 1)


def snip(s: Subject) -> float:
    """Σ |θ ∂L/∂θ| (Lee, Ajanthan & Torr 2019)."""
    return sum(float((p * g).abs().sum()) for p, g in s.gradients)


def synflow(s: Subject) -> float:
    """log Σ θ ∂R/∂θ with R = Σ f(1; |θ|), normalisation at its running statistics (Tanaka et al. 2020)."""
    import torch

    from depthscale.build import build

    module = build(s.graph, s.seed, dtype=torch.float64).eval()
    with torch.no_grad():
        for p in module.parameters():
            p.abs_()
    own = list(module.parameters())
    y = module(torch.ones_like(s.x[:1], dtype=torch.float64)).sum()
    found = torch.autograd.grad(y, own, allow_unused=True)
    total = sum(float((p.detach() * g).sum()) for p, g in zip(own, found, strict=True) if g is not None)
    return math.log(max(total, TINY))


def naswot(s: Subject) -> float:
    """log|K|, K the agreement of the on/off codes of two inputs (Mellor et al. 2021)."""
    import torch

    k = torch.zeros(s.batch, s.batch, dtype=torch.float64)
    for code in s.codes:
        on = code.float()
        k += (on @ on.T + (1 - on) @ (1 - on).T).double()
    return float(torch.linalg.slogdet(k + 1e-9 * torch.eye(s.batch, dtype=torch.float64))[1]) if s.codes else -math.inf


def swap(s: Subject) -> float:
    """How many different patterns over the batch the units have (Peng et al. 2024, sample-wise activation patterns)."""
    import torch

    places = 2 ** torch.arange(min(s.batch, 62), dtype=torch.int64)[:, None]
    return float(sum(torch.unique((c[:62].long() * places).sum(0)).numel() for c in s.codes))


def jacobian_covariance(s: Subject) -> float:
    """−Σ(log σ_i + 1/σ_i), σ the spectrum of the correlations of the inputs' gradients (Mellor et al. 2020)."""
    import torch

    from depthscale.build import build

    x = s.x.clone().requires_grad_()
    y = build(s.graph, s.seed)(x).sum()
    j = torch.autograd.grad(y, x)[0].flatten(1)
    c = torch.nan_to_num(torch.corrcoef(j.double()))
    v = torch.linalg.eigvalsh(c) + 1e-5
    return -float((v.log() + 1 / v).sum())


def zen(s: Subject) -> float:
    """log ‖f(x) − f(x + ε)‖ before the classifier, plus the log scales that norms took out (Lin et al. 2021).

    Weights are standard normal, as there: every layer's scale is its fan-in, and normalisation hands it to the score.
    """
    import torch

    from depthscale.build import build

    last = next(n for n in reversed(s.graph.nodes) if isinstance(n.op, ops.Linear | ops.Conv))
    norms = {n.inputs[0]: n for n in s.graph.nodes if isinstance(n.op, ops.NORMS)}
    noise = torch.Generator().manual_seed(s.seed + 2)
    module = build(s.graph, s.seed)
    with torch.no_grad():
        for p in module.parameters():
            if p.dim() > 1:
                p.normal_(generator=noise)
        jolt = torch.randn(s.x.shape, generator=noise)
        a = module.intermediates(s.x, of=[last.inputs[0], *norms])
        b = module.intermediates(s.x + JOLT * jolt, of=[last.inputs[0]])
    moved = float((a[last.inputs[0]] - b[last.inputs[0]]).flatten(1).norm(dim=1).mean())
    scales = sum(float(a[name].var().clamp(min=TINY).log()) / 2 for name in norms)
    return math.log(max(moved, TINY)) + scales


def spectrum(s: Subject) -> float:
    """Σ over layers of the entropy of the spectrum of the channels' covariance: how many directions are in use.

    The expressivity part of Lee & Ham 2024, "AZ-NAS", here with the covariance over examples and positions.
    """
    import torch

    total = 0.0
    for z in s.maps:
        rows = z.transpose(0, 1).flatten(1) if z.dim() > 2 else z.T
        v = torch.linalg.eigvalsh(torch.cov(rows).reshape(len(rows), -1)).clamp(min=1e-12)
        p = v / v.sum()
        total -= float((p * p.log()).sum())
    return total


def independence(s: Subject) -> float:
    """Σ over layers of the least eigenvalue of the channels' correlations for one input (Jiang et al. 2023, "MeCo")."""
    import torch

    total = 0.0
    for z in s.maps:
        if z.dim() > 2 and z.shape[1] > 1:
            v = torch.linalg.eigvalsh(torch.nan_to_num(torch.corrcoef(z[0].flatten(1))))
            total += max(float(v[0]), 0.0)
    return total


def richness(s: Subject) -> float:
    """spectrum · √independence: many directions in use, none of them nearly a combination of others."""
    return spectrum(s) * math.sqrt(max(independence(s), 0.0))


def parameters(s: Subject) -> float:
    """The number of parameters: the score that every other one has to beat."""
    return float(s.graph.cost().parameters)


def multiply_adds(s: Subject) -> float:
    """The multiply-adds of one input."""
    return float(s.graph.cost().multiply_adds)


def theory_gradient(s: Subject) -> float:
    """−|ln(gradient energy at the first layer / at the last)| by mean-field theory: 0 is steady."""
    return -abs(math.log(max(s.theory.totals.gradient_ratio, TINY)))


def theory_correlation(s: Subject) -> float:
    """1 − c: how far apart theory keeps two unrelated inputs until the output."""
    c = s.theory.totals.c_end
    return 1.0 - c if math.isfinite(c) else 0.0


@dataclass(frozen=True)
class Score:
    """A score and where it comes from."""

    name: str
    function: Callable[[Subject], float]

    @property
    def source(self) -> str:
        """The first line of its description."""
        return (self.function.__doc__ or "").splitlines()[0]


SCORES: dict[str, Score] = {
    f.__name__: Score(f.__name__, f)
    for f in (
        parameters,
        multiply_adds,
        grad_norm,
        snip,
        synflow,
        naswot,
        swap,
        jacobian_covariance,
        zen,
        spectrum,
        independence,
        richness,
        theory_gradient,
        theory_correlation,
    )
}


def score(graph: Graph, names: Iterable[str] | None = None, *, seed: int = 0, batch: int = 16) -> dict[str, float]:
    """Scores of a network by name: all of ``SCORES``, or those in ``names``.

    batch: inputs of noise. A score that overflows or has nothing to look at is −inf. Raises SearchError for an unknown
    name or a network without one real input.
    """
    wanted = list(SCORES) if names is None else list(names)
    for name in wanted:
        if name not in SCORES:
            raise SearchError(f"expected a score ({', '.join(SCORES)}), got {name!r}")
    if batch < 2:
        raise SearchError(f"expected a batch of at least 2 to score with, got {batch}")
    subject = Subject(graph, seed, batch)
    found: dict[str, float] = {}
    for name in wanted:
        value = SCORES[name].function(subject)
        found[name] = value if math.isfinite(value) else -math.inf
    return found


def ranks(columns: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The sum of log ranks of several scores over the same networks (Lee & Ham 2024): larger is better."""
    import numpy as np
    from scipy.stats import rankdata

    total: Any = 0.0
    for name in names:
        x = np.asarray(columns[name], dtype=float)
        total = total + np.log(rankdata(x) / len(x))
    return total
