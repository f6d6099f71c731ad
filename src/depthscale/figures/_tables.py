"""What the figures about search on NAS-Bench-201 share: the table, runs, bootstrap intervals over seeds."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from depthscale.search.spaces import space
from depthscale.search.strategies import strategy
from depthscale.search.table import Curve, Table, load_table
from depthscale.search.tabular import search_table

Z = 1.96  # standard errors of a 95 % interval


@lru_cache(maxsize=4)
def table(dataset: str = "cifar10") -> Table:
    """The table; SearchError says where it is looked for when it is nowhere."""
    return load_table(dataset=dataset)


def run(name: str, seed: int, queries: int, most_asks: int = 3) -> Curve:
    """One search by 12-epoch validation accuracy on CIFAR-10."""
    return search_table(space("nasbench201"), table(), strategy(name, seed), queries, most_asks=most_asks)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and the ends of its 95 % interval by the bootstrap over the values (2,000 resamples)."""
    x = np.asarray(values, dtype=float)
    drawn = x[np.random.default_rng(0).integers(len(x), size=(2000, len(x)))].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(x.mean()), float(low), float(high)
