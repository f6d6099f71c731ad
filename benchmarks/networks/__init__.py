"""Networks that a practitioner could write, as factories: plain PyTorch, no depthscale anywhere.

``VERDICT``: do they train with the initialisation that they come with? ``REPAIR``: those that do not, or barely, and
what different initialisations make of them. Every factory draws its own weights from torch's global generator, as
such code does; seed it before the call. Inputs are ``vector`` (B, 64) or ``image`` (B, 1, 8, 8); a network's ``task``
is to name the digit, or to give the image back.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from .branched import Dense, Gated, ResidualCNN, ResidualMLP, SkipMLP, Transformer, UNet
from .layers import initialised, kaiming, lecun, normal, xavier
from .plain import Autoencoder, Recurrent, Stacked, Tied, cnn, hourglass, mlp, vgg


@dataclass(frozen=True)
class Network:
    """A factory, what it reads, what it is to do, and the activation that rivals' gains are looked up for."""

    make: Callable[[], nn.Module]
    reads: str = "vector"
    task: str = "classify"
    activation: str = "relu"


def _stacked() -> nn.Module:
    return Stacked(40, "relu", xavier)


VERDICT: dict[str, Network] = {
    "tanh 4, default": Network(lambda: mlp(4, "tanh"), activation="tanh"),
    "tanh 50, Xavier": Network(lambda: mlp(50, "tanh", xavier), activation="tanh"),
    "tanh 50, default": Network(lambda: mlp(50, "tanh"), activation="tanh"),
    "tanh 30, N(0, 1)": Network(lambda: mlp(30, "tanh", normal(1.0)), activation="tanh"),
    "relu 50, default": Network(lambda: mlp(50, "relu")),
    "relu 20, Kaiming": Network(lambda: mlp(20, "relu", kaiming)),
    "relu 30, N(0, 0.01)": Network(lambda: mlp(30, "relu", normal(0.01))),
    "relu 12, N(0, 1)": Network(lambda: mlp(12, "relu", normal(1.0))),
    "gelu 40, default": Network(lambda: mlp(40, "gelu"), activation="gelu"),
    "gelu 8, default": Network(lambda: mlp(8, "gelu"), activation="gelu"),
    "gelu 20, Kaiming": Network(lambda: mlp(20, "gelu", kaiming), activation="gelu"),
    "sigmoid 20, default": Network(lambda: mlp(20, "sigmoid"), activation="sigmoid"),
    "sigmoid 3, default": Network(lambda: mlp(3, "sigmoid"), activation="sigmoid"),
    "silu 30, Xavier": Network(lambda: mlp(30, "silu", xavier), activation="silu"),
    "selu 40, LeCun": Network(lambda: mlp(40, "selu", lecun), activation="selu"),
    "relu 6, biases of -3": Network(lambda: mlp(6, "relu", kaiming, bias=-3.0)),
    "relu 20, dropout 0.5": Network(lambda: mlp(20, "relu", kaiming, dropout=0.5)),
    "relu 20, batch norm": Network(lambda: mlp(20, "relu", norm=True)),
    "relu 100, batch norm": Network(lambda: mlp(100, "relu", norm=True)),
    "cnn relu 20, default": Network(lambda: cnn(20, "relu"), "image"),
    "cnn relu 8, Kaiming": Network(lambda: cnn(8, "relu", kaiming), "image"),
    "cnn tanh 30, N(0, 1)": Network(lambda: cnn(30, "tanh", normal(1.0)), "image", activation="tanh"),
    "vgg 11, batch norm": Network(lambda: vgg(11, "relu", norm=True), "image"),
    "vgg 14, N(0, 0.01)": Network(lambda: vgg(14, "relu", normal(0.01)), "image"),
    "residual 50, Kaiming": Network(lambda: ResidualMLP(50, "relu", kaiming)),
    "residual 50, zero last": Network(lambda: ResidualMLP(50, "relu", kaiming, zero=True)),
    "residual 12, default": Network(lambda: ResidualMLP(12, "relu")),
    "resnet 8, batch norm": Network(lambda: ResidualCNN(8, norm=True), "image"),
    "post-norm 12, Xavier": Network(lambda: Transformer(12, xavier, post=True)),
    "pre-norm 6, Xavier": Network(lambda: Transformer(6, xavier, post=False)),
    "u-net 10, Kaiming": Network(lambda: UNet(2, kaiming), "image"),
    "u-net 25, N(0, 0.01)": Network(lambda: UNet(5, normal(0.01)), "image"),
}

REPAIR: dict[str, Network] = {
    "tanh 100": Network(lambda: mlp(100, "tanh"), activation="tanh"),
    "relu 50": Network(lambda: mlp(50, "relu")),
    "gelu 60": Network(lambda: mlp(60, "gelu"), activation="gelu"),
    "residual 50, N(0, 1)/4": Network(lambda: ResidualMLP(50, "relu", normal(0.25))),
    "sigmoid 30": Network(lambda: mlp(30, "sigmoid"), activation="sigmoid"),
    "recurrent tanh, 64 steps": Network(lambda: Recurrent(1, "tanh"), activation="tanh"),
    "x·σ(1.7x) 50": Network(lambda: mlp(50, "swish17"), activation="silu"),
    "gated 40": Network(lambda: Gated(40), activation="sigmoid"),
    "skip-concatenated 30": Network(lambda: SkipMLP(30, "relu")),
    "cnn relu 24": Network(lambda: cnn(24, "relu"), "image"),
    "tied relu 40": Network(lambda: Tied(40, "relu")),
    "autoencoder tanh 24": Network(lambda: Autoencoder(24, "tanh"), task="reconstruct", activation="tanh"),
    "stacked relu 40": Network(_stacked),
    "post-norm 12": Network(lambda: Transformer(12, xavier, post=True)),
    "dense 30, N(0, 0.01)": Network(lambda: Dense(30, "relu", normal(0.01))),
    "residual cnn 16, Kaiming": Network(lambda: ResidualCNN(16, kaiming), "image"),
    "elu 60, N(0, 0.01)": Network(lambda: mlp(60, "elu", normal(0.01)), activation="elu"),
    "sine 50, N(0, 1)": Network(lambda: mlp(50, "sine", normal(1.0)), activation="tanh"),
    "hourglass relu 40": Network(lambda: hourglass(40, "relu")),
    "softplus 40": Network(lambda: mlp(40, "softplus"), activation="softplus"),
    "recurrent relu, 32 steps": Network(lambda: Recurrent(2, "relu")),
    "two sigmoids 100": Network(lambda: mlp(100, "two_sigmoids"), activation="sigmoid"),
    "autoencoder relu 30": Network(lambda: Autoencoder(30, "relu"), task="reconstruct"),
    "dropout 0.5, relu 60": Network(lambda: mlp(60, "relu", dropout=0.5)),
    "cnn tanh 30": Network(lambda: cnn(30, "tanh"), "image", activation="tanh"),
    "squareplus 40": Network(lambda: mlp(40, "squareplus"), activation="softplus"),
    "mish 50": Network(lambda: mlp(50, "mish"), activation="mish"),
    "vgg relu 20, N(0, 0.01)": Network(lambda: vgg(20, "relu", normal(0.01)), "image"),
    "relu 100": Network(lambda: mlp(100, "relu")),
    "silu 60": Network(lambda: mlp(60, "silu"), activation="silu"),
    "u-net 25, N(0, 0.01)": Network(lambda: UNet(5, normal(0.01)), "image"),
}

__all__ = ["REPAIR", "VERDICT", "Network", "initialised"]
