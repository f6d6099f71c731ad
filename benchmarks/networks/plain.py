"""Fully connected and convolutional networks without shortcuts."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from .layers import Init, act, initialised

WIDTH, CHANNELS = 32, 8


def mlp(
    depth: int,
    activation: str,
    init: Init | None = None,
    *,
    width: int = WIDTH,
    bias: float | None = 0.0,
    norm: bool = False,
    dropout: float = 0.0,
) -> nn.Module:
    """``depth`` weighted layers, 64 inputs, 10 outputs."""
    layers: list[nn.Module] = []
    fan = 64
    for _ in range(depth - 1):
        layers.append(nn.Linear(fan, width))
        if norm:
            layers.append(nn.BatchNorm1d(width))
        layers.append(act(activation))
        if dropout:
            layers.append(nn.Dropout(dropout))
        fan = width
    return initialised(nn.Sequential(*layers, nn.Linear(fan, 10)), init, bias)


def hourglass(depth: int, activation: str, init: Init | None = None) -> nn.Module:
    """Widths that go 64, 48, 32, 16, 32, 48, 64 and round again."""
    widths = [48, 32, 16, 32, 48, 64]
    layers: list[nn.Module] = []
    fan = 64
    for i in range(depth - 1):
        layers += [nn.Linear(fan, widths[i % 6]), act(activation)]
        fan = widths[i % 6]
    return initialised(nn.Sequential(*layers, nn.Linear(fan, 10)), init)


def cnn(depth: int, activation: str, init: Init | None = None, *, channels: int = CHANNELS) -> nn.Module:
    """3×3 convolutions on 4×4 maps behind a strided one, then average pooling and a linear layer."""
    layers: list[nn.Module] = [nn.Conv2d(1, channels, 3, stride=2, padding=1), act(activation)]
    for _ in range(depth - 2):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), act(activation)]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
    return initialised(nn.Sequential(*layers), init)


def vgg(depth: int, activation: str, init: Init | None = None, *, norm: bool = False) -> nn.Module:
    """Convolutions at 8×8, 4×4 and 2×2 with maximum pooling between, two linear layers behind."""
    layers: list[nn.Module] = []
    fan, per = 1, (depth - 2) // 3
    for channels in (4, 8, 12):
        for _ in range(per):
            layers.append(nn.Conv2d(fan, channels, 3, padding=1))
            if norm:
                layers.append(nn.BatchNorm2d(channels))
            layers.append(act(activation))
            fan = channels
        layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), nn.Linear(12, 32), act(activation), nn.Linear(32, 10)]
    return initialised(nn.Sequential(*layers), init)


class Stacked(nn.Module):
    """All hidden weights in one parameter of shape (layers, width, width), which torch's fans misread."""

    def __init__(self, depth: int, activation: str, init: Init, width: int = WIDTH) -> None:
        super().__init__()
        self.first = nn.Linear(64, width)
        self.weights = nn.Parameter(torch.empty(depth - 2, width, width))
        self.biases = nn.Parameter(torch.zeros(depth - 2, width))
        self.last = nn.Linear(width, 10)
        self.act = act(activation)
        init(self.weights)
        init(self.first.weight)
        init(self.last.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x))
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = self.act(x @ weight + bias)
        return self.last(x)


class Tied(nn.Module):
    """One hidden layer applied over and over."""

    def __init__(self, times: int, activation: str, init: Init | None = None, width: int = WIDTH) -> None:
        super().__init__()
        self.times = times
        self.first, self.again, self.last = nn.Linear(64, width), nn.Linear(width, width), nn.Linear(width, 10)
        self.act = act(activation)
        initialised(self, init)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x))
        for _ in range(self.times):
            x = self.act(self.again(x))
        return self.last(x)


class Recurrent(nn.Module):
    """A simple recurrent network that reads an image in pieces of ``chunk`` pixels, written as a loop."""

    def __init__(self, chunk: int, activation: str, init: Init | None = None, width: int = WIDTH) -> None:
        super().__init__()
        self.chunk, self.width = chunk, width
        self.read, self.step = nn.Linear(chunk, width), nn.Linear(width, width)
        self.out = nn.Linear(width, 10)
        self.act = act(activation)
        initialised(self, init)

    def forward(self, x: Tensor) -> Tensor:
        pieces = x.reshape(x.shape[0], -1, self.chunk)
        h = self.act(self.read(pieces[:, 0]))
        for t in range(1, pieces.shape[1]):
            h = self.act(self.step(h) + self.read(pieces[:, t]))
        return self.out(h)


class Autoencoder(nn.Module):
    """Deep encoder to a code, deep decoder back to the 64 pixels."""

    def __init__(self, depth: int, activation: str, init: Init | None = None, code: int = 16) -> None:
        super().__init__()
        half = depth // 2
        self.encoder = nn.Sequential(
            *_chain([64, *[WIDTH] * (half - 1), code], activation),
        )
        self.decoder = nn.Sequential(*_chain([code, *[WIDTH] * (depth - half - 1), 64], activation)[:-1])
        initialised(self, init)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


def _chain(widths: list[int], activation: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), act(activation)]
    return layers
