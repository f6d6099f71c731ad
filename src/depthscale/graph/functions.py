"""The elementwise functions that an ``Activation`` op can name, with their parameters and defaults.

Names and parameters are those of ``torch.nn.functional`` (and of ``torch`` for plain arithmetic), so that a captured
program and a network of the zoo say the same thing in the same words.
"""

import difflib
import math

from depthscale.errors import GraphError

Parameter = float | bool | str
Parameters = tuple[tuple[str, Parameter], ...]

FUNCTIONS: dict[str, dict[str, Parameter]] = {
    # activations
    "celu": {"alpha": 1.0},
    "elu": {"alpha": 1.0},
    "gelu": {"approximate": "none"},
    "hardshrink": {"lambd": 0.5},
    "hardsigmoid": {},
    "hardswish": {},
    "hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "identity": {},
    "leaky_relu": {"negative_slope": 0.01},
    "logsigmoid": {},
    "mish": {},
    "relu": {},
    "relu6": {},
    "rrelu": {"lower": 1 / 8, "upper": 1 / 3},
    "selu": {},
    "sigmoid": {},
    "silu": {},
    "softplus": {"beta": 1.0, "threshold": 20.0},
    "softshrink": {"lambd": 0.5},
    "softsign": {},
    "tanh": {},
    "tanhshrink": {},
    "threshold": {"threshold": 0.0, "value": 0.0},
    # arithmetic
    "abs": {},
    "affine": {"scale": 1.0, "shift": 0.0},
    "clamp": {"min": -math.inf, "max": math.inf},
    "cos": {},
    "erf": {},
    "exp": {},
    "log": {},
    "neg": {},
    "pow": {"exponent": 2.0},
    "reciprocal": {},
    "rsqrt": {},
    "sign": {},
    "sin": {},
    "sqrt": {},
    "square": {},
    "step": {},
}

ALIASES: dict[str, str] = {
    "swish": "silu",
    "leakyrelu": "leaky_relu",
    "hard_swish": "hardswish",
    "hard_sigmoid": "hardsigmoid",
    "hard_tanh": "hardtanh",
    "linear": "identity",
    "none": "identity",
}


def canonical(name: str, given: Parameters) -> tuple[str, Parameters]:
    """The function's one name and its full parameters, defaults filled in, sorted by name.

    Raises GraphError for an unknown function (the nearest is suggested) or parameter.
    """
    lowered = name.lower()
    name = ALIASES.get(lowered, lowered)
    if name not in FUNCTIONS:
        near = difflib.get_close_matches(name, [*FUNCTIONS, *ALIASES], 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(FUNCTIONS))}"
        raise GraphError(f"unknown activation {name!r}{hint}")
    defaults = FUNCTIONS[name]
    values = dict(defaults)
    for key, value in given:
        if key not in defaults:
            takes = ", ".join(defaults) or "none"
            raise GraphError(f"activation {name!r} has no parameter {key!r}; its parameters are: {takes}")
        values[key] = _coerce(name, key, value, defaults[key])
    return name, tuple(sorted(values.items()))


def _coerce(name: str, key: str, value: Parameter, default: Parameter) -> Parameter:
    if isinstance(default, str):
        if isinstance(value, str):
            return value
    elif isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value):
        return float(value)
    raise GraphError(
        f"activation {name!r}: expected {key} to be a {'word' if isinstance(default, str) else 'number'}, got {value!r}"
    )
