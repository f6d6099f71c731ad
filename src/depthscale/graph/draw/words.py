"""Words and widths: what an op is called in a drawing, which family it belongs to, and how wide text can be.

The fields of an op that a reader of an architecture asks for are said, the laws of its parameters are not. An op
without a line here is named after its class with the fields that differ from their defaults, so nothing is hidden.
"""

from collections.abc import Sequence
from dataclasses import fields
from functools import singledispatch

from depthscale.graph import ops
from depthscale.graph.graph import Shape
from depthscale.graph.laws import Law
from depthscale.graph.op import Op

FAMILIES = {
    "contraction": "weights",
    "norm": "normalisation",
    "activation": "activation",
    "pool": "pooling",
    "join": "join",
    "layout": "layout",
    "source": "data and constants",
}

_FAMILY: dict[type[Op], str] = {
    **dict.fromkeys([*ops.CONTRACTIONS, ops.Embedding, ops.Scale], "contraction"),
    **dict.fromkeys(ops.NORMS, "norm"),
    **dict.fromkeys([ops.Activation, ops.PReLU, ops.Softmax, ops.Dropout, ops.DropPath], "activation"),
    **dict.fromkeys([ops.MaxPool, ops.AvgPool, ops.AdaptivePool, ops.Reduce], "pool"),
    **dict.fromkeys([ops.Add, ops.Multiply, ops.Subtract, ops.Divide, ops.Concat, ops.Stack], "join"),
    **dict.fromkeys([ops.Input, ops.Parameter, ops.Constant], "source"),
}


def family(op: Op) -> str:
    """The key of FAMILIES that an op belongs to."""
    return _FAMILY.get(type(op), "layout")


def sizes(values: Sequence[int]) -> str:
    """Sizes joined by a cross: 3×3."""
    return "×".join(map(str, values))


def shape_words(shape: Shape, batched: bool = True) -> str:
    """A shape without its batch axis: "64 × 56 × 56"."""
    inner = shape[1:] if batched else shape
    return " × ".join(map(str, inner)) if inner else "scalar"


def count_words(n: int) -> str:
    """A count a reader can hold: 930, 61.7 k, 25.6 M, 4.09 G; at least three digits, never more than is known."""
    if n < 10_000:
        return f"{n:,}"
    for unit, suffix in ((1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"), (1e15, "P")):
        if n < 999.5 * unit or suffix == "P":
            value = n / unit
            return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f} {suffix}"
    raise AssertionError("unreachable: the last unit takes everything")


def _join(*parts: str) -> str:
    return ", ".join(p for p in parts if p)


def _unless(value: object, usual: object, words: str) -> str:
    return words if value != usual else ""


@singledispatch
def describe(op: Op) -> str:
    """An op in a few words: "conv 3×3, 64, stride 2"."""
    shown = [
        f"{f.name} {_plain(getattr(op, f.name))}"
        for f in fields(op)
        if getattr(op, f.name) != f.default and f.name != "shared" and not isinstance(getattr(op, f.name), Law)
    ]
    return _join(_spaced(type(op).__name__), *shown)


def _plain(value: object) -> str:
    return sizes(value) if isinstance(value, tuple) else str(value)


def _spaced(name: str) -> str:
    """BatchNorm as "batch norm"; MatMul as "mat mul"; RMSNorm as "RMS norm"."""
    out = ""
    for i, letter in enumerate(name):
        starts = letter.isupper() and i > 0 and (not name[i - 1].isupper() or name[i + 1 : i + 2].islower())
        out += (" " if starts else "") + letter
    return " ".join(word if word.isupper() and len(word) > 1 else word.lower() for word in out.split())


@describe.register
def _(op: ops.Input) -> str:
    kind = "" if op.dtype == "float" else f" ({op.dtype})"
    return f"input {sizes(op.shape)}{kind}" if op.shape else f"input{kind}"


@describe.register
def _(op: ops.Parameter) -> str:
    return f"parameter {sizes(op.shape)}"


@describe.register
def _(op: ops.Constant) -> str:
    return f"constant {sizes(op.shape)}" if op.shape else "constant"


@describe.register
def _(op: ops.Linear) -> str:
    return _join(f"linear {op.out_features}", _unless(op.weight is None, False, "fed weight"))


@describe.register(ops.Conv)
@describe.register(ops.ConvTranspose)
def _(op: ops.Conv | ops.ConvTranspose) -> str:
    axes = len(op.kernel)
    return _join(
        f"{'conv' if isinstance(op, ops.Conv) else 'transposed conv'} {sizes(op.kernel)}",
        str(op.out_channels),
        _unless(op.stride, (1,) * axes, f"stride {_side(op.stride)}"),
        _unless(op.dilation, (1,) * axes, f"dilation {_side(op.dilation)}"),
        _unless(op.groups, 1, f"{op.groups} groups"),
        _unless(op.weight is None, False, "fed weight"),
    )


def _side(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else sizes(values)


@describe.register
def _(op: ops.Attention) -> str:
    return _join("attention", _unless(op.causal, False, "causal"))


@describe.register
def _(op: ops.Embedding) -> str:
    return f"embedding {op.entries}×{op.width}"


@describe.register
def _(op: ops.GroupNorm) -> str:
    return f"group norm, {op.groups}"


@describe.register(ops.BatchNorm)
@describe.register(ops.LayerNorm)
@describe.register(ops.RMSNorm)
@describe.register(ops.InstanceNorm)
def _(op: Op) -> str:
    return _spaced(type(op).__name__)


@describe.register
def _(op: ops.Activation) -> str:
    given = " ".join(f"{_number(v)}" if len(op.parameters) == 1 else f"{k} {_number(v)}" for k, v in op.given.items())
    return f"{op.function.replace('_', ' ')} {given}".strip()


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@describe.register
def _(op: ops.PReLU) -> str:
    return _join("prelu", _unless(op.per_channel, False, "per channel"))


@describe.register
def _(op: ops.Scale) -> str:
    return "learned scale" if op.axis is not None else "learned gain"


@describe.register
def _(op: ops.Dropout) -> str:
    return f"{'channel ' if op.channels else ''}dropout {_number(op.p)}"


@describe.register
def _(op: ops.DropPath) -> str:
    return f"drop path {_number(op.p)}"


@describe.register(ops.MaxPool)
@describe.register(ops.AvgPool)
def _(op: ops.MaxPool | ops.AvgPool) -> str:
    name = "max pool" if isinstance(op, ops.MaxPool) else "avg pool"
    return _join(f"{name} {sizes(op.kernel)}", _unless(op.stride, op.kernel, f"stride {_side(op.stride)}"))


@describe.register
def _(op: ops.AdaptivePool) -> str:
    return f"{op.kind} pool to {sizes(op.size)}"


@describe.register
def _(op: ops.Reduce) -> str:
    return f"{op.kind} over {'axis' if len(op.axes) == 1 else 'axes'} {', '.join(map(str, op.axes))}"


@describe.register
def _(op: ops.Softmax) -> str:
    return "softmax" if op.axis == -1 else f"softmax over axis {op.axis}"


@describe.register
def _(op: ops.Concat) -> str:
    return "concat" if op.axis == 1 else f"concat along {op.axis}"


@describe.register
def _(op: ops.Slice) -> str:
    stop = "" if op.stop is None else op.stop
    step = "" if op.step == 1 else f":{op.step}"
    return f"slice {op.start}:{stop}{step} of axis {op.axis}"


@describe.register
def _(op: ops.Select) -> str:
    return f"select {op.index} of axis {op.axis}"


# Advance widths in thousandths of the font size: the widest that common sans-serif faces (DejaVu, Verdana-like) set.
_WIDTHS = {
    **dict.fromkeys("ijl'|", 345),
    **dict.fromkeys('ftrI()[]{}/\\-.,:;! ·"', 470),
    **dict.fromkeys("mwMW@%—→←", 1010),
    **dict.fromkeys("×+=<>~_#&GOQDHNU–", 850),
}
_USUAL = 700


def text_width(text: str, size: float) -> float:
    """An upper bound on how wide a line of text is set at this font size, in the same unit."""
    return sum(_WIDTHS.get(c, _USUAL if c < "\u2000" else 1010) for c in text) * size / 1000
