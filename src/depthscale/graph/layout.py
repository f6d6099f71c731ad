"""Ops without parameters that pool, reduce or rearrange: windows, reductions, index algebra."""

from collections.abc import Sequence
from dataclasses import dataclass

from depthscale.graph.op import Ints, Op, window

# --- pooling and reduction --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MaxPool(Op):
    """Largest value in each window; ``ceil`` rounds the output size up."""

    kernel: Ints = (2, 2)
    stride: Ints = 2  # type: ignore[assignment]
    padding: Ints = 0  # type: ignore[assignment]
    ceil: bool = False

    def __post_init__(self) -> None:
        window(self)


@dataclass(frozen=True)
class AvgPool(Op):
    """Mean of each window; ``count_padding`` divides by the window's size even at the border."""

    kernel: Ints = (2, 2)
    stride: Ints = 2  # type: ignore[assignment]
    padding: Ints = 0  # type: ignore[assignment]
    ceil: bool = False
    count_padding: bool = True

    def __post_init__(self) -> None:
        window(self)


@dataclass(frozen=True)
class AdaptivePool(Op):
    """Pool to a given output ``size``, whatever the input's; ``kind`` is avg or max."""

    size: Ints = (1, 1)
    kind: str = "avg"

    def __post_init__(self) -> None:
        self._ints("size", None if isinstance(self.size, Sequence) else 2)
        self._need(self.kind in ("avg", "max"), "kind to be avg or max", self.kind)


@dataclass(frozen=True)
class Reduce(Op):
    """Mean, sum or max over ``axes``."""

    kind: str = "mean"
    axes: Ints = (-1,)
    keep: bool = False

    def __post_init__(self) -> None:
        self._ints("axes", least=-64)
        self._need(self.kind in ("mean", "sum", "max"), "kind to be mean, sum or max", self.kind)


# --- layout -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flatten(Op):
    """Merge axes ``start`` to ``stop`` (inclusive) into one."""

    start: int = 1
    stop: int = -1


@dataclass(frozen=True)
class Unflatten(Op):
    """Split one axis into ``sizes`` (one of them may be −1)."""

    axis: int = 1
    sizes: Ints = (1, -1)

    def __post_init__(self) -> None:
        self._ints("sizes", least=-1)
        self._need(sum(s == -1 for s in self.sizes) <= 1 and 0 not in self.sizes, "at most one size of −1", self.sizes)


@dataclass(frozen=True)
class Reshape(Op):
    """The same elements in another shape, batch axis included (one size may be −1)."""

    shape: Ints = (-1,)

    def __post_init__(self) -> None:
        self._ints("shape", least=-1)
        self._need(sum(s == -1 for s in self.shape) <= 1 and 0 not in self.shape, "at most one size of −1", self.shape)


@dataclass(frozen=True)
class Permute(Op):
    """Axes in another order, the batch axis included."""

    axes: Ints = (0,)

    def __post_init__(self) -> None:
        self._ints("axes", least=-64)


@dataclass(frozen=True)
class Squeeze(Op):
    """Drop ``axis``, which has size 1."""

    axis: int = -1


@dataclass(frozen=True)
class Unsqueeze(Op):
    """A new axis of size 1 at ``axis`` of the result."""

    axis: int = -1


@dataclass(frozen=True)
class Expand(Op):
    """Repeat axes of size 1 to ``shape``; −1 keeps the size, new axes may be added in front."""

    shape: Ints = (-1,)

    def __post_init__(self) -> None:
        self._ints("shape", least=-1)


@dataclass(frozen=True)
class Slice(Op):
    """Entries ``start:stop:step`` of ``axis``; ``stop=None`` runs to the end. Splits are several slices."""

    axis: int = 1
    start: int = 0
    stop: int | None = None
    step: int = 1

    def __post_init__(self) -> None:
        self._positive(step=self.step)


@dataclass(frozen=True)
class Select(Op):
    """The entry ``index`` of ``axis``, which disappears."""

    axis: int = 1
    index: int = 0


@dataclass(frozen=True)
class Pad(Op):
    """Constant padding of the trailing axes: ``pads`` is (before, after) per axis, the last axis first, as in torch."""

    pads: Ints = (0, 0)
    value: float = 0.0

    def __post_init__(self) -> None:
        self._ints("pads", least=-(2**31))
        self._need(len(self.pads) % 2 == 0, "an even number of pads", self.pads)


@dataclass(frozen=True)
class Take(Op):
    """The entries of ``axis`` at given indices, in any order and as often as they are named."""

    axis: int = 1
    index: Ints = (0,)

    def __post_init__(self) -> None:
        self._ints("index", least=0)
        self._need(len(self.index) >= 1, "at least one index", self.index)


@dataclass(frozen=True)
class Roll(Op):
    """Cyclic shift of ``axes`` by ``shifts`` (shifted windows)."""

    shifts: Ints = (0,)
    axes: Ints = (0,)

    def __post_init__(self) -> None:
        self._ints("shifts", least=-(2**31))
        self._ints("axes", len(self.shifts), least=-64)


@dataclass(frozen=True)
class Upsample(Op):
    """Spatial axes enlarged by whole factors; ``mode`` is nearest or bilinear."""

    factors: Ints = (2, 2)
    mode: str = "nearest"

    def __post_init__(self) -> None:
        self._ints("factors", None if isinstance(self.factors, Sequence) else 2)
        self._need(self.mode in ("nearest", "bilinear"), "mode to be nearest or bilinear", self.mode)


@dataclass(frozen=True)
class Resize(Op):
    """Spatial axes resampled to ``size``: nearest, bilinear or bicubic; ``corners`` aligns corners."""

    size: Ints = (1, 1)
    mode: str = "bilinear"
    corners: bool = False

    def __post_init__(self) -> None:
        self._ints("size", None if isinstance(self.size, Sequence) else 2)
        known = ("nearest", "bilinear", "bicubic")
        self._need(self.mode in known, f"mode to be one of {', '.join(known)}", self.mode)


@dataclass(frozen=True)
class Concat(Op):
    """Tensors joined along ``axis``."""

    arity = (1, None)
    axis: int = 1


@dataclass(frozen=True)
class Stack(Op):
    """Tensors joined along a new ``axis``."""

    arity = (1, None)
    axis: int = 1
