"""Candidates are initialised critically by theory, and dropped where theory says that they cannot train anyway."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from depthscale.design.space import Candidate
from depthscale.graph import Graph

if TYPE_CHECKING:
    from depthscale.theory.propagate import Propagation


# Spread of the output's length between draws of the weights, relative to it, at the network's width. Beyond this, what
# holds on average says little about the one network that will be drawn.
FLUCTUATING = 2.0


@dataclass(frozen=True)
class Screened:
    """A candidate with its laws set; ``refused`` says why it should not be trained ("" when it should)."""

    candidate: Candidate
    theory: "Propagation | None"
    refused: str = ""

    @property
    def graph(self) -> Graph:
        """The network, critically initialised."""
        return self.candidate.graph


def screen(candidate: Candidate) -> Screened:
    """The candidate at its critical initialisation, with theory's verdict."""
    from depthscale.theory.initialise import critical
    from depthscale.theory.propagate import propagate

    graph = critical(candidate.graph)
    theory = propagate(graph)
    return Screened(replace(candidate, graph=graph), theory, verdict(theory))


def verdict(theory: "Propagation") -> str:
    """Why theory refuses a network; "" when it does not."""
    if not theory.trains:
        return f"theory: {theory.reason}"
    spread = max(row.error for row in theory.rows)
    if spread > FLUCTUATING:
        return f"theory: too deep for its width, lengths differ by ±{spread:.0%} between draws of the weights"
    return ""
