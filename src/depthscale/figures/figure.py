"""What a figure is: a claim, an experiment that returns plain data, a judge that sees only these data, a drawing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

Data = dict[str, Any]  # what an experiment returns: numbers, strings, lists and dicts of them, fit for JSON
Say = Callable[[str], None]  # called with a line about what is being done, for whoever waits


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds, by the data: ``reason`` names the statistic that decides, with its value and bound."""

    kind: Literal["holds", "fails", "undecided"]
    reason: str


@dataclass(frozen=True)
class Figure:
    """One experiment of the gallery.

    name: as in ``depthscale figure NAME``, lower case with hyphens. title: what one sees. claim: one sentence that
    could turn out false. source: paper, year, equation or figure. order: the place in the gallery's story (foundations
    0–99, networks 100–199, theory 200–299, trainability 300–399, search 400–499, structure 500–599). run(quick, seed,
    say): the experiment; ``quick`` takes at most about 20 s on two cores and must still decide. judge(data): the
    verdict, from the data alone. draw(data): the picture.
    """

    name: str
    title: str
    claim: str
    source: str
    order: int
    run: Callable[[bool, int, Say], Data]
    judge: Callable[[Data], Verdict]
    draw: Callable[[Data], "Picture"]
