"""One training loop for any Graph or module: budgets, schedules, checkpoints that resume bit for bit, divergence
traced to its layer.

``fit`` is the one-call door, ``Trainer`` the same as an object that can be paused, continued and given more;
``train_ensemble`` trains many networks of one graph at once.
"""

from depthscale.train.augment import Augment
from depthscale.train.checkpoint import State, read_checkpoint, write_checkpoint
from depthscale.train.config import Budget, TrainConfig
from depthscale.train.divergence import Divergence
from depthscale.train.ensemble import EnsembleResult, Member, MemberResult, train_ensemble
from depthscale.train.evaluate import ClassificationMetrics, Metrics, RegressionMetrics, evaluate, predict
from depthscale.train.fit import fit, suggest
from depthscale.train.result import EpochReport, TrainResult
from depthscale.train.trainer import Trainer

__all__ = [
    "Augment",
    "Budget",
    "ClassificationMetrics",
    "Divergence",
    "EnsembleResult",
    "EpochReport",
    "Member",
    "MemberResult",
    "Metrics",
    "RegressionMetrics",
    "State",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "evaluate",
    "fit",
    "predict",
    "read_checkpoint",
    "suggest",
    "train_ensemble",
    "write_checkpoint",
]
