"""How much memory an ensemble takes, before it starts, and how many members fit at once."""

import math
import re
from collections.abc import Sequence

import torch

from depthscale.build.memory import available_bytes
from depthscale.errors import TrainingError
from depthscale.graph import Graph
from depthscale.train.config import TrainConfig
from depthscale.train.ensemble.member import Member

SHARE = 0.75  # of the free memory that an ensemble takes unless it is told how much
CACHE = 24e6  # bytes that a chunk works on: what stays in a processor's last cache is several times as fast
OVERHEAD = 4e6  # floating-point operations of a layer's step that make the calls around it negligible
_UNITS = {
    "": 1.0,
    "B": 1.0,
    "KB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "TB": 1e12,
    "KIB": 2.0**10,
    "MIB": 2.0**20,
    "GIB": 2.0**30,
}


def parse_bytes(text: str | float | None) -> float | None:
    """Bytes of an amount such as "4GB", "512MB" or 2e9; TrainingError for anything else."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?(?:e\d+)?)\s*([A-Za-z]*)\s*", str(text))
    if match is None or match[2].upper() not in _UNITS or float(match[1]) <= 0:
        raise TrainingError(f"expected memory such as 4GB or 512MB, got {text!r}")
    return float(match[1]) * _UNITS[match[2].upper()]


def member_bytes(graph: Graph, config: TrainConfig, which: str, dtype: torch.dtype) -> float:
    """Bytes that one member needs while it trains: parameters, optimiser, gradients, values kept for the way back."""
    cost = graph.cost(min(config.batch, 10_000))
    states = 2 if config.optimiser == "adamw" else 1
    fused = which == "dense" and config.optimiser == "sgd" and config.clip is None and config.schedule == "constant"
    copies = 1 + states + (0 if fused else 1) + (1 if which != "dense" else 0)
    values = cost.activation_bytes * (1.0 if which == "dense" else 2.0 if which == "general" else 0.0)
    return (copies * cost.parameter_bytes + values) * dtype.itemsize / 4


def chunk_size(
    graph: Graph,
    config: TrainConfig,
    members: Sequence[Member],
    which: str,
    order: str,
    dtype: torch.dtype,
    device: torch.device,
    limit: float | None,
) -> int:
    """How many members to train at once: as many as fit, and on CPUs no more than the cache holds.

    Raises TrainingError, with the amounts, where not even one fits.
    """
    each = member_bytes(graph, config, which, dtype)
    free = available_bytes(device)
    room = min(limit if limit is not None else SHARE * free, float(free))
    if each > room:
        raise TrainingError(
            f"expected members that fit in {words(room)} of memory, got a network that needs about {words(each)} to "
            f"train ({graph.cost(1).parameters:,} parameters, batch {config.batch}); make it narrower, shallower or "
            "the batch smaller, or allow more memory"
        )
    fits = int(room // each)
    if which == "dense" and device.type == "cpu":
        layer = 2.0 * graph.cost(config.batch).multiply_adds / max(graph.cost(1).depth, 1)
        fits = min(fits, max(int(CACHE // each), math.ceil(OVERHEAD / max(layer, 1.0)), 1))
    count = min(fits, len(members))
    return math.ceil(len(members) / math.ceil(len(members) / count))  # chunks of about one size


def words(size: float) -> str:
    """An amount of memory in words."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"
