"""Drawing parameters from their laws.

Every parameter has a generator of its own, seeded by (seed, full name): a draw does not depend on the order of nodes
or on which others exist, so an edit of a graph leaves the parameters of all other layers as they were. Draws are made
on the CPU in single precision (orthogonal ones are made orthonormal in double) and moved, so that every device and
every dtype starts from the same network up to rounding.

Sources: Stewart 1980 (Haar orthogonal by QR with the signs of R's diagonal); Saxe et al. 2014; Xiao et al. 2018
(delta-orthogonal); Balduzzi et al. 2017 (mirrored pairs).
"""

import math
from hashlib import blake2b

import torch
from torch import Generator, Tensor

from depthscale.errors import GraphError
from depthscale.graph import ParameterSpec, Shape, laws
from depthscale.graph.laws import Fans
from depthscale.graph.rules import Rule

sample: Rule[Tensor] = Rule("sampling", "build/sampling.py")


def generator(seed: int, name: str) -> Generator:
    """The generator of one parameter (or of any other named stream of a run); the same on every machine."""
    digest = blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def draw(spec: ParameterSpec, seed: int, name: str) -> Tensor:
    """One parameter drawn from its law on the CPU, in single precision (double for orthogonal laws)."""
    try:
        return sample(spec.law, spec.shape, spec.fans, generator(seed, name))
    except GraphError as error:
        raise GraphError(f"parameter {name!r}: {error}") from None


def _normal(shape: Shape, g: Generator) -> Tensor:
    return torch.empty(shape, dtype=torch.float32).normal_(generator=g)


@sample.register(laws.Normal)
def _(law: laws.Normal, shape: Shape, fans: Fans, g: Generator) -> Tensor:
    return _normal(shape, g).mul_(law.std * law._scale(law.fan, fans)).add_(law.mean)


@sample.register(laws.TruncatedNormal)
def _(law: laws.TruncatedNormal, shape: Shape, fans: Fans, g: Generator) -> Tensor:
    inside = math.erf(law.cut / math.sqrt(2))
    # the inverse distribution function needs double precision in the tails
    u = torch.empty(shape, dtype=torch.float64).uniform_(-inside, inside, generator=g)
    z = torch.erfinv(u).mul_(math.sqrt(2)).clamp_(-law.cut, law.cut)
    return z.mul_(law.std * law._scale(law.fan, fans)).float()


@sample.register(laws.Uniform)
def _(law: laws.Uniform, shape: Shape, fans: Fans, g: Generator) -> Tensor:
    bound = law.bound * law._scale(law.fan, fans)
    return torch.empty(shape, dtype=torch.float32).uniform_(-1, 1, generator=g).mul_(bound).add_(law.mean)


@sample.register(laws.Constant)
def _(law: laws.Constant, shape: Shape, fans: Fans, g: Generator) -> Tensor:
    return torch.full(shape, law.value, dtype=torch.float32)


@sample.register(laws.Orthogonal)
def _(law: laws.Orthogonal, shape: Shape, fans: Fans, g: Generator) -> Tensor:
    return _orthogonal(shape, law.delta, g).mul_(law.gain)


@sample.register(laws.Mirrored)
def _(law: laws.Mirrored, shape: Shape, fans: Fans, g: Generator) -> Tensor:
    rows, columns = (*shape, 1, 1)[:2]
    for wanted, size, side in ((law.outputs, rows, "outputs"), (law.inputs, columns, "inputs")):
        if wanted and (size % 2 or len(shape) < 2):
            raise GraphError(
                f"law Mirrored: expected a weight with an even number of {side}, got shape {shape}; "
                f"make the width even or set {side}=False"
            )
    half = (rows // (2 if law.outputs else 1), columns // (2 if law.inputs else 1), *shape[2:])
    a = _orthogonal(half, law.delta, g).mul_(law.gain)
    if law.inputs:
        a = torch.cat((a, -a), 1)
    return torch.cat((a, -a), 0) if law.outputs else a


@sample.register(laws.Measured)
def _(law: laws.Measured, shape: Shape, fans: Fans, g: Generator) -> Tensor:
    variance = max(law.mean_square - law.mean**2, 0.0)
    if law.orthogonal and len(shape) >= 2:
        z = _orthogonal(shape, False, g).mul_(math.sqrt(max(shape[0], math.prod(shape[1:]))))
    else:
        z = _normal(shape, g)
    if law.row is not None and z.numel() > shape[0]:
        return _within_rows(z, variance, law.row - law.mean**2).add_(law.mean)
    measured: Tensor = z.mul_(math.sqrt(variance)).add_(law.mean)
    return measured


def _within_rows(z: Tensor, variance: float, covariance: float) -> Tensor:
    """Of this variance, and this covariance of two entries of one row (axis 0), from independent z of variance 1."""
    n = z[0].numel()
    own = variance - covariance  # what entries of a row have for themselves
    average = z.reshape(len(z), -1).mean(1).reshape(-1, *[1] * (z.ndim - 1))
    share = math.sqrt(max(1 + n * covariance / own, 0.0)) if own > 0 else 1.0
    rows: Tensor = (z + average * (share - 1)).mul_(math.sqrt(max(own, 0.0)))
    return rows


def _orthogonal(shape: Shape, delta: bool, g: Generator) -> Tensor:
    """Haar semi-orthogonal in double precision; with ``delta`` at the kernel's centre, zero around it."""
    rows = shape[0] if shape else 1
    columns = math.prod(shape[1:2]) if delta else math.prod(shape[1:])
    z = _normal((max(rows, columns), min(rows, columns)), g).double()
    q, r = torch.linalg.qr(z)
    q *= r.diagonal().sgn()  # QR alone is not Haar: LAPACK fixes signs of its own
    matrix: Tensor = q if rows >= columns else q.T
    if not delta or len(shape) < 3:
        return matrix.reshape(shape)
    out = torch.zeros(shape, dtype=torch.float64)
    centre = out
    for k in shape[2:]:
        centre = centre.select(2, k // 2)
    centre.copy_(matrix)
    return out
