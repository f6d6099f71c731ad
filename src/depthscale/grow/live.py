"""A network while it is trained: graph, weights and optimiser, edited together, with the lineage of its graphs.

An edit makes a new graph and says for every parameter it touches where its values come from (``Source``). Parameters
that it does not touch stay the same objects. The optimiser is changed in place: its moments are copied and split as
the parameters were, what is new starts without moments.

When to rebuild. ``apply`` returns a new module; whatever wraps the old one has to be made again from it, after every
edit: ``torch.compile(live.module)`` (it compiles for the new shapes; ``mode="default"`` and few edits keep that cheap),
``DistributedDataParallel(live.module)`` (every process applies the same edit with the same seed first; parameters and
buckets are those of the new module), ``FullyShardedDataParallel`` (gather whole parameters before the edit). Masks of
single connections change no shape and need no rebuilding.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from depthscale.build.module import GraphModule
from depthscale.build.plan import plan
from depthscale.build.sampling import draw
from depthscale.errors import DepthscaleError
from depthscale.graph import Graph, ParameterSpec, ops
from depthscale.graph.laws import Fans
from depthscale.grow.spaces import Index

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Take:
    """Along axis ``dim`` the new entries are the old ones at ``index`` (−1: an entry that is new), over ``shares``.

    ``steps``: by how much the gradient of an entry falls where it was copied (a unit that is one of k alike gets a k-th
    of the gradient), which is what the optimiser's moments are divided by. ``fill``: what new entries hold: "draw" (the
    layer's law), "zero", or values of the shape of these entries. ``tilt`` > 0 adds to copies noise of that many root
    mean squares which sums to zero over the copies of an entry, so that copies can part ways.
    """

    dim: int
    index: Index
    shares: Counts | None = None
    steps: Counts | None = None
    fill: "Tensor | str" = "draw"
    tilt: float = 0.0

    @property
    def draws(self) -> bool:
        """Whether some entries are drawn by the layer's law."""
        return isinstance(self.fill, str) and self.fill == "draw" and bool((self.index < 0).any())


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
    """A network in training. ``optimiser`` may be None; ``lineage`` has one step per edit, oldest first.

    ``masks``: for parameters of which single connections are missing, by full name, where there is one (bool, of the
    parameter's shape). Edits carry them along; whoever takes the optimiser's steps calls ``enforce`` behind each.
    """

    module: GraphModule
    optimiser: torch.optim.Optimizer | None = None
    lineage: tuple[Step, ...] = ()
    masks: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        """The network as it is now."""
        return self.module.graph

    @property
    def parameters(self) -> int:
        """Parameters that are there: those that masks leave out are not counted."""
        whole = sum(p.numel() for p in self.module.parameters())
        return whole - sum(int(m.numel() - m.sum()) for m in self.masks.values())

    def enforce(self) -> None:
        """Put connections that masks leave out to zero, and the optimiser's first moments of them."""
        named = dict(self.module.named_parameters())
        with torch.no_grad():
            for name, mask in self.masks.items():
                named[name].mul_(mask)
                state = {} if self.optimiser is None else self.optimiser.state.get(named[name], {})
                for key in ("exp_avg", "momentum_buffer"):
                    if isinstance(state.get(key), Tensor):
                        state[key].mul_(mask)

    def apply(self, edit: Edit, seed: int = 0) -> "Live":
        """The network after an edit; ``seed`` draws what is new and has no source.

        The old module is used up: parameters that stay are moved. The optimiser is changed in place.
        Raises DepthscaleError where the optimiser's state is none that can be carried, and where nothing would be left.
        """
        old = self.module
        some = next(old.parameters())
        before, buffers = dict(old.named_parameters()), dict(old.named_buffers())
        if self.optimiser is not None:
            _check(self.optimiser, before)
        new = GraphModule(edit.graph, dtype=some.dtype).train(old.training)
        specs = plan(edit.graph).specs
        successors: dict[Tensor, Tensor] = {}
        masks: dict[str, Tensor] = {}
        with torch.no_grad():
            for name, empty in list(new.named_parameters()):
                source = edit.sources.get(name)
                was = before.get(name)
                if source is None and was is not None and was.shape == empty.shape:
                    _put(new, name, was)
                    successors[was] = was
                    if name in self.masks:
                        masks[name] = self.masks[name]
                    continue
                carried = was is not None and source is not None and source.values is None
                if source is not None and source.values is not None:
                    value = source.values.to(some)
                elif carried and source is not None and not any(t.draws for t in source.takes):
                    value = empty  # nothing of it will be read
                else:
                    value = draw(specs[name], seed, name).to(some)
                if carried and was is not None and source is not None:
                    value = _taken(was, source.takes, value, seed=mix(seed, name))
                    if name in self.masks:
                        masks[name] = _taken(self.masks[name].to(some), source.takes, torch.ones_like(value)) > 0.5
                fresh = nn.Parameter(value.contiguous(), requires_grad=was is None or was.requires_grad)
                if carried and was is not None:
                    successors[was] = fresh
                _put(new, name, fresh)
            _fill_buffers(new, edit, buffers, some, seed)
        if self.optimiser is not None:
            _carry(self.optimiser, edit, before, dict(new.named_parameters()), successors)
        cost = edit.graph.cost()
        step = Step(edit.kind, edit.where, self.graph.key, edit.graph.key, cost.parameters, cost.multiply_adds)
        return Live(new, self.optimiser, (*self.lineage, step), masks)


def mix(seed: int, name: str) -> int:
    """A seed of a name's own."""
    return zlib.crc32(f"{seed} {name}".encode())


def _fill_buffers(new: GraphModule, edit: Edit, buffers: Mapping[str, Tensor], like: Tensor, seed: int) -> None:
    """Running statistics and constants: carried where they were there, else as a build leaves them."""
    fixed = {f"{path}.value": node.op for path, node in plan(edit.graph).fixed.items()}
    for name, empty in list(new.named_buffers()):
        source, was = edit.sources.get(name), buffers.get(name)
        if was is not None and source is None and was.shape == empty.shape:
            value = was
        elif isinstance(op := fixed.get(name), ops.Constant):
            value = draw(ParameterSpec(op.shape, op.law, Fans(1, 1)), seed, name).to(like)
        else:
            value = torch.full(empty.shape, float("running_var" in name), dtype=empty.dtype, device=like.device)
            if was is not None and source is not None:
                value = _taken(was, source.takes, value)
        path, _, leaf = name.rpartition(".")
        _at(new, path)._buffers[leaf] = value


def _at(module: nn.Module, path: str) -> nn.Module:
    for part in path.split("."):
        module = module._modules[part]  # type: ignore[assignment]
    return module


def _put(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    path, _, leaf = name.rpartition(".")
    _at(module, path)._parameters[leaf] = parameter


def _taken(
    old: Tensor, takes: tuple[Take, ...], fresh: Tensor | None = None, *, power: int = 0, seed: int = 0
) -> Tensor:
    """The entries taken from a parameter; ``fresh`` (of the new shape) is what entries that are new hold.

    ``power`` 1 or 2: from moments of its gradient of that order; what is new has none of the first, and the mean of the
    second (with none at all its first steps would be too long).
    """
    rest = float(old.mean()) if power == 2 else 0.0
    for take in takes:
        index = torch.as_tensor(np.maximum(take.index, 0), device=old.device)
        old = old.index_select(take.dim, index)
        factor = take.steps if power else take.shares
        if factor is not None:
            old = old / _along(factor ** max(power, 1), take.dim, old)
        if take.tilt and not power:
            old = old + _tilt(old, take, seed)
    for last in (False, True):  # zeros win over what was drawn
        for take in takes:
            new = take.index < 0
            zero = isinstance(take.fill, str) and take.fill == "zero"
            if not new.any() or zero is not last:
                continue
            where = _along(new, take.dim, old).bool()
            if power:
                old = torch.where(where, torch.full_like(old, rest), old)
            elif zero:
                old = torch.where(where, torch.zeros_like(old), old)
            elif isinstance(take.fill, Tensor):
                at = torch.as_tensor(np.flatnonzero(new), device=old.device)
                old = old.index_copy(take.dim, at, take.fill.to(old))
            else:
                assert fresh is not None
                old = torch.where(where, fresh, old)
    return old


def _along(values: "NDArray[Any]", dim: int, like: Tensor) -> Tensor:
    """A vector along one axis of a tensor."""
    shape = [-1 if d == dim else 1 for d in range(like.ndim)]
    return torch.as_tensor(values, device=like.device).to(like.dtype).reshape(shape)


def _tilt(value: Tensor, take: Take, seed: int) -> Tensor:
    """Noise that sums to zero over the copies of every entry."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)
    old, place = np.unique(take.index, return_inverse=True)
    sums = torch.zeros([len(old) if d == take.dim else n for d, n in enumerate(value.shape)]).to(value)
    sums.index_add_(take.dim, torch.as_tensor(place, device=value.device), noise)
    means = sums / _along(np.bincount(place).astype(np.float64), take.dim, sums)
    noise = noise - means.index_select(take.dim, torch.as_tensor(place, device=value.device))
    return noise * (take.tilt * value.square().mean().sqrt())


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
    for p in fresh:
        _group_for(optimiser, p)["params"].append(p)


def _group_for(optimiser: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Any]:
    """The group of a new parameter: with vectors for a vector (they are often spared decay), else the first."""
    groups = optimiser.param_groups
    if parameter.dim() <= 1:
        for group in groups:
            if group["params"] and all(p.dim() <= 1 for p in group["params"]):
                return group
    return groups[0]


def _split(state: Mapping[str, object], source: Source) -> dict[str, object]:
    """Optimiser state after an edit; second moments (Adam's exp_avg_sq, RMSprop's square_avg) by squares."""
    out: dict[str, object] = {}
    for key, value in state.items():
        if isinstance(value, Tensor) and value.ndim:
            out[key] = _taken(value, source.takes, power=2 if "sq" in key or key == "sum" else 1)
        else:
            out[key] = value
    return out
