"""The table of ATen operations: importing this fills ``mapper.RULES``."""

from depthscale.capture.rules import attention, contraction, elementwise, layout, norm, pool, sources, windows

__all__ = ["attention", "contraction", "elementwise", "layout", "norm", "pool", "sources", "windows"]
