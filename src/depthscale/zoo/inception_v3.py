"""Inception v3: Szegedy, Vanhoucke, Ioffe, Shlens & Wojna 2016, "Rethinking the Inception architecture", table 1.

v1 with other modules: n × n convolutions factorised into 1 × n and n × 1. Weights from a normal law of σ = 0.1 (0.01
and 0.001 in the auxiliary head), cut where the release cuts it.
"""

from depthscale.graph import Builder, Graph, Wire, blocks, laws
from depthscale.graph.blocks import Style
from depthscale.zoo.images import Size, image, is_small, sized
from depthscale.zoo.inception import Step, avg_pool, conv, fork, max_pool, run, stages


def module_a(pool: int) -> Step:
    """Figure 5: the 5 × 5 of v1 as two 3 × 3 (and one 5 × 5 kept)."""
    return fork(
        conv(64),
        (conv(48), conv(64, 5)),
        (conv(64), conv(96, 3), conv(96, 3)),
        (avg_pool(), conv(pool)),
    )


def module_b(width: int) -> Step:
    """Figure 6: 7 × 7 as 1 × 7 and 7 × 1, once and twice."""
    return fork(
        conv(192),
        (conv(width), conv(width, 1, 7), conv(192, 7, 1)),
        (conv(width), conv(width, 7, 1), conv(width, 1, 7), conv(width, 7, 1), conv(192, 1, 7)),
        (avg_pool(), conv(192)),
    )


MODULE_C = fork(  # figure 7: branches that fork again
    conv(320),
    (conv(384), fork(conv(384, 1, 3), conv(384, 3, 1))),
    (conv(448), conv(384, 3), fork(conv(384, 1, 3), conv(384, 3, 1))),
    (avg_pool(), conv(192)),
)
REDUCE_A = fork(  # figure 10
    conv(384, 3, stride=2, valid=True),
    (conv(64), conv(96, 3), conv(96, 3, stride=2, valid=True)),
    max_pool(),
)
REDUCE_B = fork(
    (conv(192), conv(320, 3, stride=2, valid=True)),
    (conv(192), conv(192, 1, 7), conv(192, 7, 1), conv(192, 3, stride=2, valid=True)),
    max_pool(),
)
STEM = (
    conv(32, 3, stride=2, valid=True),
    conv(32, 3, valid=True),
    conv(64, 3),
    max_pool(),
    conv(80),
    conv(192, 3, valid=True),
    max_pool(),
)
STAGES = (
    [module_a(32), module_a(64), module_a(64)],
    [REDUCE_A, module_b(128), module_b(160), module_b(160), module_b(192)],
    [REDUCE_B, MODULE_C, MODULE_C],
)


def _law(std: float) -> laws.Law:
    return laws.TruncatedNormal(std, cut=2 / std)  # the release cuts at ±2, not at ±2σ


def auxiliary(x: Wire, style: Style, num_classes: int) -> Wire:
    """A second classifier behind the last 17 × 17 module."""
    with x.scope("aux"):
        y = blocks.conv_norm_act(blocks.avg_pool(x, 5, 3), 128, 1, style=style)
        narrow = Style(style.norm, style.act, _law(0.01), eps=style.eps)
        y = blocks.conv_norm_act(y, 768, 5, padding=0, style=narrow)
        return blocks.linear(blocks.global_pool(y), num_classes, weight=_law(0.001))


@sized
def inception_v3(
    num_classes: int = 1000,
    *,
    in_channels: int = 3,
    image_size: Size = 299,
    small: bool | None = None,
    aux: bool = False,
    norm: str = "batch",
    act: str = "relu",
    dropout: float = 0.5,
) -> Graph:
    """Inception v3; with ``aux`` the graph's outputs are (logits, auxiliary logits).

    ``small`` (by default for images below 112 pixels): one 3 × 3 convolution as the stem.
    """
    style = Style(norm=norm, act=act, weight=_law(0.1), eps=1e-3)
    net = Builder()
    x = image(net, in_channels, image_size)
    with net.scope("stem"):
        x = run(x, style, conv(192, 3) if is_small(image_size, small) else STEM)
    middle = stages(x, style, STAGES[:2])[-1]
    extra = [auxiliary(middle, style, num_classes)] if aux else []
    x = stages(middle, style, STAGES[2:])[-1]
    with net.scope("head"):
        logits = blocks.classifier(x, num_classes, drop=dropout, weight=_law(0.1))
    return net.graph(logits, *extra)
