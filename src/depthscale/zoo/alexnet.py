"""AlexNet: Krizhevsky, Sutskever & Hinton 2012, in the single-tower widths of Krizhevsky 2014.

"ImageNet classification with deep convolutional neural networks" and "One weird trick for parallelizing convolutional
neural networks". Without local response normalisation, as every later implementation has it. Laws are those of 2012,
section 5: σ = 0.01 everywhere, biases one in the second, fourth and fifth convolution and in the hidden layers.
"""

from depthscale.graph import Builder, Graph, blocks, laws, ops
from depthscale.zoo.images import Size, image, is_small, sized

# channels, kernel, bias, max-pool behind it?
CONVOLUTIONS = (
    (64, 11, laws.ZERO, True),
    (192, 5, laws.ONE, True),
    (384, 3, laws.ZERO, False),
    (256, 3, laws.ONE, False),
    (256, 3, laws.ONE, True),
)


@sized
def alexnet(
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    image_size: Size = 224,
    small: bool | None = None,
    hidden: int = 4096,
    act: str = "relu",
    dropout: float = 0.5,
) -> Graph:
    """AlexNet; ``small`` (by default for images below 112 pixels): a first layer of 5 × 5 at stride 1."""
    tiny = is_small(image_size, small)
    weight = laws.Normal(0.01)
    net = Builder()
    x = image(net, in_channels, image_size)
    with net.scope("features"):
        for i, (channels, kernel, bias, pool) in enumerate(CONVOLUTIONS):
            if i == 0:
                k, stride, padding = (5, 1, 2) if tiny else (kernel, 4, 2)
                x = blocks.conv(x, channels, k, stride=stride, padding=padding, weight=weight, bias=bias)
            else:
                x = blocks.conv(x, channels, kernel, weight=weight, bias=bias)
            x = blocks.act(x, act)
            if pool:
                x = blocks.max_pool(x, 3, 2)
    with net.scope("head"):
        x = blocks.flatten(x.then(ops.AdaptivePool((6, 6))))
        for _ in range(2):
            x = blocks.dropout(x, dropout)
            x = blocks.act(blocks.linear(x, hidden, weight=weight, bias=laws.ONE), act)
        return net.graph(blocks.linear(x, num_classes, weight=weight))
