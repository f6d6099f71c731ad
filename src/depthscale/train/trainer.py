"""The loop: budget, validation, early stopping, checkpoints, records. What a step computes is in ``engine``."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from depthscale.errors import TrainingError
from depthscale.graph import Graph
from depthscale.record import Record
from depthscale.train import schedule
from depthscale.train.batches import DatasetLike, fingerprint
from depthscale.train.checkpoint import State
from depthscale.train.config import Budget, TrainConfig, check_continues
from depthscale.train.divergence import Divergence, first_bad_parameter
from depthscale.train.engine import Engine
from depthscale.train.evaluate import Metrics, rank_of
from depthscale.train.interrupt import Request, graceful_interrupt
from depthscale.train.keeper import Keeper
from depthscale.train.optimise import Tensors, load_model
from depthscale.train.progress import Silent, make_progress
from depthscale.train.replay import locate, locate_in_validation
from depthscale.train.result import EpochReport, TrainResult
from depthscale.train.seeds import borrowed_generators

OnEpoch = Callable[[EpochReport], bool | None]
_SNAPSHOT_STEPS = 200  # how far back a divergence is traced
_LOOK_STEPS = 20  # how often losses are looked at where looking makes the device wait


class Trainer:
    """A run that can be paused, continued, given more, saved and restored.

    ``model`` is trained in place; between calls of ``run`` it holds the best weights so far, in evaluation mode, while
    the trainer keeps those that training goes on from. ``out`` gets checkpoints and, without a ``record`` of the
    caller's, run.jsonl. ``on_epoch`` is called after every epoch; returning True stops the run as pruned.

    Raises TrainingError for a network, data and configuration that do not fit together.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: DatasetLike,
        config: TrainConfig | None = None,
        *,
        out: str | os.PathLike[str] | None = None,
        record: Record | None = None,
        on_epoch: OnEpoch | None = None,
        progress: bool | str = True,
    ) -> None:
        self.config = config = config or TrainConfig()
        self.engine = Engine(model, dataset, config)
        self.model = model
        self.status = "new"
        self.history: list[EpochReport] = []
        self.best: EpochReport | None = None
        self.last: EpochReport | None = None
        self.divergence: Divergence | None = None
        self._best_weights: Tensors = {}
        self._best_score: tuple[float, ...] = ()
        self._stale = 0  # validations since the best
        self._first_loss = math.nan
        self._sum, self._steps, self._epoch_seconds = 0.0, 0, 0.0  # of the epoch under way
        self._seconds, self._since = 0.0, math.nan  # before this session; when it began
        self._val_seconds = math.nan
        self._fingerprint = fingerprint(dataset)
        header = {"seed": config.seed, "graph_key": self._graph_key()}
        self._keeper = Keeper(out, record, header, lead=self.engine.devices.rank == 0)
        self._on_epoch, self._wants_progress = on_epoch, progress
        self._progress = make_progress(False)
        self._parked: State | None = None  # the engine's state between sessions
        self._good: State = State({}, {})
        self._factors: list[float] = []  # of the steps since ``_good``
        self._losses: list[Tensor] = []  # not looked at yet
        self._request = Request()
        d = self.engine.devices
        self._look_every = 1 if d.device.type == "cpu" and d.world == 1 else _LOOK_STEPS

    # --- what a caller does ---------------------------------------------------------------------------------------

    def run(self, until: Budget | None = None) -> TrainResult:
        """Train until the budget is used up, or pause as soon as ``until`` (counted from the start) is.

        Pausing and running on gives bit for bit what running through gives. A run that ended stays ended, unless
        ``extend`` gave it more.
        """
        if self.status in ("new", "paused", "interrupted"):
            with self._session():
                self.status = self._loop(until)
                self._end()
        return self.result()

    def extend(self, budget: Budget) -> None:
        """Go on under another total budget; the schedule follows the share of the new one. A divergence is final."""
        self.config = self.config.with_(budget=budget)
        if self.status in ("finished", "stopped", "pruned"):
            self.status, self._stale = "paused", 0

    def result(self) -> TrainResult:
        """What there is so far."""
        e = self.engine
        return TrainResult(
            model=self.model,
            status=self.status,
            config=self.config,
            history=tuple(self.history),
            best=self.best if self.config.keep_best else None,
            last=self.last,
            divergence=self.divergence,
            steps=e.step,
            epochs=e.step / e.steps_per_epoch,
            seconds=self.seconds,
            parameters=sum(p.numel() for p in self.model.parameters()),
            out=self._keeper.out,
        )

    @property
    def seconds(self) -> float:
        """Seconds of training so far, validation included, pauses left out."""
        return self._seconds + (0.0 if math.isnan(self._since) else time.perf_counter() - self._since)

    def state(self) -> State:
        """A copy of all that the run depends on; ``load`` in a trainer of the same network and data continues it."""
        state = self._parked or self.engine.state()
        tensors = dict(state.tensors) | {f"best.{k}": v for k, v in self._best_weights.items()}
        values: dict[str, Any] = {
            **state.values,
            "config": self.config.to_dict(),
            "data": self._fingerprint,
            "status": self.status,
            "seconds": self.seconds,
            "history": [r.to_dict() for r in self.history],
            "last": self.last and self.last.to_dict(),
            "best": self.best and self.best.to_dict(),
            "best_score": self._best_score,
            "stale": self._stale,
            "first_loss": self._first_loss,
            "epoch": [self._sum, self._steps, self._epoch_seconds],
            "divergence": self.divergence and vars(self.divergence),
            "record": self._keeper.position,
        }
        return State(tensors, values)

    def load(self, state: State) -> None:
        """Put back what ``state`` gave.

        Raises TrainingError where network, data or configuration are not those of the state (budgets may differ).
        """
        v = state.values
        check_continues(self.config, v["config"])
        if v["data"] != self._fingerprint:
            raise TrainingError("expected to continue on the data that the run began on, got other data")
        self.engine.load(state)
        self._parked = self.engine.state()
        self._best_weights = state.part("best.")
        self.status, self._seconds = v["status"], v["seconds"]
        self.history = [EpochReport(**r) for r in v["history"]]
        self.best, self.last = (None if v[k] is None else EpochReport(**v[k]) for k in ("best", "last"))
        self._best_score, self._stale = tuple(v["best_score"]), v["stale"]
        self._first_loss = v["first_loss"]
        self._sum, self._steps, self._epoch_seconds = v["epoch"]
        self.divergence = None if v["divergence"] is None else Divergence(**v["divergence"])
        if self.status == "finished" and self._used(self.config.budget) < 1:
            self.status = "paused"
        self._show_best()

    def resume(self) -> bool:
        """Continue from the checkpoint in ``out`` if there is one; whether there was."""
        state = self._keeper.stored()
        if state is None:
            return False
        self.load(state)
        self._keeper.open(state.values["record"])
        self._keeper.write("resume", step=self.engine.step, seconds=self.seconds)
        return True

    def save_weights(self) -> None:
        """Write the model as it stands to model.safetensors in ``out``."""
        self._keeper.save_weights(self.model)

    def close(self) -> None:
        """Close the run's own record and free the devices; the model stays usable, the trainer does not."""
        self._keeper.close()
        self.engine.devices.release()

    # --- the loop -------------------------------------------------------------------------------------------------

    @contextmanager
    def _session(self) -> Iterator[None]:
        e = self.engine
        e.lay_out(training=True)
        if self._parked is not None:
            e.load(self._parked)
            self._parked = None
        self._progress = make_progress(self._wants_progress, lead=e.devices.rank == 0)
        try:
            with borrowed_generators(e.devices.device), graceful_interrupt() as self._request:
                self._begin()
                yield
        finally:
            self._progress.close()
            self._progress = Silent()
            self._seconds, self._since = self.seconds, math.nan
            self._parked = e.state()
            e.lay_out(training=False)
            self._show_best()

    def _begin(self) -> None:
        self._keeper.open()
        fresh, self.status = self.status == "new", "interrupted"  # what a checkpoint of a killed run should say
        if fresh:
            self._keeper.write(
                "start",
                config=self.config.to_dict(),
                graph_key=self._graph_key(),
                data=self._fingerprint,
                **self.engine.described(),
            )
        self.model.train()
        self._since = time.perf_counter()
        self._keep_good()
        if fresh:
            self._save()

    def _loop(self, until: Budget | None) -> str:
        """Steps until something ends them; the status that it ends in."""
        e, c = self.engine, self.config
        while True:
            fraction = self._used(c.budget)
            if fraction >= 1:
                return self._finish()
            if until is not None and self._used(until) >= 1:
                return self._pause()
            started = time.perf_counter()
            factor = schedule.factor(c.schedule, fraction, c.warmup, c.final_lr)
            self._factors.append(factor)
            self._losses.append(e.advance(factor))
            ends = e.step % e.steps_per_epoch == 0
            looks = ends or len(self._losses) >= self._look_every
            if looks and not self._look(fraction):
                return "diverged"
            self._epoch_seconds += time.perf_counter() - started
            if ends and (status := self._close_epoch(factor)):
                return status
            if not looks:
                continue
            save = self._save_due()
            if (save or len(self._factors) >= _SNAPSHOT_STEPS) and not self._sound():
                return "diverged"
            if save:
                self._save()
            if e.devices.any(self._request.made):
                return "interrupted"

    def _look(self, fraction: float) -> bool:
        """Take the losses of the last steps in; whether they are all right."""
        e, first = self.engine, self.engine.step - len(self._losses)
        if len(self._losses) == 1 and e.devices.world == 1:
            values = [self._losses[0].item()]
        else:
            values = e.devices.mean(torch.stack(self._losses)).tolist()
        self._losses.clear()
        for i, value in enumerate(values):
            if math.isnan(self._first_loss):
                self._first_loss = value
            if not math.isfinite(value) or value > self.config.explode * max(self._first_loss, 1.0):
                self._diverge(self._factors[: len(self._factors) - (e.step - first - i - 1)], value)
                return False
            self._sum += value
            self._steps += 1
        metrics = dict(self.last.val) if self.last is not None else {}
        speed = self._steps * e.batches.rows / e.steps_per_epoch / max(self._epoch_seconds, 1e-9)
        self._progress.update(fraction, (e.step - 1) // e.steps_per_epoch + 1, self._sum / self._steps, metrics, speed)
        return True

    def _diverge(self, factors: list[float], loss: float) -> None:
        self.divergence = locate(self.engine, self._good, factors, loss)
        self._keeper.write("diverged", **self.divergence.event())

    def _sound(self) -> bool:
        """Whether the weights are finite, and so worth going back to."""
        if first_bad_parameter(self.model) is not None:
            self._diverge(list(self._factors), math.nan)
            return False
        self._keep_good()
        return True

    def _keep_good(self) -> None:
        self._good, self._factors = self.engine.state(), []

    def _used(self, budget: Budget) -> float:
        """The share of a budget that is used; time for one more validation is set aside from the run's own."""
        e, seconds = self.engine, self.seconds
        if budget.seconds is not None and budget is self.config.budget and e.val is not None:
            spare = self._val_seconds
            if math.isnan(spare):  # none seen yet: forward is about a third of a step
                rows = max(self._steps * e.batches.rows / e.steps_per_epoch, 1)
                spare = len(e.val[0]) * self._epoch_seconds / rows / 3
            seconds *= budget.seconds / (budget.seconds - min(spare, budget.seconds / 2))
        used = budget.fraction(e.step, seconds, e.steps_per_epoch)
        return used if budget.seconds is None else e.devices.lead(used)

    # --- epochs ---------------------------------------------------------------------------------------------------

    def _close_epoch(self, factor: float) -> str | None:
        """Validate, report, keep the best; the status if the run ends here."""
        e, c = self.engine, self.config
        epoch = math.ceil(e.step / e.steps_per_epoch)
        due = epoch % c.validate_every == 0 or self._used(c.budget) >= 1
        report, metrics = self._measure(factor, validate=due)
        if metrics is not None and not math.isfinite(metrics.loss):
            if self._sound():
                self.divergence = locate_in_validation(e, metrics.loss)
                self._keeper.write("diverged", **self.divergence.event())
            return "diverged"
        stop = self._judge(report, metrics)
        self._sum, self._steps, self._epoch_seconds = 0.0, 0, 0.0
        self._keeper.write("epoch", **self.history[-1].to_dict())
        if self._on_epoch is not None and self._on_epoch(self.history[-1]):
            return "pruned"
        return "stopped" if stop else None

    def _measure(self, factor: float, *, validate: bool) -> tuple[EpochReport, Metrics | None]:
        e = self.engine
        started = time.perf_counter()
        metrics = e.validate() if validate else None
        if metrics is not None:
            self._val_seconds = time.perf_counter() - started
        report = EpochReport(
            epoch=math.ceil(e.step / e.steps_per_epoch),
            step=e.step,
            seconds=self.seconds,
            lr=self.config.lr * factor,
            train_loss=self._sum / max(self._steps, 1),
            rows_per_second=self._steps * e.batches.rows / e.steps_per_epoch / max(self._epoch_seconds, 1e-9),
            val={} if metrics is None else metrics.summary(),
        )
        return report, metrics

    def _judge(self, report: EpochReport, metrics: Metrics | None) -> bool:
        """Keep the report, and the weights if they are the best so far; whether patience is at its end."""
        if metrics is not None:
            score = rank_of(metrics, self.config.monitor)
            if not self._best_score or score > self._best_score:
                report = EpochReport(**{**vars(report), "best": True})
                self.best, self._best_score, self._stale = report, score, 0
                self._best_weights = self.engine.weights() if self.config.keep_best else {}
            else:
                self._stale += 1
        self.last = report
        self.history.append(report)
        return self.config.patience is not None and self._stale >= self.config.patience

    def _finish(self) -> str:
        """Close the epoch that the budget cut short."""
        if self.engine.step % self.engine.steps_per_epoch != 0 and self._steps > 0:
            if self._losses and not self._look(1.0):
                return "diverged"
            if status := self._close_epoch(self._factors[-1] if self._factors else 0.0):
                return status
        return "finished" if self._sound() else "diverged"

    def _pause(self) -> str:
        """Within an epoch, measure without letting it count: the run goes on as if it had not paused."""
        if self.engine.step % self.engine.steps_per_epoch != 0:
            if self._losses and not self._look(1.0):
                return "diverged"
            self.last, _ = self._measure(self._factors[-1] if self._factors else 0.0, validate=True)
        return "paused"

    # --- keeping --------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        if self.status == "diverged":
            self.engine.load(self._good)
        best = None if self.best is None else self.best.to_dict()
        self._keeper.write("end", status=self.status, step=self.engine.step, seconds=self.seconds, best=best)
        self._save()

    def _show_best(self) -> None:
        if self.config.keep_best and self._best_weights:
            load_model(self.model, self._best_weights)
        elif self.engine.average is not None:
            load_model(self.model, self.engine.average.tensors)
        self.model.eval()

    def _save_due(self) -> bool:
        if self._keeper.out is None:
            return False
        every = self.config.checkpoint_steps
        if every is not None and self.engine.step % every == 0:
            return True
        due = self._keeper.due(self.seconds, self.config.checkpoint_seconds)
        return bool(self.engine.devices.lead(float(due)))

    def _save(self) -> None:
        if self._keeper.out is not None:
            self._keeper.save(self.state(), self.seconds)

    def _graph_key(self) -> str | None:
        graph = getattr(self.model, "graph", None)
        return graph.key if isinstance(graph, Graph) else None
