"""A network while it is trained: graph, weights and optimiser, edited together, with the lineage of its graphs.

An edit makes a new graph and says for every parameter it touches where its values come from (``Source``). Parameters
that it does not touch stay the same objects. The optimiser is changed in place: its moments are copied and split as
the parameters were, what is new starts without moments. Whatever wraps the old module (``torch.compile``,
``DistributedDataParallel``) has to be made again from the new one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from depthscale.build import build
from depthscale.build.module import GraphModule
from depthscale.errors import DepthscaleError
from depthscale.graph import Graph
from depthscale.grow.spaces import Index

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Take:
    """Along axis ``dim`` the new entries are the old ones at ``index``, divided by ``shares``.

    ``steps``: by how much the gradient of an entry falls where it was copied (a unit that is one of k alike gets a k-th
    of the gradient), which is what the optimiser's moments are divided by.
    """

    dim: int
    index: Index
    shares: Counts | None = None
    steps: Counts | None = None


@dataclass(frozen=True)
class Source:
    """Where the values of a parameter (or running statistic) come from: ``takes`` of its old self, or ``values``."""

    takes: tuple[Take, ...] = ()
    values: Tensor | None = None


@dataclass(frozen=True)
class Edit:
    """A new graph and the sources of what differs, by full name ("stage1.conv1.weight")."""

    kind: str
    where: str
    graph: Graph
    sources: Mapping[str, Source] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One edit in a lineage: keys are those of the graphs, ``parameters`` and ``multiply_adds`` of the new one."""

    kind: str
    where: str
    before: str
    after: str
    parameters: int
    multiply_adds: int


@dataclass(frozen=True, eq=False)
class Live:
    """A network in training. ``optimiser`` may be None; ``lineage`` has one step per edit, oldest first."""

    module: GraphModule
    optimiser: torch.optim.Optimizer | None = None
    lineage: tuple[Step, ...] = ()

    @property
    def graph(self) -> Graph:
        """The network as it is now."""
        return self.module.graph

    def apply(self, edit: Edit, seed: int = 0) -> "Live":
        """The network after an edit; ``seed`` draws what is new and has no source.

        The old module is used up: parameters that stay are moved. The optimiser is changed in place.
        Raises DepthscaleError where the optimiser's state is none that can be carried.
        """
        old = self.module
        some = next(old.parameters())
        new = build(edit.graph, seed, dtype=some.dtype, device=some.device).train(old.training)
        before, buffers = dict(old.named_parameters()), dict(old.named_buffers())
        successors: dict[Tensor, Tensor] = {}
        if self.optimiser is not None:
            _check(self.optimiser, before)
        with torch.no_grad():
            for name, fresh in list(new.named_parameters()):
                source = edit.sources.get(name)
                if source is None and name in before and before[name].shape == fresh.shape:
                    _put(new, name, before[name])
                    successors[before[name]] = before[name]
                    continue
                if source is not None and source.values is not None:
                    fresh.copy_(source.values)
                elif source is not None:
                    fresh.copy_(_taken(before[name], source.takes))
                    successors[before[name]] = fresh
                if name in before:
                    fresh.requires_grad_(before[name].requires_grad)
            for name, fresh_buffer in new.named_buffers():
                if name in buffers:
                    source = edit.sources.get(name)
                    fresh_buffer.copy_(buffers[name] if source is None else _taken(buffers[name], source.takes))
        if self.optimiser is not None:
            _carry(self.optimiser, edit, before, dict(new.named_parameters()), successors)
        cost = edit.graph.cost()
        step = Step(edit.kind, edit.where, self.graph.key, edit.graph.key, cost.parameters, cost.multiply_adds)
        return Live(new, self.optimiser, (*self.lineage, step))


def _put(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    path, _, leaf = name.rpartition(".")
    for part in path.split("."):
        module = module._modules[part]  # type: ignore[assignment]
    module._parameters[leaf] = parameter


def _taken(old: Tensor, takes: tuple[Take, ...], *, power: int = 0) -> Tensor:
    """The entries taken from a parameter; ``power`` 1 or 2: from moments of its gradient of that order."""
    for take in takes:
        old = old.index_select(take.dim, torch.as_tensor(take.index, device=old.device))
        factor = take.steps if power else take.shares
        if factor is not None:
            shape = [-1 if d == take.dim else 1 for d in range(old.ndim)]
            old = old / torch.as_tensor(factor ** max(power, 1), dtype=old.dtype, device=old.device).reshape(shape)
    return old


def _check(optimiser: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> None:
    known = {id(p) for p in parameters.values()}
    for group in optimiser.param_groups:
        for p in group["params"]:
            if id(p) not in known:
                raise DepthscaleError("expected an optimiser of this module's parameters, got one that holds others")
            for key, value in optimiser.state.get(p, {}).items():
                if isinstance(value, Tensor) and value.ndim and value.shape != p.shape:
                    raise DepthscaleError(
                        f"expected optimiser state of the parameters' shapes, got {key!r} of {tuple(value.shape)} for "
                        f"{tuple(p.shape)}; {type(optimiser).__name__} cannot be carried through an edit"
                    )


def _carry(
    optimiser: torch.optim.Optimizer,
    edit: Edit,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    successors: Mapping[Tensor, Tensor],
) -> None:
    """Moments copied and split as their parameters were; what is new joins the first group of parameters."""
    names = {p: name for name, p in before.items()}
    held: set[Tensor] = set()
    heirs = dict(successors)
    for group in optimiser.param_groups:
        params: list[Tensor] = []
        for p in group["params"]:
            state, heir = optimiser.state.pop(p, None), heirs.pop(p, None)
            if heir is None:
                continue  # it went, or something new stands in its place
            params.append(heir)
            held.add(heir)
            if state is not None:
                source = edit.sources.get(names[p])
                optimiser.state[heir] = state if source is None else _split(state, source)
        group["params"] = params
    left_out = set(heirs.values())  # of parameters that the optimiser was never given
    fresh = [p for p in after.values() if p not in held and p not in left_out and p.requires_grad]
    optimiser.param_groups[0]["params"].extend(fresh)


def _split(state: Mapping[str, object], source: Source) -> dict[str, object]:
    """Optimiser state after an edit; second moments (Adam's exp_avg_sq, RMSprop's square_avg) by squares."""
    out: dict[str, object] = {}
    for key, value in state.items():
        if isinstance(value, Tensor) and value.ndim:
            out[key] = _taken(value, source.takes, power=2 if "sq" in key or key == "sum" else 1)
        else:
            out[key] = value
    return out
