"""Where the usual initialisations put a network in the (sw2, sb2) plane.

All are for square layers (fan_in = fan_out), so Xavier's 2/(fan_in + fan_out) is LeCun's 1/fan_in.
"""

from dataclasses import dataclass
from typing import Any

from depthscale.errors import TheoryError
from depthscale.theory.activations import Activation
from depthscale.theory.resolve import activation as resolve

# torch.nn.init.calculate_gain, squared
_GAINS = {"tanh": 25 / 9, "relu": 2.0, "selu": 9 / 16}


@dataclass(frozen=True)
class Initialisation:
    """A usual initialisation: its name, and its Var W · fan_in and Var b."""

    name: str
    sw2: float
    sb2: float


def initialisations(activation: Any, fan_in: int = 256) -> tuple[Initialisation, ...]:
    """PyTorch's default, LeCun and Xavier, Xavier with torch's gain where it has one, and Kaiming.

    fan_in matters to PyTorch's default biases alone: U(±1/√fan_in) has variance 1/(3 fan_in), like the weights.
    """
    if fan_in < 1:
        raise TheoryError(f"fan_in must be at least 1, but got {fan_in}.")
    act = resolve(activation)
    found = [
        Initialisation("PyTorch default", 1 / 3, 1 / (3 * fan_in)),
        Initialisation("LeCun, Xavier", 1.0, 0.0),
        Initialisation("Kaiming", 2.0, 0.0),
    ]
    gain = _gain(act)
    if gain is not None and gain not in (1.0, 2.0):
        found.append(Initialisation("Xavier with torch's gain", gain, 0.0))
    return tuple(sorted(found, key=lambda i: i.sw2))


def _gain(act: Activation) -> float | None:
    if act.name == "leaky_relu":
        slope = dict(act.params).get("negative_slope", 0.01)
        return 2 / (1 + float(slope) ** 2)
    return _GAINS.get(act.name)
