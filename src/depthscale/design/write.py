"""Everything a design leaves behind, each file written whole or not at all."""

from pathlib import Path
from typing import TYPE_CHECKING

from depthscale.search.files import network as network, prepare as prepare, text as text

if TYPE_CHECKING:
    from depthscale.design.run import DesignResult


def everything(folder: Path, result: "DesignResult") -> None:
    """Write the network and the report."""
    from depthscale.design.summary import report_data
    from depthscale.report import write_report

    network(folder, result.graph, result.module, result.dataset)
    write_report(folder / "report.html", report_data(result))
