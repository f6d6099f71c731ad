"""The rules of the dense program: what each op appends to the way forward and to the way back.

Each is a pair: forward(program, name, op), backward(program, name, op, gradient at the node's output).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from depthscale.graph import ops
from depthscale.train.ensemble.norms import norm_backward, norm_forward
from depthscale.train.ensemble.pointwise import Pointwise, Tanh, pointwise
from depthscale.train.ensemble.update import over

if TYPE_CHECKING:
    from depthscale.train.ensemble.dense import Program


def _linear_forward(p: "Program", name: str, op: ops.Linear) -> None:
    net, source = p.net, p.sources[name][0]
    w, h = net.weights[f"{name}.weight"], p.value(name)
    b = net.vector(f"{name}.bias")[:, :, None] if op.bias is not None else None
    scale = p.scale(name)  # of the delivered value: a tanh behind it may want twice as much
    if source == p.input and p.shared:
        w2, h2, xt = w.flatten(0, 1), h.flatten(0, 1), p.x.T  # one product for all members
        p.forward.append(lambda: torch.addmm(h2, w2, xt, beta=0, alpha=scale(), out=h2))
        if b is not None:
            p.forward.append(lambda: h.add_(b, alpha=scale()))
        return
    x = p.x.mT if source == p.input else p.values[source]
    if b is None:
        p.forward.append(lambda: torch.baddbmm(h, w, x, beta=0, alpha=scale(), out=h))
    else:
        p.forward.append(lambda: torch.baddbmm(b, w, x, beta=scale(), alpha=scale(), out=h))


def _linear_backward(p: "Program", name: str, op: ops.Linear, g: Tensor) -> None:
    net, source = p.net, p.sources[name][0]
    w = net.weights[f"{name}.weight"]
    if p.trains(source):
        wt = w.mT
        into, more = p.receive(source)
        if more:
            p.backward.append(lambda: torch.baddbmm(into, wt, g, out=into))
        else:
            p.backward.append(lambda: torch.bmm(wt, g, out=into))
    if op.bias is not None:
        db = p.vector_gradient(f"{name}.bias")
        p.backward.append(lambda: torch.sum(g, 2, out=db))
    if source == p.input and p.shared:
        left, right = g.flatten(0, 1), p.x
    else:
        left, right = g, p.x if source == p.input else p.values[source].mT
    _weight_update(p, f"{name}.weight", w, left, right)
    p.give(g)


def _weight_update(p: "Program", name: str, w: Tensor, left: Tensor, right: Tensor) -> None:
    """The weight's gradient left @ right (2-D for all members in one, or batched), kept or turned into a step."""
    update = p.net.update
    multiply: Callable[..., Tensor] = torch.addmm if left.dim() == 2 else torch.baddbmm

    def like(t: Tensor) -> Tensor:
        return t.flatten(0, 1) if left.dim() == 2 else t

    if not update.fused:
        g = p.net.arena(f"gradient of {name}", *w.shape)
        p.weight_gradients[name] = g
        flat = like(g)
        product: Callable[..., Tensor] = torch.mm if left.dim() == 2 else torch.bmm
        p.backward.append(lambda: product(left, right, out=flat))
        return
    mu, w2 = update.common_momentum, like(w)
    shrink = over(update.lr * update.decay, w) if update.decays and name in update.decayed else None
    if mu == 0:
        if shrink is not None:
            keep = 1 - shrink
            p.backward.append(lambda: w.mul_(keep))
        p.backward.append(lambda: multiply(w2, left, right, alpha=-1, out=w2))
        return
    v = update.memory("momentum", name, w)
    v2, beta = like(v), 1.0 if mu is None else mu
    if mu is None or shrink is not None:
        beta, each = 1.0, over(update.momentum, w)
        p.backward.append(lambda: v.mul_(each))
        if shrink is not None:
            decay = shrink
            p.backward.append(lambda: v.addcmul_(w, decay, value=-1))
    p.backward.append(lambda: multiply(v2, left, right, beta=beta, alpha=-1, out=v2))
    p.backward.append(lambda: w.add_(v))


def _activation_forward(p: "Program", name: str, op: ops.Activation) -> None:
    source = p.sources[name][0]
    how: Pointwise = pointwise(op)
    x = p.values[source]
    out = p.value_over(name, source) if how.in_place else p.value(name)
    p.kept[name] = (how, out if how.in_place else x)
    run = how.forward(x, out)
    if isinstance(run, Tanh) and isinstance(p.graph[source].op, ops.Linear) and p.alone(source):
        run.scaled, p.scaled[source] = True, run
    p.forward.append(run)


def _activation_backward(p: "Program", name: str, op: ops.Activation, g: Tensor) -> None:
    how, kept = p.kept[name]
    p.backward.append(how.backward(g, kept))
    p.hand_over(p.sources[name][0], g)


def _add_forward(p: "Program", name: str, op: ops.Add) -> None:
    first, *rest = [p.values[s] for s in p.sources[name]]
    out = p.value(name)
    if not rest:
        p.forward.append(lambda: out.copy_(first))
    for k, other in enumerate(rest):
        a = first if k == 0 else out
        p.forward.append(lambda a=a, b=other: torch.add(a, b, out=out))  # type: ignore[misc]


def _add_backward(p: "Program", name: str, op: ops.Add, g: Tensor) -> None:
    sources = [s for s in p.sources[name] if p.trains(s)]
    for k, source in enumerate(sources):
        if k == len(sources) - 1:
            p.hand_over(source, g)
            return
        into, more = p.receive(source)
        p.backward.append((lambda a=into: a.add_(g)) if more else (lambda a=into: a.copy_(g)))  # type: ignore[misc]
    p.give(g)


def _nothing(*_: Any) -> None:
    return


RULES: dict[type, tuple[Callable[..., None], Callable[..., None]]] = {
    ops.Input: (_nothing, _nothing),
    ops.Flatten: (_nothing, _nothing),
    ops.Dropout: (_nothing, _nothing),
    ops.Linear: (_linear_forward, _linear_backward),
    ops.Activation: (_activation_forward, _activation_backward),
    ops.Add: (_add_forward, _add_backward),
    ops.BatchNorm: (norm_forward, norm_backward),
    ops.LayerNorm: (norm_forward, norm_backward),
}
