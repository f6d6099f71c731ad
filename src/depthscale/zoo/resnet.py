"""ResNet: He, Zhang, Ren & Sun 2016, "Deep residual learning for image recognition", table 1.

Blocks x + branch(x) in four stages that halve the image and double the channels. The stride of a bottleneck sits on
its 3 × 3 convolution, as every implementation since Gross & Wilber 2016 has it.
"""

from collections.abc import Sequence

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Wire, blocks, laws
from depthscale.graph.blocks import Style
from depthscale.graph.laws import Law

# depth: (blocks per stage, bottleneck?)
STAGES: dict[int, tuple[tuple[int, ...], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


def basic(x: Wire, width: int, stride: int, style: Style, last_gain: Law) -> Wire:
    """Two 3 × 3 convolutions."""
    y = blocks.conv_norm_act(x, width, stride=stride, style=style)
    return blocks.conv_norm_act(y, width, style=style, activate="identity", gain=last_gain)


def bottleneck(x: Wire, width: int, stride: int, style: Style, last_gain: Law) -> Wire:
    """1 × 1 down, 3 × 3, 1 × 1 up to four times the width."""
    y = blocks.conv_norm_act(x, width, 1, style=style)
    y = blocks.conv_norm_act(y, width, 3, stride=stride, style=style)
    return blocks.conv_norm_act(y, 4 * width, 1, style=style, activate="identity", gain=last_gain)


def resnet(
    depth: int = 50,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    image_size: int = 224,
    stages: Sequence[int] | None = None,
    width: int = 64,
    norm: str = "batch",
    act: str = "relu",
    zero_gain: bool = False,
) -> Graph:
    """ResNet-18, -34 (basic blocks), -50, -101, -152 (bottlenecks), or any ``stages`` of the depth's block.

    Images below 112 pixels get the small stem (one 3 × 3 convolution). ``zero_gain`` starts every branch at zero
    (Goyal et al. 2017).
    """
    if depth not in STAGES:
        raise GraphError(f"expected the depth of ResNet to be one of {sorted(STAGES)}, got {depth}")
    counts, deep = STAGES[depth]
    block, expansion = (bottleneck, 4) if deep else (basic, 1)
    style = Style(norm=norm, act=act)
    net = Builder()
    x = net.input(in_channels, image_size, image_size)
    with net.scope("stem"):
        if image_size >= 112:
            x = blocks.max_pool(blocks.conv_norm_act(x, width, 7, stride=2, style=style), 3, 2, 1)
        else:
            x = blocks.conv_norm_act(x, width, style=style)
    for i, count in enumerate(stages or counts):
        with net.scope("stage#"):
            for j in range(count):
                with net.scope("block#"):
                    stride = 2 if i > 0 and j == 0 else 1
                    x = _block(x, block, width * 2**i, expansion, stride, style, laws.ZERO if zero_gain else laws.ONE)
    with net.scope("head"):
        return net.graph(blocks.classifier(x, num_classes, weight=laws.TORCH_DEFAULT))


def _block(x: Wire, block, width: int, expansion: int, stride: int, style: Style, gain: Law) -> Wire:  # type: ignore[no-untyped-def]
    out = width * expansion

    def project(y: Wire) -> Wire:
        return blocks.conv_norm_act(y, out, 1, stride=stride, style=style, activate="identity")

    changes = stride != 1 or x.channels != out
    y = blocks.residual(x, lambda z: block(z, width, stride, style, gain), shortcut=project if changes else None)
    return blocks.act(y, style.act)
