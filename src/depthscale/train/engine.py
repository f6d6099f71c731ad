"""The numbers of a run and how one step changes them: model, optimiser, average, position. No policy.

Everything random in a step is a function of (seed, step, process), so a state is weights, optimiser, average and the
number of the step; putting one back and stepping on repeats the run bit for bit on one machine.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from depthscale.errors import TrainingError
from depthscale.graph import Graph
from depthscale.train import seeds
from depthscale.train.augment import mix_pairs
from depthscale.train.batches import Batches, DatasetLike, tensors
from depthscale.train.checkpoint import State
from depthscale.train.config import TrainConfig
from depthscale.train.devices import choose
from depthscale.train.evaluate import EVALUATION_BATCH, Metrics, evaluating, run_batched, score
from depthscale.train.objective import Objective
from depthscale.train.optimise import (
    Average,
    Tensors,
    copied,
    load_model,
    load_optimiser,
    make_optimiser,
    model_tensors,
    optimiser_tensors,
)


class Engine:
    """Trains ``model`` in place, one ``advance`` a step."""

    def __init__(self, model: nn.Module, dataset: DatasetLike, config: TrainConfig) -> None:
        self.config = config
        self.devices = choose(config)
        device = self.devices.device
        self.model = model.to(device)
        like = next((p for p in model.parameters() if p.is_floating_point()), None)
        x, y = tensors(dataset.train, dataset.task, like)
        self.task = dataset.task
        self.objective = Objective(dataset.task, config)
        if config.monitor == "accuracy" and self.task != "classification":
            raise TrainingError("expected monitor to be auto or loss for regression, got 'accuracy'")
        self._check_fits(x, y)
        built = isinstance(getattr(model, "graph", None), Graph) and self.devices.world == 1
        self.channels_last = x.dim() == 4 and (built if config.channels_last is None else config.channels_last)
        self.batches = self._batches(x, y)
        self.val = self._validation(dataset, like)
        self.optimiser = make_optimiser(self.model, config)
        self.forward = self.devices.prepare(self.model, self.optimiser)
        self.average = None if config.ema is None else Average(self.model, config.ema)
        self.step = 0

    def _batches(self, x: Tensor, y: Tensor) -> Batches:
        d, c = self.devices, self.config
        x, y = x.to(d.device), y.to(d.device)
        return Batches(x, y, c.batch, c.seed, channels_last=self.channels_last, rank=d.rank, world=d.world)

    def adopt(self, model: nn.Module) -> None:
        """Go on with another network whose parameters the optimiser holds by now: its structure was edited.

        Raises TrainingError where weights are averaged, for there is no average of a changing structure.
        """
        if self.average is not None:
            raise TrainingError("expected no average of the weights of a network that changes; leave ema at None")
        self.model = model
        self.forward = self.devices.prepare(model, self.optimiser)

    def show(self, dataset: DatasetLike) -> None:
        """Go on with other data of the same task and shapes. Raises TrainingError where they do not fit."""
        like = next((p for p in self.model.parameters() if p.is_floating_point()), None)
        x, y = tensors(dataset.train, dataset.task, like)
        self._check_fits(x, y)
        self.batches, self.val = self._batches(x, y), self._validation(dataset, like)

    def _check_fits(self, x: Tensor, y: Tensor) -> None:
        augment = self.config.augment
        if augment is not None and augment.spatial and x.dim() != 4:
            raise TrainingError(f"expected images (N, C, H, W) to augment, got x of shape {tuple(x.shape)}")
        if augment is not None and augment.mixup and not x.is_floating_point():
            raise TrainingError(f"expected floating-point x for mixup, got {x.dtype}")
        try:
            with evaluating(self.model):
                out = self.model(x[:1].to(self.devices.device))
        except (RuntimeError, TypeError) as error:
            brief = str(error).strip().splitlines()[0]
            raise TrainingError(f"the network cannot read rows of shape {tuple(x.shape[1:])}: {brief}") from error
        self.objective.check(out, y)

    def _validation(self, dataset: DatasetLike, like: Tensor | None) -> tuple[Tensor, Tensor] | None:
        if len(dataset.val.y) == 0:
            if self.config.patience is not None:
                raise TrainingError("expected validation rows for early stopping, got none; leave patience at None")
            return None
        x, y = tensors(dataset.val, dataset.task, like)
        return x.to(self.devices.device), y.to(self.devices.device)

    def lay_out(self, *, training: bool) -> None:
        """Put the kernels into the memory format of training, or back into the ordinary one that others expect.

        The optimiser's state must be put back after this, to be laid out like the parameters.
        """
        if self.channels_last:
            order = torch.channels_last if training else torch.contiguous_format
            self.model.to(memory_format=order)  # type: ignore[call-overload]

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show every training row once."""
        return self.batches.steps

    def described(self) -> dict[str, Any]:
        """What a record should say of it."""
        return {
            "task": self.task,
            "rows": self.batches.rows,
            "val_rows": 0 if self.val is None else len(self.val[0]),
            "steps_per_epoch": self.steps_per_epoch,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "device": str(self.devices.device),
            "processes": self.devices.world,
            "threads": torch.get_num_threads(),
        }

    def seed_noise(self, step: int) -> None:
        """Seed what dropout and the like will draw in this step."""
        d = self.devices
        seeds.seed_noise(seeds.mix(self.config.seed, seeds.NOISE, step, d.rank), d.device)

    def batch(self, step: int) -> tuple[Tensor, Tensor, tuple[Tensor, float] | None]:
        """The step's rows, augmented; and who was mixed with whom, and how much."""
        x, y = self.batches(step)
        augment = self.config.augment
        if augment is None:
            return x, y, None
        rng = np.random.default_rng(seeds.mix(self.config.seed, seeds.AUGMENT, step, self.devices.rank))
        if augment.spatial:
            x = augment(x, rng)
        if augment.mixup:
            x, partner, share = mix_pairs(x, augment.mixup, rng)
            return x, y, (partner, share)
        return x, y, None

    def loss_of(self, out: Any, y: Tensor, mixed: tuple[Tensor, float] | None) -> Tensor:
        """The loss of a batch that ``batch`` gave."""
        return self.objective(out, y) if mixed is None else self.objective.mixed(out, y, *mixed)

    def advance(self, factor: float) -> Tensor:
        """Take one step at ``factor`` of the largest learning rate; the loss, not yet looked at."""
        x, y, mixed = self.batch(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.lr * factor
        self.seed_noise(self.step)
        loss = self.loss_of(self.forward(x), y, mixed)
        d = self.devices
        # processes average their gradients, so a share of the batch counts by its size
        d.backward(loss if d.world == 1 else loss * (len(y) * d.world / self.batches.size(self.step)))
        d.update(self.config.clip)
        self.step += 1
        if self.average is not None:
            self.average.update(self.model, self.step)
        return loss.detach()

    def validate(self) -> Metrics | None:
        """The metrics of the weights that count (the average's, where there is one); None without validation rows."""
        if self.val is None:
            return None
        x, y = self.val
        current = None
        if self.average is not None:
            current = copied(model_tensors(self.model))
            load_model(self.model, self.average.tensors)
        try:
            with evaluating(self.model):
                out = self._outputs(x)
        finally:
            if current is not None:
                load_model(self.model, current)
        return score(out, y, self.task)

    def _outputs(self, x: Tensor) -> Tensor:
        d = self.devices
        if d.world == 1:
            return run_batched(self.forward, x, d.device, EVALUATION_BATCH)
        share = -(-len(x) // d.world)
        rows = torch.arange(d.rank * share, (d.rank + 1) * share, device=d.device).clamp(max=len(x) - 1)
        return d.gather(run_batched(self.model, x[rows], d.device, EVALUATION_BATCH))[: len(x)]

    def weights(self) -> Tensors:
        """A copy of the weights that count."""
        return copied(model_tensors(self.model) if self.average is None else self.average.tensors)

    def state(self) -> State:
        """A copy of everything that the coming steps depend on."""
        found = {f"model.{k}": v for k, v in model_tensors(self.model).items()}
        found |= {f"optimiser.{k}": v for k, v in optimiser_tensors(self.optimiser).items()}
        if self.average is not None:
            found |= {f"average.{k}": v for k, v in self.average.tensors.items()}
        return State(copied(found), {"step": self.step, "devices": self.devices.state()})

    def load(self, state: State) -> None:
        """Put a state back. Raises TrainingError for one of another network."""
        load_model(self.model, state.part("model."))
        load_optimiser(self.optimiser, state.part("optimiser."))
        if self.average is not None:
            average = state.part("average.")
            _same_names(self.average.tensors, average)
            self.average.tensors = {k: v.to(self.devices.device, copy=True) for k, v in average.items()}
        self.step = int(state.values["step"])
        self.devices.load(state.values.get("devices", {}))


def _same_names(own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    if own.keys() != other.keys():
        raise TrainingError("expected stored state with an average of the weights, got one without; keep ema as it was")
