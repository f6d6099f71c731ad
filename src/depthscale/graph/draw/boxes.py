"""What a picture is made of: chips in units, units in scopes, wires between them, and the sizes they are drawn in."""

from __future__ import annotations

from dataclasses import dataclass, field

from depthscale.graph.draw.words import text_width

FONT, SMALL = 11.0, 9.5  # sizes of text in boxes and beside wires
UNIT_HEIGHT, CHIP_PADDING, LABEL_HEIGHT = 22.0, 8.0, 14.0
PADDING, HEADER = 12.0, 22.0  # inside a scope's box

Point = tuple[float, float]


@dataclass(frozen=True)
class Chip:
    """One op in a unit: what it says, its family, and the whole story for a tooltip."""

    text: str
    family: str
    story: str

    @property
    def width(self) -> float:
        """Room for the text and the space around it."""
        bold = 1.1 if self.family == "title" else 1.0
        return text_width(self.text, FONT) * bold + 2 * CHIP_PADDING


@dataclass
class Box:
    """A unit (with chips) or a scope (with boxes inside), its size, and where wires enter and leave it."""

    width: float
    height: float
    ins: dict[str, float] = field(default_factory=dict)  # node that is read: x of the port
    outs: dict[str, float] = field(default_factory=dict)  # node that is read outside: x of the port
    x: float = 0.0  # place in the parent's box, and in the picture once placed
    y: float = 0.0
    chips: tuple[Chip, ...] = ()
    shape: str = ""
    path: str = ""
    label: str = ""
    times: str = ""
    aside: str = ""
    inside: list[Box] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)

    @property
    def chips_width(self) -> float:
        """Width of the chips alone."""
        return sum(chip.width for chip in self.chips)


@dataclass
class Wire:
    """A piece of wire: a chain of points joined by vertical and S-shaped strokes; ``skip`` where it runs past boxes."""

    points: list[Point]
    skip: bool
    arrow: bool
    square: bool = False  # corners instead of an S: the way to another column
