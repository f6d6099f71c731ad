"""What a training run is asked to do, as frozen data that checks itself."""

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from depthscale.errors import TrainingError
from depthscale.train.augment import Augment

OPTIMISERS = ("sgd", "adamw")
SCHEDULES = ("constant", "linear", "cosine", "onecycle")
LOSSES = ("auto", "cross_entropy", "mse", "huber")
MONITORS = ("auto", "loss", "accuracy")
PRECISIONS = ("float32", "bf16", "fp16")


def _check(ok: bool, name: str, expected: str, got: object) -> None:
    if not ok:
        raise TrainingError(f"expected {name} to be {expected}, got {got!r}")


def _number(value: object, low: float, high: float = math.inf, *, open_low: bool = False) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return (low < value if open_low else low <= value) and value <= high


def _whole(value: object, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


@dataclass(frozen=True)
class Budget:
    """How much training: ``epochs`` (may be a fraction), ``steps`` or ``seconds``; the first used up ends it."""

    epochs: float | None = None
    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "seconds"):
            value = getattr(self, name)
            _check(value is None or _number(value, 0, open_low=True), name, "a finite number above 0", value)
        _check(self.steps is None or _whole(self.steps, 1), "steps", "a whole number of at least 1", self.steps)
        if self.epochs is None and self.steps is None and self.seconds is None:
            raise TrainingError(
                "expected a budget in epochs, steps or seconds, got none of them; say Budget(epochs=10)"
            )

    def total_steps(self, steps_per_epoch: int) -> int | None:
        """The steps that epochs and steps allow, at least 1; None if only time limits."""
        limits = [] if self.steps is None else [self.steps]
        if self.epochs is not None:
            limits.append(max(1, round(self.epochs * steps_per_epoch)))
        return min(limits, default=None)

    def fraction(self, step: int, seconds: float, steps_per_epoch: int) -> float:
        """The share that is used up after ``step`` steps and ``seconds``, at most 1."""
        total = self.total_steps(steps_per_epoch)
        used = 0.0 if total is None else step / total
        if self.seconds is not None:
            used = max(used, seconds / self.seconds)
        return min(used, 1.0)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, apart from network and data.

    Learning rate: ``lr`` is the largest, reached after the share ``warmup`` of the budget; ``schedule`` is constant,
    linear, cosine or onecycle, by the fraction of the budget used (so a budget in seconds anneals over the time it
    has), down to ``final_lr · lr``. ``weight_decay`` spares biases, norms and every other vector or scalar.
    ``ema`` is the decay of a running average of the weights, which is then what is validated and kept.
    ``patience`` counts validations without improvement of ``monitor`` (auto: accuracy, ties by loss; loss for
    regression); ``keep_best`` gives the weights of the best validation back. ``explode`` times the first loss (or 1)
    counts as diverged. ``device`` is auto or torch's name of one; more than one is ``accelerate launch``'s work.
    ``channels_last`` lays images out with channels innermost while training (ResNets: a third faster on CPUs); by
    default for built graphs only, because other modules may call ``view`` on what they expect to be laid out otherwise.
    """

    budget: Budget = field(default_factory=lambda: Budget(epochs=10))
    batch: int = 128
    optimiser: str = "adamw"
    lr: float = 3e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9
    nesterov: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "onecycle"
    warmup: float = 0.2
    final_lr: float = 1e-3
    clip: float | None = None
    loss: str = "auto"
    label_smoothing: float = 0.0
    aux_weight: float = 0.3
    ema: float | None = None
    augment: Augment | None = None
    validate_every: int = 1
    patience: int | None = None
    monitor: str = "auto"
    keep_best: bool = True
    explode: float = 1e4
    precision: str = "float32"
    device: str = "auto"
    channels_last: bool | None = None
    checkpoint_seconds: float = 30.0
    checkpoint_steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _WORDS.items():
            value = getattr(self, name)
            _check(value in allowed, name, ", ".join(allowed[:-1]) + f" or {allowed[-1]}", value)
        for name, (low, high, open_low) in _RANGES.items():
            value = getattr(self, name)
            ok = (value is None and name in _OPTIONAL) or _number(value, low, high, open_low=open_low)
            _check(ok, name, f"a number {'above' if open_low else 'of at least'} {low} and at most {high}", value)
        for name, low in _WHOLE.items():
            value = getattr(self, name)
            ok = (value is None and name in _OPTIONAL) or _whole(value, low)
            _check(ok, name, f"a whole number of at least {low}", value)
        _check(isinstance(self.budget, Budget), "budget", "a Budget, such as Budget(epochs=10)", self.budget)
        for name in ("nesterov", "keep_best", "channels_last"):
            value = getattr(self, name)
            ok = isinstance(value, bool) or (value is None and name == "channels_last")
            _check(ok, name, "true or false", value)
        betas = tuple(self.betas)
        _check(len(betas) == 2 and all(_number(b, 0) and b < 1 for b in betas), "betas", "two of [0, 1)", self.betas)
        object.__setattr__(self, "betas", betas)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as nested plain values, for records and checkpoints."""
        return {**asdict(self), "betas": list(self.betas)}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> "TrainConfig":
        """The configuration that ``to_dict`` gave; TrainingError for unknown fields."""
        known = {f.name for f in fields(TrainConfig)}
        if unknown := set(data) - known:
            raise TrainingError(f"expected fields of TrainConfig, got {sorted(unknown)[0]!r}")
        values = dict(data)
        if "budget" in values:
            values["budget"] = Budget(**values["budget"])
        if values.get("augment") is not None:
            values["augment"] = Augment(**values["augment"])
        return TrainConfig(**values)

    def with_(self, **changes: Any) -> "TrainConfig":
        """A copy with some fields changed."""
        return replace(self, **changes)


_WORDS = {
    "optimiser": OPTIMISERS,
    "schedule": SCHEDULES,
    "loss": LOSSES,
    "monitor": MONITORS,
    "precision": PRECISIONS,
}
_OPTIONAL = ("clip", "ema", "patience", "checkpoint_steps")
_RANGES = {  # name: (lowest, highest, lowest excluded?)
    "lr": (0.0, math.inf, True),
    "weight_decay": (0.0, math.inf, False),
    "momentum": (0.0, 0.999999, False),
    "warmup": (0.0, 1.0, False),
    "final_lr": (0.0, 1.0, False),
    "clip": (0.0, math.inf, True),
    "label_smoothing": (0.0, 0.999999, False),
    "aux_weight": (0.0, math.inf, False),
    "ema": (0.0, 0.9999999, False),
    "explode": (1.0, math.inf, True),
    "checkpoint_seconds": (0.0, math.inf, False),
}
_WHOLE = {"batch": 1, "validate_every": 1, "patience": 1, "checkpoint_steps": 1, "seed": 0}
_MAY_DIFFER = ("budget", "checkpoint_seconds", "checkpoint_steps", "device")  # between a run and its continuation


def check_continues(config: TrainConfig, began: dict[str, Any]) -> None:
    """Raise TrainingError unless a run that began with the configuration ``began`` may go on with ``config``."""
    own = config.to_dict()
    for name in own:
        if name not in _MAY_DIFFER and own[name] != began.get(name):
            raise TrainingError(
                f"expected to continue with {name}={began.get(name)!r} as the run began, got {own[name]!r}; "
                "keep it, or start a new run elsewhere"
            )
