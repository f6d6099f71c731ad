"""einsum of one or two tensors, as permutations, one matrix product and a reshape."""

import math

from depthscale.capture.mapper import Mapper
from depthscale.capture.rules.layout import reshape
from depthscale.capture.values import Data
from depthscale.graph import ops


def einsum(m: Mapper, equation: str, xs: list[Data]) -> Data:
    """The value of an einsum equation over data."""
    left, arrow, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    terms, out = spelled(m, terms, out if arrow else None, xs)
    if len(xs) == 1:
        return _rearranged(m, xs[0], terms[0], out)
    y, term = xs[0], terms[0]
    for i, (x, other) in enumerate(zip(xs[1:], terms[1:], strict=True), start=2):
        later = set(out) | set("".join(terms[i:]))
        wanted = out if i == len(xs) else "".join(dict.fromkeys(c for c in term + other if c in later))
        y, term = _two(m, y, term, x, other, wanted), wanted
    return y


def spelled(m: Mapper, terms: list[str], out: str | None, xs: list[Data]) -> tuple[list[str], str]:
    """Terms with an ellipsis written out as capital letters that are free."""
    extra = max((len(x.shape) - len(t.replace("...", "")) for t, x in zip(terms, xs, strict=True)), default=0)
    free = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if not any(c in t for t in terms)][:extra]
    filled = []
    for t, x in zip(terms, xs, strict=True):
        if "..." in t:
            n = len(x.shape) - len(t.replace("...", ""))
            t = t.replace("...", "".join(free[extra - n :]))
        if len(set(t)) != len(t):
            raise m.fail(f"expected every letter once in each term of an einsum, got {t!r}")
        filled.append(t)
    if out is None:
        counts = "".join(filled)
        out = "".join(free) + "".join(sorted(c for c in set(counts) if counts.count(c) == 1 and c not in free))
    return filled, out.replace("...", "".join(free))


def _rearranged(m: Mapper, x: Data, term: str, out: str) -> Data:
    gone = tuple(i for i, c in enumerate(term) if c not in out)
    if gone:
        x = m.emit(ops.Reduce("sum", gone), x, leaf="sum")
        term = "".join(c for c in term if c in out)
    order = tuple(term.index(c) for c in out)
    return x if order == tuple(range(len(order))) else m.emit(ops.Permute(order), x, leaf="permute")


def _two(m: Mapper, x: Data, a: str, y: Data, b: str, out: str) -> Data:
    """Two tensors: letters in both and in the result are a batch, those in both only are summed."""
    x, a = _summed(m, x, a, set(b) | set(out))
    y, b = _summed(m, y, b, set(a) | set(out))
    shared = [c for c in out if c in a and c in b]
    summed = [c for c in a if c in b and c not in out]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    if not summed:
        return _outer(m, x, a, y, b, out)
    sizes = dict(zip(a, x.shape, strict=True)) | dict(zip(b, y.shape, strict=True))
    left = _matrix(m, x, a, shared, rows, summed)
    right = _matrix(m, y, b, shared, summed, columns)
    z = m.emit(ops.MatMul(), left, right, leaf="matmul")
    z = reshape(m, z, tuple(sizes[c] for c in (*shared, *rows, *columns)))
    return _rearranged(m, z, "".join((*shared, *rows, *columns)), out)


def _summed(m: Mapper, x: Data, term: str, wanted: set[str]) -> tuple[Data, str]:
    gone = tuple(i for i, c in enumerate(term) if c not in wanted)
    if not gone:
        return x, term
    return m.emit(ops.Reduce("sum", gone), x, leaf="sum"), "".join(c for c in term if c in wanted)


def _outer(m: Mapper, x: Data, a: str, y: Data, b: str, out: str) -> Data:
    """Nothing is summed: a product of broadcast tensors."""
    both = [_aligned(m, z, t, out) for z, t in ((x, a), (y, b))]
    return m.emit(ops.Multiply(), *both, leaf="mul")


def _aligned(m: Mapper, x: Data, term: str, out: str) -> Data:
    x = _rearranged(m, x, term, "".join(c for c in out if c in term))
    for i, c in enumerate(out):
        if c not in term:
            x = m.emit(ops.Unsqueeze(i), x, leaf="unsqueeze")
    return x


def _matrix(m: Mapper, x: Data, term: str, shared: list[str], rows: list[str], columns: list[str]) -> Data:
    """(shared…, Π rows, Π columns)."""
    sizes = dict(zip(term, x.shape, strict=True))
    x = _rearranged(m, x, term, "".join((*shared, *rows, *columns)))
    shape = (*(sizes[c] for c in shared), *(math.prod(sizes[c] for c in group) for group in (rows, columns)))
    return x if x.shape == shape else reshape(m, x, shape)
