"""Residual networks as ensembles of paths (Veit, Wilber & Belongie 2016).

x + f₁(x) + f₂(x + f₁(x)) + …: of L blocks, C(L, k) paths pass through k branches, so path lengths are Binomial(L, ½).
How much gradient the paths of a length carry, and what is lost when blocks are deleted or exchanged, is measured here.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import comb
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from depthscale.errors import DepthscaleError

Array = NDArray[np.float64]


def path_lengths(blocks: int) -> Array:
    """Share of the paths through ``blocks`` residual blocks that pass k branches, k = 0 … blocks: Binomial(L, ½)."""
    if blocks < 0:
        raise DepthscaleError(f"expected a number of blocks of at least 0, got {blocks}")
    return np.array([comb(blocks, k) / 2.0**blocks for k in range(blocks + 1)])


def path_gradients(
    blocks: Sequence[nn.Module],
    x: Tensor,
    head: Callable[[Tensor], Tensor],
    *,
    lengths: Sequence[int] | None = None,
    samples: int = 8,
    seed: int = 0,
) -> Array:
    """Mean norm of the gradient that single paths of k branches carry from ``head`` to x: (lengths,).

    blocks: modules that compute x + f(x), in order. head: the loss of the last block's output. Of each length
    ``samples`` paths are drawn; on its way back the gradient passes the branch of the blocks on the path and the
    identity of the others, at the values of the whole network's forward pass. lengths default to 0 … L.
    """
    count = len(blocks)
    wanted = range(count + 1) if lengths is None else lengths
    if not all(0 <= k <= count for k in wanted):
        raise DepthscaleError(f"expected path lengths from 0 to {count}, got {list(wanted)}")
    values = [x.detach()]
    with torch.no_grad():
        for block in blocks:
            values.append(block(values[-1]))
    end = values[-1].clone().requires_grad_()
    (start,) = torch.autograd.grad(head(end), end)
    rng = np.random.default_rng(seed)
    found = []
    for k in wanted:
        norms = []
        for _ in range(samples if 0 < k < count else 1):
            chosen = set(rng.choice(count, k, replace=False).tolist())
            g = start
            for i in reversed(range(count)):
                if i in chosen:
                    at = values[i].clone().requires_grad_()
                    (g,) = torch.autograd.grad(blocks[i](at) - at, at, g)
            norms.append(float(g.norm()))
        found.append(float(np.mean(norms)))
    return np.array(found)


@contextmanager
def without(blocks: Sequence[nn.Module], deleted: Sequence[int]) -> Iterator[None]:
    """Blocks of these numbers give their input back, for as long as this is entered; shapes must not change there."""
    handles = [blocks[i].register_forward_hook(_identity) for i in deleted]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _identity(module: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> Tensor:
    if inputs[0].shape != out.shape:
        raise DepthscaleError(
            f"expected a block that keeps its input's shape to delete it, got {tuple(inputs[0].shape)} → "
            f"{tuple(out.shape)}; leave that block out"
        )
    kept: Tensor = inputs[0]
    return kept


def lesions(
    blocks: Sequence[nn.Module],
    score: Callable[[], float],
    counts: Sequence[int],
    *,
    samples: int = 8,
    seed: int = 0,
) -> dict[int, list[float]]:
    """``score()`` with n blocks deleted at random, for n in ``counts``: a list of ``samples`` scores each."""
    if not all(0 <= n <= len(blocks) for n in counts):
        raise DepthscaleError(f"expected counts from 0 to {len(blocks)} blocks, got {list(counts)}")
    rng = np.random.default_rng(seed)
    found: dict[int, list[float]] = {}
    for n in counts:
        ways = comb(len(blocks), n)
        if ways <= samples:
            chosen = list(itertools.combinations(range(len(blocks)), n))
        else:
            chosen = [tuple(rng.choice(len(blocks), n, replace=False).tolist()) for _ in range(samples)]
        scores = []
        for deleted in chosen:
            with without(blocks, deleted):
                scores.append(score())
        found[n] = scores
    return found


def permutations(
    container: nn.Sequential, score: Callable[[], float], swaps: Sequence[int], *, samples: int = 8, seed: int = 0
) -> dict[int, list[float]]:
    """``score()`` with n pairs of a Sequential's blocks exchanged; the order is as it was afterwards."""
    order, rng = list(container), np.random.default_rng(seed)
    found: dict[int, list[float]] = {}
    try:
        for n in swaps:
            scores = []
            for _ in range(samples):
                mixed = list(order)
                for _ in range(n):
                    i, j = rng.choice(len(mixed), 2, replace=False)
                    mixed[i], mixed[j] = mixed[j], mixed[i]
                for i, block in enumerate(mixed):
                    container[i] = block
                scores.append(score())
            found[n] = scores
    finally:
        for i, block in enumerate(order):
            container[i] = block
    return found
