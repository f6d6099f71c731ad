"""What can be watched while a model runs or trains: dead units and the noise of gradients.

``DeadUnits`` hangs hooks on the model's activations for as long as it is entered, and none before or after.
"""

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from depthscale.errors import DepthscaleError

FLAT_BELOW = (nn.ReLU, nn.ReLU6, nn.Threshold)


class DeadUnits:
    """Counts, while it is entered, which units of every ReLU were active for any example and position.

        with DeadUnits(model) as seen:
            for x in data: model(x)
        seen.shares()  # by the activation's path: share of units that were never active

    A unit is an entry of axis 1 (a channel, for images). A module used in several places counts as one.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = {name: m for name, m in model.named_modules() if isinstance(m, FLAT_BELOW)}
        if not self.layers:
            raise DepthscaleError(
                f"expected a model with nn.ReLU modules, got {type(model).__name__} without; "
                "functional calls cannot be watched"
            )
        self.active: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> "DeadUnits":
        for name, layer in self.layers.items():
            self._handles.append(layer.register_forward_hook(self._watcher(name)))
        return self

    def _watcher(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def watch(_: nn.Module, __: Any, out: Tensor) -> None:
            with torch.no_grad():
                over = tuple(i for i in range(out.ndim) if i != 1)
                now = (out > 0).any(over) if len(over) == 1 else (out > 0).amax(over)
            before = self.active.get(name)
            self.active[name] = now if before is None else before | now

        return watch

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def shares(self) -> dict[str, float]:
        """Share of units that were never active, by path; only layers that ran."""
        return {name: float((~a).float().mean()) for name, a in self.active.items()}


def gradient_noise(model: nn.Module, loss: Callable[[Any], Tensor], batches: Iterable[Any]) -> dict[str, float]:
    """Noise of a model's gradient from batch to batch.

    Returns ``signal`` ‖E g‖² (unbiased), ``noise`` tr Cov g of one batch, and ``ratio`` noise/signal: the number of
    batches to average before signal and noise are equal (the simple noise scale of McCandlish et al. 2018, in batches).
    Parameters' ``grad`` is not touched. Raises DepthscaleError for fewer than two batches.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    mean = [torch.zeros_like(p) for p in parameters]
    squares, count = 0.0, 0
    for batch in batches:
        found = torch.autograd.grad(loss(batch), parameters, allow_unused=True)
        for total, g in zip(mean, found, strict=True):
            if g is not None:
                total += g
                squares += float(g.double().square().sum())
        count += 1
    if count < 2:
        raise DepthscaleError(f"expected at least 2 batches to tell noise from signal, got {count}")
    of_mean = sum(float((m.double() / count).square().sum()) for m in mean)
    noise = (squares / count - of_mean) * count / (count - 1)
    signal = of_mean - noise / count
    return {"signal": signal, "noise": noise, "ratio": noise / signal if signal > 0 else float("inf")}
