"""Spaces of cells: NAS-Bench-201."""

from typing import Any

from depthscale import zoo
from depthscale.search.space import Decider, Space
from depthscale.zoo.nasbench201 import EDGES, OPS, published_form, write


def nasbench201_space(**options: Any) -> Space:
    """The 15,625 cells of NAS-Bench-201 (Dong & Yang 2020); the architecture is the cell's string.

    options: arguments of ``zoo.nasbench201`` (num_classes, image_size, width, cells …). Networks are told apart as the
    authors do it: 6,466 are different.
    """

    def describe(decide: Decider) -> str:
        return write(tuple(decide(f"edge{source}{node}", OPS) for node, source in EDGES))

    return Space("nasbench201", describe, lambda cell: zoo.nasbench201(cell, **options), published_form)
