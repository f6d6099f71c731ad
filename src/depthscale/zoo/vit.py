"""Vision transformer: Dosovitskiy et al. 2021, "An image is worth 16 × 16 words", table 1; tiny and small from DeiT.

Patches become tokens, a learned class token comes in front, positions are added; pre-norm blocks of attention and a
two-layer perceptron. Laws as in practice since timm: normal of σ = 0.02 in every linear layer.
"""

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Wire, blocks, laws, ops
from depthscale.zoo.images import Size, counted, image, is_small

# size: (layers, width, heads, hidden)
SIZES = {
    "tiny": (12, 192, 3, 768),
    "small": (12, 384, 6, 1536),
    "base": (12, 768, 12, 3072),
    "large": (24, 1024, 16, 4096),
    "huge": (32, 1280, 16, 5120),
}
# drawn as a truncated normal, but cut at ±2, a hundred deviations out
LAW = laws.TruncatedNormal(0.02, cut=100.0)
EPS = 1e-6


def patches(x: Wire, patch: int, width: int) -> Wire:
    """(B, C, H, W) → (B, tokens, width), one linear map per patch; GraphError where patches do not fill the image."""
    height, wide = x.shape[2:]
    if height % patch or wide % patch:
        near = max(round(height / patch), 1) * patch
        raise GraphError(f"expected an image of a multiple of {patch} pixels, such as {near}, got {height} × {wide}")
    y = blocks.conv(x, width, patch, stride=patch, padding=0, weight=laws.LECUN, bias=laws.ZERO)
    return y.then(ops.Flatten(2)).then(ops.Permute((0, 2, 1)))


def with_class_token(x: Wire) -> Wire:
    """(B, N, D) → (B, N + 1, D): a learned token in front. Both are padded and added, so no batch size is named."""
    count, width = x.shape[1:]
    token = x.builder.add(ops.Parameter((1, 1, width), laws.Normal(1e-6)), name="token")
    behind = token.then(ops.Pad((0, 0, 0, count)))  # (1, N + 1, D)
    return x.then(ops.Pad((0, 0, 1, 0))) + behind


@counted
def vit(
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
) -> Graph:
    """ViT of a size (tiny, small, base, large, huge) on patches of 16 pixels.

    ``small`` (by default for images below 112 pixels): patches of 4. ``drop_path`` is the stochastic depth of the last
    block, falling linearly towards the first. Raises GraphError where patches do not fill the image.
    """
    if size not in SIZES:
        raise GraphError(f"expected the size of ViT to be one of {', '.join(SIZES)}, got {size!r}")
    layers, width, heads, hidden = SIZES[size]
    net = Builder()
    x = image(net, in_channels, image_size)
    with net.scope("stem"):
        x = patches(x, patch or (4 if is_small(image_size, small) else 16), width)
        x = with_class_token(x)
        x = blocks.dropout(x + net.add(ops.Parameter(x.shape, LAW), name="positions"), dropout)
    for i in range(layers):
        drop = drop_path * (i + 1) / layers
        with net.scope("block#"):
            x = blocks.residual(x, lambda y: blocks.attention(_norm(y), heads, weight=LAW), drop=drop)
            x = blocks.residual(
                x, lambda y: blocks.feed_forward(_norm(y), hidden, function=act, weight=LAW, drop=dropout), drop=drop
            )
    with net.scope("head"):
        return net.graph(blocks.linear(_norm(x).then(ops.Select(1, 0)), num_classes, weight=LAW))


def _norm(x: Wire) -> Wire:
    return blocks.norm(x, "layer", eps=EPS)
