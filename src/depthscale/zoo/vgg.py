"""VGG: Simonyan & Zisserman 2015, "Very deep convolutional networks for large-scale image recognition", table 1.

3 × 3 convolutions in five stages that end in a 2 × 2 max-pool; two fully connected layers of 4,096 units.
"""

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, blocks, laws, ops

# columns A, B, D, E of table 1: convolutions per stage
STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)


def vgg(
    depth: int = 16,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    image_size: int = 224,
    norm: str = "none",
    act: str = "relu",
    dropout: float = 0.5,
) -> Graph:
    """VGG-11, -13, -16 or -19; ``norm="batch"`` is the variant with batch normalisation.

    Images below 112 pixels get the small head (one linear layer on the pooled maps) that CIFAR versions use.
    """
    if depth not in STAGES:
        raise GraphError(f"expected the depth of VGG to be one of {sorted(STAGES)}, got {depth}")
    style = blocks.Style(norm=norm, act=act)
    net = Builder()
    x = net.input(in_channels, image_size, image_size)
    for convolutions, channels in zip(STAGES[depth], CHANNELS, strict=True):
        with net.scope("stage#"):
            for _ in range(convolutions):
                x = blocks.conv_norm_act(x, channels, style=style)
            x = blocks.max_pool(x)
    with net.scope("head"):
        if image_size < 112:
            return net.graph(blocks.classifier(x, num_classes))
        x = blocks.flatten(x.then(ops.AdaptivePool((7, 7))))
        for _ in range(2):
            x = blocks.dropout(blocks.act(blocks.linear(x, 4096, weight=laws.Normal(0.01)), act), dropout)
        return net.graph(blocks.linear(x, num_classes, weight=laws.Normal(0.01)))
