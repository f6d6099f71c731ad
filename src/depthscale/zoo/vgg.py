"""VGG: Simonyan & Zisserman 2015, "Very deep convolutional networks for large-scale image recognition", table 1.

3 × 3 convolutions in five stages that end in a 2 × 2 max-pool; two fully connected layers of 4,096 units. He's law
for the convolutions: the paper's own (σ = 0.1, the deep ones started from trained shallow ones) does not train alone.
"""

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, blocks, laws, ops
from depthscale.zoo.images import Size, image, is_small, sized

# columns A, B, D, E of table 1: convolutions per stage
STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)


@sized
def vgg(
    depth: int = 16,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    image_size: Size = 224,
    small: bool | None = None,
    norm: str = "none",
    act: str = "relu",
    dropout: float = 0.5,
) -> Graph:
    """VGG-11, -13, -16 or -19; ``norm="batch"`` is the variant with batch normalisation.

    ``small`` (by default for images below 112 pixels): one linear layer on the pooled maps as the head, as the CIFAR
    versions have it.
    """
    if depth not in STAGES:
        raise GraphError(f"expected the depth of VGG to be one of {sorted(STAGES)}, got {depth}")
    style = blocks.Style()
    net = Builder()
    x = image(net, in_channels, image_size)
    for convolutions, channels in zip(STAGES[depth], CHANNELS, strict=True):
        with net.scope("stage#"):
            for _ in range(convolutions):
                # with its bias even in front of a norm, as the released weights have it
                x = blocks.conv(x, channels, weight=style.weight, bias=style.bias)
                x = blocks.act(blocks.norm(x, norm), act)
            x = blocks.max_pool(x)
    with net.scope("head"):
        if is_small(image_size, small):
            return net.graph(blocks.classifier(x, num_classes))
        x = blocks.flatten(x.then(ops.AdaptivePool((7, 7))))
        for _ in range(2):
            x = blocks.dropout(blocks.act(blocks.linear(x, 4096, weight=laws.Normal(0.01)), act), dropout)
        return net.graph(blocks.linear(x, num_classes, weight=laws.Normal(0.01)))
