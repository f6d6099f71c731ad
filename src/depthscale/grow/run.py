"""``depthscale grow``: a network trained along a schedule that changes its structure, from data to files."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthscale.errors import DepthscaleError
from depthscale.graph import Graph
from depthscale.grow.course import follow
from depthscale.grow.criticality import NODES, criticality
from depthscale.grow.frames import frame
from depthscale.grow.live import Step
from depthscale.grow.policies import policy
from depthscale.grow.resize import scaled
from depthscale.grow.schedules import Plan, Schedule, Stage, schedule as find
from depthscale.grow.state import Best, Folder, unpack
from depthscale.grow.training import STEP, Point, Training, work

if TYPE_CHECKING:
    from torch import nn

    from depthscale.data import Dataset
    from depthscale.train import TrainConfig

_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15}
_EPOCHS = 30.0  # of the final size, where no budget is given


class Watcher:
    """Told what is going on; this one keeps it to itself."""

    def phase(self, words: str) -> None:
        """Something new has begun."""

    def loading(self, done: int, total: int) -> None:
        """So many files of a folder have been read."""

    def stage(self, number: int, of: int, name: str, training: Training) -> None:
        """A stage has acted, and trains now."""

    def step(self, training: Training) -> None:
        """A training step is over."""

    def point(self, point: Point, seen: dict[str, Any]) -> None:
        """A stage is over; ``seen`` is its frame of the film."""

    def note(self, words: str) -> None:
        """Something worth saying."""


@dataclass(frozen=True, eq=False)
class GrowResult:
    """The network that grew, what it scores on the test rows, and how it came about.

    status: finished, stopped (by a policy; the best so far), interrupted (Ctrl-C; the same, and not tested) or diverged
    (the same).
    """

    graph: Graph
    module: "nn.Module"
    status: str
    schedule: str
    plan: Plan
    test: dict[str, float]
    val: dict[str, float]
    parameters: int
    flops: float
    budget: float
    points: tuple[Point, ...]
    lineage: tuple[Step, ...]
    frames: tuple[dict[str, Any], ...]
    dataset: "Dataset"
    seed: int
    seconds: float
    command: str = ""
    out: Path | None = None
    stages: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def summary(self) -> dict[str, Any]:
        """The result as plain data."""
        return {
            "data": self.dataset.name,
            "schedule": self.schedule,
            "status": self.status,
            "key": self.graph.key,
            "parameters": self.parameters,
            "largest": max((p.parameters for p in self.points), default=self.parameters),
            "multiply_adds": self.points[-1].multiply_adds if self.points else None,
            "flops": self.flops,
            "budget": self.budget,
            "test": self.test,
            "validation": self.val,
            "edits": len(self.lineage),
            "stages": len(self.points),
            "seconds": self.seconds,
            "seed": self.seed,
            "out": None if self.out is None else str(self.out),
        }


def operations(text: "str | float") -> float:
    """A number of operations such as 2e12, "500G" or "1.5T". Raises DepthscaleError for anything else, and for 0."""
    words = str(text).strip().lower().removesuffix("flops").removesuffix("flop").strip()
    unit = words[-1:] if words[-1:] in _UNITS and not words[-1:].isdigit() else ""
    try:
        value = float(words.removesuffix(unit)) * _UNITS[unit]
    except ValueError:
        raise DepthscaleError(f"expected training FLOPs such as 2e12, 500G or 1.5T, got {str(text)!r}") from None
    if not (math.isfinite(value) and value > 0):
        raise DepthscaleError(f"expected a budget of more than 0 training FLOPs, got {str(text)!r}; say --flops 500G")
    return value


def planned(
    start: Graph, name: str, max_parameters: int | None, final_parameters: int | None, grow: str, prune: str
) -> tuple[Schedule, Plan]:
    """The schedule and what it may use. Raises DepthscaleError where the sizes leave it no room."""
    made = find(name)
    policy(grow, "grow")
    policy(prune, "prune")
    size = start.cost().parameters
    cap = 4 * size if max_parameters is None else max_parameters
    if cap < size:
        raise DepthscaleError(
            f"expected --max-parameters of at least the {size:,} that the network begins with, got {cap:,}; raise the "
            "cap or begin with a smaller network"
        )
    final = final_parameters if final_parameters is not None else max(size, cap // 2) if made.grows else cap // 2
    if not 0 < final <= cap:
        raise DepthscaleError(f"expected --final-parameters between 1 and the cap of {cap:,}, got {final:,}")
    plan = Plan(start, cap, final, grow, prune)
    least = scaled(start, cap)  # raises where even the narrowest is too large
    made.check(plan, least)
    return made, plan


def grow(
    net: "Graph | Callable[[Dataset], Graph]",
    data: Any,
    *,
    schedule: str = "developmental",
    flops: "str | float | None" = None,
    max_parameters: int | None = None,
    final_parameters: int | None = None,
    grow_by: str = "gradmax",
    prune_by: str = "gradient-weight",
    when: str | None = None,
    stop: str | None = None,
    target: str | None = None,
    task: str | None = None,
    seed: int = 0,
    lr: float = 3e-3,
    batch: int | None = None,
    device: str = "auto",
    skip_bad: bool = False,
    out: "str | os.PathLike[str] | None" = None,
    resume: bool = False,
    overwrite: bool = False,
    theory: bool = True,
    watcher: Watcher | None = None,
    command: str = "",
) -> GrowResult:
    """Train a network whose structure changes along a schedule, under a budget of training FLOPs.

    ``net`` is the Graph to begin with, or a function of the data set that gives it; ``data`` anything that
    ``depthscale.load_data`` reads, or a Dataset. ``flops``: 6 for a multiply-add of a training row (30 epochs at the
    final size, if not given). ``max_parameters`` caps the size at any time (4 times the network's),
    ``final_parameters`` is the size at the end (half the cap). ``when`` names a policy (saturation) that ends stages
    early, what they leave of the budget going to the last; ``stop`` one (plateau) that ends the run. The same seed
    gives the same network. With ``out`` every finished stage is kept, and ``resume`` goes on behind the last. Ctrl-C
    ends with the best network so far. Raises DepthscaleError for data, sizes, names or a budget that cannot be used.
    """
    watcher, began = watcher or Watcher(), time.monotonic()
    find(schedule)
    budget = None if flops is None else operations(flops)
    watcher.phase("reading the data")
    dataset = _load(data, target, task, seed, skip_bad, watcher)
    start = net if isinstance(net, Graph) else net(dataset)
    early = None if when is None else policy(when, "when")
    over = None if stop is None else policy(stop, "when")
    made, plan = planned(start, schedule, max_parameters, final_parameters, grow_by, prune_by)
    config = _config(dataset, seed, lr, batch, device)
    first = made.begins(plan, seed)
    rows = len(dataset.train.y)
    if budget is None:
        budget = _EPOCHS * rows * STEP * work(scaled(start, plan.final), {})
    _check_budget(budget, made.stages(plan), work(made.largest(plan, first), {}) * STEP * min(config.batch, rows))
    header = {
        "job": "grow",
        "data": dataset.name,
        "fingerprint": dataset.fingerprint,
        "seed": seed,
        "graph_key": start.key,
        "schedule": schedule,
        "budget": budget,
        "cap": plan.cap,
        "final": plan.final,
        "policies": [grow_by, prune_by, when, stop],
        "lr": lr,
        "batch": config.batch,
    }
    path = None if out is None else _prepared(Path(out))
    folder = Folder(path, header, resume=resume, overwrite=overwrite)
    try:
        stages = made.stages(plan)
        if early is not None:
            stages = (*(replace(s, when=early) for s in stages[:-1]), stages[-1])
        run = _Run(dataset, config, stages, budget, seed, folder, theory, watcher, over)
        status = run.through(first)
        return run.result(status, made.name, plan, began, command)
    finally:
        folder.close()


def _prepared(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise DepthscaleError(f"expected a folder to write to with --out, but {path}: {error.strerror}") from None
    return path


def _load(data: Any, target: str | None, task: str | None, seed: int, skip_bad: bool, watcher: Watcher) -> "Dataset":
    from depthscale.data import Dataset, load

    if isinstance(data, Dataset):
        return data
    return load(data, target=target, task=task, seed=seed, skip_bad=skip_bad, progress=watcher.loading)


def _config(dataset: "Dataset", seed: int, lr: float, batch: int | None, device: str) -> "TrainConfig":
    from depthscale.train import Budget, suggest

    given: dict[str, Any] = {} if batch is None else {"batch": batch}
    return suggest(dataset, budget=Budget(epochs=1), lr=lr, clip=1.0, warmup=0.1, seed=seed, device=device, **given)


def _check_budget(budget: float, stages: tuple[Stage, ...], step: float) -> None:
    """Every stage must be able to take a step."""
    ends = [s.until for s in stages]
    shortest = min(b - a for a, b in zip([0.0, *ends[:-1]], ends, strict=True))
    if shortest * budget < step:
        enough = f"{_rounded_up(step / shortest):.2g}"
        raise DepthscaleError(
            f"expected at least {enough} training FLOPs, so that each of the {len(stages)} stages of this schedule "
            f"takes a step, got {budget:.3g}"
        )


def _rounded_up(x: float) -> float:
    """To two digits, so that what is asked for is enough."""
    unit = 10.0 ** (math.floor(math.log10(x)) - 1)
    return math.ceil(x / unit) * unit


class _Run:
    """One run under way."""

    def __init__(
        self,
        dataset: "Dataset",
        config: "TrainConfig",
        stages: tuple[Stage, ...],
        budget: float,
        seed: int,
        folder: Folder,
        theory: bool,
        watcher: Watcher,
        over: Callable[[Training], bool] | None = None,
    ) -> None:
        self._over, self.stopped = over, False
        self.dataset, self.config, self.stages, self.budget, self.seed = dataset, config, stages, budget, seed
        self.folder, self.theory, self.watcher = folder, theory, watcher
        self.best: Best | None = None
        self.frames: list[dict[str, Any]] = []
        self.acted: dict[str, Any] = {}
        self.training: Training

    def through(self, first: Graph) -> str:
        """All stages that are not finished yet; how it ended."""
        from depthscale.train.interrupt import graceful_interrupt
        from depthscale.train.seeds import borrowed_generators
        from depthscale.train.threads import threads

        done = 0
        if self.folder.stored is None:
            self.training = Training.begin(first, self.dataset, self.config, self.budget, self.seed)
        else:
            self.training, done, self.best = unpack(
                self.folder.stored, self.dataset, self.config, self.budget, self.seed
            )
            self.frames = [e["frame"] for e in self.folder.events() if e["kind"] == "stage"]
            self.watcher.note(f"{done} of {len(self.stages)} stages are finished already")
        t = self.training
        if self.theory and len(first) > NODES:
            self.watcher.note(f"q and chi1 are left out of the record: {len(first):,} nodes are more than {NODES:,}")
        with (
            threads(first, self.config.batch),
            borrowed_generators(t.engine.devices.device),
            graceful_interrupt() as ask,
        ):

            def stop() -> bool:
                self.watcher.step(t)
                return ask.made or self.stopped

            try:
                whole = follow(t, self._told(), first=done, done=self._done, stop=stop)
            except FloatingPointError as error:
                self.watcher.note(f"training diverged: {error}; the best network so far is kept")
                self.folder.write("diverged", why=str(error))
                return "diverged"
        return "finished" if whole else "stopped" if self.stopped else "interrupted"

    def _told(self) -> list[Stage]:
        """The stages, with what is seen of their actions noted: loss, q and chi1 before and after."""

        def told(number: int, stage: Stage) -> Stage:
            def act(training: Training) -> None:
                self.acted = {}
                if stage.act is not None:
                    edits = len(training.live.lineage)
                    before = self._seen(training)
                    stage.act(training)
                    after = self._seen(training)
                    self.acted = {
                        "before": before,
                        "after": after,
                        "edits": [vars(s) for s in training.live.lineage[edits:]],
                    }
                self.watcher.stage(number, len(self.stages), stage.name, training)

            return replace(stage, act=act)

        return [told(i, s) for i, s in enumerate(self.stages)]

    def _seen(self, training: Training) -> dict[str, Any]:
        metrics = training.engine.validate()
        found: dict[str, Any] = {"loss": None if metrics is None else metrics.loss}
        found |= {"parameters": training.live.parameters, "key": training.graph.key}
        if self.theory:
            found.update(criticality(training.live) or dict.fromkeys(("q", "chi1")))
        return found

    def _done(self, number: int, stage: Stage, point: Point) -> None:
        t = self.training
        if not self.best or self._better(point, self.best.point):
            weights = {n: v.detach().clone() for n, v in t.live.module.state_dict().items()}
            self.best = Best(t.graph, weights, point)
        seen = frame(t, stage.name)
        self.frames.append(seen)
        self.folder.write("stage", number=number, name=stage.name, **vars(point), act=self.acted, frame=seen)
        self.folder.save(t, number + 1, self.best)
        self.stopped = self._over is not None and self._over(t)
        self.watcher.point(point, seen)

    def _better(self, a: Point, b: Point) -> bool:
        if "accuracy" in a.val:
            return (a.val["accuracy"], -a.val["loss"]) > (b.val["accuracy"], -b.val["loss"])
        return a.val.get("loss", a.loss) < b.val.get("loss", b.loss)

    def result(self, status: str, name: str, plan: Plan, began: float, command: str) -> GrowResult:
        """What there is: the last network of a finished run, else the best so far."""
        from depthscale.train import evaluate

        t = self.training
        if status != "finished" and self.best is None:
            if status == "interrupted":
                raise KeyboardInterrupt
            raise DepthscaleError("training diverged before the first stage was over; give a smaller --lr")
        last = status == "finished"
        point = t.points[-1] if last else self.best.point  # type: ignore[union-attr]
        module = t.live.module.eval() if last else self.best.module(self.seed)  # type: ignore[union-attr]
        graph = t.graph if last else self.best.graph  # type: ignore[union-attr]
        test: dict[str, float] = {}
        if status in ("finished", "stopped"):
            self.watcher.phase("testing, once")
            test = evaluate(module, self.dataset.test(), self.dataset.task).summary()
        found = GrowResult(
            graph, module, status, name, plan, test, dict(point.val), point.parameters, t.spent, self.budget,
            tuple(t.points), t.live.lineage, tuple(self.frames), self.dataset, self.seed, time.monotonic() - began,
            command, self.folder.path, tuple(e for e in self.folder.events() if e["kind"] == "stage"),
        )  # fmt: skip
        if self.folder.path is not None:
            from depthscale.grow import write

            self.watcher.phase("writing the network, the film and the report")
            write.everything(self.folder.path, found)
        self.folder.write("end", status=status, test=test, parameters=point.parameters)
        return found
