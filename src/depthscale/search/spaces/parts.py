"""What the spaces of images share: the input's shape, operations, small graphs of nodes that choose their inputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from depthscale.errors import SearchError
from depthscale.graph import Wire, blocks, laws
from depthscale.graph.blocks import Style
from depthscale.search.space import Decider

LEAST = 4  # pixels below which an image is not pooled any more
KINDS = ("conv3x3", "conv1x1", "separable3x3", "max pool", "skip")


def image_shape(shape: Sequence[int], name: str) -> tuple[int, tuple[int, int]]:
    """(channels, (rows, columns)).

    Raises SearchError for data that are no images.
    """
    if len(shape) != 3:
        raise SearchError(f"space {name} needs images of shape (channels, rows, columns), got {tuple(shape)}; try mlp")
    return shape[0], (shape[1], shape[2])


def zoo_options(input_shape: Sequence[int] | None, outputs: int, name: str) -> dict[str, Any]:
    """The arguments of the zoo's image networks for data of this shape; their own defaults where it is None."""
    if input_shape is None:
        return {"num_classes": outputs}
    channels, size = image_shape(input_shape, name)
    return {"num_classes": outputs, "in_channels": channels, "image_size": size}


def batch_normed(act: str) -> Style:
    """Convolution, batch norm, activation, at He's law."""
    return Style(norm="batch", act=act, weight=laws.HE)


@dataclass(frozen=True)
class Step:
    """One node: the nodes that feed it (0 is the cell's input; one or two, summed) and what it does."""

    sources: tuple[int, ...]
    kind: str


def decide_steps(decide: Decider, nodes: int, prefix: str = "") -> list[Step]:
    """``nodes`` nodes, each of which chooses its one or two sources among those before it, and its operation."""
    steps = []
    for i in range(1, nodes + 1):
        first = decide(f"{prefix}from{i}", tuple(range(i)))
        second = decide(f"{prefix}and{i}", ("none", *map(str, range(i))))
        sources = {first} if second == "none" else {first, int(second)}
        steps.append(Step(tuple(sorted(sources)), decide(f"{prefix}op{i}", KINDS)))
    return steps


def add_steps(x: Wire, steps: Sequence[Step], style: Style) -> Wire:
    """The nodes behind x; what feeds no other node is summed at the end."""
    values = [x]
    for step in steps:
        values.append(operation(total([values[i] for i in step.sources]), step.kind, style))
    used = {i for step in steps for i in step.sources}
    return total([v for i, v in enumerate(values) if i > 0 and i not in used])


def total(wires: Sequence[Wire]) -> Wire:
    """The sum; wires that are one and the same count once."""
    different = list(dict.fromkeys(w.name for w in wires))
    of = {w.name: w for w in wires}
    x = of[different[0]]
    for name in different[1:]:
        x = x + of[name]
    return x


def operation(x: Wire, kind: str, style: Style) -> Wire:
    """One operation that keeps the shape."""
    if kind == "skip":
        return x
    if kind == "max pool":
        return blocks.max_pool(x, 3, 1, 1)
    if kind == "separable3x3":
        x = blocks.conv(x, x.channels, 3, groups=x.channels, weight=style.weight)
        return blocks.conv_norm_act(x, x.channels, 1, style=style)
    return blocks.conv_norm_act(x, x.channels, 3 if kind == "conv3x3" else 1, style=style)


def halved(x: Wire, channels: int, style: Style) -> Wire:
    """Between stages: more channels, and half the rows and columns where enough are left."""
    stride = 2 if min(x.shape[2:]) >= 2 * LEAST else 1
    return blocks.conv_norm_act(x, channels, 3, stride=stride, style=style)
