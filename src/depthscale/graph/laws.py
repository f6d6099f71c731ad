"""Parameter laws: the distributions that a network's parameters are drawn from at initialisation.

A law is data, never a tensor. ``moments`` gives what mean-field theory needs, E[w] and E[w²]; drawing a sample is
the business of ``build``. A law with ``fan`` scales with the layer it is used in: ``Normal(√2, fan="in")`` is He's
law, Var w = 2 / fan_in, in every layer. Fans are PyTorch's: for a weight of shape (out, in/groups, *kernel),
fan_in = in/groups·∏kernel and fan_out = out·∏kernel.

Sources: LeCun et al. 1998 (1/fan_in); Glorot & Bengio 2010; He et al. 2015; Saxe et al. 2014 (orthogonal);
Xiao et al. 2018 (delta-orthogonal); Balduzzi et al. 2017 (mirrored pairs, the "looks linear" start).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from depthscale.errors import GraphError

_FANS = ("none", "in", "out", "average")


class Fans(NamedTuple):
    """Number of inputs that feed one output unit, and of outputs fed by one input unit."""

    fan_in: float
    fan_out: float


class Moments(NamedTuple):
    """E[w] and E[w²] of one parameter element."""

    mean: float
    mean_square: float


@dataclass(frozen=True)
class Law:
    """A distribution of parameter elements; every subclass is final."""

    def moments(self, shape: tuple[int, ...], fans: Fans) -> Moments:
        """Mean and mean square of one element of a parameter of this shape and these fans."""
        raise NotImplementedError(f"{type(self).__name__} has no moments")

    def _scale(self, fan: str, fans: Fans) -> float:
        """1/√fan for the fan that the law is relative to."""
        values = {"none": 1.0, "in": fans.fan_in, "out": fans.fan_out, "average": (fans.fan_in + fans.fan_out) / 2}
        return 1 / math.sqrt(max(values[fan], 1e-300))


def _need(law: Law, ok: bool, expected: str, got: object) -> None:
    if not ok:
        raise GraphError(f"law {type(law).__name__}: expected {expected}, got {got!r}")


def _need_fan(law: Law, fan: str) -> None:
    _need(law, fan in _FANS, f"fan to be one of {', '.join(_FANS)}", fan)


def _need_scale(law: Law, name: str, value: float) -> None:
    _need(law, math.isfinite(value) and value >= 0, f"{name} to be finite and not negative", value)


@dataclass(frozen=True)
class Normal(Law):
    """Gaussian with standard deviation ``std``/√fan around ``mean``."""

    std: float = 1.0
    fan: str = "none"
    mean: float = 0.0

    def __post_init__(self) -> None:
        _need_scale(self, "std", self.std)
        _need_fan(self, self.fan)
        _need(self, math.isfinite(self.mean), "a finite mean", self.mean)

    def moments(self, shape: tuple[int, ...], fans: Fans) -> Moments:  # noqa: D102
        std = self.std * self._scale(self.fan, fans)
        return Moments(self.mean, self.mean**2 + std**2)


@dataclass(frozen=True)
class TruncatedNormal(Law):
    """Gaussian of scale ``std``/√fan kept within ``cut`` scales of zero (its own deviation is a little smaller)."""

    std: float = 1.0
    cut: float = 2.0
    fan: str = "none"

    def __post_init__(self) -> None:
        _need_scale(self, "std", self.std)
        _need(self, self.cut > 0, "cut to be positive", self.cut)
        _need_fan(self, self.fan)

    def moments(self, shape: tuple[int, ...], fans: Fans) -> Moments:  # noqa: D102
        std = self.std * self._scale(self.fan, fans)
        density = math.exp(-(self.cut**2) / 2) / math.sqrt(2 * math.pi)
        inside = math.erf(self.cut / math.sqrt(2))
        return Moments(0.0, std**2 * (1 - 2 * self.cut * density / inside))


@dataclass(frozen=True)
class Uniform(Law):
    """Uniform on ``mean`` ± ``bound``/√fan."""

    bound: float = 1.0
    fan: str = "none"
    mean: float = 0.0

    def __post_init__(self) -> None:
        _need_scale(self, "bound", self.bound)
        _need_fan(self, self.fan)
        _need(self, math.isfinite(self.mean), "a finite mean", self.mean)

    def moments(self, shape: tuple[int, ...], fans: Fans) -> Moments:  # noqa: D102
        bound = self.bound * self._scale(self.fan, fans)
        return Moments(self.mean, self.mean**2 + bound**2 / 3)


@dataclass(frozen=True)
class Constant(Law):
    """Every element equal to ``value``."""

    value: float = 0.0

    def __post_init__(self) -> None:
        _need(self, math.isfinite(self.value), "a finite value", self.value)

    def moments(self, shape: tuple[int, ...], fans: Fans) -> Moments:  # noqa: D102
        return Moments(self.value, self.value**2)


@dataclass(frozen=True)
class Orthogonal(Law):
    """Haar (semi-)orthogonal matrix times ``gain``; a kernel is flattened to (out, in/groups·∏kernel) first.

    ``delta`` puts the orthogonal (out, in) matrix at the kernel's centre and zeros around it (Xiao et al. 2018).
    """

    gain: float = 1.0
    delta: bool = False

    def __post_init__(self) -> None:
        _need_scale(self, "gain", self.gain)

    def moments(self, shape: tuple[int, ...], fans: Fans) -> Moments:  # noqa: D102
        rows, taps = (shape[0] if shape else 1), math.prod(shape[2:])
        columns = math.prod(shape[1:2]) if self.delta else math.prod(shape[1:])
        square = self.gain**2 / max(rows, columns, 1)  # the shorter side is orthonormal
        return Moments(0.0, square / taps if self.delta else square)


@dataclass(frozen=True)
class Mirrored(Law):
    """Linear at the start: W = gain·[[A, −A], [−A, A]] with A orthogonal (Balduzzi et al. 2017).

    With units in mirrored pairs φ(x) − φ(−x) is x itself for ReLU, GELU, SiLU and softplus, so that the whole
    network starts as an orthogonal linear map. The first layer has no mirrored ``inputs``, the last no
    mirrored ``outputs``.
    """

    gain: float = 1.0
    inputs: bool = True
    outputs: bool = True
    delta: bool = False

    def __post_init__(self) -> None:
        _need_scale(self, "gain", self.gain)

    def moments(self, shape: tuple[int, ...], fans: Fans) -> Moments:  # noqa: D102
        rows = shape[0] // (2 if self.outputs else 1) if shape else 1
        columns = math.prod(shape[1:2]) // (2 if self.inputs else 1)
        taps = math.prod(shape[2:])
        if not self.delta:
            columns, taps = columns * taps, 1
        return Moments(0.0, self.gain**2 / max(rows, columns, 1) / taps)


@dataclass(frozen=True)
class Measured(Law):
    """What was read off given weights: mean, mean square and whether the matrix is orthogonal.

    ``row`` is E[w w'] of two weights of one output (entries of axis 0) where they are not independent: standardised
    weights sum to zero, so that it is negative. None: mean².
    """

    mean: float
    mean_square: float
    orthogonal: bool = False
    row: float | None = None

    def __post_init__(self) -> None:
        _need(self, math.isfinite(self.mean), "a finite mean", self.mean)
        possible = math.isfinite(self.mean_square) and self.mean_square >= self.mean**2 * (1 - 1e-6)
        _need(self, possible, f"a mean square of at least mean² = {self.mean**2:g}", self.mean_square)
        within = self.row is None or abs(self.row) <= self.mean_square * (1 + 1e-6)
        _need(self, within, "a product of two weights of a row within their mean square", self.row)

    def moments(self, shape: tuple[int, ...], fans: Fans) -> Moments:  # noqa: D102
        return Moments(self.mean, max(self.mean_square, self.mean**2))


ZERO = Constant(0.0)
ONE = Constant(1.0)
QUARTER = Constant(0.25)
UNIT = Normal(1.0)
SMALL = Normal(0.02)
HE = Normal(math.sqrt(2), fan="in")
HE_OUT = Normal(math.sqrt(2), fan="out")
LECUN = Normal(1.0, fan="in")
XAVIER = Uniform(math.sqrt(3), fan="average")
TORCH_DEFAULT = Uniform(1.0, fan="in")  # nn.Linear and nn.Conv: bound 1/√fan_in, so sw2 = 1/3


def variance(sw2: float) -> Normal:
    """The mean-field parametrisation Var W = sw2 / fan_in."""
    _need(LECUN, math.isfinite(sw2) and sw2 >= 0, "sw2 to be finite and not negative", sw2)
    return Normal(math.sqrt(sw2), fan="in")


LAWS: dict[str, type[Law]] = {
    law.__name__: law for law in (Normal, TruncatedNormal, Uniform, Constant, Orthogonal, Mirrored, Measured)
}
