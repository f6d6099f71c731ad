"""The initialisations that people reach for, applied to any module: Xavier, Kaiming, orthogonal, LSUV.

Each sets every weight of two or more axes but embeddings, as the usual loops do, and biases to zero; normalisation
layers keep their ones and zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from networks import Network
from protocol import digits, shaped
from torch import Tensor, nn

# torch.nn.init.calculate_gain where it has an answer; else the gain that keeps lengths at q = 1, by 10⁶ samples
GAINS = {"relu": math.sqrt(2), "tanh": 5 / 3, "selu": 0.75, "sigmoid": 1.0, "leaky_relu": math.sqrt(2 / 1.01)}


def gain(network: Network) -> float:
    name = network.activation
    if name in GAINS:
        return GAINS[name]
    z = torch.randn(10**6, generator=torch.Generator().manual_seed(0))
    return float(1 / getattr(nn.functional, name)(z).square().mean().sqrt())


def weights(module: nn.Module) -> Iterator[Tensor]:
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    for name, p in module.named_parameters():
        if p.dim() >= 2 and id(p) not in tables and "position" not in name:
            yield p
        elif name.endswith("bias") or name.endswith("biases"):
            nn.init.zeros_(p)


def xavier(module: nn.Module, network: Network, seed: int) -> None:
    for w in weights(module):
        nn.init.xavier_uniform_(w)


def kaiming(module: nn.Module, network: Network, seed: int) -> None:
    for w in weights(module):
        nn.init.kaiming_normal_(w, nonlinearity="relu")


def orthogonal(module: nn.Module, network: Network, seed: int) -> None:
    for w in weights(module):
        nn.init.orthogonal_(w, gain(network))


@torch.no_grad()
def lsuv(module: nn.Module, network: Network, seed: int, rounds: int = 5, tolerance: float = 0.05) -> None:
    """Mishkin & Matas 2016: orthonormal, then layer by layer divided by the deviation of its output."""
    for w in weights(module):
        nn.init.orthogonal_(w)
    x = shaped(digits()[0], network.reads)[:256]
    seen: dict[nn.Module, float] = {}
    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    layers = [m for m in module.modules() if isinstance(m, kinds)]
    hooks = [m.register_forward_hook(lambda m, _, y: seen.__setitem__(m, float(y.var()))) for m in layers]
    try:
        for layer in layers:
            for _ in range(rounds):
                module(x)
                variance = seen.get(layer, 1.0)
                if abs(variance - 1) < tolerance or not math.isfinite(variance) or variance == 0:
                    break
                layer.weight.div_(math.sqrt(variance))
    finally:
        for hook in hooks:
            hook.remove()


RIVALS = {"own": None, "Xavier": xavier, "Kaiming": kaiming, "orthogonal": orthogonal, "LSUV": lsuv}
