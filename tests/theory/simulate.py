"""Monte Carlo for propagation: build the network for several seeds, run random data through it and back."""

from dataclasses import dataclass

import numpy as np
import torch

from depthscale.build import build
from depthscale.graph import Graph, ops
from depthscale.graph.parameters import owner


@dataclass(frozen=True)
class Measured:
    """Per seed: mean square, correlation of two inputs, mean and gradient mean square of every node; (seeds,) each."""

    q: dict[str, np.ndarray]
    c: dict[str, np.ndarray]
    mean: dict[str, np.ndarray]
    g: dict[str, np.ndarray]
    parameters: dict[str, np.ndarray]


def data(graph: Graph, name: str, batch: int, generator: torch.Generator, c: float = 0.0) -> torch.Tensor:
    """White noise of unit variance with correlation c between examples; whole numbers of which two examples share c."""
    op = graph[name].op
    assert isinstance(op, ops.Input)
    shape = (batch, *op.shape) if op.batched else op.shape
    if op.dtype == "int":
        entries = min(n.op.entries for n in graph.nodes if isinstance(n.op, ops.Embedding) and name in n.inputs)
        own, common = (torch.randint(entries, s, generator=generator) for s in (shape, op.shape))
        return torch.where(torch.rand(shape, generator=generator) < c**0.5, common, own)  # two share c of their places
    common = torch.randn(op.shape, generator=generator)
    return c**0.5 * common + (1 - c) ** 0.5 * torch.randn(shape, generator=generator)


def simulate(graph: Graph, seeds: int = 6, batch: int = 8, c: float = 0.0) -> Measured:
    """Measured moments of the real thing."""
    found: dict[str, dict[str, list[float]]] = {k: {} for k in ("q", "c", "mean", "g", "parameters")}
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(1000 + seed)
        torch.manual_seed(seed)
        module = build(graph, seed).train()
        xs = [data(graph, i, batch, generator, c) for i in graph.inputs]
        for x in xs:
            if x.is_floating_point():
                x.requires_grad_()
        values = module.intermediates(*xs)
        values.update(dict(zip(graph.inputs, xs, strict=True)))
        wanted = {k: v for k, v in values.items() if v.requires_grad}
        parameters = dict(module.named_parameters())
        outputs = [values[o] for o in graph.outputs]
        cotangents = [torch.randn(o.shape, generator=generator) for o in outputs]
        grads = torch.autograd.grad(outputs, [*wanted.values(), *parameters.values()], cotangents, allow_unused=True)
        for name, g in zip(wanted, grads, strict=False):
            found["g"].setdefault(name, []).append(0.0 if g is None else float(g.square().mean()))
        for name, g in zip(parameters, grads[len(wanted) :], strict=True):
            found["parameters"].setdefault(name, []).append(0.0 if g is None else float(g.square().mean()))
        for name, v in values.items():
            if not v.is_floating_point():
                continue
            v = v.detach().double()
            q = float(v.square().mean())
            found["q"].setdefault(name, []).append(q)
            found["mean"].setdefault(name, []).append(float(v.mean()))
            if v.ndim and v.shape[0] > 1:
                n = v.shape[0]
                pairs = (v.sum(0).square() - v.square().sum(0)).mean() / (n * (n - 1))
                found["c"].setdefault(name, []).append(float(pairs) / max(q, 1e-300))
    arrays = {k: {n: np.array(v) for n, v in table.items()} for k, table in found.items()}
    return Measured(**arrays)


def parameter_names(graph: Graph) -> dict[str, str]:
    """Full names of parameters as theory has them, by those of the module (they are the same)."""
    return {owner(n.name, n.op): n.name for n in graph.nodes}
