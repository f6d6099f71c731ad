"""Inception v1 and v2: four branches per module.

v1 (GoogLeNet): Szegedy et al. 2015, "Going deeper with convolutions", table 1.
v2 (BN-Inception): Ioffe & Szegedy 2015, "Batch normalization", figure 5 of its appendix; its first layer is an
ordinary convolution here, not a separable one.
"""

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Wire, blocks, laws, ops
from depthscale.graph.blocks import Style
from depthscale.zoo.images import Size, image, is_small, sized
from depthscale.zoo.inception import Step, avg_pool, conv, fork, max_pool, run, stages

# 1 × 1; 3 × 3 behind a reduction; 5 × 5 behind a reduction; 1 × 1 behind a max-pool
V1 = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
AUX_AFTER = (2, 5)  # modules 4a and 4d, counted from 0

# 1 × 1; 3 × 3 behind a reduction; two 3 × 3 behind a reduction; pool and its 1 × 1. Zero: none, and stride 2
V2 = (
    ((64, 64, 64, 64, 96, "avg", 32), (64, 64, 96, 64, 96, "avg", 64), (0, 128, 160, 64, 96, "max", 0)),
    (
        (224, 64, 96, 96, 128, "avg", 128),
        (192, 96, 128, 96, 128, "avg", 128),
        (160, 128, 160, 128, 160, "avg", 96),
        (96, 128, 192, 160, 192, "avg", 96),
        (0, 128, 192, 192, 256, "max", 0),
    ),
    ((352, 192, 320, 160, 224, "avg", 128), (352, 192, 320, 192, 224, "max", 128)),
)


def module_v1(ones: int, reduce3: int, three: int, reduce5: int, five: int, pool: int, kernel: int = 5) -> Step:
    """Figure 2b of the paper; ``kernel`` is that of the 5 × 5 branch."""
    return fork(
        conv(ones),
        (conv(reduce3), conv(three, 3)),
        (conv(reduce5), conv(five, kernel)),
        (max_pool(3, 1, 1), conv(pool)),
    )


def module_v2(ones: int, reduce3: int, three: int, reduce33: int, double: int, pool: str, after: int) -> Step:
    """v1's with two 3 × 3 in place of the 5 × 5; without ``ones`` it halves the image and passes the pool on."""
    if ones:
        pooling = max_pool(3, 1, 1) if pool == "max" else avg_pool()
        branches = (conv(reduce33), conv(double, 3), conv(double, 3))
        return fork(conv(ones), (conv(reduce3), conv(three, 3)), branches, (pooling, conv(after)))
    return fork(
        (conv(reduce3), conv(three, 3, stride=2)),
        (conv(reduce33), conv(double, 3), conv(double, 3, stride=2)),
        max_pool(3, 2, 1),
    )


def stem(x: Wire, style: Style, small: bool) -> Wire:
    """7 × 7 at stride 2, pool, 1 × 1, 3 × 3, pool; where ``small``, the 3 × 3 alone."""
    with x.scope("stem"):
        if small:
            return run(x, style, conv(192, 3))
        pool = max_pool(ceil=True)
        return run(x, style, (conv(64, 7, stride=2), pool, conv(64), conv(192, 3), pool))


def auxiliary(x: Wire, style: Style, num_classes: int) -> Wire:
    """A second classifier on a module's output: 4 × 4 pool, 1 × 1, two linear layers."""
    with x.scope("aux#"):
        y = blocks.conv_norm_act(x.then(ops.AdaptivePool((4, 4))), 128, 1, style=style)
        y = blocks.act(blocks.linear(blocks.flatten(y), 1024, weight=style.weight), style.act)
        return blocks.linear(blocks.dropout(y, 0.7), num_classes, weight=style.weight)


@sized
def inception_v1(
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    image_size: Size = 224,
    small: bool | None = None,
    variant: str = "torchvision",
    aux: bool = False,
    act: str = "relu",
    dropout: float = 0.2,
) -> Graph:
    """GoogLeNet; with ``aux`` the graph's outputs are (logits, first auxiliary logits, second).

    ``variant`` "torchvision" has batch normalisation, 3 × 3 where the paper has 5 × 5 and a last pool of 2 × 2;
    "paper" has neither (and no local response normalisation), with the laws of its Caffe release: Xavier, biases 0.2.
    ``small`` (by default for images below 112 pixels): one 3 × 3 convolution as the stem.
    """
    if variant == "torchvision":
        style, kernel, last = Style(act=act, eps=1e-3, weight=laws.Normal(0.01)), 3, 2
    elif variant == "paper":
        style, kernel, last = Style(norm="none", act=act, weight=laws.XAVIER, bias=laws.Constant(0.2)), 5, 3
    else:
        raise GraphError(f"expected variant to be torchvision or paper, got {variant!r}")
    net = Builder()
    x = stem(image(net, in_channels, image_size), style, is_small(image_size, small))
    modules = [[module_v1(*row, kernel=kernel) for row in rows] for rows in V1]
    for i, pool in enumerate((3, last)):
        modules[i].append(max_pool(pool, ceil=True))
    out = stages(x, style, modules)
    taps = [out[i + 1] for i in AUX_AFTER] if aux else []  # the pool behind stage 1 is a module too
    extra = [auxiliary(tap, style, num_classes) for tap in taps]
    with net.scope("head"):
        logits = blocks.classifier(out[-1], num_classes, drop=dropout, weight=style.weight)
    return net.graph(logits, *extra)


@sized
def inception_v2(
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    image_size: Size = 224,
    small: bool | None = None,
    norm: str = "batch",
    act: str = "relu",
    dropout: float = 0.0,
) -> Graph:
    """BN-Inception; ``small`` (by default for images below 112 pixels): one 3 × 3 convolution as the stem."""
    style = Style(norm=norm, act=act, weight=laws.HE)
    net = Builder()
    x = stem(image(net, in_channels, image_size), style, is_small(image_size, small))
    out = stages(x, style, [[module_v2(*row) for row in rows] for rows in V2])
    with net.scope("head"):
        return net.graph(blocks.classifier(out[-1], num_classes, drop=dropout, weight=laws.LECUN))
