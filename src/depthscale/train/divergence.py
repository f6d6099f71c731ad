"""Where a run broke: the first layer that makes a number that is not finite, forward or backward.

The step that failed is run again from a good state with every layer's output watched; a loss that exploded without
leaving the finite numbers is put down to the first layer whose outputs grew.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_GROWN = 10.0  # root mean square, against the last good weights


@dataclass(frozen=True)
class Divergence:
    """That a run diverged, at which step (counted from 0), in which layer, and how.

    ``kind`` is forward (a layer's output), gradient (the gradient arriving at a layer's output, or at its parameters),
    update (the optimiser's step), loss (the loss alone) or exploding (finite, but far above the first loss).
    """

    step: int
    kind: str
    layer: str | None
    loss: float
    detail: str

    def event(self) -> dict[str, Any]:
        """As fields of a record's event, whose own kind is "diverged"."""
        fields = dict(vars(self))
        return {"how": fields.pop("kind"), **fields}

    def __str__(self) -> str:
        return f"diverged at step {self.step}: {self.detail}"


def watch(model: nn.Module, x: Tensor) -> tuple[Any, dict[str, Tensor]]:
    """The model's output and every layer's, by name in the order of computation.

    A built graph gives its nodes; any other module the outputs of its leaves, a repeated call numbered.
    """
    graph = getattr(model, "graph", None)
    if graph is not None and hasattr(model, "intermediates"):
        intermediates: Callable[[Tensor], Mapping[str, Tensor]] = model.intermediates  # type: ignore[assignment]
        seen = dict(intermediates(x))
        outs = tuple(seen[name] for name in graph.outputs)
        return (outs[0] if len(outs) == 1 else outs), seen
    found: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, arguments: Any, out: Any) -> None:
            tensors = [out] if isinstance(out, Tensor) else [o for o in _flat(out) if isinstance(o, Tensor)]
            for tensor in tensors:
                key, again = name, 2
                while key in found:
                    key, again = f"{name} (call {again})", again + 1
                found[key] = tensor

        return keep

    leaves = [(n, m) for n, m in model.named_modules() if n and (not any(m.children()) or any(m._parameters))]
    handles = [m.register_forward_hook(hook(n)) for n, m in leaves]
    try:
        return model(x), found
    finally:
        for handle in handles:
            handle.remove()


def _flat(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    return [o for v in value for o in _flat(v)] if isinstance(value, list | tuple) else [value]


def find_nonfinite(
    model: nn.Module, x: Tensor, loss_of: Callable[[Any], Tensor], step: int, *, precision: str = "float32"
) -> Divergence | None:
    """Where the first non-finite number of this batch appears, None if all are finite. The model is left untouched."""
    model = _detached(model)
    with torch.enable_grad(), _autocast(x, precision):
        out, seen = watch(model, x)
        for tensor in seen.values():
            if tensor.requires_grad:
                tensor.retain_grad()
        loss = loss_of(out)
    value = loss.item()
    forward = _forward(model, x, seen, value, step)
    if forward is not None:
        return forward
    if not math.isfinite(value):
        return Divergence(step, "loss", None, value, f"the loss is {value} though every output is finite")
    if not model.training:
        return None
    loss.backward()  # type: ignore[no-untyped-call]
    return _backward(model, seen, value, step)


def _detached(model: nn.Module) -> nn.Module:
    """A copy without gradients, and without the wrapper that ``accelerate`` puts around ``forward``."""
    model = copy.deepcopy(model)
    for wrapper in ("forward", "_original_forward"):
        vars(model).pop(wrapper, None)
    model.zero_grad()
    return model


def _autocast(x: Tensor, precision: str) -> torch.autocast:
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(x.device.type, kind, enabled=kind is not None)


def _forward(model: nn.Module, x: Tensor, seen: Mapping[str, Tensor], loss: float, step: int) -> Divergence | None:
    if x.is_floating_point() and not bool(torch.isfinite(x).all()):
        return Divergence(step, "forward", None, loss, "the batch itself holds values that are not finite")
    parameters = dict(model.named_parameters())
    for name, value in seen.items():
        if not _finite(value):
            own = [k for k in parameters if k.rpartition(".")[0] == name and not _finite(parameters[k])]
            because = f", because its parameter {own[0]} is not finite" if own else ""
            detail = f"the first output that is not finite is that of layer {name!r}{because}"
            return Divergence(step, "forward", name, loss, detail)
    return None


def _backward(model: nn.Module, seen: Mapping[str, Tensor], loss: float, step: int) -> Divergence | None:
    """The layer nearest to the loss whose gradient is not finite."""
    for name, value in reversed(list(seen.items())):
        if value.grad is not None and not _finite(value.grad):
            where = f"the gradient arriving at the output of layer {name!r} is not finite"
            return Divergence(step, "gradient", name, loss, where + _origin(model, name, list(seen)))
    for name, p in reversed(list(model.named_parameters())):
        if p.grad is not None and not _finite(p.grad):
            layer = name.rpartition(".")[0] or None
            return Divergence(step, "gradient", layer, loss, f"the gradient of the parameter {name!r} is not finite")
    return None


def _origin(model: nn.Module, name: str, order: list[str]) -> str:
    """Which backward pass made it: that of the layers it feeds, whose own gradients are finite."""
    graph = getattr(model, "graph", None)
    if graph is not None and name in graph.by_name:
        users = ", ".join(repr(user) for user in graph.consumers[name])
        return f"; the backward pass of {users or 'the loss'} made it"
    if name == order[-1]:
        return "; the backward pass from there to the loss made it"
    return f"; the backward pass between there and layer {order[order.index(name) + 1]!r} made it"


def find_growth(
    model: nn.Module, good: nn.Module, x: Tensor, loss: float, step: int, *, seed: Callable[[], None]
) -> Divergence:
    """The first layer whose outputs are ten times what they were with ``good`` weights, else the one that grew most."""
    sizes = []
    for net in (model, good):
        seed()
        with torch.no_grad():
            _, seen = watch(_detached(net), x)
        sizes.append({k: float(v.double().square().mean().sqrt()) for k, v in seen.items() if v.is_floating_point()})
    now, before = sizes
    growth = {k: v / max(before.get(k, math.nan), 1e-30) for k, v in now.items()}
    layer = next((k for k, g in growth.items() if g > _GROWN), max(growth, key=lambda k: growth[k], default=None))
    where = ""
    if layer is not None:
        where = f"; outputs of layer {layer!r} grew from {before[layer]:.3g} to {now[layer]:.3g} (root mean square)"
    return Divergence(step, "exploding", layer, loss, f"the loss exploded to {loss:.3g}{where}")


def first_bad_parameter(model: nn.Module) -> str | None:
    """The name of the first parameter or buffer that is not finite."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return next((k for k, v in named if v.is_floating_point() and not _finite(v)), None)


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())
