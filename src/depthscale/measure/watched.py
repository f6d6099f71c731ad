"""The moments of a model that only runs: every module's output seen by a hook, and its gradient by another.

For models that no graph can be made of (control flow that depends on values, recurrences of a library, code that leaves
PyTorch and comes back). Nothing is traced; what a module's call returns is looked at while the call returns, and the
gradient of it while unit-variance noise goes back from the model's outputs.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from depthscale.capture.program import training
from depthscale.errors import TrainingError
from depthscale.measure.hooked import FLAT_BELOW

NORMS = (
    *(getattr(nn, f"{kind}{d}d") for kind in ("BatchNorm", "InstanceNorm") for d in (1, 2, 3)),
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


@dataclass
class Call:
    """What one call of a module returned.

    path: the module's, with ":2" behind it for its second call. kind: its class. shape: batch included. mean, q: E[x],
    E[x²] of an element; c: E[xx']/q of two examples at one unit (nan where no axis is the batch's); g: E[(∂/∂x)²] for
    unit-variance noise at the outputs (0 where none arrives; of several tensors returned the largest); dead: share of
    units of a ReLU that are active for no example (nan for others). sw2: fan-in times the mean square of its matrix,
    nan without one. normalises: whether it is a normalisation.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    mean: float
    q: float
    c: float
    g: float = 0.0
    dead: float = math.nan
    sw2: float = math.nan
    normalises: bool = False

    @property
    def weighted(self) -> bool:
        """Whether it has a matrix of weights."""
        return not math.isnan(self.sw2)


@dataclass
class Watch:
    """The calls in their order, inputs, outputs, and E[g²] of an element of every parameter with a gradient."""

    calls: list[Call] = field(default_factory=list)
    inputs: list[Call] = field(default_factory=list)
    outputs: list[Call] = field(default_factory=list)
    parameters: dict[str, float] = field(default_factory=dict)


def watch(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, *, seed: int = 0) -> Watch:
    """One run of a module, forward and back, in training mode; modules, buffers and gradients are as before afterwards.

    Raises TrainingError where the model itself fails on these inputs, or returns nothing with numbers in it.
    """
    seen = Watch()
    leaves: list[Tensor] = []
    args, kwargs = tree_map(lambda v: _fresh(v, leaves), (tuple(args), dict(kwargs or {})))
    given = [v for v in tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
    batch = given[0].shape[0] if given and given[0].ndim else 0
    with _undisturbed(module), torch.random.fork_rng(devices=[]), warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        _note_inputs(seen, given, batch)
        handles = _hang(module, seen, batch)
        try:
            out = module(*args, **kwargs)
        except Exception as error:  # whatever user code raises
            text = (str(error).strip().splitlines() or [""])[0]
            raise TrainingError(
                f"{type(module).__name__} fails on its example: {type(error).__name__}: {text}"
            ) from error
        finally:
            for handle in handles:
                handle.remove()
        outputs = [v for v in tree_leaves(out) if isinstance(v, Tensor) and v.is_floating_point()]
        if not outputs:
            raise TrainingError(f"expected {type(module).__name__} to return tensors of numbers, got none")
        seen.outputs = [_call(f"output {i}" if i else "output", "output", v, batch) for i, v in enumerate(outputs)]
        _backward(module, seen, leaves, outputs)
    return seen


def _fresh(value: Any, leaves: list[Tensor]) -> Any:
    """A copy of an input that may be written in place, behind a leaf that asks for its gradient."""
    if not isinstance(value, Tensor):
        return value
    copied = value.detach().clone()
    if not copied.is_floating_point():
        return copied
    leaves.append(copied.requires_grad_())
    return copied.clone()


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    buffers = {name: b.detach().clone() for name, b in module.named_buffers()}
    with training(module, True):
        try:
            yield
        finally:
            with torch.no_grad():
                for name, b in module.named_buffers():
                    b.copy_(buffers[name])


def _note_inputs(seen: Watch, given: Sequence[Tensor], batch: int) -> None:
    for i, x in enumerate(t for t in given if t.is_floating_point()):
        row = _call(f"input {i}" if i else "input", "input", x, batch)
        seen.inputs.append(row)
        x.register_hook(_keeper(row))  # type: ignore[no-untyped-call]


def _hang(module: nn.Module, seen: Watch, batch: int) -> list[Any]:
    """A hook on every module that computes something itself: one without parts, or with parameters of its own."""
    counts: dict[str, int] = {}

    def hook(path: str) -> Any:
        def look(m: nn.Module, _: Any, out: Any) -> None:
            returned = [v for v in tree_leaves(out) if isinstance(v, Tensor) and v.is_floating_point() and v.numel()]
            if not returned:
                return
            value = returned[0]
            counts[path] = counts.get(path, 0) + 1
            name = path if counts[path] == 1 else f"{path}:{counts[path]}"
            row = _call(name, type(m).__name__, value, batch)
            row.normalises = isinstance(m, NORMS)
            row.sw2 = _sw2(m)
            if isinstance(m, FLAT_BELOW) and batch and value.ndim > 1 and value.shape[0] == batch:
                silent = value.detach().reshape(*value.shape[:2], -1) <= 0
                row.dead = float(silent.all(-1).all(0).float().mean())
            seen.calls.append(row)
            for v in returned:  # an LSTM's outputs may go unused, and its last state not
                if v.requires_grad:
                    v.register_hook(_keeper(row))  # type: ignore[no-untyped-call]

        return look

    watched = [
        (path or type(module).__name__, m)
        for path, m in module.named_modules()
        if not any(True for _ in m.children()) or any(True for _ in m.parameters(recurse=False))
    ]
    return [m.register_forward_hook(hook(path)) for path, m in watched if not isinstance(m, nn.Identity)]


def _keeper(row: Call) -> Any:
    def keep(gradient: Tensor) -> None:
        row.g = max(row.g, float(gradient.square().mean(dtype=torch.float64)))

    return keep


def _call(path: str, kind: str, x: Tensor, batch: int) -> Call:
    x = x.detach()
    q = float(x.square().mean(dtype=torch.float64))
    c, n = math.nan, batch
    if x.ndim > 1 and x.shape[0] != n and x.shape[1] == n:  # recurrences that take time first
        x = x.transpose(0, 1)
    if n > 1 and x.ndim and x.shape[0] == n and 0 < q < math.inf:
        pairs = (x.sum(0).square() - x.square().sum(0)).mean(dtype=torch.float64) / (n * (n - 1))
        c = float(pairs) / q
    return Call(path, kind, tuple(x.shape), float(x.mean(dtype=torch.float64)), q, c)


def _sw2(m: nn.Module) -> float:
    """Fan-in times mean square of a module's first own matrix; nan for norms, embeddings and modules without one."""
    if isinstance(m, (*NORMS, nn.Embedding, nn.EmbeddingBag)):
        return math.nan
    own = next((p for p in m.parameters(recurse=False) if p.ndim > 1), None)
    if own is None:
        return math.nan
    if isinstance(m, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        fan_in = own.shape[0] / m.groups * math.prod(own.shape[2:]) / math.prod(m.stride)
    else:
        fan_in = math.prod(own.shape[1:])
    return float(own.detach().square().mean(dtype=torch.float64)) * fan_in


def _backward(module: nn.Module, seen: Watch, leaves: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    parts = [o for o in outputs if o.requires_grad]
    own = {n: p for n, p in module.named_parameters() if p.requires_grad}
    wanted = [*own.values(), *leaves]
    if not parts or not wanted:
        return
    noise = [torch.randn_like(o) for o in parts]
    try:
        found = torch.autograd.grad(parts, wanted, noise, allow_unused=True)
    except RuntimeError as error:
        raise TrainingError(f"no gradient can be taken through {type(module).__name__}: {str(error)[:200]}") from error
    for name, gradient in zip(own, found, strict=False):
        if gradient is not None:
            seen.parameters[name] = float(gradient.square().mean(dtype=torch.float64))
