"""MLP-Mixer: Tolstikhin et al. 2021, "MLP-Mixer: an all-MLP architecture for vision", table 1.

Patches become tokens; every block applies one two-layer perceptron across tokens and one across channels, both with
layer normalisation in front and a residual around.
"""

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Wire, blocks, laws, ops
from depthscale.zoo.images import Size, counted, image, is_small
from depthscale.zoo.vit import patches

# size: (layers, width, hidden across tokens, hidden across channels)
SIZES = {
    "small": (8, 512, 256, 2048),
    "base": (12, 768, 384, 3072),
    "large": (24, 1024, 512, 4096),
    "huge": (32, 1280, 640, 5120),
}


@counted
def mixer(
    size: str = "base",
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    image_size: Size = 224,
    small: bool | None = None,
    patch: int | None = None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    act: str = "gelu",
    zero_head: bool = False,
) -> Graph:
    """MLP-Mixer of a size (small, base, large, huge) on patches of 16 pixels.

    ``small`` (by default for images below 112 pixels): patches of 4. ``drop_path`` as for ViT. ``zero_head``
    starts the classifier at zero, as the authors did: nothing below it has a gradient in the first step. Raises
    GraphError where patches do not fill the image.
    """
    if size not in SIZES:
        raise GraphError(f"expected the size of MLP-Mixer to be one of {', '.join(SIZES)}, got {size!r}")
    layers, width, tokens, channels = SIZES[size]
    net = Builder()
    x = image(net, in_channels, image_size)
    with net.scope("stem"):
        x = patches(x, patch or (4 if is_small(image_size, small) else 16), width)

    def across_tokens(y: Wire) -> Wire:
        y = blocks.norm(y, "layer", eps=1e-6).then(ops.Permute((0, 2, 1)))
        return blocks.feed_forward(y, tokens, function=act, drop=dropout).then(ops.Permute((0, 2, 1)))

    def across_channels(y: Wire) -> Wire:
        return blocks.feed_forward(blocks.norm(y, "layer", eps=1e-6), channels, function=act, drop=dropout)

    for i in range(layers):
        with net.scope("block#"):
            for name, mix in (("tokens", across_tokens), ("channels", across_channels)):
                with net.scope(name):
                    x = blocks.residual(x, mix, drop=drop_path * (i + 1) / layers)
    with net.scope("head"):
        x = blocks.norm(x, "layer", eps=1e-6).then(ops.Reduce("mean", (1,)))
        return net.graph(blocks.linear(x, num_classes, weight=laws.ZERO if zero_head else laws.LECUN))
