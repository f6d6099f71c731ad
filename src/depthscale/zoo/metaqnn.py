"""Plain sequences of layers in the notation of MetaQNN.

Baker, Gupta, Naik & Raskar 2017, "Designing neural network architectures using reinforcement learning": C(n, f, l) is
a convolution of n filters of f × f at stride l, P(f, l) a max-pool, FC(n) a hidden layer, GAP(n) a global average pool
in front of the classifier, SM(n) the classifier of n classes, D(p) dropout. ReLU behind every layer but the last, law
Xavier, both as in the paper.
"""

import re
from collections.abc import Callable

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Wire, blocks, laws
from depthscale.zoo.images import Size, image, sized

# the best network found for CIFAR-10 (table A1)
BEST = "C(512,5,1) C(256,3,1) C(256,5,1) C(256,3,1) P(5,3) C(512,3,1) C(512,5,1) P(2,2) SM(10)"

_LAYER = re.compile(r"\s*([A-Za-z]+)\(([^()]*)\)[\s,]*")
_TAKES = {"C": 3, "P": 2, "FC": 1, "D": 1, "GAP": 1, "SM": 1}


def parse(text: str) -> list[tuple[str, tuple[float, ...]]]:
    """(kind, numbers) of every layer; GraphError names the layer that cannot be read or stands in the wrong place."""
    layers: list[tuple[str, tuple[float, ...]]] = []
    body = text.strip().removeprefix("[").removesuffix("]")
    at = 0
    while at < len(body):
        found = _LAYER.match(body, at)
        if found is None:
            raise GraphError(f"expected layers such as C(64,3,1) P(2,2) FC(128) SM(10), got {body[at:]!r}")
        at = found.end()
        layers.append(_layer(found[1].upper(), found[2]))
    kinds = [kind for kind, _ in layers]
    if not kinds or kinds[-1] not in ("SM", "GAP") or any(k in ("SM", "GAP") for k in kinds[:-2]):
        raise GraphError(f"expected a sequence that ends in SM(classes) or GAP(classes), got {text!r}")
    if "FC" in kinds and any(k in ("C", "P") for k in kinds[kinds.index("FC") :]):
        raise GraphError(f"expected no convolution or pool behind a hidden layer, got {text!r}")
    return layers


def _layer(kind: str, numbers: str) -> tuple[str, tuple[float, ...]]:
    if kind not in _TAKES:
        raise GraphError(f"expected a layer of {', '.join(_TAKES)}, got {kind!r}")
    try:
        values = tuple(float(n) if kind == "D" else int(n) for n in numbers.split(","))
    except ValueError:
        values = ()
    if len(values) != _TAKES[kind]:
        raise GraphError(f"expected {kind} with {_TAKES[kind]} numbers, got {kind}({numbers})")
    return kind, values


@sized
def metaqnn(
    layers: str = BEST,
    num_classes: int | None = None,
    *,
    in_channels: int = 3,
    image_size: Size = 32,
    act: str = "relu",
    norm: str = "none",
) -> Graph:
    """The network of a sequence; ``num_classes`` overrides what its last layer says."""
    net = Builder()
    style = blocks.Style(norm=norm, act=act, weight=laws.XAVIER)
    build: dict[str, Callable[..., Wire]] = {
        "C": lambda x, n, f, stride: blocks.conv_norm_act(x, n, f, stride=stride, padding=f // 2, style=style),
        "P": lambda x, f, stride: blocks.max_pool(x, f, stride),
        "FC": lambda x, n: blocks.act(blocks.linear(blocks.flatten(x), n, weight=laws.XAVIER), act),
        "D": blocks.dropout,
        "GAP": lambda x, n: blocks.classifier(x, n, weight=laws.XAVIER),
        "SM": lambda x, n: blocks.linear(blocks.flatten(x), n, weight=laws.XAVIER),
    }
    parsed = parse(layers)
    if num_classes is not None:
        parsed[-1] = (parsed[-1][0], (num_classes,))
    x = image(net, in_channels, image_size)
    for i, (kind, values) in enumerate(parsed):
        with net.scope("head" if i == len(parsed) - 1 else "layer#"):
            if kind == "GAP" and i < len(parsed) - 1:
                x = blocks.global_pool(x)  # in front of SM, which is the classifier then
            else:
                x = build[kind](x, *values)
    return net.graph(x)
