"""Does a forced repair harm what is healthy? Training as it comes, and after ``ds.repair(model, x, force=True)``.

A ResNet-50 of bottlenecks for small images, a vision transformer of four blocks (both on scikit-learn's digits, twice
as large), and GPT-2 with four layers on the bytes of this repository's texts: narrow enough for a minute on a CPU, with
their own initialisation. Both of a pair see the same batches; SGD with momentum and Adam at rates that suit the model
as it comes. Reported is the loss of training, averaged over the last tenth of the steps, and of held-out data. Writes
results/repair_healthy.md.

    python benchmarks/repair_healthy.py [--seeds 3] [--steps 120]
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import platform
import time
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import depthscale as ds

HERE = Path(__file__).parent
TABLE = HERE / "results" / "repair_healthy.md"
BATCH, CONTEXT, WIDTH = 32, 48, 64


class Gpt2(nn.Module):
    """GPT-2 (Radford et al. 2019) as it is initialised: N(0, 0.02), projections of branches over √(2 layers), tied."""

    def __init__(self, layers: int = 4, heads: int = 4, tokens: int = 256) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(tokens, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block(heads, causal=True) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, tokens, bias=False)
        self.head.weight = self.tokens.weight
        small_weights(self)
        for name, p in self.named_parameters():
            if name.endswith("out.weight"):
                nn.init.normal_(p, 0, 0.02 / math.sqrt(2 * layers))

    def forward(self, x: Tensor) -> Tensor:
        y = self.tokens(x) + self.places(torch.arange(x.shape[1], device=x.device))
        for block in self.blocks:
            y = block(y)
        return self.head(self.norm(y))


class Vit(nn.Module):
    """ViT (Dosovitskiy et al. 2021) with a class token, on patches of 4 × 4 of images of 16 × 16; N(0, 0.02)."""

    def __init__(self, layers: int = 4, heads: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, 4, 4)
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, WIDTH)), nn.Parameter(torch.zeros(1, 17, WIDTH))
        self.blocks = nn.ModuleList(Block(heads, causal=False) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes)
        small_weights(self)
        nn.init.normal_(self.places, 0, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(len(y), -1, -1), y], 1) + self.places
        for block in self.blocks:
            y = block(y)
        return self.head(self.norm(y)[:, 0])


def small_weights(module: nn.Module) -> None:
    """Matrices and embeddings of standard deviation 0.02, biases of zero."""
    for m in module.modules():
        if isinstance(m, nn.Linear | nn.Embedding):
            nn.init.normal_(m.weight, 0, 0.02)
        if isinstance(m, nn.Linear) and m.bias is not None:
            nn.init.zeros_(m.bias)


class Block(nn.Module):
    """Attention and feed-forward, each behind a normalisation, each added."""

    def __init__(self, heads: int, causal: bool, width: int = WIDTH) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.attention_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.feed_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = (z.reshape(n, t, self.heads, -1).transpose(1, 2) for z in self.qkv(self.norm1(x)).split(d, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal).transpose(1, 2).reshape(n, t, d)
        x = x + self.attention_out(y)
        return x + self.feed_out(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


@lru_cache(maxsize=1)
def images() -> tuple[Tensor, Tensor]:
    """Digits of 16 × 16 pixels and their classes, shuffled."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8)
    x = F.interpolate((x - x.mean()) / x.std(), scale_factor=2)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return x[order], torch.tensor(y)[order]


@lru_cache(maxsize=1)
def text() -> Tensor:
    """The bytes of the texts that come with this repository."""
    files = sorted([*HERE.parent.glob("*.md"), *HERE.parent.glob("docs/**/*.md"), *HERE.parent.glob("src/**/*.py")])
    return torch.tensor(np.frombuffer(b"".join(f.read_bytes() for f in files[:200]), dtype=np.uint8).astype(np.int64))


def pictures(generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """A batch, or what is held out."""
    x, y = images()
    if generator is None:
        return x[1400:], y[1400:]
    rows = torch.randint(1400, (BATCH,), generator=generator)
    return x[rows], y[rows]


def lines(generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Bytes and those that come next."""
    data = text()
    cut = len(data) * 9 // 10
    if generator is None:
        starts = torch.linspace(cut, len(data) - CONTEXT - 2, 200).long()
    else:
        starts = torch.randint(cut - CONTEXT - 1, (BATCH,), generator=generator)
    rows = starts[:, None] + torch.arange(CONTEXT + 1)
    return data[rows][:, :-1], data[rows][:, 1:]


class Model(NamedTuple):
    make: Callable[[], nn.Module]
    data: Callable[[torch.Generator | None], tuple[Tensor, Tensor]]
    rates: dict[str, float]


def resnet() -> nn.Module:
    """ResNet-50, an eighth as wide, drawn with torch's seed."""
    from depthscale import zoo

    graph = zoo.get("resnet50", in_channels=1, image_size=16, num_classes=10, width=8)
    return ds.build(graph, int(torch.randint(2**31, ())))


MODELS = {
    "ResNet-50, an eighth as wide": Model(resnet, pictures, {"SGD": 0.02, "Adam": 1e-3}),
    "ViT, 4 blocks of width 64": Model(Vit, pictures, {"SGD": 0.02, "Adam": 1e-3}),
    "GPT-2, 4 layers of width 64": Model(Gpt2, lines, {"SGD": 0.05, "Adam": 1e-3}),
}


def trained(module: nn.Module, model: Model, optimiser: str, seed: int, steps: int) -> tuple[float, float]:
    """The loss of training over the last tenth of the steps, and of what is held out."""
    rate = model.rates[optimiser]
    sgd = optimiser == "SGD"
    made = torch.optim.SGD(module.parameters(), rate, 0.9) if sgd else torch.optim.Adam(module.parameters(), rate)
    generator = torch.Generator().manual_seed(1000 + seed)
    module.train()
    losses = []
    for _ in range(steps):
        loss = loss_of(module, *model.data(generator))
        made.zero_grad()
        loss.backward()
        made.step()
        losses.append(loss.item())
    module.eval()
    with torch.no_grad():
        return float(np.mean(losses[-max(steps // 10, 1) :])), loss_of(module, *model.data(None)).item()


def loss_of(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    out = module(x)
    return F.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1))


def pair(model: Model, optimiser: str, seed: int, steps: int) -> tuple[np.ndarray, int]:
    """Losses (as it comes, repaired) × (training, held out), and how many weights were set."""
    torch.manual_seed(seed)
    own = model.make()
    mended = copy.deepcopy(own)
    example = model.data(torch.Generator().manual_seed(seed))[0]
    done = ds.repair(mended, example, force=True, seed=seed)
    return np.array([trained(m, model, optimiser, seed, steps) for m in (own, mended)]), len(done.changes)


def row(name: str, optimiser: str, seeds: int, steps: int) -> str:
    """A line of the table."""
    model = MODELS[name]
    runs = [pair(model, optimiser, seed, steps) for seed in range(seeds)]
    losses = np.array([r[0] for r in runs])  # (seeds, 2, 2)
    shown = [f"{v.mean():.3f} ± {v.std(ddof=1):.3f}" for v in (losses[:, 0, 0], losses[:, 1, 0])]
    held = [f"{v.mean():.3f} ± {v.std(ddof=1):.3f}" for v in (losses[:, 0, 1], losses[:, 1, 1])]
    better = losses[:, 1, 0] - losses[:, 0, 0]
    cells = (name, optimiser, str(runs[0][1]), *shown, f"{better.mean():+.3f} ± {better.std(ddof=1):.3f}", *held)
    return "| " + " | ".join(cells) + " |"


def left_alone(name: str) -> str:
    """What repair says without being forced."""
    model = MODELS[name]
    torch.manual_seed(0)
    own = model.make()
    before = {k: v.clone() for k, v in own.state_dict().items()}
    done = ds.repair(own, model.data(torch.Generator().manual_seed(0))[0], name=name)
    same = all(torch.equal(v, before[k]) for k, v in own.state_dict().items())
    return f"- {done.message}" + ("" if same else " **(changed)**")


def main(options: argparse.Namespace) -> None:
    warnings.filterwarnings("ignore")
    start = time.process_time()
    lines = [
        "# Repair of healthy models",
        "",
        f"`python benchmarks/repair_healthy.py`: {options.steps} steps with batches of {BATCH}, {options.seeds} seeds, "
        "mean ± standard deviation over seeds. Both of a pair see the same batches; rates are "
        + "; ".join(
            f"{n.partition(',')[0]} {', '.join(f'{k} {v:g}' for k, v in m.rates.items())}" for n, m in MODELS.items()
        )
        + " (SGD with momentum 0.9).",
        "",
        "Without being forced, repair leaves them alone:",
        "",
        *[left_alone(name) for name in MODELS],
        "",
        "Forced (`ds.repair(model, x, force=True)`):",
        "",
        "| model | optimiser | weights set | loss as it comes | loss repaired | difference in pairs "
        "| held out, as it comes | held out, repaired |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in MODELS:
        for optimiser in ("SGD", "Adam"):
            lines.append(row(name, optimiser, options.seeds, options.steps))
            print(lines[-1], flush=True)
    lines += [
        "",
        f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores "
        f"({platform.machine()}); {time.process_time() - start:.0f} s of CPU time.",
    ]
    TABLE.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120)
    main(parser.parse_args())
