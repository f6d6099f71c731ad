"""How the operations of initialisers act on laws: affine maps, erfinv of a uniform, mixtures, anything by a sample."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.special import erfinv, ndtr

from depthscale.build.sampling import draw
from depthscale.capture.laws import read_law
from depthscale.capture.program import words
from depthscale.graph import Law, ParameterSpec, laws
from depthscale.graph.laws import Fans

SAMPLE = 2**16  # elements drawn where an operation is applied to a law by sampling
WIDE = 6.0  # standard deviations beyond which a truncation changes nothing


@dataclass(frozen=True)
class Truncated:
    """shift + scale·z for a standard Gaussian z kept within (low, high)."""

    low: float
    high: float
    scale: float = 1.0
    shift: float = 0.0

    def law(self) -> Law:
        """As a law of the graph."""
        if self.low < -WIDE and self.high > WIDE:
            return laws.Normal(abs(self.scale), mean=self.shift)
        if self.shift == 0 and math.isclose(self.low, -self.high, rel_tol=1e-6):
            return laws.TruncatedNormal(abs(self.scale), self.high)
        inside = float(ndtr(self.high) - ndtr(self.low))
        low, high = (math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) for z in (self.low, self.high))
        mean = (low - high) / inside
        ends = [z * d if math.isfinite(z) else 0.0 for z, d in ((self.low, low), (self.high, high))]
        square = 1 + (ends[0] - ends[1]) / inside
        m = self.shift + self.scale * mean
        return laws.Measured(m, max(self.scale**2 * (square - mean**2), 0.0) + m * m)


Written = Law | Truncated


def plain(law: Written) -> Law:
    """As a law of the graph."""
    return law.law() if isinstance(law, Truncated) else law


def affine(law: Written, name: str, numbers: Sequence[float]) -> Written | None:
    """A law scaled or shifted by a number: mul, div, add, sub (with an alpha), neg."""
    if name == "neg":
        return mapped(law, -1.0, 0.0)
    if not numbers:
        return None
    number = float(numbers[0])
    alpha = float(numbers[1]) if len(numbers) > 1 else 1.0
    if name == "mul":
        return mapped(law, number, 0.0)
    if name == "div":
        return mapped(law, 1 / number, 0.0) if number else None
    return mapped(law, 1.0, alpha * number if name == "add" else -alpha * number)


def mapped(law: Written, scale: float, shift: float) -> Written:
    """The law of scale·w + shift."""
    if isinstance(law, Truncated):
        if scale < 0:
            law = Truncated(-law.high, -law.low, -law.scale, law.shift)
        return Truncated(law.low, law.high, law.scale * scale, law.shift * scale + shift)
    if isinstance(law, laws.Constant):
        return laws.Constant(scale * law.value + shift)
    if isinstance(law, laws.Normal):
        return laws.Normal(law.std * abs(scale), mean=scale * law.mean + shift)
    if isinstance(law, laws.Uniform):
        return laws.Uniform(law.bound * abs(scale), mean=scale * law.mean + shift)
    mean, square = law.moments((1,), Fans(1, 1))
    new = scale * mean + shift
    orthogonal = isinstance(law, laws.Measured) and law.orthogonal and shift == 0
    return laws.Measured(new, scale**2 * (square - mean**2) + new**2, orthogonal)


def elementwise(law: Written, name: str, numbers: Sequence[float]) -> Written | None:
    """The law of f(w): exactly for what initialisers do, by a sample for other functions; None for no function."""
    if name == "erfinv" and isinstance(law, laws.Uniform):
        low, high = (float(erfinv(min(max(law.mean + s * law.bound, -1.0), 1.0))) for s in (-1, 1))
        return Truncated(low * math.sqrt(2), high * math.sqrt(2), 1 / math.sqrt(2))
    if name in ("clamp", "clamp_min", "clamp_max") and isinstance(law, Truncated):
        return law  # the truncation it closes
    function = getattr(torch, name, None)
    if name not in _FUNCTIONS or function is None:
        return None
    if isinstance(law, laws.Constant):
        values = torch.tensor([law.value])
    else:
        values = draw(ParameterSpec((SAMPLE,), plain(law), Fans(1, 1)), 0, "sample")
    made = function(values, *numbers)
    return read_law(made) if bool(torch.isfinite(made.double().square()).all()) else None


_FUNCTIONS = words(
    "exp log sqrt square abs neg sin cos tanh sigmoid pow reciprocal rsqrt expm1 log1p clamp round floor sign"
)


def mixed(parts: Sequence[tuple[int, Law]]) -> Law:
    """The law of an element of a tensor whose parts (number of elements, law) have laws of their own."""
    found = {law for _, law in parts}
    if len(found) == 1:
        return parts[0][1]
    total = sum(n for n, _ in parts)
    moments = [(n / total, law.moments((n,), Fans(1, 1))) for n, law in parts]
    mean = sum(share * m.mean for share, m in moments)
    return laws.Measured(mean, max(sum(share * m.mean_square for share, m in moments), mean * mean))
