"""The grammar that the Inception networks are written in: steps, branches of steps, modules that join branches.

A step continues a wire in the network's style; a branch is a step or a tuple of them; ``fork`` runs branches side by
side and joins what they make over channels. v1 to v4 and Inception-ResNet differ in nothing but their tables.
"""

from collections.abc import Callable, Sequence

from depthscale.graph import Wire, blocks
from depthscale.graph.blocks import Style

Step = Callable[[Wire, Style], Wire]
Branch = Step | tuple[Step, ...]


def conv(channels: int, *kernel: int, stride: int = 1, valid: bool = False) -> Step:
    """Convolution (1 × 1 without a kernel), norm, activation; ``valid``: no padding."""
    size = kernel or (1,)
    sides = size if len(size) == 2 else size * 2

    def step(x: Wire, style: Style) -> Wire:
        return blocks.conv_norm_act(x, channels, sides, stride=stride, padding=0 if valid else None, style=style)

    return step


def max_pool(kernel: int = 3, stride: int = 2, padding: int = 0, *, ceil: bool = False) -> Step:
    """Max-pool, by default 3 × 3 at stride 2 without padding."""
    return lambda x, style: blocks.max_pool(x, kernel, stride, padding, ceil=ceil)


def avg_pool(*, count_padding: bool = True) -> Step:
    """3 × 3 average that keeps the size; ``count_padding`` as in AvgPool."""
    return lambda x, style: blocks.avg_pool(x, 3, 1, 1, count_padding=count_padding)


def run(x: Wire, style: Style, branch: Branch) -> Wire:
    """The steps of a branch, one behind the other."""
    for step in branch if isinstance(branch, tuple) else (branch,):
        x = step(x, style)
    return x


def fork(*branches: Branch) -> Step:
    """Branches side by side, joined over channels."""

    def step(x: Wire, style: Style) -> Wire:
        return blocks.parallel(x, *(lambda y, b=b: run(y, style, b) for b in branches))

    return step


def residual(*branches: Branch, scale: float, act: bool = True) -> Step:
    """act(x + scale·conv(fork(x))): the modules of Inception-ResNet; the convolution has a bias and no norm."""

    def step(x: Wire, style: Style) -> Wire:
        def branch(y: Wire) -> Wire:
            return blocks.conv(fork(*branches)(y, style), x.channels, 1, weight=style.weight, bias=style.bias)

        y = blocks.residual(x, branch, scale=scale)
        return blocks.act(y, style.act) if act else y

    return step


def stages(x: Wire, style: Style, table: Sequence[Sequence[Step]]) -> list[Wire]:
    """What every module of every stage puts out, in order."""
    out = []
    for modules in table:
        with x.scope("stage#"):
            for module in modules:
                with x.scope("module#"):
                    x = module(x, style)
                out.append(x)
    return out
