"""ResNet and its family: x + branch(x) in stages that halve the image and double the channels.

| network | what differs from ResNet | paper |
|---|---|---|
| ResNet | nothing | He, Zhang, Ren & Sun 2016, "Deep residual learning for image recognition", table 1 |
| pre-activation | ``preactivation=True`` | He et al. 2016, "Identity mappings in deep residual networks" |
| stochastic depth | ``drop_path=0.5`` | Huang et al. 2016, "Deep networks with stochastic depth" |
| wide ResNet | ``width_per_group=128``; ``wide_resnet`` for small images | Zagoruyko & Komodakis 2016 |
| ResNeXt | ``groups=32, width_per_group=4`` | Xie et al. 2017, "Aggregated residual transformations" |
| SE-ResNet, SE-ResNeXt | ``squeeze=16`` | Hu, Shen & Sun 2018, "Squeeze-and-excitation networks" |
| SENet-154 | ``block="senet", groups=64, squeeze=16`` | the same, appendix |

The stride of a bottleneck sits on its 3 × 3 convolution, as every implementation since Gross & Wilber 2016 has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Wire, blocks, laws, ops
from depthscale.graph.blocks import Style
from depthscale.graph.laws import Law
from depthscale.zoo.images import Size, image, is_small, sized

# depth: (blocks per stage, block)
STAGES: dict[int, tuple[tuple[int, ...], str]] = {
    18: ((2, 2, 2, 2), "basic"),
    34: ((3, 4, 6, 3), "basic"),
    50: ((3, 4, 6, 3), "bottleneck"),
    101: ((3, 4, 23, 3), "bottleneck"),
    152: ((3, 8, 36, 3), "bottleneck"),
}


@dataclass(frozen=True)
class Plan:
    """What all blocks of one network have in common."""

    block: str
    style: Style
    groups: int
    width_per_group: int
    squeeze: int
    gain: Law
    shortcut: str
    dropout: float

    @property
    def last(self) -> Style:
        """The style of a branch's last convolution where no norm with a gain follows: zero weights for zero gain."""
        return replace(self.style, weight=laws.ZERO) if self.gain == laws.ZERO else self.style

    def convolutions(self, width: int, stride: int) -> tuple[tuple[int, int, int, int], ...]:
        """(channels, kernel, stride, groups) of a branch's convolutions."""
        inner = width * self.width_per_group // 64 * self.groups
        if self.block == "basic":
            return (width, 3, stride, 1), (width, 3, 1, 1)
        if self.block == "bottleneck":
            return (inner, 1, 1, 1), (inner, 3, stride, self.groups), (4 * width, 1, 1, 1)
        if self.block == "senet":
            return (2 * width, 1, 1, 1), (4 * width, 3, stride, self.groups), (4 * width, 1, 1, 1)
        raise GraphError(f"expected block to be basic, bottleneck or senet, got {self.block!r}")

    def change(self, x: Wire, channels: int, stride: int, norm: str) -> Wire:
        """The shortcut where shapes change: a strided projection, or every other pixel and zeros for new channels."""
        if self.shortcut == "pad":
            for axis in (2, 3) if stride > 1 else ():
                x = x.then(ops.Slice(axis, step=stride))
            return x.then(ops.Pad((0, 0, 0, 0, 0, channels - x.channels))) if channels != x.channels else x
        if self.shortcut != "project":
            raise GraphError(f"expected shortcut to be project or pad, got {self.shortcut!r}")
        kernel = 3 if self.block == "senet" and stride > 1 else 1
        bias = self.style.bias if self.style.norm == "none" else None
        x = blocks.conv(x, channels, kernel, stride=stride, weight=self.style.weight, bias=bias)
        return blocks.norm(x, norm, eps=self.style.eps, groups=self.style.groups)


def post_activation(x: Wire, plan: Plan, width: int, stride: int, drop: float) -> Wire:
    """act(x + norm(conv(… act(norm(conv(x))))))."""
    *first, last = plan.convolutions(width, stride)

    def branch(y: Wire) -> Wire:
        for channels, kernel, s, groups in first:
            y = blocks.conv_norm_act(y, channels, kernel, stride=s, groups=groups, style=plan.style)
            y = blocks.dropout(y, plan.dropout)
        channels, kernel, s, groups = last
        style = plan.style if plan.style.norm not in ("none", "instance") else plan.last
        y = blocks.conv_norm_act(
            y, channels, kernel, stride=s, groups=groups, style=style, activate="identity", gain=plan.gain
        )
        return blocks.squeeze_excite(y, plan.squeeze) if plan.squeeze else y

    def change(y: Wire) -> Wire:
        return plan.change(y, last[0], stride, plan.style.norm)

    changes = stride != 1 or x.channels != last[0]
    return blocks.act(blocks.residual(x, branch, shortcut=change if changes else None, drop=drop), plan.style.act)


def pre_activation(x: Wire, plan: Plan, width: int, stride: int, drop: float) -> Wire:
    """x + conv(act(norm(… conv(act(norm(x)))))); a projection shares the first norm and activation."""
    first, *rest = plan.convolutions(width, stride)
    out = rest[-1][0]
    start = blocks.norm_act(x, plan.style)

    def branch(_: Wire) -> Wire:
        channels, kernel, s, groups = first
        bias = plan.style.bias if plan.style.norm == "none" else None
        y = blocks.conv(start, channels, kernel, stride=s, groups=groups, weight=plan.style.weight, bias=bias)
        for i, (channels, kernel, s, groups) in enumerate(rest, 1):
            style = plan.last if i == len(rest) else plan.style
            y = blocks.dropout(y, plan.dropout)
            y = blocks.norm_act_conv(y, channels, kernel, stride=s, groups=groups, style=style)
        return blocks.squeeze_excite(y, plan.squeeze) if plan.squeeze else y

    def change(y: Wire) -> Wire:
        return plan.change(y if plan.shortcut == "pad" else start, out, stride, "none")

    changes = stride != 1 or x.channels != out
    return blocks.residual(x, branch, shortcut=change if changes else None, drop=drop)


def stem(x: Wire, width: int, style: Style, *, small: bool, deep: bool) -> Wire:
    """7 × 7 at stride 2 and a max-pool; three 3 × 3 where ``deep``; one 3 × 3 alone where ``small``."""
    if small:
        return blocks.conv_norm_act(x, width, style=style)
    if deep:
        for channels, stride in ((64, 2), (64, 1), (width, 1)):
            x = blocks.conv_norm_act(x, channels, stride=stride, style=style)
        return blocks.max_pool(x, 3, 2, ceil=True)
    return blocks.max_pool(blocks.conv_norm_act(x, width, 7, stride=2, style=style), 3, 2, 1)


@sized
def resnet(
    depth: int = 50,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    image_size: Size = 224,
    small: bool | None = None,
    stages: Sequence[int] | None = None,
    block: str | None = None,
    width: int = 64,
    stem_width: int | None = None,
    groups: int = 1,
    width_per_group: int = 64,
    squeeze: int = 0,
    preactivation: bool = False,
    drop_path: float = 0.0,
    dropout: float = 0.0,
    head_dropout: float = 0.0,
    shortcut: str = "project",
    norm: str = "batch",
    act: str = "relu",
    zero_gain: bool = False,
) -> Graph:
    """ResNet-18, -34 (basic blocks), -50, -101, -152 (bottlenecks), or any ``stages`` of the depth's block.

    ``width`` is that of the first stage; bottlenecks are ``groups`` paths of ``width_per_group`` channels per 64.
    ``squeeze`` > 0 is the reduction of squeeze-and-excitation. ``drop_path`` is the probability of dropping the last
    block, falling linearly towards the first. ``dropout`` sits between the convolutions of a block. ``shortcut`` is
    "project" (option B of He et al.) or "pad" (option A). ``zero_gain`` starts every branch at zero (Goyal et al.
    2017). ``small``: one 3 × 3 convolution as the stem, by default for images below 112 pixels.
    """
    if depth not in STAGES:
        raise GraphError(f"expected the depth of ResNet to be one of {sorted(STAGES)}, got {depth}")
    counts, kind = STAGES[depth]
    counts, kind = tuple(stages or counts), block or kind
    style = Style(norm=norm, act=act)
    gain = laws.ZERO if zero_gain else laws.ONE
    plan = Plan(kind, style, groups, width_per_group, squeeze, gain, shortcut, dropout)
    unit = pre_activation if preactivation else post_activation
    net = Builder()
    x = image(net, in_channels, image_size)
    with net.scope("stem"):
        first = Style(norm="none", act="identity", bias=None) if preactivation else style
        x = stem(x, stem_width or width, first, small=is_small(image_size, small), deep=kind == "senet")
    done = 0
    for i, count in enumerate(counts):
        with net.scope("stage#"):
            for j in range(count):
                done += 1
                with net.scope("block#"):
                    x = unit(x, plan, width * 2**i, 2 if i > 0 and j == 0 else 1, drop_path * done / sum(counts))
    with net.scope("head"):
        if preactivation:
            x = blocks.norm_act(x, style)
        return net.graph(blocks.classifier(x, num_classes, drop=head_dropout, weight=laws.TORCH_DEFAULT))


@sized
def senet154(
    num_classes: int = 1000, *, in_channels: int = 3, image_size: Size = 224, small: bool | None = None
) -> Graph:
    """SENet-154: ResNeXt-152 64 × 4d with squeeze-and-excitation, half-size first convolutions and a deep stem."""
    return resnet(
        152, num_classes, in_channels=in_channels, image_size=image_size, small=small, block="senet", groups=64,
        squeeze=16, stem_width=128, head_dropout=0.2,
    )  # fmt: skip


@sized
def resnet_cifar(
    depth: int = 20,
    num_classes: int = 10,
    *,
    in_channels: int = 3,
    image_size: Size = 32,
    shortcut: str = "pad",
    preactivation: bool = False,
    drop_path: float = 0.0,
) -> Graph:
    """ResNet-20, -32, -44, -56, -110 for small images: three stages of (depth − 2)/6 basic blocks (He et al., 4.2)."""
    if depth < 8 or (depth - 2) % 6:
        raise GraphError(f"expected the depth of a small-image ResNet to be 6n + 2 (20, 32, 44, 56, 110), got {depth}")
    stages = ((depth - 2) // 6,) * 3
    return resnet(
        18, num_classes, in_channels=in_channels, image_size=image_size, small=True, stages=stages, width=16,
        shortcut=shortcut, preactivation=preactivation, drop_path=drop_path,
    )  # fmt: skip


@sized
def wide_resnet(
    depth: int = 28,
    widen: int = 10,
    num_classes: int = 10,
    *,
    in_channels: int = 3,
    image_size: Size = 32,
    dropout: float = 0.0,
) -> Graph:
    """WRN-depth-widen for small images: (depth − 4)/6 pre-activation blocks in each of three stages."""
    if depth < 10 or (depth - 4) % 6:
        raise GraphError(f"expected the depth of a wide ResNet to be 6n + 4 (16, 22, 28, 40), got {depth}")
    stages = ((depth - 4) // 6,) * 3
    return resnet(
        18, num_classes, in_channels=in_channels, image_size=image_size, small=True, stages=stages, width=16 * widen,
        stem_width=16, preactivation=True, dropout=dropout,
    )  # fmt: skip
