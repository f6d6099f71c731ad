"""Elementwise functions, sums, products, quotients, and the normalisations that programs write out with them."""

import math
from typing import Any

from torch.fx import Node as FxNode

from depthscale.capture.mapper import Mapper, Rule, rule
from depthscale.capture.program import operation, shape_of, words
from depthscale.capture.rules.contraction import scaled
from depthscale.capture.rules.layout import expand, reshape
from depthscale.capture.values import Data, Noise, Static, Value
from depthscale.graph import functions, ops

# functions whose ATen name and parameters are those of the graph's vocabulary
_PLAIN = words(
    "relu relu6 sigmoid tanh silu mish selu hardswish hardsigmoid softsign log_sigmoid exp log sqrt rsqrt reciprocal "
    "abs neg sin cos erf sign square elu celu leaky_relu gelu softplus hardtanh hardshrink softshrink threshold clamp"
)
_NAMES = {"log_sigmoid": "logsigmoid"}


def _plain(name: str) -> Rule:
    def map_function(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
        known = functions.FUNCTIONS[_NAMES.get(name, name)]
        given = tuple((k, _parameter(m, k, v)) for k, v in a.items() if k in known and v is not None)
        return function(m, m.data(a["self"]), _NAMES.get(name, name), *given)

    return map_function


def _parameter(m: Mapper, name: str, value: Any) -> str | float:
    if isinstance(value, str):
        return value
    number = float(value) if isinstance(value, bool) else m.constant(value)
    if number is None:
        raise m.fail(f"expected {name} to be a number")
    return number


for _name in _PLAIN:
    rule(_name)(_plain(_name))


def function(m: Mapper, x: Data, name: str, *parameters: tuple[str, Any]) -> Data:
    """An elementwise function of data."""
    return m.emit(ops.Activation(name, parameters), x, leaf=name)


@rule("clamp_min", "clamp_max")
def _clamp_one(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    end = "min" if "min" in a else "max"
    bound = m.constant(a[end])
    if bound is None:
        raise m.fail("expected a bound that is a number")
    return function(m, m.data(a["self"]), "clamp", (end, bound))


@rule("log1p", "expm1", "exp2", "log2", "log10")
def _shifted(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    name = operation(node)
    if name == "log1p":
        return function(m, affine(m, x, 1.0, 1.0), "log")
    if name == "expm1":
        return affine(m, function(m, x, "exp"), 1.0, -1.0)
    if name == "exp2":
        return function(m, affine(m, x, math.log(2)), "exp")
    return affine(m, function(m, x, "log"), 1 / math.log(2 if name == "log2" else 10))


@rule("prelu")
def _prelu(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x, weight = m.data(a["self"]), a["weight"]
    law, source = m.weight(weight, weight.shape)
    if law is None:
        raise m.fail("expected a PReLU with a weight of its own")
    return m.emit(ops.PReLU(math.prod(weight.shape) > 1, law), x, leaf="act", weight=source)


@rule("rrelu")
def _rrelu(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    return function(m, m.data(a["self"]), "rrelu", ("lower", float(a["lower"])), ("upper", float(a["upper"])))


@rule("glu")
def _glu(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    from depthscale.capture.rules.layout import cut

    x = m.data(a["self"])
    axis = int(a["dim"]) % len(x.shape)
    half = x.shape[axis] // 2
    gate = function(m, cut(m, x, axis, half, 2 * half), "sigmoid")
    return m.emit(ops.Multiply(), cut(m, x, axis, 0, half), gate, leaf="mul")


def affine(m: Mapper, x: Data, scale: float = 1.0, shift: float = 0.0) -> Data:
    """scale · x + shift; x itself where that changes nothing."""
    if scale == 1 and shift == 0:
        return x
    y = m.emit(ops.Activation("affine", (("scale", scale), ("shift", shift))), x, leaf="affine")
    return y.hiding(x.hidden)


# --- sums -------------------------------------------------------------------------------------------------------


@rule("add", "sub", "rsub", "subtract", "__iadd__")
def _add(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x, y, alpha = a["self"], a["other"], float(a.get("alpha", 1) or 1)
    name = operation(node)
    if name == "rsub":
        x, y, name = y, x, "sub"
    sign = -alpha if name.startswith("sub") else alpha
    if (number := m.constant(y)) is not None and isinstance(x, Data) and _covers(x, node):
        return x if _masks(number) else affine(m, x, 1.0, sign * number)
    if (number := m.constant(x)) is not None and isinstance(y, Data) and _covers(y, node):
        return affine(m, y, sign, number)
    if sign > 0 and (hidden := _hidden(m, x, y)) is not None:
        return hidden
    return _sum(m, m.data(x), m.data(y), sign)


def _covers(x: Data, node: FxNode) -> bool:
    """Whether the result has the shape of x: nothing is broadcast."""
    return x.shape == shape_of(node)


def _masks(number: float) -> bool:
    return number < -50


def _sum(m: Mapper, x: Data, y: Data, sign: float) -> Data:
    y = scaled(m, y, abs(sign))
    y_sum = m.emit(ops.Add() if sign > 0 else ops.Subtract(), x, y, leaf="add" if sign > 0 else "sub")
    return y_sum.hiding(x.hidden or y.hidden)


def _hidden(m: Mapper, x: Value, y: Value) -> Data | None:
    """Logits plus a mask of large negative numbers: the logits, with the hidden entries remembered."""
    from depthscale.capture.rules.attention import hide

    x, y = (y, x) if isinstance(x, Static) else (x, y)
    if not (isinstance(x, Data) and isinstance(y, Static)) or m.source(y).names:
        return None
    value = m.evaluate(y)
    if value.is_floating_point() and value.numel() and float(value.min()) < -50:
        return hide(m, x, value > -50)
    return None


# --- products ---------------------------------------------------------------------------------------------------


@rule("mul", "multiply", "__imul__")
def _mul(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x, y = a["self"], a["other"]
    for one, other in ((x, y), (y, x)):
        if isinstance(one, Noise):
            return _dropped(m, m.data(other), one)
    for one, other in ((x, y), (y, x)):
        if isinstance(one, Data) and (number := m.constant(other)) is not None and _covers(one, node):
            return scaled(m, one, number)
    for one, other in ((x, y), (y, x)):
        fits = isinstance(one, Data) and isinstance(other, Static) and _covers(one, node)
        if fits and (scale := _scale(m, one, other)) is not None:
            return scale
    return product(m, m.data(x), m.data(y))


def _dropped(m: Mapper, x: Data, noise: Noise) -> Data:
    p = 1 - noise.keep
    if p <= 0:
        return x
    whole = all(n == 1 for n in noise.shape[1:])
    return m.emit(ops.DropPath(p) if whole else ops.Dropout(p), x, leaf="drop_path" if whole else "dropout")


def _scale(m: Mapper, x: Data, factor: Static) -> Data | None:
    """A learned factor per entry of one axis."""
    source = m.source(factor)
    if source.steps is None or len(source.names) != 1:
        return None
    shape = (1,) * (len(x.shape) - len(factor.shape)) + factor.shape
    long = [i for i, n in enumerate(shape) if n > 1]
    if len(long) > 1 or (long and shape[long[0]] != x.shape[long[0]]):
        return None
    law = m.laws(source.names[0])
    axis = long[0] if long else None
    made = m.op(x)
    if isinstance(made, ops.RMSNorm) and made.weight is None and made.axes == 1 and axis == len(x.shape) - 1:
        fed = Data(m.inner(x), x.shape, x.other)
        return m.emit(ops.RMSNorm(1, made.eps, law), fed, leaf="norm", weight=source)
    return m.emit(ops.Scale(axis, law), x, leaf="scale", weight=_flat(source, factor))


def _flat(source: Any, factor: Static) -> Any:
    """The source of a factor as a vector."""
    import torch

    from depthscale.capture.mapper import Source, Step

    if len(factor.shape) == 1:
        return source
    return Source(source.names, (*source.steps, Step(torch.ops.aten.view.default, ([math.prod(factor.shape)],))))


def product(m: Mapper, x: Data, y: Data) -> Data:
    """x · y, recognising normalisation by a root mean square written out."""
    if x.draft == y.draft:
        return function(m, x, "square")
    for one, other in ((x, y), (y, x)):
        if (normed := _rms(m, one, other)) is not None:
            return normed
    return m.emit(ops.Multiply(), x, y, leaf="mul")


def _peel(m: Mapper, draft: int) -> int:
    """The draft behind expansions and reshapes that only add axes of size 1."""
    while isinstance(m.drafts[draft].op, ops.Expand):
        draft = m.inner(draft)
    return draft


def _rms(m: Mapper, x: Data, factor: Data) -> Data | None:
    """x · rsqrt(mean(x²) + ε)."""
    draft = _peel(m, factor.draft)
    if m.drafts[draft].op != ops.Activation("rsqrt"):
        return None
    return _normalised(m, x, m.inner(draft))


def _normalised(m: Mapper, x: Data, draft: int) -> Data | None:
    """x over the root of a draft that is a mean or sum of x² over axes, plus ε."""
    eps, op = 0.0, m.drafts[draft].op
    if isinstance(op, ops.Activation) and op.function in ("affine", "clamp"):
        given = dict(op.parameters)
        if op.function == "affine" and given["scale"] != 1:
            return None
        eps = float(given["shift" if op.function == "affine" else "min"])
        draft = m.inner(draft)
        op = m.drafts[draft].op
    if not isinstance(op, ops.Reduce) or op.kind == "max" or not (op.keep or not op.axes):
        return None
    square = m.drafts[m.inner(draft)]
    if not _is_square(square.op) or square.inputs[0] != x.draft:
        return None
    n = math.prod(x.shape[i] for i in op.axes)
    y = rms_norm(m, x, tuple(i % len(x.shape) for i in op.axes), max(eps, 0.0) / (n if op.kind == "sum" else 1))
    return y if op.kind == "mean" else affine(m, y, 1 / math.sqrt(n))


def _is_square(op: Any) -> bool:
    return op in (ops.Activation("square"), ops.Activation("pow", (("exponent", 2.0),)))


def rms_norm(m: Mapper, x: Data, axes: tuple[int, ...], eps: float) -> Data:
    """x over its root mean square over any axes."""
    n = len(x.shape)
    if axes == tuple(range(n - len(axes), n)):
        return m.emit(ops.RMSNorm(len(axes), eps, None), x, leaf="norm")
    order = (*[i for i in range(n) if i not in axes], *axes)
    back = tuple(order.index(i) for i in range(n))
    y = m.emit(ops.Permute(order), x, leaf="permute")
    y = m.emit(ops.RMSNorm(len(axes), eps, None), y, leaf="norm")
    return m.emit(ops.Permute(back), y, leaf="permute")


@rule("div", "divide", "true_divide")
def _div(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x, y = a["self"], a["other"]
    if a.get("rounding_mode"):
        raise m.fail("expected a quotient that is not rounded")
    if isinstance(x, Noise):
        return x
    if isinstance(x, Data) and (number := m.constant(y)) is not None and _covers(x, node):
        return scaled(m, x, 1 / number)
    if isinstance(y, Data) and (number := m.constant(x)) is not None and _covers(y, node):
        return scaled(m, function(m, y, "reciprocal"), number)
    x, y = m.data(x), m.data(y)
    if (normed := _over_norm(m, x, y)) is not None:
        return normed
    return m.emit(ops.Divide(), x, y, leaf="div")


def _over_norm(m: Mapper, x: Data, y: Data) -> Data | None:
    """x / max(‖x‖, ε): F.normalize."""
    draft = _peel(m, y.draft)
    eps = 0.0
    op = m.drafts[draft].op
    if isinstance(op, ops.Activation) and op.function in ("clamp", "affine"):
        given = dict(op.parameters)
        if op.function == "affine" and given["scale"] != 1:
            return None
        eps = float(given["min"] if op.function == "clamp" else given["shift"])
        draft = _peel(m, m.inner(draft))
    if m.drafts[draft].op != ops.Activation("sqrt"):
        return None
    y_normed = _normalised(m, x, m.inner(draft))
    return y_normed if eps < 1e-2 else None


@rule("pow")
def _pow(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x, p = a["self"], m.constant(a["exponent"])
    if p is None:
        base = m.constant(x)
        if base is None or base <= 0:
            raise m.fail("expected a power with a number as base or exponent")
        return function(m, affine(m, m.data(a["exponent"]), math.log(base)), "exp")
    x = m.data(x)
    special = {1.0: None, 2.0: "square", 0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}
    if p in special:
        name = special[p]
        return x if name is None else function(m, x, name)
    return function(m, x, "pow", ("exponent", p))


@rule("addcmul")
def _addcmul(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    y = scaled(m, product(m, m.data(a["tensor1"]), m.data(a["tensor2"])), float(a["value"]))
    return m.emit(ops.Add(), m.data(a["self"]), y, leaf="add")


@rule("lerp")
def _lerp(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x, y, w = m.data(a["self"]), m.data(a["end"]), m.constant(a["weight"])
    if w is None:
        difference = m.emit(ops.Subtract(), y, x, leaf="sub")
        return m.emit(ops.Add(), x, product(m, difference, m.data(a["weight"])), leaf="add")
    return m.emit(ops.Add(), scaled(m, x, 1 - w), scaled(m, y, w), leaf="add")


@rule("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "new_empty", "empty_like")
def _like(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    return Static(node, shape_of(node))


__all__ = ["affine", "expand", "function", "product", "reshape"]
