"""Pieces that the networks share: activations people write themselves, and the usual initialisation loops."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

Init = Callable[[Tensor], object]


class Swish17(nn.Module):
    """x·σ(1.7 x), written out: nothing that a library would recognise by name."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.7 * x)


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


class LeakyTanh(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x) + 0.1 * x


class SquarePlus(nn.Module):
    """(x + √(x² + 4))/2: a softplus without exponentials."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + torch.sqrt(x * x + 4.0)) / 2


class TwoSigmoids(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(torch.sigmoid(x))


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "mish": nn.Mish,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "hardtanh": nn.Hardtanh,
    "swish17": Swish17,
    "sine": Sine,
    "leaky_tanh": LeakyTanh,
    "squareplus": SquarePlus,
    "two_sigmoids": TwoSigmoids,
}


def act(name: str) -> nn.Module:
    return ACTIVATIONS[name]()


def normal(std: float) -> Init:
    return lambda w: nn.init.normal_(w, 0.0, std)


def kaiming(w: Tensor) -> object:
    return nn.init.kaiming_normal_(w, nonlinearity="relu")


def xavier(w: Tensor) -> object:
    return nn.init.xavier_uniform_(w)


def lecun(w: Tensor) -> object:
    return nn.init.normal_(w, 0.0, 1 / math.sqrt(w[0].numel()))


def initialised(model: nn.Module, init: Init | None, bias: float | None = 0.0) -> nn.Module:
    """The loop over modules that everybody writes; ``None`` keeps PyTorch's own values."""
    for m in model.modules():
        if isinstance(m, nn.Linear | nn.Conv2d) and init is not None:
            init(m.weight)
            if m.bias is not None and bias is not None:
                nn.init.constant_(m.bias, bias)
    return model
