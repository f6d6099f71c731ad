"""LeNet-5: LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document recognition", fig. 2.

61,706 parameters on 28 × 28 images with ten classes; layer C3 is fully connected, as everybody builds it today.
"""

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, blocks, laws
from depthscale.zoo.images import Size, image, sides, sized


@sized
def lenet5(
    num_classes: int = 10, *, in_channels: int = 1, image_size: Size = 28, act: str = "tanh", pool: str = "avg"
) -> Graph:
    """LeNet-5; images below 32 are padded by two pixels on each side (28 to the paper's 32), others taken as they are.

    ``pool`` is avg (the paper's) or max.
    """
    if pool not in ("avg", "max"):
        raise GraphError(f"expected pool to be avg or max, got {pool!r}")
    net = Builder()
    x = image(net, in_channels, image_size)
    pooled = blocks.avg_pool if pool == "avg" else blocks.max_pool
    for name, channels, padding in (("c1", 6, 2 if min(sides(image_size)) < 32 else 0), ("c3", 16, 0)):
        with net.scope(name):
            x = blocks.conv(x, channels, 5, padding=padding, weight=laws.LECUN, bias=laws.ZERO)
            x = pooled(blocks.act(x, act))
    x = blocks.flatten(x)
    for name, features in (("c5", 120), ("f6", 84)):
        with net.scope(name):
            x = blocks.act(blocks.linear(x, features), act)
    with net.scope("head"):
        return net.graph(blocks.linear(x, num_classes))
