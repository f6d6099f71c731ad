"""``python -m depthscale``."""

from depthscale.cli import main

main()
