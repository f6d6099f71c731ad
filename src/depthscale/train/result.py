"""What a run gives back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from depthscale.train.config import TrainConfig
from depthscale.train.divergence import Divergence

# budget used up; no improvement; told to stop by on_epoch; numbers broke; Ctrl-C; reached ``until``
STATUSES = ("finished", "stopped", "pruned", "diverged", "interrupted", "paused")


@dataclass(frozen=True)
class EpochReport:
    """One epoch, or the part of one that the budget allowed.

    ``train_loss`` is the mean over its steps while the weights changed; ``val`` the metrics afterwards (loss, accuracy
    for classes; loss, rmse, mae, r2 for numbers), empty where none were taken; ``best`` whether they beat all before.
    """

    epoch: int  # from 1
    step: int  # steps since the start
    seconds: float  # since the start, interruptions left out
    lr: float
    train_loss: float
    rows_per_second: float
    val: Mapping[str, float] = field(default_factory=dict)
    best: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "val": dict(self.val)}


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A trained network and how it came about.

    ``model`` is in evaluation mode and holds the weights of ``best`` (of the last step where nothing was validated or
    ``keep_best`` is off). ``status`` is one of STATUSES; ``last`` is the latest report, which is not in ``history``
    when the run paused within an epoch.
    """

    model: nn.Module
    status: str
    config: TrainConfig
    history: tuple[EpochReport, ...]
    best: EpochReport | None
    last: EpochReport | None
    divergence: Divergence | None
    steps: int
    epochs: float
    seconds: float
    parameters: int
    out: Path | None = None

    @property
    def val(self) -> Mapping[str, float]:
        """The validation metrics of the weights in ``model``; empty where nothing was validated."""
        report = self.best if self.best is not None else self.last
        return {} if report is None else report.val

    def __str__(self) -> str:
        scores = ", ".join(f"{k} {v:.4g}" for k, v in self.val.items())
        why = f" ({self.divergence})" if self.divergence is not None else ""
        return f"{self.status} after {self.epochs:.3g} epochs, {self.seconds:.1f} s: {scores or 'not validated'}{why}"
