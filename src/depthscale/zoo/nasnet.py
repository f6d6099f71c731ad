"""NASNet-A and PNASNet-5: searched cells, stacked.

NASNet: Zoph, Vasudevan, Shlens & Le 2018, "Learning transferable architectures for scalable image recognition",
figure 4. PNASNet: Liu et al. 2018, "Progressive neural architecture search", figure 1.

A cell reads the outputs of the two cells before it (state 0: the one before the last, state 1: the last) and makes
five sums of two operations each, states 2 to 6. It joins the states listed in ``join``. Where a cell halves the
image, operations on states 0 and 1 have stride 2. Padding is TensorFlow's SAME, and a cell behind a reduction reads
what the reduction's first input was, both as in the released weights.
"""

from dataclasses import dataclass

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Wire, blocks, laws, ops
from depthscale.graph.blocks import Style
from depthscale.zoo.images import Size, image, is_small, sized

STYLE = Style(weight=laws.HE, eps=1e-3)


@dataclass(frozen=True)
class Genotype:
    """A cell: five (state, operation, state, operation), and the states that are joined at the end."""

    sums: tuple[tuple[int, str, int, str], ...]
    join: tuple[int, ...]


NASNET_NORMAL = Genotype(
    (
        (1, "sep5", 0, "sep3"),
        (0, "sep5", 0, "sep3"),
        (1, "avg3", 0, "skip"),
        (0, "avg3", 0, "avg3"),
        (1, "sep3", 1, "skip"),
    ),
    (0, 2, 3, 4, 5, 6),
)
NASNET_REDUCTION = Genotype(
    (
        (1, "sep5", 0, "sep7"),
        (1, "max3", 0, "sep7"),
        (1, "avg3", 0, "sep5"),
        (2, "avg3", 3, "skip"),
        (2, "sep3", 1, "max3"),
    ),
    (3, 4, 5, 6),
)
PNASNET = Genotype(
    (
        (0, "sep5", 0, "max3"),
        (1, "sep7", 1, "max3"),
        (1, "sep5", 1, "sep3"),
        (4, "sep3", 1, "max3"),
        (0, "sep3", 1, "skip"),
    ),
    (2, 3, 4, 5, 6),
)


def same_pads(x: Wire, kernel: int, stride: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """TensorFlow's SAME padding, (before, after) for height and width: the larger half comes after."""
    total = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:]]
    return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)


def padded(x: Wire, kernel: int, stride: int) -> tuple[Wire, tuple[int, int]]:
    """The wire and the padding left for the layer itself; what is uneven is padded in front of it."""
    height, width = same_pads(x, kernel, stride)
    if height[0] == height[1] and width[0] == width[1]:
        return x, (height[0], width[0])
    return x.then(ops.Pad((*width, *height))), (0, 0)


def separable(x: Wire, channels: int, kernel: int, stride: int) -> Wire:
    """ReLU, separable convolution, norm, twice; the first one strides."""
    for s in (stride, 1):
        x, padding = padded(blocks.act(x, STYLE.act), kernel, s)
        x = blocks.separable_conv(x, channels, kernel, stride=s, padding=padding, weight=STYLE.weight)
        x = blocks.norm(x, STYLE.norm, eps=STYLE.eps)
    return x


def project(x: Wire, channels: int, stride: int = 1) -> Wire:
    """ReLU, 1 × 1, norm."""
    x = blocks.conv(blocks.act(x, STYLE.act), channels, 1, stride=stride, weight=STYLE.weight)
    return blocks.norm(x, STYLE.norm, eps=STYLE.eps)


def factorised(x: Wire, channels: int) -> Wire:
    """Half the image: every other pixel, and every other one shifted by one, each to half the channels."""
    x = blocks.act(x, STYLE.act)
    shifted = x.then(ops.Pad((-1, 1, -1, 1)))
    ends = []
    for y, width in ((x, channels // 2), (shifted, channels // 2)):
        y = blocks.avg_pool(y, 1, 2, count_padding=False)
        ends.append(blocks.conv(y, width, 1, weight=STYLE.weight))
    return blocks.norm(blocks.concat(*ends), STYLE.norm, eps=STYLE.eps)


def pool(x: Wire, kind: str, stride: int, channels: int) -> Wire:
    """3 × 3 pool; 1 × 1 and norm behind it where the channels are others."""
    if kind == "max3":
        height, width = same_pads(x, 3, stride)
        if height[0] == height[1] and width[0] == width[1]:
            x = blocks.max_pool(x, 3, stride, (height[0], width[0]))
        elif height == width == (0, 1):
            x = blocks.max_pool(x, 3, stride, ceil=True)  # a window over the edge, not one of zeros
        else:
            raise GraphError(f"expected a height and width that are both even or both odd, got {x.shape[2:]}")
    elif stride == 1:
        x = blocks.avg_pool(x, 3, 1, 1, count_padding=False)
    else:
        x, padding = padded(x, 3, stride)
        x = blocks.avg_pool(x, 3, stride, padding)
    if x.channels == channels:
        return x
    return blocks.norm(blocks.conv(x, channels, 1, weight=STYLE.weight), STYLE.norm, eps=STYLE.eps)


def operation(x: Wire, kind: str, channels: int, stride: int) -> Wire:
    """One half of a sum."""
    if kind.startswith("sep"):
        return separable(x, channels, int(kind[3:]), stride)
    if kind == "skip":
        return x if stride == 1 else project(x, channels, stride)
    return pool(x, kind, stride, channels)


def cell(before: Wire | None, last: Wire, channels: int, genotype: Genotype, stride: int, *, last_first: bool) -> Wire:
    """One cell; without ``before`` (the first) it reads ``last`` twice, as it comes and projected.

    ``last_first`` is the order in which NASNet's release made the projections of its two inputs where they differ in
    size; nothing but the order of its weights depends on it.
    """
    with last.scope("inputs"):
        if before is None:
            states = [last, project(last, channels)]
        elif before.shape[2:] != last.shape[2:]:
            if last_first:
                one = project(last, channels)
                states = [factorised(before, channels), one]
            else:
                states = [factorised(before, channels), project(last, channels)]
        else:
            states = [project(before, channels), project(last, channels)]
    for left, left_op, right, right_op in genotype.sums:
        with last.scope("sum#"):
            halves = []
            for source, kind in ((left, left_op), (right, right_op)):
                halves.append(operation(states[source], kind, channels, stride if source < 2 else 1))
            states.append(halves[0] + halves[1])
    return blocks.concat(*[states[i] for i in genotype.join])


def _network(
    normal: Genotype,
    reduction: Genotype,
    repeats: int,
    channels: int,
    num_classes: int,
    in_channels: int,
    image_size: Size,
    small: bool | None,
    stem_width: int,
    dropout: float,
) -> Graph:
    nasnet = normal is not reduction  # PNASNet has one cell, and no extra cell where it halves the image
    net = Builder()
    x = image(net, in_channels, image_size)
    before: Wire | None = None
    with net.scope("stem"):
        if is_small(image_size, small):
            x = blocks.conv_norm_act(x, stem_width, style=STYLE, activate="identity")
            before = x
        else:
            x = blocks.conv_norm_act(x, stem_width, stride=2, padding=0, style=STYLE, activate="identity")
            for fraction in (4, 2):
                with net.scope("cell#"):
                    y = cell(before, x, channels // fraction, reduction, 2, last_first=nasnet)
                before, x = x, y
    for i in range(3):
        with net.scope("stage#"):
            for j in range(repeats + (i > 0 and nasnet)):
                halve = i > 0 and j == 0
                with net.scope("cell#"):
                    genotype = reduction if halve else normal
                    y = cell(before, x, channels * 2**i, genotype, 2 if halve else 1, last_first=nasnet)
                # the released NASNet keeps its first input behind a reduction
                before, x = (before, y) if halve and nasnet else (x, y)
    with net.scope("head"):
        return net.graph(blocks.classifier(blocks.act(x, STYLE.act), num_classes, drop=dropout))


def _filters(filters: int, joined: int) -> int:
    if filters % (4 * joined * 4):
        raise GraphError(f"expected filters of the last stage to be a multiple of {16 * joined}, got {filters}")
    return filters // (4 * joined)


@sized
def nasnet(
    repeats: int = 6,
    filters: int = 4032,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    image_size: Size = 331,
    small: bool | None = None,
    stem_width: int = 96,
    dropout: float = 0.5,
) -> Graph:
    """NASNet-A (repeats @ filters): 6 @ 4032 is the large one, 4 @ 1056 (stem 32, images of 224) the mobile one.

    ``filters`` counts the channels in front of the classifier. ``small`` (by default for images below 112 pixels): a
    3 × 3 convolution as the stem, without the two reductions; 6 @ 768 is the paper's for CIFAR-10.
    """
    width = _filters(filters, len(NASNET_NORMAL.join))
    cells = (NASNET_NORMAL, NASNET_REDUCTION)
    return _network(*cells, repeats, width, num_classes, in_channels, image_size, small, stem_width, dropout)


@sized
def pnasnet(
    repeats: int = 4,
    filters: int = 4320,
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    image_size: Size = 331,
    small: bool | None = None,
    stem_width: int = 96,
    dropout: float = 0.5,
) -> Graph:
    """PNASNet-5 (repeats @ filters); arguments as for ``nasnet``."""
    width = _filters(filters, len(PNASNET.join))
    cells = (PNASNET, PNASNET)
    return _network(*cells, repeats, width, num_classes, in_channels, image_size, small, stem_width, dropout)
