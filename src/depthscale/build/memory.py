"""Refusing what cannot fit, before anything is allocated."""

from pathlib import Path

import psutil
import torch

from depthscale.errors import DepthscaleError
from depthscale.graph import Graph

_CGROUP = Path("/sys/fs/cgroup")


def available_bytes(device: torch.device) -> int:
    """Memory that can still be had on a device; inside a container, what its limit leaves."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    return min(int(psutil.virtual_memory().available), _container_bytes())


def _container_bytes() -> int:
    """What the memory limit of this process's container leaves, without files that can be dropped."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        fields = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        return 2**63 if limit == "max" else max(int(limit) - used + int(fields.get("inactive_file", 0)), 0)
    except (OSError, ValueError):  # no container, or one of another kind
        return 2**63


def check_memory(graph: Graph, elements: int, dtype: torch.dtype, device: torch.device) -> None:
    """DepthscaleError if parameters and one example's activations need more than what is available.

    The estimate is a lower bound: what it refuses could not have run.
    """
    needed = dtype.itemsize * (elements + graph.cost().peak_bytes // 4)
    free = available_bytes(device)
    if needed > free:
        raise DepthscaleError(
            f"expected a network that fits in the {_words(free)} of memory available on {device}, got one that needs "
            f"at least {_words(needed)} ({elements:,} parameters); make it narrower or shallower"
        )


def _words(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB" if size < 1e6 else f"{size:,.0f} TB"
