"""Which ``torch.nn`` module holds the parameters of an op: one description that is built and that is printed.

Parameters live in ordinary layers (``nn.Conv2d``, ``nn.BatchNorm2d``, …), so that hooks, ``isinstance``,
parametrisations and fine-tuning recipes written for any PyTorch model work on built ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from depthscale.build import pieces
from depthscale.graph import Op, Shape, ops
from depthscale.graph.rules import Rule

layer: Rule["Layer | None"] = Rule("layer", "build/layers.py")


@dataclass(frozen=True)
class Layer:
    """A call of a class of ``torch.nn`` or of ``pieces``; ``without`` names parameters to take away afterwards."""

    kind: str
    args: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any, Any], ...] = ()  # name, value, default
    without: tuple[str, ...] = ()

    @property
    def is_piece(self) -> bool:
        """Whether the class is ours and not torch's."""
        return self.kind in pieces.__all__

    def make(self, dtype: torch.dtype) -> nn.Module:
        """The module, on the meta device: it holds no memory and consumes no random numbers."""
        cls = getattr(pieces if self.is_piece else nn, self.kind)
        options = {name: value for name, value, default in self.options if value != default}
        module: nn.Module = cls(*self.args, **options, device="meta", dtype=dtype)
        return pieces.without(module, *self.without) if self.without else module


def describe(
    kind: str, *args: Any, options: Mapping[str, tuple[Any, Any]] = {}, without: tuple[str, ...] = ()
) -> Layer:
    """A Layer from arguments and options given as (value, default)."""
    return Layer(kind, args, tuple((name, *pair) for name, pair in options.items()), without)


def tensors(kind: str, **shapes: Shape) -> Layer:
    """A Layer that does nothing but hold tensors; a shape of one axis is written as a number."""
    return Layer(kind, (), tuple((name, s[0] if len(s) == 1 else s, None) for name, s in shapes.items()))


def short(values: tuple[int, ...]) -> int | tuple[int, ...]:
    """One number where all axes have the same."""
    return values[0] if len(set(values)) == 1 else values


@layer.register(*ops.WITHOUT_PARAMETERS)
def _(op: Op, *shapes: Shape) -> Layer | None:
    return tensors("Fixed", value=op.shape) if isinstance(op, ops.Constant) else None


@layer.register(ops.Parameter)
def _(op: ops.Parameter) -> Layer | None:
    return tensors("Tensors", weight=op.shape)


@layer.register(ops.Scale)
def _(op: ops.Scale, x: Shape) -> Layer | None:
    return tensors("Tensors", weight=(1,) if op.axis is None else (x[op.axis],))


@layer.register(ops.Linear)
def _(op: ops.Linear, x: Shape, weight: Shape | None = None) -> Layer | None:
    if weight is not None:
        return tensors("Tensors", bias=(op.out_features,)) if op.bias is not None else None
    return describe("Linear", x[-1], op.out_features, options={"bias": (op.bias is not None, True)})


@layer.register(ops.Conv)
def _(op: ops.Conv, x: Shape, weight: Shape | None = None) -> Layer | None:
    if weight is not None:
        return tensors("Tensors", bias=(op.out_channels,)) if op.bias is not None else None
    return describe(
        f"Conv{len(op.kernel)}d",
        x[1],
        op.out_channels,
        short(op.kernel),
        options={
            "stride": (short(op.stride), 1),
            "padding": (short(op.padding), 0),
            "dilation": (short(op.dilation), 1),
            "groups": (op.groups, 1),
            "bias": (op.bias is not None, True),
        },
    )


@layer.register(ops.ConvTranspose)
def _(op: ops.ConvTranspose, x: Shape) -> Layer | None:
    return describe(
        f"ConvTranspose{len(op.kernel)}d",
        x[1],
        op.out_channels,
        short(op.kernel),
        options={
            "stride": (short(op.stride), 1),
            "padding": (short(op.padding), 0),
            "output_padding": (short(op.output_padding), 0),
            "groups": (op.groups, 1),
            "bias": (op.bias is not None, True),
            "dilation": (short(op.dilation), 1),
        },
    )


@layer.register(ops.Embedding)
def _(op: ops.Embedding, x: Shape) -> Layer | None:
    return Layer("Embedding", (op.entries, op.width))


@layer.register(ops.PReLU)
def _(op: ops.PReLU, x: Shape) -> Layer | None:
    return describe("PReLU", options={"num_parameters": (x[1] if op.per_channel else 1, 1)})


def _missing(op: Any) -> tuple[str, ...]:
    return tuple(name for name in ("weight", "bias") if getattr(op, name) is None)


@layer.register(ops.BatchNorm)
def _(op: ops.BatchNorm, x: Shape) -> Layer | None:
    axes = {4: 2, 5: 3}.get(len(x), 1)
    missing = _missing(op)
    options = {"eps": (op.eps, 1e-5), "momentum": (op.momentum, 0.1), "affine": (len(missing) < 2, True)}
    return describe(f"BatchNorm{axes}d", x[1], options=options, without=missing if len(missing) == 1 else ())


@layer.register(ops.InstanceNorm)
def _(op: ops.InstanceNorm, x: Shape) -> Layer | None:
    missing = _missing(op)
    if len(missing) == 2:
        return None
    axes = {4: 2, 5: 3}.get(len(x), 1)
    return describe(
        f"InstanceNorm{axes}d", x[1], options={"eps": (op.eps, 1e-5), "affine": (True, False)}, without=missing
    )


@layer.register(ops.GroupNorm)
def _(op: ops.GroupNorm, x: Shape) -> Layer | None:
    missing = _missing(op)
    if len(missing) == 2:
        return None
    return describe("GroupNorm", op.groups, x[1], options={"eps": (op.eps, 1e-5)}, without=missing)


@layer.register(ops.LayerNorm)
def _(op: ops.LayerNorm, x: Shape) -> Layer | None:
    missing = _missing(op)
    if len(missing) == 2:
        return None
    options = {"eps": (op.eps, 1e-5), "bias": (op.bias is not None, True)}
    return describe("LayerNorm", normalised(op, x), options=options, without=missing if "weight" in missing else ())


@layer.register(ops.RMSNorm)
def _(op: ops.RMSNorm, x: Shape) -> Layer | None:
    return None if op.weight is None else describe("RMSNorm", normalised(op, x), options={"eps": (op.eps, None)})


def normalised(op: ops.LayerNorm | ops.RMSNorm, x: Shape) -> int | tuple[int, ...]:
    """What LayerNorm and RMSNorm are told: the sizes of the axes they normalise."""
    sizes = x[len(x) - op.axes :]
    return sizes[0] if len(sizes) == 1 else sizes
