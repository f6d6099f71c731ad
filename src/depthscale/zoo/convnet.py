"""Small plain convolutional networks: stages of 3 × 3 convolutions that end in a 2 × 2 max-pool.

The shape of VGG (Simonyan & Zisserman 2015) at the size of small images.
"""

from collections.abc import Sequence

from depthscale.graph import Builder, Graph, blocks, laws
from depthscale.graph.laws import Law
from depthscale.zoo.images import counted


@counted
def convnet(
    stages: Sequence[int] = (1, 1),
    width: int = 32,
    num_classes: int = 10,
    *,
    in_channels: int = 1,
    image_size: int | Sequence[int] = 28,
    act: str = "relu",
    norm: str = "none",
    hidden: int = 0,
    dropout: float = 0.0,
    weight: Law = laws.HE,
) -> Graph:
    """Plain network of ``stages[i]`` convolutions of ``width·2^i`` channels each, max-pool, flatten, head.

    ``hidden`` > 0 puts a fully connected layer in front of the head. Pooling stops where the image is one pixel.
    """
    height, wide = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    style = blocks.Style(norm=norm, act=act, weight=weight)
    net = Builder()
    x = net.input(in_channels, height, wide)
    for i, count in enumerate(stages):
        with net.scope("stage#"):
            for _ in range(count):
                x = blocks.conv_norm_act(x, width * 2**i, style=style)
            if min(x.shape[2:]) >= 2:
                x = blocks.max_pool(x)
    with net.scope("head"):
        x = blocks.dropout(blocks.flatten(x), dropout)
        if hidden:
            x = blocks.act(blocks.linear(x, hidden, weight=weight), act)
        return net.graph(blocks.linear(x, num_classes))
