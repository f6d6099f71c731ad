"""The gallery: every claim of the subject's story as an experiment that anyone can rerun and that can come out false.

One file per figure. Each defines ``FIGURE``, a ``Figure``: what is claimed and by whom, a function that runs the
experiment and returns plain data, a function that judges the claim by these data alone, and one that draws them.
"""

from depthscale.figures.figure import Figure as Figure, Verdict as Verdict
