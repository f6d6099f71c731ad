"""Grids of networks trained as ensembles: which depth, width and initialisation trains, seen rather than guessed.

``run_sweep`` trains a ``Grid`` and returns its table; ``SweepResult.maps`` are the heat maps in it, each with theory's
prediction and how well the two agree.
"""

from depthscale.train.sweep.agreement import Agreement, agreement
from depthscale.train.sweep.grid import Cell, Grid, values
from depthscale.train.sweep.result import HeatMap, SweepResult
from depthscale.train.sweep.run import CONFIG, Progress, run_sweep

__all__ = [
    "CONFIG",
    "Agreement",
    "Cell",
    "Grid",
    "HeatMap",
    "Progress",
    "SweepResult",
    "agreement",
    "run_sweep",
    "values",
]
