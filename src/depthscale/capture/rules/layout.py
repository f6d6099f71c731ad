"""Operations that only rearrange: reshapes, permutations, slices, concatenation, padding."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node as FxNode

from depthscale.capture.mapper import Mapper, rule
from depthscale.capture.program import VIEWS, operation, shape_of
from depthscale.capture.values import Data, Noise, Static, Value
from depthscale.graph import Shape, ops


@rule(
    "contiguous", "clone", "to", "_to_copy", "lift_fresh_copy", "alias", "detach", "type_as", "float", "half",
    "bfloat16", "double", "_assert_tensor_metadata", "positive",
)  # fmt: skip
def _same(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    return a.get("self", a.get("a"))


def reshape(m: Mapper, x: Data, shape: Shape) -> Data:
    """The same elements in another shape; the axis that carries the batch is left to be worked out."""
    if x.shape == shape:
        return x
    wanted = flexible_shape(x, shape, m.batch)
    if wanted is None:
        m.flexible, wanted = False, shape
    return m.emit(ops.Reshape(wanted), x, leaf="reshape").hiding(x.hidden)


def flexible_shape(x: Data, shape: Shape, batch: int) -> Shape | None:
    """The shape with −1 where the batch goes; None where that cannot be told.

    Input and output are cut into the shortest runs of axes of equal size; the run that holds the batch on one side
    holds it on the other, in the first axis that can.
    """
    if x.other is None or x.other == x.shape:
        return shape
    i = j = 0
    out = list(shape)
    while i < len(x.shape) or j < len(shape):
        start = j
        first = i
        a = x.shape[i] if i < len(x.shape) else 1
        b = shape[j] if j < len(shape) else 1
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                a, i = a * x.shape[i], i + 1
            else:
                b, j = b * shape[j], j + 1
        grown = math.prod(x.other[first:i]) // max(math.prod(x.shape[first:i]), 1)
        if grown == 1:
            continue
        at = next((k for k in range(start, min(j, len(shape))) if shape[k] % batch == 0), None)
        if at is None:
            return None
        out[at] = -1
    return tuple(out) if out.count(-1) <= 1 else None


@rule("view", "reshape", "_unsafe_view", "flatten", "unflatten", "view_as", "reshape_as")
def _view(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    return reshape(m, m.data(a["self"]), shape_of(node))


@rule("squeeze", "unsqueeze")
def _sized_one(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x, shape = m.data(a["self"]), shape_of(node)
    dim = a.get("dim")
    if isinstance(dim, int) and len(shape) == len(x.shape) + 1:
        return m.emit(ops.Unsqueeze(dim % len(shape)), x, leaf="unsqueeze").hiding(x.hidden)
    if isinstance(dim, int) and len(shape) == len(x.shape) - 1:
        return m.emit(ops.Squeeze(dim % len(x.shape)), x, leaf="squeeze").hiding(x.hidden)
    return reshape(m, x, shape)


@rule("permute", "transpose", "t", "swapaxes", "movedim", "numpy_T", "mT", "adjoint")
def _permute(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    n = len(x.shape)
    if "dims" in a:
        order = [int(d) % n for d in a["dims"]]
    elif "source" in a:
        order = _moved(a, n)
    elif "dim0" in a or "axis0" in a:
        order = list(range(n))
        i, j = (int(a[k]) % n for k in (("dim0", "dim1") if "dim0" in a else ("axis0", "axis1")))
        order[i], order[j] = order[j], order[i]
    else:
        order = list(range(n))
        if n >= 2:
            order[-1], order[-2] = order[-2], order[-1]
    return x if order == list(range(n)) else m.emit(ops.Permute(tuple(order)), x, leaf="permute").hiding(x.hidden)


def _moved(a: dict[str, Any], n: int) -> list[int]:
    sources = [d % n for d in (a["source"] if isinstance(a["source"], Sequence) else [a["source"]])]
    ends = [d % n for d in (a["destination"] if isinstance(a["destination"], Sequence) else [a["destination"]])]
    out: list[int | None] = [None] * n
    for s, e in zip(sources, ends, strict=True):
        out[e] = s
    rest = iter(d for d in range(n) if d not in sources)
    return [next(rest) if d is None else d for d in out]


@rule("expand", "expand_as", "broadcast_to")
def _expand(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    return expand(m, m.data(a["self"]), shape_of(node)).hiding(m.data(a["self"]).hidden)


def expand(m: Mapper, x: Data, shape: Shape) -> Data:
    """x with axes of size 1 repeated."""
    if x.shape == shape:
        return x
    new = len(shape) - len(x.shape)
    if m.batch > 1 and m.batch in (shape[:new] or shape[:1]) and (new or x.shape[0] == 1):
        m.flexible = False  # the batch itself is a size here
    kept = tuple(-1 if n == s else s for n, s in zip(x.shape, shape[new:], strict=True))
    return m.emit(ops.Expand((*shape[:new], *kept)), x, leaf="expand")


@rule("select")
def _select(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    axis = int(a["dim"]) % len(x.shape)
    index = int(a["index"])
    return m.emit(ops.Select(axis, index), x, leaf="select")


@rule("slice", "narrow")
def _slice(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    axis = int(a.get("dim") or 0) % len(x.shape)
    n = x.shape[axis]
    if "length" in a:
        start = int(a["start"]) % max(n, 1)
        stop, step = start + int(a["length"]), 1
    else:
        step = int(a.get("step") or 1)
        start, stop, _ = slice(a.get("start"), a.get("end"), step).indices(n)
    return cut(m, x, axis, start, stop, step)


def cut(m: Mapper, x: Data, axis: int, start: int, stop: int, step: int = 1) -> Data:
    """Entries start:stop:step of an axis; x itself where that is all."""
    n = x.shape[axis]
    if start == 0 and stop >= n and step == 1:
        return x
    return m.emit(ops.Slice(axis, start, None if stop >= n else stop, step), x, leaf="slice").hiding(x.hidden)


def _pieces(m: Mapper, x: Data, axis: int, sizes: Sequence[int]) -> tuple[Data, ...]:
    out, start = [], 0
    for size in sizes:
        out.append(cut(m, x, axis, start, start + size))
        start += size
    return tuple(out)


@rule("chunk", "split", "split_with_sizes", "unsafe_chunk", "unsafe_split", "tensor_split", "unsafe_split_with_sizes")
def _split(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    axis = int(a.get("dim") or 0) % len(x.shape)
    made = node.meta["val"]
    return _pieces(m, x, axis, [int(v.shape[axis]) for v in made])


@rule("unbind")
def _unbind(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    axis = int(a["dim"]) % len(x.shape)
    return tuple(m.emit(ops.Select(axis, i), x, leaf="select") for i in range(x.shape[axis]))


@rule("cat", "concat", "concatenate")
def _cat(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    parts = [p for p in a["tensors"] if math.prod(p.shape) > 0]
    shape = shape_of(node)
    axis = int(a["dim"]) % len(shape)
    if len(parts) == 1:
        return m.data(parts[0])
    moving = [p for p in parts if isinstance(p, Data)]
    if len(moving) == 1 and axis > 0:
        return _beside_statics(m, parts, axis)
    return m.emit(ops.Concat(axis), *[_full(m, p) for p in parts], leaf="concat")


def _full(m: Mapper, part: Value) -> Data:
    return expand(m, m.broadcasts(m.data(part), len(part.shape)), part.shape)


def _beside_statics(m: Mapper, parts: list[Value], axis: int) -> Data:
    """Data joined with learned tokens: each is padded with zeros and added, so that no batch size is named."""
    total = sum(p.shape[axis] for p in parts)
    before, terms = 0, []
    for part in parts:
        n = part.shape[axis]
        x = m.data(part)
        x = m.broadcasts(x, len(part.shape))
        wanted = tuple(n if i == axis else have for i, have in enumerate(x.shape))
        if x.shape != wanted:
            x = expand(m, x, wanted)
        pads = (0, 0) * (len(part.shape) - 1 - axis) + (before, total - before - n)
        terms.append(m.emit(ops.Pad(pads), x, leaf="pad"))
        before += n
    return m.emit(ops.Add(), *terms, leaf="concat")


@rule("stack")
def _stack(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    axis = int(a["dim"]) % len(shape_of(node))
    return m.emit(ops.Stack(axis), *[_full(m, p) for p in a["tensors"]], leaf="stack")


@rule("pad", "constant_pad_nd", *[f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3)])
def _pad(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    pads = tuple(int(p) for p in a.get("pad", a.get("padding", ())))
    mode = a.get("mode", "constant") if "pad" in a else operation(node).partition("_")[0]
    if not any(pads):
        return x
    if mode == "constant":
        return m.emit(ops.Pad(pads, float(a.get("value") or 0.0)), x, leaf="pad").hiding(x.hidden)
    for k in range(len(pads) // 2):
        axis = len(x.shape) - 1 - k
        x = pick(m, x, axis, _beyond(mode, x.shape[axis], pads[2 * k], pads[2 * k + 1]))
    return x


def _beyond(mode: str, n: int, before: int, behind: int) -> list[int]:
    """The entries of an axis that padding by its own entries reads."""
    places = range(-before, n + behind)
    if mode.startswith("replic"):
        return [min(max(i, 0), n - 1) for i in places]
    if mode.startswith("circ"):
        return [i % n for i in places]
    return [n - 1 - abs(n - 1 - abs(i)) for i in places]


@rule("roll")
def _roll(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    if not a["dims"]:
        raise m.fail("expected the axes to roll over to be named")
    return m.emit(ops.Roll(tuple(a["shifts"]), tuple(a["dims"])), x, leaf="roll")


@rule("flip")
def _flip(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    # a reversed axis has the same moments; a roll by nothing keeps the node
    x = m.data(a["self"])
    return m.emit(ops.Roll((0,) * len(a["dims"]), tuple(a["dims"])), x, leaf="flip")


@rule("repeat", "tile")
def _repeat(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    times = tuple(int(n) for n in a.get("repeats", a.get("dims", ())))
    shape = shape_of(node)
    x = m.broadcasts(x, len(shape))
    times = (1,) * (len(shape) - len(times)) + times
    if all(n == 1 or have == 1 for n, have in zip(times, x.shape, strict=True)):
        return expand(m, x, shape)
    for axis, n in enumerate(times):
        if n > 1:
            x = expand(m, x, tuple(s * n if i == axis else s for i, s in enumerate(x.shape))) if x.shape[axis] == 1 \
                else m.emit(ops.Concat(axis), *[x] * n, leaf="concat")  # fmt: skip
    return x


@rule("repeat_interleave")
def _repeat_interleave(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x, shape = m.data(a["self"]), shape_of(node)
    axis = int(a.get("dim") or 0) % len(shape)
    times = shape[axis] // x.shape[axis]
    x = m.emit(ops.Unsqueeze(axis + 1), x, leaf="unsqueeze")
    x = expand(m, x, (*x.shape[: axis + 1], times, *x.shape[axis + 2 :]))
    return reshape(m, x, shape)


@rule("pixel_shuffle", "pixel_unshuffle")
def _pixel_shuffle(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x = m.data(a["self"])
    shape = shape_of(node)
    *lead, c, h, w = x.shape
    n = len(lead)
    if "upscale_factor" in a:
        r = int(a["upscale_factor"])
        x = reshape(m, x, (*lead, c // (r * r), r, r, h, w))
        order = (*range(n + 1), n + 3, n + 1, n + 4, n + 2)
    else:
        r = int(a["downscale_factor"])
        x = reshape(m, x, (*lead, c, h // r, r, w // r, r))
        order = (*range(n + 1), n + 2, n + 4, n + 1, n + 3)
    return reshape(m, m.emit(ops.Permute(tuple(order)), x, leaf="permute"), shape)


@rule("channel_shuffle")
def _channel_shuffle(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x, groups = m.data(a["self"]), int(a["groups"])
    b, c, *rest = x.shape
    y = reshape(m, x, (b, groups, c // groups, *rest))
    y = m.emit(ops.Permute((0, 2, 1, *range(3, len(y.shape)))), y, leaf="permute")
    return reshape(m, y, x.shape)


@rule("index", "index_select", "gather")
def _index(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    """Entries picked by indices that do not depend on the data: the axis has other entries, alike in law."""
    x, shape = a["self"], shape_of(node)
    if not isinstance(x, Data):
        raise m.fail("expected an index that does not depend on the data; this one does")
    if "indices" in a:
        given = [(i, v) for i, v in enumerate(a["indices"]) if v is not None]
        if len(given) != 1:
            raise m.fail("expected one axis to be indexed at a time")
        (axis, index), *_ = given
    else:
        axis, index = int(a["dim"]) % len(x.shape), a["index"]
    if not isinstance(index, Static):
        raise m.fail("expected indices that do not depend on the data")
    return take(m, x, axis, index, shape)


def take(m: Mapper, x: Data, axis: int, index: Static, shape: Shape) -> Data:
    """The entries of an axis at static indices."""
    value = m.evaluate(index)
    n = x.shape[axis]
    if value.dtype == torch.bool:
        value = value.nonzero().flatten()
    if value.ndim == 0:
        return m.emit(ops.Select(axis, int(value)), x, leaf="select")
    y = pick(m, x, axis, [int(v) % n for v in value.flatten().tolist()])
    return y if y.shape == shape else reshape(m, y, shape)


def pick(m: Mapper, x: Data, axis: int, index: list[int]) -> Data:
    """The entries of an axis at these indices: a slice where they are one."""
    step = index[1] - index[0] if len(index) > 1 else 1
    if step > 0 and index == list(range(index[0], index[-1] + 1, step)):
        return cut(m, x, axis, index[0], index[-1] + 1, step)
    if sorted(index) == list(range(x.shape[axis])):
        return m.emit(ops.Roll((0,), (axis,)), x, leaf="permuted")
    return m.emit(ops.Take(axis, tuple(index)), x, leaf="take")


@rule("masked_fill")
def _masked_fill(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    from depthscale.capture.rules.attention import hide

    x, mask = m.data(a["self"]), a["mask"]
    fill = m.constant(a["value"])
    if isinstance(mask, Static) and fill is not None and (fill < -50 or not m.evaluate(mask).any()):
        return hide(m, x, m.evaluate(mask).logical_not())
    raise m.fail("expected a mask that does not depend on the data, filled with a large negative number")


@rule("copy")
def _copy(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    """Values written over all of a tensor, possibly through views of it: what they were written over is them."""
    over, value = a["self"], m.data(a["src"])
    if not isinstance(over, Data) or value.shape != over.shape:
        raise m.fail("expected values that are written over a whole tensor, got a part of one")
    source = node.args[0]
    while isinstance(source, FxNode) and source.op == "call_function":
        held = m.values[source]
        if not isinstance(held, Data) or held.draft != over.draft:
            if isinstance(held, Data) and math.prod(held.shape) != math.prod(over.shape) and aliases(source):
                raise m.fail("expected values that are written over a whole tensor, got a part of one")
            break
        m.values[source] = value
        source = source.args[0] if aliases(source) else None
    return value


def aliases(node: FxNode) -> bool:
    """Whether a node is a view of its first argument."""
    return operation(node) in VIEWS


@rule("dropout", "feature_dropout", "alpha_dropout")
def _dropout(m: Mapper, a: dict[str, Any], node: FxNode) -> Value:
    x, p = m.data(a.get("input", a.get("self"))), float(a["p"])
    if not a["train"] or p == 0:
        return x
    return m.emit(ops.Dropout(min(p, 1 - 1e-6)), x, leaf="dropout").hiding(x.hidden)


__all__ = ["Noise", "cut", "expand", "reshape", "take"]
