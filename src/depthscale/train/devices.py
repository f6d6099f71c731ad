"""Where and in what precision a run computes.

One device in float32 is plain PyTorch: wrappers would cost and give nothing. Mixed precision and several processes
(started by ``accelerate launch`` or ``torchrun``) go through ``accelerate``.
"""

import os
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from depthscale.errors import TrainingError
from depthscale.train.config import TrainConfig

Forward = Callable[[Tensor], Any]


class Devices(Protocol):
    """What the loop asks of its devices; every method is called by all processes alike."""

    device: torch.device
    rank: int
    world: int

    def prepare(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> Forward:
        """The forward pass to use instead of ``model``."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``."""

    def update(self, clip: float | None) -> None:
        """Clip the gradients' joint norm, step the optimiser, clear the gradients."""

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, one process after another."""

    def mean(self, value: Tensor) -> Tensor:
        """The mean over processes."""

    def lead(self, value: float) -> float:
        """The first process's value, for decisions that all must take alike."""

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""

    def state(self) -> dict[str, Any]:
        """What of this must survive in a checkpoint, as plain values."""

    def load(self, state: dict[str, Any]) -> None:
        """Put back what ``state`` gave."""

    def release(self) -> None:
        """Leave the model as it was before ``prepare``."""


def choose(config: TrainConfig) -> Devices:
    """The devices of a configuration.

    Raises TrainingError for a device that does not exist or a precision it has not.
    """
    if config.precision == "float32" and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return SingleDevice(pick_device(config.device))
    return Accelerated(config)


def pick_device(name: str) -> torch.device:
    """The torch device called ``name``; auto takes the accelerator where there is one.

    Raises TrainingError for a device that this machine or this PyTorch has not.
    """
    if name == "auto":
        current = torch.accelerator.current_accelerator(check_available=True)
        return current if current is not None and current.type in ("cuda", "xpu") else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(
            f"expected device to be auto, cpu or one that exists here, got {name!r} ({reason})"
        ) from None
    return device


class SingleDevice:
    """One device, float32, no wrappers."""

    rank, world = 0, 1

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._optimiser: torch.optim.Optimizer
        self._parameters: list[Tensor] = []

    def prepare(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> Forward:  # noqa: D102
        self._optimiser = optimiser
        self._parameters = [p for group in optimiser.param_groups for p in group["params"]]
        return model

    def backward(self, loss: Tensor) -> None:  # noqa: D102
        loss.backward()  # type: ignore[no-untyped-call]

    def update(self, clip: float | None) -> None:  # noqa: D102
        if clip is not None:
            nn.utils.clip_grad_norm_(self._parameters, clip)
        self._optimiser.step()
        self._optimiser.zero_grad()

    def gather(self, rows: Tensor) -> Tensor:  # noqa: D102
        return rows

    def mean(self, value: Tensor) -> Tensor:  # noqa: D102
        return value

    def lead(self, value: float) -> float:  # noqa: D102
        return value

    def any(self, flag: bool) -> bool:  # noqa: D102
        return flag

    def state(self) -> dict[str, Any]:  # noqa: D102
        return {}

    def load(self, state: dict[str, Any]) -> None:  # noqa: D102
        return

    def release(self) -> None:  # noqa: D102
        return


class Accelerated:
    """Mixed precision, several processes, or both, by ``accelerate``."""

    def __init__(self, config: TrainConfig) -> None:
        self._accelerator = _accelerator(config)
        self.device: torch.device = self._accelerator.device
        self.rank: int = self._accelerator.process_index
        self.world: int = self._accelerator.num_processes
        self._wrapped: nn.Module | None = None
        self._optimiser: Any = None
        self._parameters: list[Tensor] = []

    def prepare(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> Forward:  # noqa: D102
        self._parameters = [p for group in optimiser.param_groups for p in group["params"]]
        wrapped, self._optimiser = self._accelerator.prepare(model, optimiser)
        self._wrapped = wrapped
        forward: Forward = wrapped
        return forward

    def backward(self, loss: Tensor) -> None:  # noqa: D102
        self._accelerator.backward(loss)

    def update(self, clip: float | None) -> None:  # noqa: D102
        if clip is not None:
            self._accelerator.clip_grad_norm_(self._parameters, clip)
        self._optimiser.step()
        self._optimiser.zero_grad()

    def gather(self, rows: Tensor) -> Tensor:  # noqa: D102
        gathered: Tensor = self._accelerator.gather(rows.contiguous())
        return gathered

    def mean(self, value: Tensor) -> Tensor:  # noqa: D102
        mean: Tensor = self._accelerator.reduce(value, reduction="mean") if self.world > 1 else value
        return mean

    def lead(self, value: float) -> float:  # noqa: D102
        if self.world == 1:
            return value
        return float(self.gather(torch.tensor([value], dtype=torch.float64, device=self.device))[0])

    def any(self, flag: bool) -> bool:  # noqa: D102
        if self.world == 1:
            return flag
        return bool(self.gather(torch.tensor([int(flag)], device=self.device)).any())

    def state(self) -> dict[str, Any]:  # noqa: D102
        scaler = self._accelerator.scaler
        return {} if scaler is None else {"scaler": scaler.state_dict()}

    def load(self, state: dict[str, Any]) -> None:  # noqa: D102
        if self._accelerator.scaler is not None and state.get("scaler"):
            self._accelerator.scaler.load_state_dict(state["scaler"])

    def release(self) -> None:  # noqa: D102
        if self._wrapped is not None:
            self._accelerator.unwrap_model(self._wrapped, keep_fp32_wrapper=False)
            self._accelerator.free_memory()
            self._wrapped = None


def _accelerator(config: TrainConfig) -> Any:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    precision = "no" if config.precision == "float32" else config.precision
    cpu = config.device != "auto" and pick_device(config.device).type == "cpu"
    # accelerate keeps one configuration per process; a second run may want another
    if AcceleratorState._shared_state != {} and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()
    try:
        return Accelerator(mixed_precision=precision, cpu=cpu)
    except (ValueError, ImportError) as error:
        raise TrainingError(f"expected a precision that the device has, got {config.precision!r} ({error})") from None
