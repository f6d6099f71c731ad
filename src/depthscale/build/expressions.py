"""Every op as a Python expression of torch: what built modules execute is what generated sources print.

``expression(op, site)`` is the op's functional form; a node whose layer is a module of its own is a call of that
module instead (see ``plan``).
"""

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from depthscale.build.layers import normalised, short
from depthscale.graph import Op, Shape, ops
from depthscale.graph.rules import Rule

expression: Rule[str] = Rule("build", "build/expressions.py")


@dataclass(frozen=True)
class Site:
    """Where an op stands: the expressions and shapes of its inputs and the expression of the module it reads from."""

    args: tuple[str, ...]
    shapes: tuple[Shape, ...]
    leaf: str = ""

    @property
    def x(self) -> str:
        """The first input, ready to be followed by a dot."""
        return atom(self.args[0])

    @property
    def rank(self) -> int:
        """Number of axes of the first input."""
        return len(self.shapes[0])

    def weight(self, name: str, present: object = True) -> str:
        """The parameter ``name``, or None where it is absent."""
        return f"{self.leaf}.{name}" if present is not None else "None"


@lru_cache(maxsize=8192)
def atom(text: str) -> str:
    """The expression, in parentheses if an operator or a dot behind it would tear it apart."""
    node = ast.parse(text, mode="eval").body
    return text if isinstance(node, ast.Name | ast.Call | ast.Attribute | ast.Subscript) else f"({text})"


def call(function: str, *args: object, options: Sequence[tuple[str, Any, Any]] = ()) -> str:
    """A call; options are (name, value, default), those at their default left out."""
    words = [str(a) for a in args]
    words += [f"{name}={literal(value)}" for name, value, default in options if value != default]
    return f"{function}({', '.join(words)})"


def literal(value: Any) -> str:
    """A number, word, or tuple of them as Python."""
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, float):
        return f'float("{float(value)}")' if math.isinf(value) else repr(float(value))
    # words of a graph are not trusted: only repr knows how to quote what is more than a word
    return f'"{value}"' if isinstance(value, str) and value.isidentifier() else repr(value)


# --- sources and contractions -----------------------------------------------------------------------------------


@expression.register(ops.Parameter)
def _(op: ops.Parameter, at: Site) -> str:
    return at.weight("weight")


@expression.register(ops.Constant)
def _(op: ops.Constant, at: Site) -> str:
    return at.weight("value")


@expression.register(ops.Linear)
def _(op: ops.Linear, at: Site) -> str:
    weight = at.weight("weight") if op.weight is not None else at.args[1]
    return call("F.linear", at.args[0], weight, *([at.weight("bias")] if op.bias is not None else []))


@expression.register(ops.Conv)
def _(op: ops.Conv, at: Site) -> str:
    weight = at.weight("weight") if op.weight is not None else at.args[1]
    return call(
        f"F.conv{len(op.kernel)}d",
        at.args[0],
        weight,
        *([at.weight("bias")] if op.bias is not None else []),
        options=[
            ("stride", short(op.stride), 1),
            ("padding", short(op.padding), 0),
            ("dilation", short(op.dilation), 1),
            ("groups", op.groups, 1),
        ],
    )


@expression.register(ops.ConvTranspose)
def _(op: ops.ConvTranspose, at: Site) -> str:
    return call(
        f"F.conv_transpose{len(op.kernel)}d",
        at.args[0],
        at.weight("weight"),
        at.weight("bias", op.bias),
        options=[
            ("stride", short(op.stride), 1),
            ("padding", short(op.padding), 0),
            ("output_padding", short(op.output_padding), 0),
            ("groups", op.groups, 1),
            ("dilation", short(op.dilation), 1),
        ],
    )


@expression.register(ops.MatMul)
def _(op: ops.MatMul, at: Site) -> str:
    return f"{atom(at.args[0])} @ {atom(at.args[1])}"


@expression.register(ops.Attention)
def _(op: ops.Attention, at: Site) -> str:
    q, k, v, *mask = at.args
    hidden = op.causal and mask  # torch takes a mask or is_causal, not both
    drop = f"{literal(op.dropout)} if self.training else 0.0"
    words = [q, k, v] + ([f"causal({mask[0]}, {q}, {k})"] if hidden else mask)
    words += [f"dropout_p={drop}"] * (op.dropout > 0) + ["is_causal=True"] * (op.causal and not mask)
    words += [f"scale={literal(op.scale)}"] * (op.scale != 0)
    return call("F.scaled_dot_product_attention", *words)


@expression.register(ops.Embedding)
def _(op: ops.Embedding, at: Site) -> str:
    return call("F.embedding", at.args[0], at.weight("weight"))


# --- normalisation ----------------------------------------------------------------------------------------------


@expression.register(ops.BatchNorm)
def _(op: ops.BatchNorm, at: Site) -> str:
    # running statistics make it a module wherever it stands; beyond three positional axes torch has none to offer
    return f"{at.leaf}({at.args[0]})" if at.rank <= 5 else f"{at.leaf}({at.x}.flatten(2)).view({at.x}.shape)"


@expression.register(ops.InstanceNorm)
def _(op: ops.InstanceNorm, at: Site) -> str:
    weights = _weights(op, at, "weight", "bias")
    return call("F.instance_norm", at.args[0], *weights, options=[("eps", op.eps, 1e-5)])


@expression.register(ops.GroupNorm)
def _(op: ops.GroupNorm, at: Site) -> str:
    weights = _weights(op, at, "weight", "bias")
    return call("F.group_norm", at.args[0], op.groups, *weights, options=[("eps", op.eps, 1e-5)])


@expression.register(ops.LayerNorm)
def _(op: ops.LayerNorm, at: Site) -> str:
    weights = _weights(op, at, "weight", "bias")
    return call("F.layer_norm", at.args[0], _sizes(op, at), *weights, options=[("eps", op.eps, 1e-5)])


@expression.register(ops.RMSNorm)
def _(op: ops.RMSNorm, at: Site) -> str:
    return call("F.rms_norm", at.args[0], _sizes(op, at), *_weights(op, at, "weight"), options=[("eps", op.eps, None)])


def _sizes(op: ops.LayerNorm | ops.RMSNorm, at: Site) -> str:
    sizes = normalised(op, at.shapes[0])
    return literal((sizes,) if isinstance(sizes, int) else sizes)


def _weights(op: Op, at: Site, *names: str) -> list[str]:
    return [f"{name}={at.weight(name)}" for name in names if getattr(op, name) is not None]


# --- elementwise ------------------------------------------------------------------------------------------------

_FUNCTIONAL = {"celu", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid"}
_FUNCTIONAL |= {"mish", "relu", "relu6", "selu", "silu", "softplus", "softshrink", "softsign", "tanhshrink"}
_PLAIN = {"abs", "cos", "erf", "exp", "log", "reciprocal", "rsqrt", "sigmoid", "sign", "sin", "sqrt", "square", "tanh"}


@expression.register(ops.Activation)
def _(op: ops.Activation, at: Site) -> str:
    name, x = op.function, at.args[0]
    p = dict(op.parameters)
    if name in _FUNCTIONAL:
        return call(f"F.{name}", x, options=[(k, v, None) for k, v in op.given.items()])
    if name in _PLAIN:
        return f"torch.{name}({x})"
    if name == "rrelu":
        return f"F.rrelu({x}, {literal(p['lower'])}, {literal(p['upper'])}, self.training)"
    if name == "threshold":
        return f"F.threshold({x}, {literal(p['threshold'])}, {literal(p['value'])})"
    return _arithmetic(name, p, at)


def _arithmetic(name: str, p: dict[str, Any], at: Site) -> str:
    if name == "identity":
        return at.args[0]
    if name == "affine":
        scaled = f"{literal(p['scale'])} * {at.x}" if p["scale"] != 1 else at.args[0]
        if p["shift"] == 0:
            return scaled if p["scale"] != 1 else at.args[0]
        return f"{scaled} {'-' if p['shift'] < 0 else '+'} {literal(abs(p['shift']))}"
    if name == "clamp":
        given = [(k, p[k], bound) for k, bound in (("min", -math.inf), ("max", math.inf))]
        return call(f"{at.x}.clamp", options=given) if any(v != d for _, v, d in given) else at.args[0]
    if name == "neg":
        return f"-{at.x}"
    if name == "pow":
        return f"{at.x}.pow({literal(p['exponent'])})"
    if name == "step":
        return f"({at.x} > 0).to({at.x}.dtype)"
    from depthscale.errors import MissingRuleError

    raise MissingRuleError(
        f"there is no build rule for activation {name!r}; add it to build/expressions.py to use it here"
    )


@expression.register(ops.PReLU)
def _(op: ops.PReLU, at: Site) -> str:
    return call("F.prelu", at.args[0], at.weight("weight"))


@expression.register(ops.Scale)
def _(op: ops.Scale, at: Site) -> str:
    weight = at.weight("weight")
    if op.axis is not None and (behind := at.rank - 1 - op.axis % at.rank):
        weight += f".view({', '.join(['-1'] + ['1'] * behind)})"
    return f"{at.x} * {weight}"


@expression.register(ops.Add, ops.Multiply, ops.Subtract, ops.Divide)
def _(op: Op, at: Site) -> str:
    sign = {"Add": "+", "Multiply": "*", "Subtract": "-", "Divide": "/"}[type(op).__name__]
    return f" {sign} ".join(map(atom, at.args))


@expression.register(ops.Softmax)
def _(op: ops.Softmax, at: Site) -> str:
    if op.causal:
        return f"causal_logits({at.args[0]}).softmax(-1)"
    return f"{at.x}.softmax({op.axis})"


@expression.register(ops.Dropout)
def _(op: ops.Dropout, at: Site) -> str:
    if not op.channels:
        return f"F.dropout({at.args[0]}, {literal(op.p)}, self.training)"
    if at.rank in (4, 5):
        return f"F.dropout{at.rank - 2}d({at.args[0]}, {literal(op.p)}, self.training)"
    ones = f"{at.x}.new_ones({at.x}.shape[:2]{' + ' + literal((1,) * (at.rank - 2)) if at.rank > 2 else ''})"
    return f"{at.x} * F.dropout({ones}, {literal(op.p)}, self.training)"


@expression.register(ops.DropPath)
def _(op: ops.DropPath, at: Site) -> str:
    return f"drop_path({at.args[0]}, {literal(op.p)}, self.training)"


# --- pooling, reduction, layout ---------------------------------------------------------------------------------


@expression.register(ops.MaxPool, ops.AvgPool)
def _(op: ops.MaxPool | ops.AvgPool, at: Site) -> str:
    kind = "max" if isinstance(op, ops.MaxPool) else "avg"
    options: list[tuple[str, Any, Any]] = [
        ("stride", short(op.stride), short(op.kernel)),
        ("padding", short(op.padding), 0),
        ("ceil_mode", op.ceil, False),
        ("count_include_pad", getattr(op, "count_padding", True), True),
    ]
    return call(f"F.{kind}_pool{len(op.kernel)}d", at.args[0], short(op.kernel), options=options)


@expression.register(ops.AdaptivePool)
def _(op: ops.AdaptivePool, at: Site) -> str:
    return call(f"F.adaptive_{op.kind}_pool{len(op.size)}d", at.args[0], short(op.size))


@expression.register(ops.Reduce)
def _(op: ops.Reduce, at: Site) -> str:
    if not op.axes:  # torch reads an empty list as "all axes"
        return at.args[0]
    axes = tuple(sorted({a % at.rank for a in op.axes}))
    method = {"mean": "mean", "sum": "sum", "max": "amax"}[op.kind]
    return call(f"{at.x}.{method}", literal(short(axes)), options=[("keepdim", op.keep, False)])


@expression.register(ops.Flatten)
def _(op: ops.Flatten, at: Site) -> str:
    return call(f"{at.x}.flatten", *([op.start] if op.stop == -1 else [op.start, op.stop]))


@expression.register(ops.Unflatten)
def _(op: ops.Unflatten, at: Site) -> str:
    return f"{at.x}.unflatten({op.axis}, {literal(op.sizes)})"


@expression.register(ops.Reshape)
def _(op: ops.Reshape, at: Site) -> str:
    return f"{at.x}.reshape({literal(op.shape)})"


@expression.register(ops.Permute)
def _(op: ops.Permute, at: Site) -> str:
    axes = tuple(a % at.rank for a in op.axes)
    moved = [i for i, a in enumerate(axes) if i != a]
    return f"{at.x}.transpose({moved[0]}, {moved[1]})" if len(moved) == 2 else f"{at.x}.permute({literal(axes)})"


@expression.register(ops.Squeeze)
def _(op: ops.Squeeze, at: Site) -> str:
    return f"{at.x}.squeeze({op.axis})"


@expression.register(ops.Unsqueeze)
def _(op: ops.Unsqueeze, at: Site) -> str:
    return f"{at.x}.unsqueeze({op.axis})"


@expression.register(ops.Expand)
def _(op: ops.Expand, at: Site) -> str:
    return f"{at.x}.expand({literal(op.shape)})"


def _index(at: Site, axis: int, entry: str) -> str:
    axis %= at.rank
    if axis == at.rank - 1 and axis > 1:
        return f"{at.x}[..., {entry}]"
    return f"{at.x}[{', '.join([':'] * axis + [entry])}]"


@expression.register(ops.Slice)
def _(op: ops.Slice, at: Site) -> str:
    start = str(op.start) if op.start else ""
    stop = str(op.stop) if op.stop is not None else ""
    return _index(at, op.axis, f"{start}:{stop}" + (f":{op.step}" if op.step != 1 else ""))


@expression.register(ops.Select)
def _(op: ops.Select, at: Site) -> str:
    return _index(at, op.axis, str(op.index))


@expression.register(ops.Take)
def _(op: ops.Take, at: Site) -> str:
    return _index(at, op.axis, f"[{', '.join(map(str, op.index))}]")


@expression.register(ops.Pad)
def _(op: ops.Pad, at: Site) -> str:
    return call("F.pad", at.args[0], literal(op.pads), options=[("value", op.value, 0.0)])


@expression.register(ops.Roll)
def _(op: ops.Roll, at: Site) -> str:
    return f"{at.x}.roll({literal(op.shifts)}, {literal(op.axes)})"


@expression.register(ops.Upsample)
def _(op: ops.Upsample, at: Site) -> str:
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(op.factors)] if op.mode == "bilinear" else op.mode
    return call("F.interpolate", at.args[0], options=[("scale_factor", op.factors, None), ("mode", mode, "nearest")])


@expression.register(ops.Resize)
def _(op: ops.Resize, at: Site) -> str:
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(op.size)] if op.mode == "bilinear" else op.mode
    options: list[tuple[str, Any, Any]] = [("size", op.size, None), ("mode", mode, "nearest")]
    return call("F.interpolate", at.args[0], options=[*options, ("align_corners", op.corners or None, None)])


@expression.register(ops.Concat)
def _(op: ops.Concat, at: Site) -> str:
    return f"torch.cat([{', '.join(at.args)}], {op.axis})"


@expression.register(ops.Stack)
def _(op: ops.Stack, at: Site) -> str:
    return f"torch.stack([{', '.join(at.args)}], {op.axis})"
