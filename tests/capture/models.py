"""Small models such as people write, for capture: every one a module and an example."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True))
        self.conv1 = nn.Conv2d(width, width, 3, padding="same")
        self.norm1 = nn.GroupNorm(2, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.conv2(F.gelu(self.norm1(self.conv1(x))))
        x = self.pool(x)
        gate = torch.sigmoid(x.mean((2, 3), keepdim=True))
        return self.head((x * gate).flatten(2).mean(-1))


class Transformer(nn.Module):
    """Class token, learned positions, torch's attention, layer scale, a causal mask added by hand."""

    def __init__(self, width: int = 12, heads: int = 3, tokens: int = 4) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, tokens + 1, width))
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.qkv = nn.Linear(width, 3 * width)
        self.heads = heads
        self.gamma = nn.Parameter(0.1 * torch.randn(width))
        self.norm2 = nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Linear(width, 5)
        self.register_buffer("mask", torch.full((tokens + 1, tokens + 1), float("-inf")).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1) + self.position
        y = self.norm(x)
        x = x + self.gamma * self.attention(y, y, y, need_weights=False)[0]
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm2(x)).reshape(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        logits = q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5 + self.mask
        x = x + (logits.softmax(-1) @ v).transpose(1, 2).reshape(b, t, c)
        return self.head(x[:, 0])


class Recurrent(nn.Module):
    """One layer used at every step."""

    def __init__(self, width: int = 6, steps: int = 4) -> None:
        super().__init__()
        self.into, self.cell, self.out = nn.Linear(3, width), nn.Linear(width, width), nn.Linear(width, 2)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.into(x[:, 0]))
        for t in range(1, self.steps):
            h = torch.tanh(self.into(x[:, t]) + self.cell(h))
        return self.out(h)


class Language(nn.Module):
    """Tokens and positions in, tied weights out."""

    def __init__(self, entries: int = 11, width: int = 8, length: int = 5) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(entries, width), nn.Embedding(length, width)
        self.mix = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, entries, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        place = torch.arange(ids.shape[1], device=ids.device)
        x = self.tokens(ids) + self.positions(place)
        a, b = self.mix(x).chunk(2, dim=-1)
        return self.head(a * F.silu(b))


class Stacked(nn.Module):
    """Weights of all layers in one parameter."""

    def __init__(self, layers: int = 3, width: int = 6) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(layers, width, width))
        self.biases = nn.Parameter(torch.randn(layers, width))

    def forward(self, x: Tensor) -> Tensor:
        for w, b in zip(self.weights, self.biases, strict=True):
            x = torch.tanh(torch.addmm(b, x, w) if x.ndim == 2 else x @ w + b)
        return x


class Normed(nn.Module):
    """RMS norm, F.normalize and attention written out; einsum."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width)
        self.gain = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.gain
        q, k = F.normalize(self.q(y), dim=-1), F.normalize(self.k(y), dim=1)
        s = torch.einsum("bid,bjd->bij", q, k).softmax(-1)
        return torch.einsum("bij,bjd->bid", s, y)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        if y.sum() > 0:
            y = y * 2
        return y


class Sorting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).sort(-1).values


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 8), nn.LeakyReLU(0.2), nn.Linear(8, 3)
    )
