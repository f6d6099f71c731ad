"""Networks with shortcuts, gates, concatenations and attention."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Init, act, initialised
from .plain import CHANNELS, WIDTH


class Block(nn.Module):
    """x + W₂ φ(W₁ φ(x)), with a normalisation in front or none."""

    def __init__(self, width: int, activation: str, norm: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width) if norm else nn.Identity()
        self.one, self.two = nn.Linear(width, width), nn.Linear(width, width)
        self.act = act(activation)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(self.act(self.one(self.act(self.norm(x)))))


class ResidualMLP(nn.Module):
    def __init__(
        self, blocks: int, activation: str, init: Init | None = None, *, norm: bool = False, zero: bool = False
    ) -> None:
        super().__init__()
        self.stem = nn.Linear(64, WIDTH)
        self.blocks = nn.Sequential(*[Block(WIDTH, activation, norm) for _ in range(blocks)])
        self.head = nn.Linear(WIDTH, 10)
        initialised(self, init)
        if zero:
            for block in self.blocks:
                nn.init.zeros_(block.two.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


class ConvBlock(nn.Module):
    """relu(x + conv(relu(conv(x)))) as in the first residual networks, with or without batch normalisation."""

    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm1, self.norm2 = (nn.BatchNorm2d(channels) if norm else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.two(F.relu(self.norm1(self.one(x))))))


class ResidualCNN(nn.Module):
    def __init__(self, blocks: int, init: Init | None = None, *, norm: bool = False, channels: int = CHANNELS) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*[ConvBlock(channels, norm) for _ in range(blocks)])
        self.head = nn.Linear(channels, 10)
        initialised(self, init)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(F.relu(self.stem(x))).mean((2, 3)))


class Layer(nn.Module):
    """A transformer layer; ``post`` normalises behind the sums, as the first transformers did."""

    def __init__(self, width: int, heads: int, post: bool) -> None:
        super().__init__()
        self.heads, self.post = heads, post
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def attend(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)  # (3, B, h, N, e)
        weights = torch.softmax(q @ k.transpose(-2, -1) / (d // self.heads) ** 0.5, -1)
        return self.out((weights @ v).transpose(1, 2).reshape(b, n, d))

    def forward(self, x: Tensor) -> Tensor:
        if self.post:
            x = self.norm1(x + self.attend(x))
            return self.norm2(x + self.down(F.relu(self.up(x))))
        x = x + self.attend(self.norm1(x))
        return x + self.down(F.relu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Rows of the image as eight tokens."""

    def __init__(self, layers: int, init: Init | None = None, *, post: bool, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.position = nn.Parameter(torch.randn(1, 8, width) * 0.02)
        self.layers = nn.Sequential(*[Layer(width, 2, post) for _ in range(layers)])
        self.norm = nn.Identity() if post else nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)
        initialised(self, init)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.reshape(x.shape[0], 8, 8)) + self.position
        return self.head(self.norm(self.layers(x)).mean(1))


class Gated(nn.Module):
    """Gated linear units all the way: a(x)·σ(b(x))."""

    def __init__(self, depth: int, init: Init | None = None, width: int = WIDTH) -> None:
        super().__init__()
        fans = [64, *[width] * (depth - 2)]
        self.values = nn.ModuleList(nn.Linear(f, width) for f in fans)
        self.gates = nn.ModuleList(nn.Linear(f, width) for f in fans)
        self.head = nn.Linear(width, 10)
        initialised(self, init)

    def forward(self, x: Tensor) -> Tensor:
        for value, gate in zip(self.values, self.gates, strict=True):
            x = value(x) * torch.sigmoid(gate(x))
        return self.head(x)


class Dense(nn.Module):
    """Every layer reads all layers before it, concatenated."""

    def __init__(self, depth: int, activation: str, init: Init | None = None, growth: int = 16) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64 + i * growth, growth) for i in range(depth - 1))
        self.act = act(activation)
        self.head = nn.Linear(growth, 10)
        initialised(self, init)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            new = self.act(layer(x))
            x = torch.cat((x, new), 1)
        return self.head(new)


class SkipMLP(nn.Module):
    """A fully connected U: the way up reads the way down, concatenated."""

    def __init__(self, depth: int, activation: str, init: Init | None = None, width: int = WIDTH) -> None:
        super().__init__()
        half = (depth - 1) // 2
        self.down = nn.ModuleList(nn.Linear(64 if i == 0 else width, width) for i in range(half))
        self.up = nn.ModuleList(nn.Linear(width if i == 0 else 2 * width, width) for i in range(depth - 1 - half))
        self.act = act(activation)
        self.head = nn.Linear(width, 10)
        initialised(self, init)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for layer in self.down:
            x = self.act(layer(x))
            kept.append(x)
        for i, layer in enumerate(self.up):
            if i > 0:
                x = torch.cat((x, kept[-1 - i]), 1) if i < len(kept) else torch.cat((x, x), 1)
            x = self.act(layer(x))
        return self.head(x)


class UNet(nn.Module):
    """8×8 down to 2×2 and back with concatenated skips; the class is read off the average of the last maps."""

    def __init__(self, per: int, init: Init | None = None, *, activation: str = "relu", channels: int = 4) -> None:
        super().__init__()
        c = channels
        self.act = act(activation)
        self.down1, self.down2 = self._stage(1, c, per), self._stage(c, 2 * c, per)
        self.middle = self._stage(2 * c, 2 * c, per)
        self.grow2, self.grow1 = nn.ConvTranspose2d(2 * c, 2 * c, 2, 2), nn.ConvTranspose2d(2 * c, c, 2, 2)
        self.up2, self.up1 = self._stage(4 * c, 2 * c, per), self._stage(2 * c, c, per)
        self.head = nn.Linear(c, 10)
        initialised(self, init)

    def _stage(self, fan: int, channels: int, per: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for i in range(per):
            layers += [nn.Conv2d(fan if i == 0 else channels, channels, 3, padding=1), self.act]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        x = self.middle(F.max_pool2d(two, 2))
        x = self.up2(torch.cat((self.grow2(x), two), 1))
        x = self.up1(torch.cat((self.grow1(x), one), 1))
        return self.head(x.mean((2, 3)))
