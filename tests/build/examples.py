"""Every op at work: a graph with one node of it (or more), and what it must compute, written in other words."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from depthscale.graph import Builder, Graph, Op, laws, ops

B = 3  # the batch
ANY = laws.Normal(0.5)


class Case(NamedTuple):
    op: Op
    shapes: tuple[tuple[int, ...], ...]  # one example's, per input
    reference: Callable[..., Tensor]  # (parameters by name, *inputs) -> output in evaluation mode
    dtype: str = "float"

    @property
    def graph(self) -> Graph:
        net = Builder()
        wires = [net.input(*shape, name=f"in{i}", dtype=self.dtype) for i, shape in enumerate(self.shapes)]
        return net.graph(net.add(self.op, *wires, name="node"))

    def inputs(self) -> list[Tensor]:
        g = torch.Generator().manual_seed(0)
        if self.dtype == "int":
            return [torch.randint(0, 5, (B, *s), generator=g) for s in self.shapes]
        return [torch.randn(B, *s, generator=g) for s in self.shapes]


def unfold_conv(x: Tensor, w: Tensor, b: Tensor | None, stride: int, padding: int, groups: int) -> Tensor:
    """2-D convolution as a loop over taps and groups."""
    n = (x.shape[2] + 2 * padding - w.shape[2]) // stride + 1
    m = (x.shape[3] + 2 * padding - w.shape[3]) // stride + 1
    padded = x.new_zeros(*x.shape[:2], x.shape[2] + 2 * padding, x.shape[3] + 2 * padding)
    padded[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]] = x
    out = x.new_zeros(x.shape[0], w.shape[0], n, m)
    into, outof = w.shape[1], w.shape[0] // groups
    for o in range(w.shape[0]):
        part = padded[:, o // outof * into : (o // outof + 1) * into]
        for i in range(n):
            for j in range(m):
                patch = part[:, :, i * stride : i * stride + w.shape[2], j * stride : j * stride + w.shape[3]]
                out[:, o, i, j] = (patch * w[o]).sum((1, 2, 3))
    return out if b is None else out + b[:, None, None]


def centred(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    return (x - x.mean(axes, keepdim=True)) / (x.var(axes, keepdim=True, unbiased=False) + eps) ** 0.5


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool = False) -> Tensor:
    scores = torch.einsum("bhtd,bhsd->bhts", q, k) * scale
    if causal:
        later = torch.arange(k.shape[2])[None, :] > torch.arange(q.shape[2])[:, None]
        scores = torch.where(later, torch.tensor(-1e30), scores)
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return torch.einsum("bhts,bhsd->bhtd", weights, v)


def windows(x: Tensor, k: int, s: int, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    n, m = (x.shape[2] - k) // s + 1, (x.shape[3] - k) // s + 1
    rows = [[reduce(x[:, :, i * s : i * s + k, j * s : j * s + k]) for j in range(m)] for i in range(n)]
    return torch.stack([torch.stack(r, -1) for r in rows], -2)


IMAGE, MAPS, VECTOR, TOKENS = (4, 6, 6), (4, 5, 5), (6,), (5, 6)
HEADS = ((2, 5, 4), (2, 5, 4), (2, 5, 4))

CASES: list[Case] = [
    Case(ops.Linear(4, ANY, ANY), (TOKENS,), lambda p, x: torch.einsum("bti,oi->bto", x, p["weight"]) + p["bias"]),
    Case(ops.Linear(4, ANY, None), (VECTOR,), lambda p, x: torch.einsum("bi,oi->bo", x, p["weight"])),
    Case(ops.Conv(6, 3, 2, 1, 1, 2, ANY, ANY), (IMAGE,), lambda p, x: unfold_conv(x, p["weight"], p["bias"], 2, 1, 2)),
    Case(
        ops.Conv(3, (3,), 1, 0, 2, 1, ANY, None),
        (TOKENS,),
        lambda p, x: sum(
            torch.einsum("bct,oc->bot", x[:, :, 2 * i : 2 * i + 2], p["weight"][:, :, i]) for i in range(3)
        ),
    ),
    Case(
        ops.Conv(2, (2, 2, 2), 2, 0, 1, 1, ANY, ANY),
        ((3, 2, 2, 2),),
        lambda p, x: (
            torch.einsum("bcijk,ocijk->bo", x, p["weight"])[..., None, None, None] + p["bias"][:, None, None, None]
        ),
    ),
    Case(
        ops.ConvTranspose(3, 2, 2, 0, 0, 1, 1, ANY, ANY),
        (MAPS,),
        lambda p, x: torch.einsum("bcij,coxy->boixjy", x, p["weight"]).reshape(B, 3, 10, 10) + p["bias"][:, None, None],
    ),
    Case(ops.MatMul(), ((2, 4, 5), (2, 5, 3)), lambda p, a, b: torch.einsum("bhij,bhjk->bhik", a, b)),
    Case(ops.Attention(), HEADS, lambda p, q, k, v: attend(q, k, v, 0.5)),
    Case(ops.Attention(causal=True, scale=0.3), HEADS, lambda p, q, k, v: attend(q, k, v, 0.3, True)),
    Case(
        ops.Attention(dropout=0.2),
        (*HEADS, (1, 5, 5)),
        lambda p, q, k, v, m: torch.einsum(
            "bhts,bhsd->bhtd", (torch.einsum("bhtd,bhsd->bhts", q, k) / 2 + m).softmax(-1), v
        ),
    ),
    Case(
        ops.Embedding(5, 3, ANY),
        ((4,),),
        lambda p, x: torch.stack([p["weight"][i] for i in x.flatten()]).view(B, 4, 3),
        "int",
    ),
    Case(
        ops.BatchNorm(weight=ANY, bias=ANY),
        (IMAGE,),
        lambda p, x: x / (1 + 1e-5) ** 0.5 * p["weight"][:, None, None] + p["bias"][:, None, None],
    ),
    Case(ops.BatchNorm(eps=0.5, bias=None, weight=ANY), (VECTOR,), lambda p, x: x / 1.5**0.5 * p["weight"]),
    Case(ops.BatchNorm(weight=None, bias=ANY), (TOKENS,), lambda p, x: x / (1 + 1e-5) ** 0.5 + p["bias"][:, None]),
    Case(ops.BatchNorm(weight=None, bias=None), ((2, 2, 2, 2, 2),), lambda p, x: x / (1 + 1e-5) ** 0.5),
    Case(
        ops.LayerNorm(weight=ANY, bias=ANY), (TOKENS,), lambda p, x: centred(x, (-1,), 1e-5) * p["weight"] + p["bias"]
    ),
    Case(ops.LayerNorm(3, 0.1, ANY, None), (IMAGE,), lambda p, x: centred(x, (1, 2, 3), 0.1) * p["weight"]),
    Case(ops.LayerNorm(1, 0.1, None, ANY), (VECTOR,), lambda p, x: centred(x, (1,), 0.1) + p["bias"]),
    Case(ops.LayerNorm(1, 0.1, None, None), (VECTOR,), lambda p, x: centred(x, (1,), 0.1)),
    Case(ops.RMSNorm(weight=ANY), (VECTOR,), lambda p, x: x / ((x**2).mean(1, True) + 1e-6) ** 0.5 * p["weight"]),
    Case(ops.RMSNorm(2, weight=None), (TOKENS,), lambda p, x: x / ((x**2).mean((1, 2), True) + 1e-6) ** 0.5),
    Case(
        ops.GroupNorm(2, 0.01, ANY, ANY),
        (IMAGE,),
        lambda p, x: (
            centred(x.view(B, 2, 2, 6, 6), (2, 3, 4), 0.01).view(x.shape) * p["weight"][:, None, None]
            + p["bias"][:, None, None]
        ),
    ),
    Case(
        ops.GroupNorm(2, weight=None, bias=None),
        (VECTOR,),
        lambda p, x: centred(x.view(B, 2, 3), (2,), 1e-5).view(B, 6),
    ),
    Case(
        ops.GroupNorm(1, weight=None, bias=ANY),
        (IMAGE,),
        lambda p, x: centred(x, (1, 2, 3), 1e-5) + p["bias"][:, None, None],
    ),
    Case(ops.InstanceNorm(), (IMAGE,), lambda p, x: centred(x, (2, 3), 1e-5)),
    Case(
        ops.InstanceNorm(0.1, ANY, ANY),
        (TOKENS,),
        lambda p, x: centred(x, (2,), 0.1) * p["weight"][:, None] + p["bias"][:, None],
    ),
    Case(ops.InstanceNorm(0.1, ANY), (TOKENS,), lambda p, x: centred(x, (2,), 0.1) * p["weight"][:, None]),
    Case(ops.Activation("relu"), (VECTOR,), lambda p, x: (x + abs(x)) / 2),
    Case(ops.PReLU(True, ANY), (IMAGE,), lambda p, x: torch.where(x > 0, x, x * p["weight"][:, None, None])),
    Case(ops.PReLU(), (VECTOR,), lambda p, x: torch.where(x > 0, x, x * 0.25)),
    Case(ops.Scale(1, ANY), (IMAGE,), lambda p, x: torch.einsum("bcij,c->bcij", x, p["weight"])),
    Case(ops.Scale(-1, ANY), (IMAGE,), lambda p, x: torch.einsum("bcij,j->bcij", x, p["weight"])),
    Case(ops.Scale(None, ANY), (VECTOR,), lambda p, x: x * p["weight"].item()),
    Case(ops.Add(), (IMAGE, (4, 1, 1), IMAGE), lambda p, a, b, c: torch.stack([a, b.expand_as(a), c]).sum(0)),
    Case(ops.Multiply(), (IMAGE, (4, 1, 1)), lambda p, a, b: torch.einsum("bcij,bc->bcij", a, b[..., 0, 0])),
    Case(ops.Subtract(), (VECTOR, VECTOR), lambda p, a, b: -b + a),
    Case(ops.Divide(), (VECTOR, VECTOR), lambda p, a, b: a * b**-1),
    Case(ops.Softmax(1), (TOKENS,), lambda p, x: x.exp() / x.exp().sum(1, keepdim=True)),
    Case(ops.Dropout(0.5), (VECTOR,), lambda p, x: x),
    Case(ops.Dropout(0.5, channels=True), (IMAGE,), lambda p, x: x),
    Case(ops.Dropout(0.5, channels=True), (TOKENS,), lambda p, x: x),
    Case(ops.DropPath(0.5), (IMAGE,), lambda p, x: x),
    Case(ops.MaxPool(3, 2), (IMAGE,), lambda p, x: windows(x, 3, 2, lambda w: w.amax((2, 3)))),
    Case(ops.MaxPool((2,), 2, ceil=True), (TOKENS,), lambda p, x: x.view(B, 5, 3, 2).amax(-1)),
    Case(ops.AvgPool(2, 2), (IMAGE,), lambda p, x: windows(x, 2, 2, lambda w: w.mean((2, 3)))),
    Case(
        ops.AvgPool(2, 1, 1, count_padding=False),
        ((1, 1, 1),),
        lambda p, x: x.expand(B, 1, 2, 2),  # every window sees the one pixel; the padding does not count
    ),
    Case(ops.AdaptivePool((2, 3)), (IMAGE,), lambda p, x: x.view(B, 4, 2, 3, 3, 2).mean((3, 5))),
    Case(ops.AdaptivePool((1,), "max"), (TOKENS,), lambda p, x: x.sort(-1).values[..., -1:]),
    Case(ops.Reduce("mean", (2, 3)), (IMAGE,), lambda p, x: torch.einsum("bcij->bc", x) / 36),
    Case(ops.Reduce("sum", (1,), True), (IMAGE,), lambda p, x: torch.einsum("bcij->bij", x)[:, None]),
    Case(ops.Reduce("max", (-1,)), (VECTOR,), lambda p, x: x.sort(-1).values[:, -1]),
    Case(ops.Reduce("mean", ()), (VECTOR,), lambda p, x: x),
    Case(ops.Flatten(), (IMAGE,), lambda p, x: x.view(B, 144)),
    Case(ops.Flatten(1, 2), (IMAGE,), lambda p, x: x.view(B, 24, 6)),
    Case(ops.Unflatten(1, (2, -1)), (VECTOR,), lambda p, x: torch.stack([x[:, :3], x[:, 3:]], 1)),
    Case(ops.Reshape((-1, 3)), (VECTOR,), lambda p, x: x.view(2 * B, 3)),
    Case(ops.Permute((0, 2, 1)), (TOKENS,), lambda p, x: torch.einsum("bij->bji", x)),
    Case(ops.Permute((0, 2, -1, 1)), (IMAGE,), lambda p, x: torch.einsum("bcij->bijc", x)),
    Case(ops.Squeeze(2), ((4, 1, 3),), lambda p, x: x[:, :, 0]),
    Case(ops.Unsqueeze(-1), (VECTOR,), lambda p, x: x.view(B, 6, 1)),
    Case(ops.Expand((-1, 4, 6)), ((1, 6),), lambda p, x: torch.cat([x] * 4, 1)),
    Case(ops.Slice(1, 1, -1, 2), (VECTOR,), lambda p, x: x[:, [1, 3]]),
    Case(ops.Slice(-1, 0, 2), (IMAGE,), lambda p, x: torch.stack([x[:, :, :, 0], x[:, :, :, 1]], -1)),
    Case(ops.Select(2, -1), (TOKENS,), lambda p, x: x[:, :, 5]),
    Case(ops.Select(1, 0), (TOKENS,), lambda p, x: x[:, 0]),
    Case(
        ops.Pad((1, 0, -1, 2), 3.0),
        (TOKENS,),
        lambda p, x: torch.cat([torch.full((B, 6, 1), 3.0), torch.cat([x[:, 1:], torch.full((B, 2, 6), 3.0)], 1)], 2),
    ),
    Case(ops.Resize((3, 6), "nearest"), (IMAGE,), lambda p, x: x[:, :, ::2]),
    Case(ops.Resize((3, 3)), (IMAGE,), lambda p, x: x.view(B, 4, 3, 2, 3, 2).mean((3, 5))),
    Case(ops.Take(1, (2, 0, 2)), (TOKENS,), lambda p, x: torch.stack([x[:, 2], x[:, 0], x[:, 2]], 1)),
    Case(
        ops.Softmax(causal=True),
        ((3, 4, 4),),
        lambda p, x: x.exp().tril() / x.exp().tril().sum(-1, keepdim=True),
    ),
    Case(ops.Roll((1, -2), (1, 2)), (TOKENS,), lambda p, x: x[:, [4, 0, 1, 2, 3]][:, :, [2, 3, 4, 5, 0, 1]]),
    Case(ops.Upsample((2, 1)), (IMAGE,), lambda p, x: torch.stack([x, x], 3).view(B, 4, 12, 6)),
    Case(
        ops.Upsample((2,), "bilinear"),
        ((1, 2),),
        # half-pixel centres at -1/4, 1/4, 3/4, 5/4, clamped at the ends
        lambda p, x: torch.stack(
            [x[..., 0], 0.75 * x[..., 0] + 0.25 * x[..., 1], 0.25 * x[..., 0] + 0.75 * x[..., 1], x[..., 1]], -1
        ),
    ),
    Case(ops.Upsample((2, 3), "bilinear"), ((1, 1, 1),), lambda p, x: x.expand(B, 1, 2, 3)),
    Case(ops.Concat(1), (IMAGE, (2, 6, 6)), lambda p, a, b: torch.stack([*a.unbind(1), *b.unbind(1)], 1)),
    Case(ops.Stack(1), (VECTOR, VECTOR), lambda p, a, b: torch.cat([a[:, None], b[:, None]], 1)),
]
