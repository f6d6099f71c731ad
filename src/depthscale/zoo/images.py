"""What the image networks have in common: their input, its small variant, and the answer to images too small.

A size is one number of pixels or (height, width). Images below 112 pixels get a family's small variant (as used for
CIFAR and MNIST) unless ``small`` says otherwise.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from typing import ParamSpec

from depthscale.errors import GraphError
from depthscale.graph import Builder, Graph, Wire

P = ParamSpec("P")
Size = int | Sequence[int]

SMALL = 112  # pixels: below this an ImageNet stem (a stride of 4 and more) leaves too little
LARGEST = 1024  # pixels: what a network too small for is looked for up to


class ImageTooSmallError(GraphError):
    """An image is too small for a network; the message names the layer and the size that would do."""


def sides(image_size: Size) -> tuple[int, int]:
    """(height, width) in pixels; GraphError for anything but one or two whole numbers of at least 1."""
    pair = tuple(image_size) if isinstance(image_size, Sequence) else (image_size, image_size)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in pair)
    if len(pair) != 2 or not whole:
        raise GraphError(f"expected image_size to be a whole number of pixels or (height, width), got {image_size!r}")
    return pair[0], pair[1]


def image(net: Builder, in_channels: int, image_size: Size) -> Wire:
    """The input of an image network, (B, in_channels, height, width)."""
    return net.input(in_channels, *sides(image_size))


def is_small(image_size: Size, small: bool | None = None) -> bool:
    """Whether the small variant is meant: as said, else by the shorter side."""
    return min(sides(image_size)) < SMALL if small is None else small


def counted(network: Callable[P, Graph]) -> Callable[P, Graph]:
    """A network function that refuses a number of classes or channels that is none, by the argument's name."""
    takes = signature(network)

    @wraps(network)
    def build(*args: P.args, **kwargs: P.kwargs) -> Graph:
        given = takes.bind_partial(*args, **kwargs).arguments
        for name in ("num_classes", "in_channels"):
            count = given.get(name, 1)
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise GraphError(f"expected {name} to be a whole number of at least 1, got {count!r}")
        return network(*args, **kwargs)

    return build


def sized(network: Callable[P, Graph]) -> Callable[P, Graph]:
    """A network function whose error, where the image is too small for it, says which size would do."""
    default = signature(network).parameters["image_size"].default
    network = counted(network)

    @wraps(network)
    def build(*args: P.args, **kwargs: P.kwargs) -> Graph:
        try:
            return network(*args, **kwargs)
        except ImageTooSmallError:
            raise  # said by the network that this one is made of
        except GraphError as error:
            height, width = sides(kwargs.get("image_size", default))  # type: ignore[arg-type]

            def builds(least: int) -> bool:
                try:
                    network(*args, **{**kwargs, "image_size": (max(height, least), max(width, least))})  # type: ignore[arg-type]
                except GraphError:
                    return False
                return True

            least = _smallest(builds, min(height, width))
            if least is None:
                raise
            what = getattr(network, "__name__", "the network")
            message = f"{error}; {what} needs images of at least {least} pixels here, got {height} × {width}"
            raise ImageTooSmallError(message) from error

    return build


def _smallest(builds: Callable[[int], bool], too_small: int) -> int | None:
    """The least size that builds, found by doubling and halving; None where none up to LARGEST does."""
    below, enough = too_small, 2 * too_small
    while not builds(enough):
        below, enough = enough, 2 * enough
        if enough > LARGEST:
            return None
    while enough - below > 1:
        middle = (below + enough) // 2
        below, enough = (below, middle) if builds(middle) else (middle, enough)
    return enough
