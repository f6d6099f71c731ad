"""Many networks of one graph trained as one tensor program.

``train_ensemble`` is the door. Members differ in seed, laws of their parameters, rates and steps; each comes out as if
it had been trained alone, up to the rounding of sums that are taken in another order.
"""

from depthscale.train.ensemble.member import EnsembleResult, Member, MemberResult
from depthscale.train.ensemble.run import train_ensemble

__all__ = ["EnsembleResult", "Member", "MemberResult", "train_ensemble"]
