"""Any graph, all members at once: the built module mapped over stacked parameters by ``torch.func.vmap``.

One autograd graph serves all members: the gradient of the sum of their losses, in each member's own parameters, is
that of its own loss. The update is the batched one. Convolutions on CPUs gain
nothing from the map (measured by ``benchmarks/ensemble.py``): there the members are taken in turn, over the same
stacked parameters and with the same batched update, and only one at a time keeps its values for the way back. What is
drawn at random while training (dropout) is drawn for all together, so with it a member is not what it would be alone.
"""

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from depthscale.build import build
from depthscale.errors import TrainingError
from depthscale.graph import Graph, ops
from depthscale.train import seeds
from depthscale.train.ensemble.update import Stack, Update
from depthscale.train.objective import Objective, outputs_of

_RANDOM = (ops.Dropout, ops.DropPath)


class General:
    """The members' parameters, and how they are trained and evaluated together."""

    engine = "general"

    def __init__(
        self, graph: Graph, stack: Stack, update: Update, objective: Objective, *, shared: bool, mapped: bool
    ) -> None:
        self.update, self.objective, self.shared, self.mapped = update, objective, shared, mapped
        first = next(iter(stack.values()))
        self.seed, self.device = update.config.seed, first.device
        self.random = draws(graph)
        self.module = build(graph, dtype=first.dtype, device=self.device)
        self.parameters = {k: v.requires_grad_() for k, v in stack.items()}
        count = len(first)
        self.buffers = {k: v.expand(count, *v.shape).clone() for k, v in self.module.named_buffers()}

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    def stack(self) -> Stack:
        """Parameters and buffers by name (E, *shape); the tensors themselves, not copies."""
        return {k: v.detach() for k, v in {**self.parameters, **self.buffers}.items()}

    def select(self, keep: Tensor) -> None:
        """Go on with these members only."""
        self.parameters = {k: v.detach()[keep].requires_grad_() for k, v in self.parameters.items()}
        self.buffers = {k: v[keep] for k, v in self.buffers.items()}
        self.update.select(keep)

    def step(self, x: Tensor, y: Tensor, factor: float) -> Tensor:
        """Train on one batch, x (B, …) or (E, B, …), at ``factor`` of the rates; the losses before the step (E,)."""
        self.module.train()
        if self.random:
            seeds.seed_noise(seeds.mix(self.seed, seeds.NOISE, self.update.step), self.device)
        gradients: Stack
        with torch.enable_grad():
            if self.mapped:
                losses = self._mapped(self._loss, x, y)
                found = torch.autograd.grad(losses.sum(), list(self.parameters.values()), allow_unused=True)
                gradients = {
                    k: torch.zeros_like(p) if g is None else g
                    for (k, p), g in zip(self.parameters.items(), found, strict=True)
                }
            else:
                losses, gradients = self._in_turn(x, y)
        with torch.no_grad():
            self.update.apply(self.parameters, gradients, factor)
        return losses.detach()

    def outputs(self, x: Tensor) -> Tensor:
        """The main outputs (E, C, N) for rows that all members share, in evaluation mode."""
        self.module.eval()
        with torch.no_grad():
            if self.mapped:
                out = vmap(self._run, in_dims=(0, 0, None))(self.parameters, self.buffers, x)
            else:
                out = torch.stack([self._run(*self._member(e), x) for e in range(len(self))])
        return out.mT

    def _run(self, parameters: Stack, buffers: Stack, x: Tensor) -> Tensor:
        out = outputs_of(functional_call(self.module, {**parameters, **buffers}, (x,)))[0]
        if out.dim() != 2:
            raise TrainingError(f"expected a network with one vector of outputs per row, got {tuple(out.shape)}")
        return out

    def _loss(self, parameters: Stack, buffers: Stack, x: Tensor, y: Tensor) -> Tensor:
        return self.objective(functional_call(self.module, {**parameters, **buffers}, (x,)), y)

    def _mapped(self, function: Any, x: Tensor, y: Tensor) -> Tensor:
        data = None if self.shared else 0
        mapped = vmap(function, in_dims=(0, 0, data, data), randomness="different")
        found: Tensor = mapped(self.parameters, self.buffers, x, y)
        return found

    def _member(self, e: int) -> tuple[Stack, Stack]:
        return {k: v[e] for k, v in self.parameters.items()}, {k: v[e] for k, v in self.buffers.items()}

    def _in_turn(self, x: Tensor, y: Tensor) -> tuple[Tensor, Stack]:
        gradients = {k: torch.zeros_like(v) for k, v in self.parameters.items()}
        losses = []
        for e in range(len(self)):
            parameters, buffers = self._member(e)
            parameters = {k: v.detach().requires_grad_() for k, v in parameters.items()}
            loss = self._loss(parameters, buffers, *((x, y) if self.shared else (x[e], y[e])))
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for k, g in zip(parameters, found, strict=True):
                if g is not None:
                    gradients[k][e].copy_(g)
            losses.append(loss.detach())
        return torch.stack(losses), gradients


def draws(graph: Graph) -> bool:
    """Whether training a graph draws random numbers."""
    return any(
        (isinstance(n.op, _RANDOM) and n.op.p > 0)
        or (isinstance(n.op, ops.Attention) and n.op.dropout > 0)
        or (isinstance(n.op, ops.Activation) and n.op.function == "rrelu")
        for n in graph.nodes
    )
