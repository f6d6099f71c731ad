"""Small wide networks that between them use every op, for Monte Carlo."""

from collections.abc import Callable

from depthscale.graph import Builder, Graph, Wire, blocks, laws, ops
from depthscale.graph.laws import Law

NETS: dict[str, Callable[[], Graph]] = {}


def net(function: Callable[[], Graph]) -> Callable[[], Graph]:
    NETS[function.__name__] = function
    return function


def act(name: str, **parameters: float | str) -> ops.Activation:
    return ops.Activation(name, tuple(parameters.items()))


def linear(x: Wire, n: int, weight: Law = laws.LECUN, bias: Law | None = laws.ZERO) -> Wire:
    return x.then(ops.Linear(n, weight, bias))


@net
def mlp() -> Graph:
    b = Builder()
    x = linear(b.input(128), 384)
    for _ in range(4):
        x = linear(x.then(act("relu")), 384, laws.HE, laws.Normal(0.3))
    return b.graph(linear(x.then(act("tanh")), 128))


@net
def convolution() -> Graph:
    """Padding, stride, dilation, groups, a depthwise layer."""
    b = Builder()
    x = b.input(32, 12, 12).then(ops.Conv(96, (3, 3), 1, 1, weight=laws.LECUN)).then(act("relu"))
    x = x.then(ops.Conv(128, (3, 3), 2, 1, weight=laws.HE)).then(act("relu"))
    x = x.then(ops.Conv(128, (3, 3), 1, 2, 2, groups=4, weight=laws.HE)).then(act("relu"))
    x = x.then(ops.Conv(128, (3, 3), 1, 1, groups=128, weight=laws.HE))
    return b.graph(x.then(ops.Conv(64, (1, 1), weight=laws.LECUN)))


@net
def residual() -> Graph:
    b = Builder()
    x = linear(b.input(128), 384)
    for _ in range(4):
        x = linear(x.then(act("relu")), 384, laws.Normal(0.7, fan="in")) + x
    return b.graph(linear(x, 128))


@net
def batch_norm() -> Graph:
    b = Builder()
    x = b.input(128)
    for _ in range(3):
        x = linear(x, 384).then(ops.BatchNorm()).then(act("relu"))
    return b.graph(linear(x, 128))


@net
def layer_norm() -> Graph:
    """Layer, RMS and group norm over tokens and vectors, gains and biases drawn."""
    b = Builder()
    x = linear(b.input(24, 256), 256).then(ops.LayerNorm(weight=laws.Normal(0.2, mean=1.0), bias=laws.Normal(0.3)))
    x = linear(x.then(act("gelu")), 256).then(ops.RMSNorm())
    x = linear(x.then(act("silu")), 256).then(ops.Permute((0, 2, 1))).then(ops.GroupNorm(4))
    return b.graph(linear(x.then(act("tanh")).then(ops.Permute((0, 2, 1))), 64))


@net
def gated() -> Graph:
    """A gated unit, and x·σ(x) written out."""
    b = Builder()
    x = linear(b.input(128), 384)
    x = linear(x, 384).then(ops.Multiply(), linear(x, 384).then(act("sigmoid")))
    x = linear(x, 384, laws.Normal(2.0, fan="in"))
    x = x.then(ops.Multiply(), x.then(act("sigmoid")))
    x = linear(x, 384, laws.Normal(1.5, fan="in"))
    x = x.then(act("tanh")) + x
    return b.graph(linear(x, 128))


@net
def concatenated() -> Graph:
    """Features of different scale side by side, in front of a batch norm."""
    b = Builder()
    x = linear(b.input(128), 256)
    y = linear(x.then(act("relu")), 256, laws.Normal(3.0, fan="in"))
    z = linear(y.then(act("relu")), 128, laws.Normal(0.3, fan="in"))
    w = x.then(ops.Concat(), y, z).then(ops.BatchNorm()).then(act("relu"))
    w = linear(w, 256, laws.HE)
    left, right = w.then(ops.Slice(1, 0, 96)), w.then(ops.Slice(1, 96))
    return b.graph(linear(right.then(act("relu")).then(ops.Concat(), left), 128))


@net
def attention() -> Graph:
    b = Builder()
    x = linear(b.input(12, 256), 256)
    heads = [linear(x, 256).then(ops.Unflatten(-1, (4, 64))).then(ops.Permute((0, 2, 1, 3))) for _ in range(3)]
    y = heads[0].then(ops.Attention(), heads[1], heads[2]).then(ops.Permute((0, 2, 1, 3))).then(ops.Flatten(2, 3))
    x = linear(y, 256) + x
    x = x.then(ops.LayerNorm())
    q, k, v = (linear(x, 256, laws.Normal(1.2, fan="in")) for _ in range(3))
    s = q.then(ops.MatMul(), k.then(ops.Permute((0, 2, 1)))).then(act("affine", scale=1 / 16)).then(ops.Softmax())
    return b.graph(linear(s.then(ops.MatMul(), v), 64))


@net
def class_token() -> Graph:
    b = Builder()
    x = linear(b.input(12, 192), 192)
    token = b.add(ops.Parameter((1, 1, 192), laws.Normal(0.1)), name="token")
    x = x.then(ops.Pad((0, 0, 1, 0))) + token.then(ops.Pad((0, 0, 0, 12)))
    x = x + b.add(ops.Parameter((1, 13, 192), laws.Normal(0.3)), name="positions")
    for _ in range(2):
        y = x.then(ops.LayerNorm())
        q, k, v = (linear(y, 192).then(ops.Unflatten(-1, (3, 64))).then(ops.Permute((0, 2, 1, 3))) for _ in range(3))
        y = q.then(ops.Attention(), k, v).then(ops.Permute((0, 2, 1, 3))).then(ops.Flatten(2, 3))
        x = linear(y, 192) + x
        x = linear(linear(x.then(ops.LayerNorm()), 384).then(act("gelu")), 192) + x
    return b.graph(linear(x.then(ops.LayerNorm()).then(ops.Select(1, 0)), 64))


@net
def pooling() -> Graph:
    b = Builder()
    x = b.input(64, 16, 16).then(ops.Conv(96, (1, 1), weight=laws.LECUN)).then(act("relu"))
    x = x.then(ops.MaxPool(3, 2, 1)).then(ops.Conv(128, (3, 3), 1, 1, weight=laws.LECUN))
    x = x.then(ops.AvgPool(3, 1, 1, count_padding=False)).then(ops.MaxPool(2))
    x = x.then(act("tanh")).then(ops.Conv(128, (1, 1), weight=laws.LECUN))
    x = x.then(ops.Upsample(2)).then(ops.AdaptivePool((2, 2)))
    return b.graph(linear(x.then(ops.Reduce("mean", (2, 3))), 64))


@net
def dropout() -> Graph:
    b = Builder()
    x = linear(b.input(128), 384).then(act("relu")).then(ops.Dropout(0.3))
    x = linear(x, 384, laws.HE).then(ops.DropPath(0.25)) + linear(x, 384)
    return b.graph(linear(x.then(ops.Dropout(0.5)), 128))


@net
def embedding() -> Graph:
    b = Builder()
    x = b.input(10, dtype="int").then(ops.Embedding(50, 256, laws.Normal(0.8)))
    x = linear(x, 256).then(act("silu"))
    return b.graph(linear(x.then(ops.Reduce("mean", (1,))), 128))


@net
def transposed() -> Graph:
    """Up by a transposed convolution and by interpolation, a computed (standardised) kernel."""
    b = Builder()
    x = b.input(64, 6, 6).then(ops.Conv(64, (1, 1), weight=laws.LECUN)).then(ops.InstanceNorm()).then(act("relu"))
    x = x.then(ops.ConvTranspose(96, (4, 4), 2, 1, weight=laws.Normal(1.4, fan="in"))).then(act("relu"))
    x = x.then(ops.Upsample(2, "bilinear"))
    raw = b.add(ops.Parameter((64, 96, 3, 3), laws.UNIT), name="kernel")
    kernel = raw.then(ops.LayerNorm(3, weight=laws.Constant(0.03), bias=None))
    x = x.then(ops.Conv(64, (3, 3), 1, 1, weight=None, bias=None), kernel)
    return b.graph(x.then(ops.Reduce("mean", (2, 3))))


@net
def arithmetic() -> Graph:
    """Scale, PReLU, differences, quotients, padding, rolls, stacks and powers."""
    b = Builder()
    x = linear(b.input(256), 256).then(ops.PReLU()).then(ops.Scale(1, laws.Normal(0.3, mean=0.5)))
    y, z = linear(x, 256), linear(x, 256)
    d = y.then(ops.Subtract(), z).then(act("softplus"))
    e = linear(d, 256).then(act("sigmoid")).then(act("affine", shift=3.0))
    f = linear(d, 256).then(ops.Divide(), e)
    s = f.then(ops.Stack(1), y).then(ops.Roll((1,), (2,))).then(ops.Flatten(1, 2))
    return b.graph(linear(s.then(ops.Pad((32, 32))), 128))


@net
def rearranged() -> Graph:
    """Maxima over an axis, exponentials and squares; reshaping, copies, a constant."""
    b = Builder()
    x = linear(b.input(8, 128), 256)
    x = x.then(ops.Reduce("max", (1,))).then(ops.Reshape((-1, 4, 64))).then(ops.Flatten(1))
    x = x.then(ops.Unsqueeze(1)).then(ops.Expand((-1, 3, -1))).then(ops.Select(1, 2)).then(ops.Unsqueeze(-1))
    x = x.then(ops.Squeeze(-1)) + b.add(ops.Constant((256,), laws.Constant(0.5)), name="shift")
    y = linear(x, 256, laws.Normal(0.5, fan="in")).then(act("exp"))
    return b.graph(linear(linear(y, 256, laws.Normal(0.5, fan="in")).then(act("square")), 64))


@net
def image_net() -> Graph:
    """Convolution, batch norm and pooling on a small image."""
    b = Builder()
    x = b.input(16, 16, 16)
    for i in range(3):
        x = blocks.conv_norm_act(x, 128, style=blocks.Style())
        x = x.then(ops.MaxPool(2)) if i == 0 else x
    return b.graph(blocks.classifier(x, 64))


@net
def picked() -> Graph:
    """Features taken by index, some of them twice, between two layers."""
    b = Builder()
    x = linear(b.input(128), 384).then(act("relu"))
    taken = x.then(ops.Take(-1, (*range(0, 384, 2), *range(0, 96))))
    return b.graph(linear(linear(taken, 256, laws.HE).then(act("tanh")), 128))


@net
def resized() -> Graph:
    """An image resampled to a size that is no multiple of its own."""
    b = Builder()
    x = b.input(32, 8, 8).then(ops.Conv(96, (3, 3), 1, 1, weight=laws.LECUN)).then(act("relu"))
    x = x.then(ops.Resize((11, 11))).then(ops.Conv(96, (3, 3), 1, 1, weight=laws.HE)).then(act("relu"))
    return b.graph(linear(x.then(ops.Reduce("mean", (2, 3))), 64))


@net
def pyramid() -> Graph:
    """Maxima over windows of SiLU, which is no monotone function."""
    b = Builder()
    x = b.input(64, 9, 9).then(ops.Conv(96, 1)).then(ops.BatchNorm()).then(act("silu"))
    x = x.then(ops.MaxPool(3))
    return b.graph(x.then(ops.Conv(64, 1)))


@net
def joined_pool() -> Graph:
    """Maxima over windows of channels that come from two branches, one of them read again."""
    b = Builder()
    x = b.input(64, 9, 9)
    branches = [x.then(ops.Conv(96, 1)).then(ops.BatchNorm()).then(act("relu")) for _ in range(2)]
    joined = branches[0].then(ops.Concat(1), branches[1])
    y = joined.then(ops.MaxPool(3)).then(ops.Conv(64, 1))
    return b.graph(y, joined.then(ops.AvgPool(3)).then(ops.Conv(64, 1)))


@net
def gated_pool() -> Graph:
    """Squeeze and excitation in front of a maximum over windows, and a normalisation behind it."""
    b = Builder()
    x = b.input(32, 12, 12).then(ops.Conv(192, (1, 1), weight=laws.LECUN)).then(ops.BatchNorm()).then(act("relu"))
    gate = x.then(ops.Reduce("mean", (2, 3), keep=True)).then(ops.Conv(192, (1, 1), weight=laws.LECUN))
    x = x.then(ops.Multiply(), gate.then(act("sigmoid"))).then(ops.MaxPool(2))
    x = x.then(ops.Conv(192, (1, 1), weight=laws.LECUN)).then(ops.BatchNorm()).then(act("relu"))
    return b.graph(x.then(ops.Conv(64, (1, 1), weight=laws.LECUN)))


@net
def mixture() -> Graph:
    """x + α (y − x), which is (1 − α) x + α y, twice."""
    b = Builder()
    x = linear(b.input(128), 384)
    for law in (laws.Constant(0.5), laws.Constant(0.2)):
        y = linear(x.then(act("relu")), 384, laws.HE)
        share = b.add(ops.Parameter((1,), law))
        x = x + share.then(ops.Multiply(), y.then(ops.Subtract(), x))
    return b.graph(linear(x, 128))
