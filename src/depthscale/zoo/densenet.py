"""DenseNet: Huang, Liu, van der Maaten & Weinberger 2017, "Densely connected convolutional networks", table 1.

Every layer adds ``growth`` channels computed from all channels before it; a transition between stages keeps the
fraction ``compression`` of them and halves the image.
"""

from collections.abc import Sequence

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Wire, blocks, laws
from depthscale.graph.blocks import Style
from depthscale.zoo.images import Size, image, is_small, sized

# depth: (layers per stage, growth, channels of the stem)
STAGES: dict[int, tuple[tuple[int, ...], int, int]] = {
    121: ((6, 12, 24, 16), 32, 64),
    161: ((6, 12, 36, 24), 48, 96),
    169: ((6, 12, 32, 32), 32, 64),
    201: ((6, 12, 48, 32), 32, 64),
}


def dense_layer(x: Wire, growth: int, bottleneck: bool, style: Style, dropout: float) -> Wire:
    """x joined with ``growth`` new channels; a bottleneck computes them from 4·growth."""
    y = blocks.norm_act_conv(x, 4 * growth, 1, style=style) if bottleneck else x
    y = blocks.dropout(blocks.norm_act_conv(y, growth, 3, style=style), dropout)
    return blocks.concat(x, y)


@sized
def densenet(
    depth: int = 121,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    image_size: Size = 224,
    small: bool | None = None,
    stages: Sequence[int] | None = None,
    growth: int | None = None,
    stem_width: int | None = None,
    bottleneck: bool = True,
    compression: float = 0.5,
    norm: str = "batch",
    act: str = "relu",
    dropout: float = 0.0,
) -> Graph:
    """DenseNet-121, -161, -169 or -201, or any ``stages``, ``growth`` and ``stem_width``.

    ``small`` (by default for images below 112 pixels): one 3 × 3 convolution as the stem.
    """
    if depth not in STAGES:
        raise GraphError(f"expected the depth of DenseNet to be one of {sorted(STAGES)}, got {depth}")
    if not 0 < compression <= 1:
        raise GraphError(f"expected compression above 0 and up to 1, got {compression}")
    layers, k, first = STAGES[depth]
    layers, k, first = tuple(stages or layers), growth or k, stem_width or first
    style = Style(norm=norm, act=act, weight=laws.HE)
    net = Builder()
    x = image(net, in_channels, image_size)
    with net.scope("stem"):
        if is_small(image_size, small):
            x = blocks.conv(x, first, weight=laws.HE)
        else:
            x = blocks.max_pool(blocks.conv_norm_act(x, first, 7, stride=2, style=style), 3, 2, 1)
    for i, count in enumerate(layers):
        if i > 0:
            with net.scope("transition#"):
                x = blocks.norm_act_conv(x, int(compression * x.channels), 1, style=style)
                x = blocks.avg_pool(x)
        with net.scope("stage#"):
            for _ in range(count):
                with net.scope("layer#"):
                    x = dense_layer(x, k, bottleneck, style, dropout)
    with net.scope("head"):
        return net.graph(blocks.classifier(blocks.norm_act(x, style), num_classes, weight=laws.TORCH_DEFAULT))


@sized
def densenet_cifar(
    depth: int = 100,
    growth: int = 12,
    num_classes: int = 10,
    *,
    in_channels: int = 3,
    image_size: Size = 32,
    bottleneck: bool = True,
    dropout: float = 0.0,
) -> Graph:
    """DenseNet-BC (or the plain one, without ``bottleneck``) for small images: three equal stages (section 4.2)."""
    per_layer = 2 if bottleneck else 1
    if depth < 7 or (depth - 4) % (3 * per_layer):
        raise GraphError(
            f"expected the depth of a small-image DenseNet to be {3 * per_layer}n + 4 (100, 190, 250 with bottlenecks, "
            f"40, 100 without), got {depth}"
        )
    return densenet(
        121, num_classes, in_channels=in_channels, image_size=image_size, small=True, growth=growth, dropout=dropout,
        stages=((depth - 4) // (3 * per_layer),) * 3, stem_width=2 * growth if bottleneck else 16,
        bottleneck=bottleneck, compression=0.5 if bottleneck else 1.0,
    )  # fmt: skip
