"""The moments that theory predicts, measured on the real thing: an exported program run node by node.

For several draws of the parameters a batch of fresh data goes through the module's own operations and unit-variance
noise comes back from its outputs, as in ``theory.propagate``; mean, second moment, correlation of two inputs and the
gradient's second moment of every node of the captured graph are kept per draw, so that their scatter is known.
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Node as FxNode

from depthscale.capture import Capture
from depthscale.capture.program import in_place, training
from depthscale.errors import TrainingError
from depthscale.numerics.estimate import Array


@dataclass(frozen=True, eq=False)
class Moments:
    """Per draw of the parameters, (seeds,) each, by node of the graph: mean, second moment q, correlation c of two
    inputs at one unit (nan where the first axis is not the batch), gradient's second moment g; and the second moment
    of the gradient of an element of every parameter, by the graph's name.
    """

    mean: Mapping[str, Array]
    q: Mapping[str, Array]
    c: Mapping[str, Array]
    g: Mapping[str, Array]
    parameters: Mapping[str, Array]
    seeds: int

    def scatter(self, table: Mapping[str, Array], name: str) -> float:
        """Standard error of log10 of a quantity's average over the draws: the noise floor of a comparison."""
        values = table[name]
        average = float(values.mean())
        if len(values) < 2 or average <= 0:
            return 0.0
        return float(values.std(ddof=1) / average / np.sqrt(len(values)) / np.log(10))


def measure(
    captured: Capture,
    make: Callable[[int], nn.Module],
    *,
    seeds: int = 8,
    seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Moments:
    """Moments of the captured program's nodes over ``seeds`` modules ``make(seed)`` (parameters drawn anew).

    seconds: stop drawing when this much time has passed (one draw is always finished). Data are white noise of unit
    variance in the example's shapes, and random whole numbers in its range. Raises TrainingError where a value is not
    finite.
    """
    if seeds < 1:
        raise TrainingError(f"expected at least one draw of the parameters, got {seeds}")
    tables: dict[str, dict[str, list[float]]] = {k: {} for k in ("mean", "q", "c", "g", "parameters")}
    start, done = time.monotonic(), 0
    for seed in range(seeds):
        run = _Run(captured, make(seed), seed)
        for key, row in run.measured().items():
            for name, value in row.items():
                tables[key].setdefault(name, []).append(value)
        done += 1
        if progress is not None:
            progress(done, seeds)
        if seconds is not None and (time.monotonic() - start) * (done + 1) / done > seconds:
            break
    arrays = {k: {n: np.array(v) for n, v in table.items()} for k, table in tables.items()}
    return Moments(**arrays, seeds=done)


class _Run:
    """One draw: the program on one module and one batch."""

    def __init__(self, captured: Capture, module: nn.Module, seed: int) -> None:
        self.captured, self.program, self.module = captured, captured.program, module
        self.draw = torch.Generator().manual_seed(seed + 1)
        self.nodes: dict[FxNode, str] = {fx: name for name, fx in captured.exact.items()}
        self.values: dict[FxNode, Any] = {}
        self.last: dict[FxNode, FxNode] = {}
        for node in self.program.nodes:
            for source in node.all_input_nodes:
                self.last[source] = node
        self.own = dict(module.named_parameters(remove_duplicate=False))
        self.buffers = dict(module.named_buffers(remove_duplicate=False))

    def measured(self) -> dict[str, dict[str, float]]:
        """Every number of this draw."""
        tables: dict[str, dict[str, float]] = {k: {} for k in ("mean", "q", "c")}
        kept: dict[str, Tensor] = {}
        with training(self.module, True), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            torch.manual_seed(int(torch.randint(2**31, (), generator=self.draw)))
            for node in self.program.nodes:
                if node.op == "output":
                    break
                value = self._value(node)
                self.values[node] = value
                name = self.nodes.get(node)
                if name is not None and isinstance(value, Tensor) and value.is_floating_point():
                    self._note(tables, name, value)
                    if value.requires_grad:
                        kept[name] = value
                for source in node.all_input_nodes:
                    if self.last[source] is node and source not in self.program.outputs:
                        del self.values[source]
        return {**tables, **self._gradients(kept)}

    def _note(self, tables: dict[str, dict[str, float]], name: str, value: Tensor) -> None:
        x = value.detach()
        q = float(x.square().mean(dtype=torch.float64))
        if not np.isfinite(q):
            raise TrainingError(f"node {name!r} is not finite for a random batch; the prediction says where it grows")
        tables["q"][name], tables["mean"][name] = q, float(x.mean(dtype=torch.float64))
        n = x.shape[0] if x.ndim else 0
        if n > 1 and n == self.captured.batch and q > 0:
            pairs = (x.sum(0).square() - x.square().sum(0)).mean(dtype=torch.float64) / (n * (n - 1))
            tables["c"][name] = float(pairs) / q

    def _gradients(self, kept: dict[str, Tensor]) -> dict[str, dict[str, float]]:
        outputs = [self.values[n] for n in self.program.outputs]
        outputs = [o for o in outputs if isinstance(o, Tensor) and o.requires_grad]
        cotangents = [torch.randn(o.shape, generator=self.draw, dtype=o.dtype) for o in outputs]
        wanted = list(kept.values())
        own = {n: p for n, p in self.own.items() if p.requires_grad}
        found = torch.autograd.grad(outputs, [*wanted, *own.values()], cotangents, allow_unused=True)
        g = {n: 0.0 if d is None else _square(d) for n, d in zip(kept, found, strict=False)}
        gradients = dict(zip(own, found[len(wanted) :], strict=True))
        return {"g": g, "parameters": self._parameters(gradients)}

    def _parameters(self, gradients: Mapping[str, Tensor | None]) -> dict[str, float]:
        """By the graph's names, through the same views that the weights are read by."""
        out: dict[str, float] = {}
        for name, source in self.captured.parameters.items():
            if source.steps is not None and source.names[0] in gradients:
                gradient = gradients[source.names[0]]
                out[name] = 0.0 if gradient is None else _square(source.view(gradient))
        return out

    def _value(self, node: FxNode) -> Any:
        if node.op == "placeholder":
            return self._placeholder(node)
        args = torch.fx.node.map_arg(node.args, self.values.__getitem__)
        kwargs = dict(torch.fx.node.map_arg(node.kwargs, self.values.__getitem__))
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        args = tuple(torch.device("cpu") if isinstance(a, torch.device) else a for a in args)
        return _kept_apart(node, args)(*args, **kwargs)

    def _placeholder(self, node: FxNode) -> Any:
        p, name = self.program, node.name
        if name in p.parameters:
            return self.own[p.parameters[name]]
        if name in p.buffers:
            return self.buffers[p.buffers[name]].detach().clone()
        if name in p.constants:
            return self.captured.constant(name)
        if name not in p.inputs:
            return None
        example = p.inputs[name]
        if example.is_floating_point():
            return torch.randn(example.shape, generator=self.draw, dtype=example.dtype).requires_grad_()
        if example.dtype == torch.bool or example.ndim == 0 or bool((example == example[:1]).all()):
            return example
        return torch.randint(int(example.min()), int(example.max()) + 1, example.shape, generator=self.draw)


def _square(x: Tensor) -> float:
    return float(x.detach().square().mean(dtype=torch.float64))


def _kept_apart(node: FxNode, args: Sequence[Any]) -> Callable[..., Any]:
    """The operation; one that would overwrite a value that depends on data is done beside it instead."""
    target: Any = node.target
    first = args[0] if args else None
    # what is written through a view must arrive in what it is a view of
    if in_place(node) and isinstance(first, Tensor) and first.requires_grad and not first._is_view():
        packet = getattr(torch.ops.aten, str(target._schema.name).rpartition("::")[2].rstrip("_"), None)
        target = getattr(packet, target._schema.overload_name or "default", target)
    found: Callable[..., Any] = target
    return found


__all__ = ["Moments", "measure"]
