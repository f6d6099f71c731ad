"""Multilayer perceptrons, plain and residual.

Rumelhart, Hinton & Williams 1986; residual form after He et al. 2016. The default law is critical for ReLU.
"""

import math
from collections.abc import Sequence

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Wire, blocks, laws, ops
from depthscale.graph.laws import Law
from depthscale.zoo.images import Size, sides


def mlp(
    widths: Sequence[int] = (784, 256, 256, 10),
    act: str = "relu",
    *,
    input_shape: Sequence[int] | None = None,
    residual: bool = False,
    norm: str = "none",
    dropout: float = 0.0,
    branch_scale: float | None = None,
    weight: Law = laws.HE,
    bias: Law | None = laws.ZERO,
    first: Law = laws.LECUN,
    last: Law = laws.LECUN,
) -> Graph:
    """Fully connected network: ``widths`` = (inputs, hidden …, outputs).

    With ``residual`` every hidden layer but the first is x + scale·layer(act(norm(x))), the scale 1/√L unless
    ``branch_scale`` is given. ``input_shape`` (C, H, W) is flattened first and overrides ``widths[0]``. Laws:
    ``first`` and ``last`` are those of the layers that read the data and write the outputs.
    """
    if len(widths) < 2:
        raise GraphError(f"expected widths of at least an input and an output, got {list(widths)}")
    net = Builder()
    x = blocks.flatten(net.input(*(input_shape or (widths[0],))))
    hidden = list(widths[1:-1])
    depth = len(hidden)
    scale = branch_scale if branch_scale is not None else 1 / math.sqrt(max(depth - 1, 1))
    for i, width in enumerate(hidden):
        with net.scope("layer#"):
            law = first if i == 0 else weight
            if residual and i > 0:
                x = _residual_layer(x, width, act, norm, dropout, scale, law, bias)
            else:
                x = blocks.linear(x, width, weight=law, bias=bias)
                if not residual:
                    x = blocks.dropout(blocks.act(blocks.norm(x, norm), act), dropout)
    if residual and hidden:
        x = blocks.act(blocks.norm(x, norm), act)
    with net.scope("head"):
        return net.graph(x.then(ops.Linear(widths[-1], last if hidden else first, bias)))


def mlp_classifier(
    num_classes: int = 10,
    *,
    in_channels: int = 1,
    image_size: Size = 28,
    input_shape: Sequence[int] | None = None,
    hidden: Sequence[int] = (256, 256),
    act: str = "relu",
    residual: bool = False,
    norm: str = "none",
    dropout: float = 0.0,
) -> Graph:
    """``mlp`` on flattened images, or on rows of any ``input_shape``."""
    shape = tuple(input_shape) if input_shape is not None else (in_channels, *sides(image_size))
    widths = (math.prod(shape), *hidden, num_classes)
    return mlp(widths, act, input_shape=shape, residual=residual, norm=norm, dropout=dropout)


def _residual_layer(
    x: Wire, width: int, act: str, norm: str, dropout: float, scale: float, weight: Law, bias: Law | None
) -> Wire:
    def branch(y: Wire) -> Wire:
        y = blocks.act(blocks.norm(y, norm), act)
        return blocks.dropout(blocks.linear(y, width, weight=weight, bias=bias), dropout)

    def project(y: Wire) -> Wire:
        return blocks.linear(y, width, bias=None)

    return blocks.residual(x, branch, scale=scale, shortcut=project if x.channels != width else None)
