"""Numbers with error estimates: Gaussian integrals, meshes that find kinks, roots and fixed points. NumPy only."""

from depthscale.numerics.estimate import Array, Estimate, estimate

__all__ = ["Array", "Estimate", "estimate"]
