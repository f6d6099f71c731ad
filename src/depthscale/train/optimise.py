"""Optimisers, their state as named tensors, and the running average of weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from depthscale.errors import TrainingError
from depthscale.train.config import TrainConfig

Tensors = dict[str, Tensor]
_NORMS = ("GroupNorm", "LayerNorm", "RMSNorm", "LocalResponseNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d")


def make_optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of a configuration; weight decay in a group of its own, the fused kernels where there are some.

    Raises TrainingError for a network without trainable parameters.
    """
    decay, spared = penalised_parameters(model)
    if not decay and not spared:
        raise TrainingError("expected a network with parameters that require gradients, got none")
    groups = [{"params": p, "weight_decay": w} for p, w in ((decay, config.weight_decay), (spared, 0.0)) if p]
    parameters = [*decay, *spared]
    real = all(p.is_floating_point() for p in parameters)
    fused = real and {p.device.type for p in parameters} <= {"cpu", "cuda"}
    if config.optimiser == "sgd":
        nesterov = config.nesterov and config.momentum > 0
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov, fused=fused)
    if config.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=fused)
    raise TrainingError(f"expected optimiser to be sgd or adamw, got {config.optimiser!r}")


def penalised_parameters(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Trainable parameters that weight decay applies to, and those that it spares.

    Spared are vectors and scalars (biases, gains) and whatever belongs to a normalisation, of any shape.
    """
    norms = tuple(getattr(nn, n) for n in _NORMS)
    spared_ids = {id(p) for m in model.modules() if isinstance(m, norms) for p in m.parameters(recurse=False)}
    decay: list[Tensor] = []
    spared: list[Tensor] = []
    for name, p in model.named_parameters():
        if p.requires_grad:
            bare = p.dim() <= 1 or id(p) in spared_ids or _in_norm(model, name)
            (spared if bare else decay).append(p)
    return decay, spared


def _in_norm(model: nn.Module, parameter: str) -> bool:
    """Whether a built graph's parameter belongs to a normalisation node."""
    graph = getattr(model, "graph", None)
    node = getattr(graph, "by_name", {}).get(parameter.rpartition(".")[0])
    return node is not None and type(node.op).__name__.endswith("Norm")


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> Tensors:
    """The optimiser's state as tensors by name ("3.exp_avg": of the fourth parameter)."""
    found = {}
    for index, p in enumerate(_parameters(optimiser)):
        for name, value in optimiser.state.get(p, {}).items():
            if value is not None:
                found[f"{index}.{name}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return found


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put state back that ``optimiser_tensors`` gave."""
    optimiser.state.clear()
    for index, p in enumerate(_parameters(optimiser)):
        own = {k.partition(".")[2]: v for k, v in tensors.items() if k.partition(".")[0] == str(index)}
        if own:
            fused = bool(optimiser.defaults.get("fused"))
            optimiser.state[p] = {k: _placed(k, v, p, fused) for k, v in own.items()}


def _placed(name: str, value: Tensor, parameter: Tensor, fused: bool) -> Tensor:
    """A copy where the optimiser expects it: fused kernels walk through memory, so it must be laid out like the
    parameter; an optimiser that is not fused counts its steps on the CPU.
    """
    if value.shape == parameter.shape and value.dim() > 0:
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    return value.clone() if name == "step" and not fused else value.to(parameter.device, copy=True)


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimiser.param_groups for p in group["params"]]


def model_tensors(model: nn.Module) -> Tensors:
    """Parameters and buffers by name, shared ones once; the tensors themselves, not copies."""
    return {k: v.detach() for k, v in [*model.named_parameters(), *model.named_buffers()]}


def copied(tensors: Mapping[str, Tensor]) -> Tensors:
    """Copies of tensors."""
    return {k: v.detach().clone() for k, v in tensors.items()}


def load_model(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a model of the same names and shapes.

    Raises TrainingError that names the first difference.
    """
    own = model_tensors(model)
    for name in [*(own.keys() - tensors.keys()), *(tensors.keys() - own.keys())]:
        where = "the stored state" if name in own else "the network"
        raise TrainingError(f"expected stored state of the same network, got {name!r} that {where} has not")
    for name, value in own.items():
        if value.shape != tensors[name].shape:
            raise TrainingError(
                f"expected stored state of the same network, got {name!r} of shape {tuple(tensors[name].shape)} "
                f"where the network has {tuple(value.shape)}"
            )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])


class Average:
    """Exponential moving average of a model's floating tensors; the others are copied.

    The decay grows as (1 + t) / (10 + t) up to ``decay``, so that the start is forgotten quickly.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = copied(model_tensors(model))

    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after ``step`` steps."""
        current = model_tensors(model)
        names = [k for k, v in current.items() if v.is_floating_point()]
        average = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))  # type: ignore[no-untyped-call]
        average([self.tensors[k] for k in names], [current[k] for k in names], step)
        for k in current.keys() - set(names):
            self.tensors[k].copy_(current[k])
