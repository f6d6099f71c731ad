"""How many threads a step is worth."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from depthscale.graph import Graph

SMALL_STEP = 2e9  # multiply-adds of a step below which a second thread costs more than it brings


@contextmanager
def threads(graph: Graph, batch: int) -> Iterator[None]:
    """One thread for steps too small to share out; decided by the cost alone, so that a resumed run decides alike."""
    before = torch.get_num_threads()
    if graph.cost(batch).multiply_adds < SMALL_STEP:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
