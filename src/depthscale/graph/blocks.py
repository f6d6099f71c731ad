"""Blocks: functions from wire to wire, the words that networks are written in.

A block takes the wire it continues and returns the wire it ends in. What differs between families (normalisation,
activation, law, groups, attention over channels) is an argument, so that it is written once.
"""

from collections.abc import Callable
from dataclasses import dataclass

from depthscale.errors import GraphError
from depthscale.graph import functions, laws, ops
from depthscale.graph.builder import Wire
from depthscale.graph.laws import Law

Block = Callable[[Wire], Wire]
Size = int | tuple[int, ...]


@dataclass(frozen=True)
class Style:
    """What a family's layers have in common: normalisation, activation and parameter laws.

    ``norm`` is batch, layer, group, instance, rms or none; a convolution in front of a norm has no bias.
    """

    norm: str = "batch"
    act: str = "relu"
    weight: Law = laws.HE_OUT
    bias: Law | None = laws.ZERO
    eps: float = 1e-5
    groups: int = 32  # of group norm
    parameters: functions.Parameters = ()  # of the activation


def norm(x: Wire, kind: str, *, eps: float = 1e-5, groups: int = 32, weight: Law = laws.ONE) -> Wire:
    """Normalise; ``kind`` as in Style."""
    if kind == "none":
        return x
    if kind == "batch":
        return x.then(ops.BatchNorm(eps=eps, weight=weight))
    if kind == "layer":
        return x.then(ops.LayerNorm(eps=eps, weight=weight) if len(x.shape) < 4 else ops.GroupNorm(1, eps, weight))
    if kind == "group":
        return x.then(ops.GroupNorm(groups, eps=eps, weight=weight))
    if kind == "instance":
        return x.then(ops.InstanceNorm(eps=eps))
    if kind == "rms":
        return x.then(ops.RMSNorm(eps=eps, weight=weight))
    raise GraphError(f"expected norm to be batch, layer, group, instance, rms or none, got {kind!r}")


def act(x: Wire, name: str, parameters: functions.Parameters = ()) -> Wire:
    """An elementwise function by name; "identity" adds nothing."""
    if name in ("identity", "none", "linear"):
        return x
    return x.then(ops.PReLU() if name == "prelu" else ops.Activation(name, parameters))


def conv(
    x: Wire,
    channels: int,
    kernel: Size = 3,
    *,
    stride: Size = 1,
    padding: Size | None = None,
    dilation: int = 1,
    groups: int = 1,
    weight: Law = laws.HE_OUT,
    bias: Law | None = None,
) -> Wire:
    """2-D convolution; without ``padding`` an odd kernel keeps the size (at stride 1)."""
    k = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    p = tuple(dilation * (n - 1) // 2 for n in k) if padding is None else padding
    s = stride if isinstance(stride, tuple) else (stride,) * len(k)
    p = p if isinstance(p, tuple) else (p,) * len(k)
    return x.then(ops.Conv(channels, k, s, p, (dilation,) * len(k), groups, weight, bias))


def conv_norm_act(
    x: Wire,
    channels: int,
    kernel: Size = 3,
    *,
    stride: Size = 1,
    padding: Size | None = None,
    groups: int = 1,
    style: Style = Style(),
    activate: str | None = None,
    gain: Law = laws.ONE,
) -> Wire:
    """Convolution, normalisation, activation: the unit of most convolutional networks.

    ``activate`` overrides the style's activation ("identity": none); ``gain`` is the law of the norm's weight.
    """
    bias = style.bias if style.norm == "none" else None
    y = conv(x, channels, kernel, stride=stride, padding=padding, groups=groups, weight=style.weight, bias=bias)
    y = norm(y, style.norm, eps=style.eps, groups=style.groups, weight=gain)
    return act(y, style.act, style.parameters) if activate is None else act(y, activate)


def norm_act(x: Wire, style: Style = Style()) -> Wire:
    """Normalisation, activation."""
    return act(norm(x, style.norm, eps=style.eps, groups=style.groups), style.act, style.parameters)


def norm_act_conv(
    x: Wire, channels: int, kernel: Size = 3, *, stride: Size = 1, groups: int = 1, style: Style = Style()
) -> Wire:
    """Normalisation, activation, convolution: the unit of pre-activation networks."""
    bias = style.bias if style.norm == "none" else None
    return conv(norm_act(x, style), channels, kernel, stride=stride, groups=groups, weight=style.weight, bias=bias)


def separable_conv(
    x: Wire, channels: int, kernel: Size = 3, *, stride: Size = 1, padding: Size | None = None, weight: Law = laws.HE
) -> Wire:
    """Convolution within every channel, then 1 × 1 across them (Chollet 2017)."""
    y = conv(x, x.channels, kernel, stride=stride, padding=padding, groups=x.channels, weight=weight)
    return conv(y, channels, 1, weight=weight)


def linear(x: Wire, features: int, *, weight: Law = laws.LECUN, bias: Law | None = laws.ZERO) -> Wire:
    """Fully connected layer over the last axis."""
    return x.then(ops.Linear(features, weight, bias))


def residual(x: Wire, branch: Block, *, shortcut: Block | None = None, drop: float = 0.0, scale: float = 1.0) -> Wire:
    """x + scale·branch(x); ``shortcut`` transforms x where shapes change, ``drop`` is stochastic depth."""
    y = branch(x)
    if scale != 1.0:
        y = y.then(ops.Activation("affine", (("scale", scale),)))
    if drop > 0:
        y = y.then(ops.DropPath(drop))
    if shortcut is not None:
        with x.builder.scope("shortcut"):
            x = shortcut(x)
    return y + x


def chain(*steps: Block) -> Block:
    """Blocks one behind the other as one block."""

    def run(x: Wire) -> Wire:
        for step in steps:
            x = step(x)
        return x

    return run


def parallel(x: Wire, *branches: Block) -> Wire:
    """What several blocks make of the same input, joined over channels."""
    ends = []
    for branch in branches:
        with x.scope("branch#"):
            ends.append(branch(x))
    return concat(*ends)


def concat(*xs: Wire) -> Wire:
    """Tensors joined over channels; one alone stays as it is."""
    return xs[0] if len(xs) == 1 else xs[0].then(ops.Concat(), *xs[1:])


def squeeze_excite(x: Wire, reduction: int = 16, *, weight: Law = laws.HE_OUT) -> Wire:
    """Channels scaled by a gate computed from their means (Hu, Shen & Sun 2018, eq. 2–4)."""
    with x.scope("squeeze"):
        s = x.then(ops.Reduce("mean", (2, 3), keep=True))  # (B, C, 1, 1)
        s = act(conv(s, max(x.channels // reduction, 1), 1, weight=weight, bias=laws.ZERO), "relu")
        s = act(conv(s, x.channels, 1, weight=weight, bias=laws.ZERO), "sigmoid")
        return x * s


def attention(x: Wire, heads: int, *, weight: Law = laws.XAVIER, drop: float = 0.0) -> Wire:
    """Multi-head self-attention over (B, T, D) with one layer for queries, keys and values (Vaswani et al. 2017).

    Raises GraphError where D is no multiple of ``heads``.
    """
    width = x.shape[-1]
    if width % heads:
        raise GraphError(f"expected a width that is a multiple of {heads} heads, got {width}")
    with x.scope("attention"):
        qkv = linear(x, 3 * width, weight=weight).then(ops.Unflatten(-1, (3, heads, width // heads)))  # (B, T, 3, H, d)
        q, k, v = (qkv.then(ops.Select(2, i)).then(ops.Permute((0, 2, 1, 3))) for i in range(3))  # (B, H, T, d)
        y = q.then(ops.Attention(dropout=drop), k, v).then(ops.Permute((0, 2, 1, 3))).then(ops.Flatten(2))
        return linear(y, width, weight=weight)


def feed_forward(x: Wire, hidden: int, *, function: str = "gelu", weight: Law = laws.XAVIER, drop: float = 0.0) -> Wire:
    """Two linear layers over the last axis with an activation between them; the width stays."""
    y = dropout(act(linear(x, hidden, weight=weight), function), drop)
    return dropout(linear(y, x.shape[-1], weight=weight), drop)


def max_pool(x: Wire, kernel: Size = 2, stride: Size | None = None, padding: Size = 0, *, ceil: bool = False) -> Wire:
    """Max pooling; the stride defaults to the kernel."""
    return x.then(ops.MaxPool(kernel, kernel if stride is None else stride, padding, ceil))  # type: ignore[arg-type]


def avg_pool(x: Wire, kernel: Size = 2, stride: Size | None = None, padding: Size = 0, **kwargs: bool) -> Wire:
    """Average pooling; the stride defaults to the kernel."""
    return x.then(ops.AvgPool(kernel, kernel if stride is None else stride, padding, **kwargs))  # type: ignore[arg-type]


def global_pool(x: Wire, kind: str = "avg") -> Wire:
    """(B, C, …) → (B, C): mean or max over positions."""
    axes = tuple(range(2, len(x.shape)))
    return x.then(ops.Reduce("mean" if kind == "avg" else kind, axes))


def flatten(x: Wire) -> Wire:
    """(B, …) → (B, features); nothing to do for vectors."""
    return x if len(x.shape) == 2 else x.then(ops.Flatten())


def dropout(x: Wire, p: float) -> Wire:
    """Dropout; none at p = 0."""
    return x.then(ops.Dropout(p)) if p else x


def classifier(x: Wire, outputs: int, *, drop: float = 0.0, weight: Law = laws.LECUN) -> Wire:
    """Global average pool where there are positions, dropout, linear."""
    if len(x.shape) > 2:
        x = global_pool(x)
    return linear(dropout(x, drop), outputs, weight=weight)
