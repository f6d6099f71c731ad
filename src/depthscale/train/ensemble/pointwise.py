"""Elementwise functions on whole ensembles, in place where the derivative can be had from the output.

Each entry gives the function and what turns the gradient at its output into that at its input. On CPUs single
precision tanh has a way of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from depthscale.build.expressions import Site, expression
from depthscale.graph import ops

Thunk = Callable[[], Any]
aten: Any = torch.ops.aten


@dataclass(frozen=True)
class Pointwise:
    """``forward(x, out)`` makes the thunk that writes f(x); ``backward(g, kept)`` the one that turns g in place into
    the gradient at x, where ``kept`` is f's output (``in_place``) or its input.
    """

    in_place: bool
    forward: Callable[[Tensor, Tensor], Thunk]
    backward: Callable[[Tensor, Tensor], Thunk]


def pointwise(op: ops.Activation) -> Pointwise:
    """How to run an activation; any that has no entry goes through autograd on its own."""
    make = _TABLE.get(op.function)
    return make(dict(op.parameters)) if make is not None else _traced(op)


def _tanh(p: Any) -> Pointwise:
    def forward(x: Tensor, out: Tensor) -> Thunk:
        if x.device.type == "cpu" and x.dtype == torch.float32:
            return Tanh(x, out)
        return lambda: torch.tanh(x, out=out)

    return Pointwise(True, forward, lambda g, y: lambda: aten.tanh_backward.grad_input(g, y, grad_input=g))


class Tanh:
    """tanh in single precision on CPUs: 2 sigmoid(2x) - 1, half the time of the best library's where inputs allow it.

    That is off by at most 2e-7, like the sums behind it, but relative to 1: where the inputs of some member are small
    (a signal that vanishes), NumPy's tanh is taken, which is right to a few units of the last place of every value.
    Sizes change slowly, so they are looked at now and then only. The factor 2 is free for a matrix product: one that
    nobody else reads may agree (``scaled``) to deliver ``scale`` times its value, and saves a pass over it.
    """

    SMALL = 0.1  # root mean square of a member's inputs
    EVERY = 32  # calls

    def __init__(self, x: Tensor, out: Tensor) -> None:
        self.x, self.out, self.calls, self.small = x, out, 0, True
        self.arrays = x.numpy(), out.numpy()
        self.minus_one = torch.tensor(-1.0)
        self.scale = 1.0  # what x holds, relative to the inputs: 1 or 2
        self.scaled = False  # whether who writes x asks for the scale

    def __call__(self) -> None:
        """Write tanh of what x holds, over its scale, to the output."""
        if self.calls % self.EVERY == 0:
            self._look()
        self.calls += 1
        if self.small:
            np.tanh(self.arrays[0], out=self.arrays[1])
            return
        twice = self.x
        if self.scale == 1.0:
            twice = torch.add(self.x, self.x, out=self.out)
            self.scale = 2.0 if self.scaled else 1.0  # from the next call on
        torch.add(self.minus_one, torch.sigmoid(twice, out=self.out), alpha=2.0, out=self.out)

    def _look(self) -> None:
        sizes = self.x.flatten(1).norm(dim=1) / self.scale
        self.small = not float(sizes.amin()) >= self.SMALL * (self.x[0].numel() ** 0.5)
        if self.small and self.scale != 1.0:
            self.x.div_(self.scale)
            self.scale = 1.0


def _relu(p: Any) -> Pointwise:
    return Pointwise(
        True,
        lambda x, out: lambda: torch.clamp_min(x, 0, out=out),
        lambda g, y: lambda: aten.threshold_backward.grad_input(g, y, 0, grad_input=g),
    )


def _sigmoid(p: Any) -> Pointwise:
    return Pointwise(
        True,
        lambda x, out: lambda: torch.sigmoid(x, out=out),
        lambda g, y: lambda: aten.sigmoid_backward.grad_input(g, y, grad_input=g),
    )


def _leaky_relu(p: Any) -> Pointwise:
    slope = p["negative_slope"]
    in_place = slope > 0  # else the output does not say which side the input was on
    return Pointwise(
        in_place,
        lambda x, out: lambda: aten.leaky_relu.out(x, slope, out=out),
        lambda g, kept: lambda: aten.leaky_relu_backward.grad_input(g, kept, slope, in_place, grad_input=g),
    )


def _elu(alpha: float, scale: float, input_scale: float) -> Pointwise:
    return Pointwise(
        True,
        lambda x, out: lambda: aten.elu.out(x, alpha, scale, input_scale, out=out),
        lambda g, y: lambda: aten.elu_backward.grad_input(g, alpha, scale, input_scale, True, y, grad_input=g),
    )


def _affine(p: Any) -> Pointwise:
    scale, shift = p["scale"], p["shift"]

    def forward(x: Tensor, out: Tensor) -> Thunk:
        def run() -> None:
            torch.mul(x, scale, out=out)
            if shift:
                out.add_(shift)

        return run

    return Pointwise(True, forward, lambda g, y: lambda: g.mul_(scale))


def _gelu(p: Any) -> Pointwise:
    how = p["approximate"]
    return Pointwise(
        False,
        lambda x, out: lambda: aten.gelu.out(x, approximate=how, out=out),
        lambda g, x: lambda: aten.gelu_backward.grad_input(g, x, approximate=how, grad_input=g),
    )


def _silu(p: Any) -> Pointwise:
    return Pointwise(
        False,
        lambda x, out: lambda: aten.silu.out(x, out=out),
        lambda g, x: lambda: aten.silu_backward.grad_input(g, x, grad_input=g),
    )


def _softplus(p: Any) -> Pointwise:
    beta, threshold = p["beta"], p["threshold"]
    return Pointwise(
        False,
        lambda x, out: lambda: aten.softplus.out(x, beta, threshold, out=out),
        lambda g, x: lambda: aten.softplus_backward.grad_input(g, x, beta, threshold, grad_input=g),
    )


_SELU = (1.6732632423543772, 1.0507009873554805)  # Klambauer et al. 2017
_TABLE: dict[str, Callable[[dict[str, Any]], Pointwise]] = {
    "tanh": _tanh,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "leaky_relu": _leaky_relu,
    "elu": lambda p: _elu(p["alpha"], 1.0, 1.0),
    "celu": lambda p: _elu(p["alpha"], 1.0, 1.0 / p["alpha"]),
    "selu": lambda p: _elu(*_SELU, 1.0),
    "gelu": _gelu,
    "silu": _silu,
    "softplus": _softplus,
    "affine": _affine,
}


def _traced(op: ops.Activation) -> Pointwise:
    """Any other function, by autograd over it alone."""
    code = compile(expression(op, Site(("x",), ((1, 1),), "")), f"<{op.function}>", "eval")
    names = {"torch": torch, "F": F}

    def function(x: Tensor) -> Tensor:
        found: Tensor = eval(code, {**names, "x": x})
        return found

    def backward(g: Tensor, x: Tensor) -> Thunk:
        def run() -> None:
            with torch.enable_grad():
                inside = x.detach().requires_grad_()
                y = function(inside)
            if y.requires_grad:
                g.copy_(torch.autograd.grad(y, inside, g)[0])
            else:
                g.zero_()  # a step: flat wherever it is smooth

        return run

    return Pointwise(False, lambda x, out: lambda: out.copy_(function(x)), backward)
