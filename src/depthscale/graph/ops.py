"""The vocabulary: every tensor operation a network is made of, as frozen data.

An ``Op`` says what a layer is and which law its parameters are drawn from; it never holds a tensor. Shapes include
the batch as axis 0, axes may be negative, and semantics are those of the PyTorch operation of the same name, so that
a program captured by ``torch.export`` maps onto this vocabulary one to one.

A new op is one dataclass here, its place in ``OPS``, and one rule in each of shapes, cost, build and theory;
a missing rule is an error that names the op and the rule.

Parameters. A field of type ``Law`` gives a parameter's law; ``None`` means that the parameter is absent, except for
the ``weight`` of Linear and Conv, where ``None`` means that a weight is fed as the second input (weight
standardisation, factorised or generated weights). ``shared`` names parameters that several nodes have in common.
"""

from dataclasses import dataclass

from depthscale.graph import functions
from depthscale.graph.laws import ONE, QUARTER, SMALL, TORCH_DEFAULT, UNIT, ZERO, Law
from depthscale.graph.layout import (
    AdaptivePool as AdaptivePool,
    AvgPool as AvgPool,
    Concat as Concat,
    Expand as Expand,
    Flatten as Flatten,
    MaxPool as MaxPool,
    Pad as Pad,
    Permute as Permute,
    Reduce as Reduce,
    Reshape as Reshape,
    Resize as Resize,
    Roll as Roll,
    Select as Select,
    Slice as Slice,
    Squeeze as Squeeze,
    Stack as Stack,
    Take as Take,
    Unflatten as Unflatten,
    Unsqueeze as Unsqueeze,
    Upsample as Upsample,
)
from depthscale.graph.op import Ints, Op, window

# --- sources ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Input(Op):
    """Data that arrives from outside; ``shape`` is one example's, the batch comes in front unless not ``batched``."""

    arity = (0, 0)
    shape: Ints = ()
    dtype: str = "float"
    batched: bool = True

    def __post_init__(self) -> None:
        self._ints("shape")
        self._need(self.dtype in ("float", "int", "bool"), "dtype to be float, int or bool", self.dtype)


@dataclass(frozen=True)
class Parameter(Op):
    """A learned tensor that feeds other ops as an ordinary value (class tokens, positions, computed weights)."""

    arity = (0, 0)
    shape: Ints = ()
    law: Law = SMALL
    shared: str | None = None

    def __post_init__(self) -> None:
        self._ints("shape")


@dataclass(frozen=True)
class Constant(Op):
    """A fixed tensor, known by the law its elements look drawn from."""

    arity = (0, 0)
    shape: Ints = ()
    law: Law = ZERO
    shared: str | None = None

    def __post_init__(self) -> None:
        self._ints("shape")


# --- contractions -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Linear(Op):
    """y = x Wᵀ + b over the last axis."""

    out_features: int
    weight: Law | None = TORCH_DEFAULT
    bias: Law | None = ZERO
    shared: str | None = None

    def __post_init__(self) -> None:
        self._positive(out_features=self.out_features)

    @property
    def inputs_wanted(self) -> tuple[int, int | None]:
        """One, or two when the weight is fed."""
        return (1, 1) if self.weight is not None else (2, 2)


@dataclass(frozen=True)
class Conv(Op):
    """Convolution over as many trailing axes as ``kernel`` has entries; channels are axis 1."""

    out_channels: int
    kernel: Ints = (3, 3)
    stride: Ints = 1  # type: ignore[assignment]
    padding: Ints = 0  # type: ignore[assignment]
    dilation: Ints = 1  # type: ignore[assignment]
    groups: int = 1
    weight: Law | None = TORCH_DEFAULT
    bias: Law | None = ZERO
    shared: str | None = None

    def __post_init__(self) -> None:
        self._positive(out_channels=self.out_channels, groups=self.groups)
        window(self)
        self._ints("dilation", len(self.kernel))
        self._need(self.out_channels % self.groups == 0, f"out_channels divisible by groups={self.groups}", self)

    @property
    def inputs_wanted(self) -> tuple[int, int | None]:
        """One, or two when the weight is fed."""
        return (1, 1) if self.weight is not None else (2, 2)


@dataclass(frozen=True)
class ConvTranspose(Op):
    """The adjoint of a convolution (fractionally strided); weight of shape (in, out/groups, *kernel)."""

    out_channels: int
    kernel: Ints = (2, 2)
    stride: Ints = 1  # type: ignore[assignment]
    padding: Ints = 0  # type: ignore[assignment]
    output_padding: Ints = 0  # type: ignore[assignment]
    dilation: Ints = 1  # type: ignore[assignment]
    groups: int = 1
    weight: Law = TORCH_DEFAULT
    bias: Law | None = ZERO
    shared: str | None = None

    def __post_init__(self) -> None:
        self._positive(out_channels=self.out_channels, groups=self.groups)
        window(self)
        self._ints("dilation", len(self.kernel))
        self._ints("output_padding", len(self.kernel), 0)
        self._need(self.out_channels % self.groups == 0, f"out_channels divisible by groups={self.groups}", self)


@dataclass(frozen=True)
class MatMul(Op):
    """Batched product of two tensors over the last axis of the first and the second-last of the second."""

    arity = (2, 2)


@dataclass(frozen=True)
class Attention(Op):
    """softmax(q kᵀ · scale) v over inputs q, k, v (and a mask) of shape (B, heads, tokens, width).

    ``scale`` of 0 stands for 1/√width. ``visible``: keys that a row sees on average where a fixed mask, known by
    nothing else, hides the others (0: all of them); a built module sees all.
    """

    arity = (3, 4)
    causal: bool = False
    scale: float = 0.0
    dropout: float = 0.0
    visible: int = 0

    def __post_init__(self) -> None:
        self._need(0 <= self.dropout < 1, "dropout in [0, 1)", self.dropout)
        self._need(self.visible >= 0, "visible to be 0 or more", self.visible)


@dataclass(frozen=True)
class Embedding(Op):
    """Rows of a table chosen by whole numbers: (…) → (…, width)."""

    entries: int
    width: int
    weight: Law = UNIT
    shared: str | None = None

    def __post_init__(self) -> None:
        self._positive(entries=self.entries, width=self.width)


# --- normalisation ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BatchNorm(Op):
    """Normalise every channel (axis 1) over the batch and all positions; running statistics in evaluation."""

    eps: float = 1e-5
    momentum: float = 0.1
    weight: Law | None = ONE
    bias: Law | None = ZERO
    shared: str | None = None


@dataclass(frozen=True)
class LayerNorm(Op):
    """Normalise every example over its last ``axes`` axes."""

    axes: int = 1
    eps: float = 1e-5
    weight: Law | None = ONE
    bias: Law | None = ZERO
    shared: str | None = None

    def __post_init__(self) -> None:
        self._positive(axes=self.axes)


@dataclass(frozen=True)
class RMSNorm(Op):
    """Divide by the root mean square over the last ``axes`` axes; no mean is subtracted."""

    axes: int = 1
    eps: float = 1e-6
    weight: Law | None = ONE
    shared: str | None = None

    def __post_init__(self) -> None:
        self._positive(axes=self.axes)


@dataclass(frozen=True)
class GroupNorm(Op):
    """Normalise every example within each of ``groups`` groups of channels, over all positions."""

    groups: int = 1
    eps: float = 1e-5
    weight: Law | None = ONE
    bias: Law | None = ZERO
    shared: str | None = None

    def __post_init__(self) -> None:
        self._positive(groups=self.groups)


@dataclass(frozen=True)
class InstanceNorm(Op):
    """Normalise every channel of every example over its positions."""

    eps: float = 1e-5
    weight: Law | None = None
    bias: Law | None = None
    shared: str | None = None


# --- elementwise ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Activation(Op):
    """An elementwise function of ``functions.FUNCTIONS``; parameters not given take their defaults."""

    function: str = "relu"
    parameters: functions.Parameters = ()

    def __post_init__(self) -> None:
        name, parameters = functions.canonical(self.function, self.parameters)
        object.__setattr__(self, "function", name)
        object.__setattr__(self, "parameters", parameters)

    @property
    def given(self) -> dict[str, functions.Parameter]:
        """The parameters that differ from the function's defaults."""
        return {k: v for k, v in self.parameters if v != functions.FUNCTIONS[self.function][k]}

    def __str__(self) -> str:
        """As a call: leaky_relu(negative_slope=0.1)."""
        return f"{self.function}({', '.join(f'{k}={v}' for k, v in self.given.items())})"


@dataclass(frozen=True)
class PReLU(Op):
    """max(0, x) + a·min(0, x) with a learned per channel (axis 1), or one for all."""

    per_channel: bool = False
    weight: Law = QUARTER
    shared: str | None = None


@dataclass(frozen=True)
class Scale(Op):
    """A learned factor per entry of ``axis`` (layer scale, residual gains; ``axis=None``: one for all)."""

    axis: int | None = None
    law: Law = ONE
    shared: str | None = None


@dataclass(frozen=True)
class Add(Op):
    """Elementwise sum of two or more tensors, with broadcasting."""

    arity = (2, None)
    commutative = True


@dataclass(frozen=True)
class Multiply(Op):
    """Elementwise product of two or more tensors, with broadcasting."""

    arity = (2, None)
    commutative = True


@dataclass(frozen=True)
class Subtract(Op):
    """First minus second, with broadcasting."""

    arity = (2, 2)


@dataclass(frozen=True)
class Divide(Op):
    """First over second, with broadcasting."""

    arity = (2, 2)


@dataclass(frozen=True)
class Softmax(Op):
    """exp(x)/Σexp(x) along ``axis``.

    ``causal``: row i of the last two axes sees the entries up to i; ``visible``: as in Attention.
    """

    axis: int = -1
    causal: bool = False
    visible: int = 0

    def __post_init__(self) -> None:
        self._need(not self.causal or self.axis == -1, "axis −1 where it is causal", self.axis)
        self._need(self.visible >= 0, "visible to be 0 or more", self.visible)


@dataclass(frozen=True)
class Dropout(Op):
    """Zero elements with probability ``p`` in training, the rest scaled by 1/(1−p); ``channels`` drops whole maps."""

    p: float = 0.5
    channels: bool = False

    def __post_init__(self) -> None:
        self._need(0 <= self.p < 1, "p in [0, 1)", self.p)


@dataclass(frozen=True)
class DropPath(Op):
    """Zero an example's whole branch with probability ``p`` in training, else scale by 1/(1−p) (Huang et al. 2016)."""

    p: float = 0.1

    def __post_init__(self) -> None:
        self._need(0 <= self.p < 1, "p in [0, 1)", self.p)


OPS: dict[str, type[Op]] = {cls.__name__: cls for cls in Op.__subclasses__()}

CONTRACTIONS = (Linear, Conv, ConvTranspose, MatMul, Attention)  # the ops that multiply-adds are counted for
LAYERS = (Linear, Conv, ConvTranspose, Attention)  # the ops that depth is counted in
NORMS = (BatchNorm, LayerNorm, RMSNorm, GroupNorm, InstanceNorm)
WITHOUT_PARAMETERS: tuple[type[Op], ...] = (
    Input,
    MatMul,
    Attention,
    Activation,
    Add,
    Multiply,
    Subtract,
    Divide,
    Softmax,
    Dropout,
    DropPath,
    Constant,
    MaxPool,
    AvgPool,
    AdaptivePool,
    Reduce,
    Flatten,
    Unflatten,
    Reshape,
    Permute,
    Squeeze,
    Unsqueeze,
    Expand,
    Slice,
    Select,
    Take,
    Pad,
    Roll,
    Upsample,
    Resize,
    Concat,
    Stack,
)
