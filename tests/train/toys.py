"""Small data and networks for the tests of training."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn


@dataclass
class Split:
    x: Any
    y: Any


@dataclass
class Toy:
    task: str
    train: Split
    val: Split


def images(rows: int = 150, val: int = 50, size: int = 8, classes: int = 3, seed: int = 0) -> Toy:
    """Noisy images whose class is the place of a bright bar."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows + val)
    x = rng.standard_normal((rows + val, 1, size, size), dtype=np.float32)
    x[np.arange(rows + val), 0, :, 2 * y] += 1.5
    return Toy("classification", Split(x[:rows], y[:rows]), Split(x[rows:], y[rows:]))


def numbers(rows: int = 200, val: int = 80, features: int = 5, targets: int = 2, seed: int = 0) -> Toy:
    """A linear map with a little noise."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows + val, features), dtype=np.float32)
    y = x @ rng.standard_normal((features, targets), dtype=np.float32)
    y = (y + 0.1 * rng.standard_normal(y.shape)).astype(np.float32)
    return Toy("regression", Split(x[:rows], y[:rows]), Split(x[rows:], y[rows:]))


def noise(rows: int = 200) -> Toy:
    """Nothing to be learned, so validation soon gets worse."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2 * rows, 20), dtype=np.float32)
    y = rng.standard_normal((2 * rows, 1)).astype(np.float32)
    return Toy("regression", Split(x[:rows], y[:rows]), Split(x[rows:], y[rows:]))


def convnet(seed: int = 0, classes: int = 3) -> nn.Module:
    """Something of everything that is awkward to resume: batch norm, dropout, a counter buffer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64, classes),
        )


def mlp(widths: tuple[int, ...] = (5, 16, 2), seed: int = 0, act: type[nn.Module] = nn.Tanh) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), act()]
        return nn.Sequential(*layers[:-1])


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    """Bit for bit, buffers included."""
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)
