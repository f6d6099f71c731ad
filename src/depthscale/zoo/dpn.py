"""Dual path networks: Chen, Li, Xiao, Jin, Yan & Feng 2017, "Dual path networks", table 1.

Every block is a ResNeXt bottleneck whose output feeds two paths: its first channels are added to a residual path,
the rest joined to a dense path, as in DenseNet.
"""

from typing import NamedTuple

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Wire, blocks, laws, ops
from depthscale.graph.blocks import Style
from depthscale.zoo.images import Size, image, is_small, sized


class Row(NamedTuple):
    """A column of table 1."""

    stem: int  # channels
    inner: int  # of the first stage's bottlenecks, doubled in each stage
    groups: int
    counts: tuple[int, ...]  # blocks per stage
    increments: tuple[int, ...]  # channels that a block adds to the dense path
    residual: int = 256  # channels of the residual path in the first stage, doubled in each
    kernel: int = 7  # of the stem


ROWS = {
    68: Row(10, 128, 32, (3, 4, 12, 3), (16, 32, 32, 64), residual=64, kernel=3),
    92: Row(64, 96, 32, (3, 4, 20, 3), (16, 32, 24, 128)),
    98: Row(96, 160, 40, (3, 6, 20, 3), (16, 32, 32, 128)),
    131: Row(128, 160, 40, (4, 8, 28, 3), (16, 32, 32, 128)),
    107: Row(128, 200, 50, (4, 8, 20, 3), (20, 64, 64, 128)),
}


class Paths(NamedTuple):
    """The two paths between blocks; they are joined where a block reads them."""

    residual: Wire
    dense: Wire

    @property
    def joined(self) -> Wire:
        """Both as one tensor."""
        return blocks.concat(self.residual, self.dense)


def split(x: Wire, channels: int) -> Paths:
    """The first ``channels`` and the rest."""
    return Paths(x.then(ops.Slice(1, 0, channels)), x.then(ops.Slice(1, channels)))


def dual_path(
    x: Wire, paths: Paths | None, residual: int, inner: int, increment: int, groups: int, stride: int, style: Style
) -> Paths:
    """One block: reads ``x``, adds to ``paths``; the first of a stage projects x to both paths."""
    if paths is None:
        with x.scope("shortcut"):
            paths = split(blocks.norm_act_conv(x, residual + 2 * increment, 1, stride=stride, style=style), residual)
    y = blocks.norm_act_conv(x, inner, 1, style=style)
    y = blocks.norm_act_conv(y, inner, 3, stride=stride, groups=groups, style=style)
    new = split(blocks.norm_act_conv(y, residual + increment, 1, style=style), residual)
    return Paths(paths.residual + new.residual, blocks.concat(paths.dense, new.dense))


@sized
def dpn(
    depth: int = 92,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    image_size: Size = 224,
    small: bool | None = None,
    norm: str = "batch",
    act: str = "relu",
) -> Graph:
    """DPN-68, -92, -98, -131 or -107.

    ``small`` (by default for images below 112 pixels): one 3 × 3 convolution as the stem.
    """
    if depth not in ROWS:
        raise GraphError(f"expected the depth of DPN to be one of {sorted(ROWS)}, got {depth}")
    row = ROWS[depth]
    style = Style(norm=norm, act=act, weight=laws.HE, eps=1e-3)
    net = Builder()
    x = image(net, in_channels, image_size)
    with net.scope("stem"):
        if is_small(image_size, small):
            x = blocks.conv_norm_act(x, row.stem, style=style)
        else:
            x = blocks.max_pool(blocks.conv_norm_act(x, row.stem, row.kernel, stride=2, style=style), 3, 2, 1)
    for i, (count, increment) in enumerate(zip(row.counts, row.increments, strict=True)):
        paths: Paths | None = None
        with net.scope("stage#"):
            for j in range(count):
                with net.scope("block#"):
                    stride = 2 if i > 0 and j == 0 else 1
                    paths = dual_path(
                        x, paths, row.residual * 2**i, row.inner * 2**i, increment, row.groups, stride, style
                    )
                    x = paths.joined
    with net.scope("head"):
        x = blocks.act(blocks.norm(x, norm, eps=style.eps), act)
        return net.graph(blocks.classifier(x, num_classes, weight=laws.TORCH_DEFAULT))
