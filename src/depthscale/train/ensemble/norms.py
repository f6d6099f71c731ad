"""Batch and layer normalisation of vectors, all members at once, forward and back.

With x̂ = (x − mean)/√(var + ε) over a set of entries and y = w x̂ + b, the gradient at x is
(w g − mean(w g) − x̂ mean(w g x̂))/√(var + ε), means over the same set (Ioffe & Szegedy 2015; Ba et al. 2016).
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from depthscale.graph import ops

if TYPE_CHECKING:
    from depthscale.train.ensemble.dense import Program


def norm_forward(p: "Program", name: str, op: Any) -> None:
    """Append the thunk that normalises a node's input: over the rows (batch) or over the units (layer)."""
    batch = isinstance(op, ops.BatchNorm)
    axis = 2 if batch else 1
    x = p.values[p.sources[name][0]]
    out = p.value(name)
    w = p.net.vector(f"{name}.weight")[:, :, None] if op.weight is not None else None
    b = p.net.vector(f"{name}.bias")[:, :, None] if op.bias is not None else None
    normal = p.net.arena(f"normalised {name}", *x.shape) if p.training else out
    root = p.net.arena(f"root {name}", *(x.shape[0], 1, x.shape[2]) if axis == 1 else (*x.shape[:2], 1))
    p.kept[name] = (normal, root, w, axis)
    running = [p.net.running[f"{name}.{k}"] for k in ("running_mean", "running_var")] if batch else []

    def moments() -> tuple[Tensor, Tensor]:
        if batch and not p.training:
            return running[0][:, :, None], running[1][:, :, None]
        var, mean = torch.var_mean(x, axis, correction=0, keepdim=True)
        if batch:
            rows = x.shape[2]
            running[0].lerp_(mean[:, :, 0], op.momentum)
            running[1].lerp_(var[:, :, 0] * (rows / max(rows - 1, 1)), op.momentum)
        return mean, var

    def run() -> None:
        mean, var = moments()
        torch.rsqrt(var + op.eps, out=root)
        torch.sub(x, mean, out=normal)
        normal.mul_(root)
        if w is not None:
            torch.mul(normal, w, out=out)
        elif normal is not out:
            out.copy_(normal)
        if b is not None:
            out.add_(b)

    p.forward.append(run)


def norm_backward(p: "Program", name: str, op: Any, g: Tensor) -> None:
    """Append the thunk that takes the gradient back through a normalisation, in place."""
    normal, root, w, axis = p.kept[name]
    dw = p.vector_gradient(f"{name}.weight") if op.weight is not None else None
    db = p.vector_gradient(f"{name}.bias") if op.bias is not None else None
    product = p.net.arena("normalised times gradient", *g.shape)

    def run() -> None:
        if db is not None:
            torch.sum(g, 2, out=db)
        torch.mul(g, normal, out=product)
        if dw is not None:
            torch.sum(product, 2, out=dw)
        if w is not None:
            g.mul_(w)
            product.mul_(w)
        both = product.mean(axis, keepdim=True)
        g.sub_(g.mean(axis, keepdim=True)).addcmul_(normal, both, value=-1).mul_(root)

    p.backward.append(run)
    p.hand_over(p.sources[name][0], g)
