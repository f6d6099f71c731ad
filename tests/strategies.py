"""Random valid graphs for property tests: image, vector and token networks with branches, joins and shared weights."""

from hypothesis import strategies as st

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Wire, laws, ops

LAWS = st.sampled_from([laws.HE, laws.LECUN, laws.XAVIER, laws.TORCH_DEFAULT, laws.Orthogonal(1.3), laws.Normal(0.02)])
SMALL = st.integers(1, 4)


@st.composite
def _image_op(draw, x: Wire):
    kind = draw(st.sampled_from(["conv", "norm", "act", "pool", "drop", "pad", "scale", "slice", "group", "up"]))
    if kind == "conv":
        groups = draw(st.sampled_from([g for g in (1, 2, x.channels) if x.channels % g == 0]))
        return ops.Conv(
            groups * draw(SMALL),
            (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
            stride=draw(st.integers(1, 2)),
            padding=draw(st.integers(0, 2)),
            dilation=draw(st.integers(1, 2)),
            groups=groups,
            weight=draw(LAWS),
            bias=draw(st.sampled_from([None, laws.ZERO, laws.Normal(0.1)])),
        )
    if kind == "norm":
        return draw(st.sampled_from([ops.BatchNorm(), ops.InstanceNorm(), ops.GroupNorm(1), ops.LayerNorm(3)]))
    if kind == "act":
        return draw(activations())
    if kind == "pool":
        pool = draw(st.sampled_from([ops.MaxPool, ops.AvgPool]))
        return pool(draw(st.integers(1, 3)), draw(st.integers(1, 2)), 0, ceil=draw(st.booleans()))
    if kind == "drop":
        return draw(st.sampled_from([ops.Dropout(0.3), ops.DropPath(0.2)]))
    if kind == "pad":
        return ops.Pad((draw(SMALL), draw(SMALL), 1, 0))
    if kind == "scale":
        return ops.Scale(1, laws.Constant(0.5))
    if kind == "slice":
        return ops.Slice(1, 0, draw(st.integers(1, x.channels)))
    if kind == "group":
        return ops.GroupNorm(draw(st.sampled_from([g for g in (1, 2, 3) if x.channels % g == 0])))
    return draw(st.sampled_from([ops.Upsample((2, 1)), ops.Resize((5, 3))]))


@st.composite
def activations(draw):
    name = draw(st.sampled_from(["relu", "tanh", "gelu", "silu", "leaky_relu", "elu", "softplus", "prelu", "affine"]))
    if name == "prelu":
        return ops.PReLU(draw(st.booleans()))
    if name == "leaky_relu":
        return ops.Activation(name, (("negative_slope", draw(st.floats(0.01, 0.5))),))
    return ops.Activation(name)


@st.composite
def _vector_op(draw, x: Wire):
    kind = draw(st.sampled_from(["linear", "norm", "act", "drop", "split", "take", "softmax"]))
    if kind == "linear":
        return ops.Linear(draw(st.integers(1, 6)), draw(LAWS), draw(st.sampled_from([None, laws.ZERO])))
    if kind == "norm":
        return draw(st.sampled_from([ops.LayerNorm(), ops.RMSNorm()]))
    if kind == "act":
        return draw(activations())
    if kind == "split":
        return ops.Slice(-1, 0, draw(st.integers(1, x.shape[-1])))
    if kind == "take":
        return ops.Take(-1, tuple(draw(st.lists(st.integers(0, x.shape[-1] - 1), min_size=1, max_size=6))))
    return ops.Dropout(0.1) if kind == "drop" else ops.Softmax()


def _try(x: Wire, op, *others: Wire) -> Wire | None:
    try:
        return x.then(op, *others)
    except GraphError:  # this op does not fit these shapes: the strategy goes on without it
        return None


@st.composite
def graphs(draw, most: int = 12) -> Graph:
    """A graph of up to ``most`` + a few nodes that has an input, branches that meet, and one output."""
    net = Builder()
    image = draw(st.booleans())
    shape = (draw(SMALL), draw(st.integers(3, 7)), draw(st.integers(3, 7))) if image else (draw(st.integers(1, 6)),)
    wires = [net.input(*shape)]
    for _ in range(draw(st.integers(1, most))):
        x = draw(st.sampled_from(wires))
        join = draw(st.sampled_from(["none", "none", "none", "add", "mul", "concat"]))
        if join == "none":
            y = _try(x, draw(_image_op(x) if len(x.shape) == 4 else _vector_op(x)))
        else:
            mates = [w for w in wires if w.shape == x.shape]
            op = {"add": ops.Add(), "mul": ops.Multiply(), "concat": ops.Concat(1)}[join]
            y = _try(x, op, draw(st.sampled_from(mates)))
        if y is not None and max(y.shape) <= 40:
            wires.append(y)
    x = wires[-1]
    if len(x.shape) == 4 and draw(st.booleans()):
        x = x.then(ops.Flatten())
    if x.name == "input":
        x = x.then(ops.Activation("relu"))
    return net.graph(x)
