"""Inception v4 and Inception-ResNet-v2: Szegedy, Ioffe, Vanhoucke & Alemi 2017, figures 3 to 19.

"Inception-v4, Inception-ResNet and the impact of residual connections on learning". v4 is v1 with other modules;
Inception-ResNet adds what its modules make to what they read, scaled down. Its stem is that of the authors' release
(v3's and one module), not figure 3.
"""

from depthscale.graph import Builder, Graph, blocks, laws
from depthscale.graph.blocks import Style
from depthscale.zoo.images import Size, image, is_small, sized
from depthscale.zoo.inception import Branch, Step, avg_pool, conv, fork, max_pool, residual, run, stages
from depthscale.zoo.inception_v3 import STEM as V3_STEM

_AVG = avg_pool(count_padding=False)

STEM_V4 = (
    conv(32, 3, stride=2, valid=True),
    conv(32, 3, valid=True),
    conv(64, 3),
    fork(max_pool(), conv(96, 3, stride=2, valid=True)),
    fork(
        (conv(64), conv(96, 3, valid=True)),
        (conv(64), conv(64, 1, 7), conv(64, 7, 1), conv(96, 3, valid=True)),
    ),
    fork(conv(192, 3, stride=2, valid=True), max_pool()),
)
A = fork(
    conv(96),
    (conv(64), conv(96, 3)),
    (conv(64), conv(96, 3), conv(96, 3)),
    (_AVG, conv(96)),
)
B = fork(
    conv(384),
    (conv(192), conv(224, 1, 7), conv(256, 7, 1)),
    (conv(192), conv(192, 7, 1), conv(224, 1, 7), conv(224, 7, 1), conv(256, 1, 7)),
    (_AVG, conv(128)),
)
C = fork(
    conv(256),
    (conv(384), fork(conv(256, 1, 3), conv(256, 3, 1))),
    (conv(384), conv(448, 3, 1), conv(512, 1, 3), fork(conv(256, 1, 3), conv(256, 3, 1))),
    (_AVG, conv(256)),
)
REDUCE_B = fork(
    (conv(192), conv(192, 3, stride=2, valid=True)),
    (conv(256), conv(256, 1, 7), conv(320, 7, 1), conv(320, 3, stride=2, valid=True)),
    max_pool(),
)


def reduce_a(k: int, l: int, m: int, n: int) -> Step:  # noqa: E741
    """Figure 7 with the widths of table 1."""
    return fork(
        conv(n, 3, stride=2, valid=True),
        (conv(k), conv(l, 3), conv(m, 3, stride=2, valid=True)),
        max_pool(),
    )


STAGES_V4 = ([A] * 4, [reduce_a(192, 224, 256, 384), *[B] * 7], [REDUCE_B, *[C] * 3])

FIRST = fork(
    conv(96),
    (conv(48), conv(64, 5)),
    (conv(64), conv(96, 3), conv(96, 3)),
    (_AVG, conv(64)),
)
BRANCHES_A: tuple[Branch, ...] = (conv(32), (conv(32), conv(32, 3)), (conv(32), conv(48, 3), conv(64, 3)))
BRANCHES_B: tuple[Branch, ...] = (conv(192), (conv(128), conv(160, 1, 7), conv(192, 7, 1)))
BRANCHES_C: tuple[Branch, ...] = (conv(192), (conv(192), conv(224, 1, 3), conv(256, 3, 1)))
REDUCE_RESNET_B = fork(
    (conv(256), conv(384, 3, stride=2, valid=True)),
    (conv(256), conv(288, 3, stride=2, valid=True)),
    (conv(256), conv(288, 3), conv(320, 3, stride=2, valid=True)),
    max_pool(),
)
STAGES_RESNET = (
    [FIRST, *[residual(*BRANCHES_A, scale=0.17)] * 10],
    [reduce_a(256, 256, 384, 384), *[residual(*BRANCHES_B, scale=0.1)] * 20],
    [
        REDUCE_RESNET_B,
        *[residual(*BRANCHES_C, scale=0.2)] * 9,
        residual(*BRANCHES_C, scale=1.0, act=False),
        conv(1536),
    ],
)


def _network(
    stem: Branch,
    small_stem: Step,
    table: tuple[list[Step], ...],
    num_classes: int,
    in_channels: int,
    image_size: Size,
    small: bool | None,
    style: Style,
    dropout: float,
) -> Graph:
    net = Builder()
    x = image(net, in_channels, image_size)
    with net.scope("stem"):
        x = run(x, style, small_stem if is_small(image_size, small) else stem)
    x = stages(x, style, table)[-1]
    with net.scope("head"):
        return net.graph(blocks.classifier(x, num_classes, drop=dropout))


@sized
def inception_v4(
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    image_size: Size = 299,
    small: bool | None = None,
    norm: str = "batch",
    act: str = "relu",
    dropout: float = 0.2,
) -> Graph:
    """Inception v4; ``small`` (by default for images below 112 pixels): one 3 × 3 convolution as the stem."""
    style = Style(norm=norm, act=act, weight=laws.HE, eps=1e-3)
    return _network(STEM_V4, conv(384, 3), STAGES_V4, num_classes, in_channels, image_size, small, style, dropout)


@sized
def inception_resnet_v2(
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    image_size: Size = 299,
    small: bool | None = None,
    norm: str = "batch",
    act: str = "relu",
    dropout: float = 0.2,
) -> Graph:
    """Inception-ResNet-v2; ``small`` (by default for images below 112 pixels): one 3 × 3 convolution as the stem."""
    style = Style(norm=norm, act=act, weight=laws.HE, eps=1e-3)
    return _network(V3_STEM, conv(192, 3), STAGES_RESNET, num_classes, in_channels, image_size, small, style, dropout)
