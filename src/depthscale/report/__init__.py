"""What people read: plots, and the self-contained HTML page, from plain results."""

from depthscale.report.data import (
    Confusion,
    DataFacts,
    Environment,
    LayerTheory,
    Predictions,
    ReportData,
    Standing,
    TheoryFacts,
    TrialRow,
)
from depthscale.report.html import render, write_report

__all__ = [
    "Confusion",
    "DataFacts",
    "Environment",
    "LayerTheory",
    "Predictions",
    "ReportData",
    "Standing",
    "TheoryFacts",
    "TrialRow",
    "render",
    "write_report",
]
