"""Networks for the eye: an indented text outline and a self-contained SVG picture, repeats folded in both."""

from depthscale.graph.draw.outline import outline
from depthscale.graph.draw.svg import svg

__all__ = ["outline", "svg"]
