"""A search as plain data that can be sent to a worker: the space, the evaluator, the studies and their limits."""

import importlib.util
import os
import pickle
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depthscale.errors import SearchError
from depthscale.search.budget import Limits
from depthscale.search.evaluate import Evaluator
from depthscale.search.space import Space, as_space, jointly, within
from depthscale.search.strategies import LEARNED, ONE_SHOT, STRATEGIES, strategy

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

BOOTSTRAP = 3  # networks that must have reached a rung before one of it is trained on: the first is not the best
PLENTY = 24  # networks from which there are enough for that
PRUNERS = ("halving", "hyperband", "median", "none")


@dataclass(frozen=True)
class SpaceOf:
    """A space to be made in every worker: a name, FILE.py:FUNCTION, a function or a Space; and what changes it.

    options: of the named space's function (input_shape, outputs …). parameters, multiply_adds: the most a network may
    have. joint: decisions about training beside those about the network.
    """

    source: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    joint: bool = False
    multiply_adds: int | None = None

    def make(self) -> Space:
        """The space.

        Raises SearchError for a name that is none, a file without the function, or what is no function.
        """
        found = self._found()
        if self.parameters is not None or self.multiply_adds is not None:
            found = within(found, self.parameters, self.multiply_adds)
        return jointly(found) if self.joint else found

    def _found(self) -> Space:
        from depthscale.search.spaces import space

        if not isinstance(self.source, str):
            return as_space(self.source)
        if ".py:" in self.source:
            return as_space(_function(self.source), self.source.rpartition(":")[2])
        options = dict(self.options)
        if self.source == "layerwise" and self.parameters is not None:
            options["parameters"] = None  # the limit that was asked for, not the usual one
        try:
            return space(self.source, **options)
        except TypeError as error:
            raise SearchError(f"space {self.source} has no such option ({error}); leave it out") from None


def _function(spec: str) -> Any:
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise SearchError(f"there is no file {file}; expected a space's name or FILE.py:FUNCTION")
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None:
        raise SearchError(f"{file} is no Python file; expected FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise SearchError(f"{file} cannot be run: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise SearchError(f"{file} has no {name!r}; expected FILE.py:FUNCTION")
    return getattr(module, name)


@dataclass(frozen=True)
class StudyOf:
    """One study: a strategy with one seed. ``rank`` orders studies that are equally far."""

    strategy: str
    seed: int
    rank: int = 0

    @property
    def name(self) -> str:
        """As it is called in the storage."""
        return f"{self.strategy}/{self.seed}"

    @property
    def two_objectives(self) -> bool:
        """Whether the number of parameters is minimised beside."""
        return self.strategy == "nsga2"


@dataclass(frozen=True)
class Job:
    """Everything a worker needs. deadline: wall-clock time (``time.time()``) after which nothing new is begun."""

    space: SpaceOf
    evaluator: Evaluator
    studies: tuple[StudyOf, ...]
    limits: Limits
    storage: str | None = None
    pruner: str = "halving"
    scores: tuple[str, ...] = ()
    deadline: float | None = None

    def __post_init__(self) -> None:
        if self.pruner not in PRUNERS:
            raise SearchError(f"expected a pruner ({', '.join(PRUNERS)}), got {self.pruner!r}")
        for name in self.scores:
            from depthscale.search.scores import SCORES

            if name not in SCORES:
                raise SearchError(f"expected a score ({', '.join(SCORES)}), got {name!r}")
        for study in self.studies:
            if study.strategy not in STRATEGIES:
                strategy(study.strategy)  # says what is wrong with the name

    def sampler(self, of: StudyOf, trial: int, space: Space, given: Mapping[str, Any] | None = None) -> "BaseSampler":
        """The sampler of a study.

        Ours depend on finished trials alone; of Optuna's a new one is made for every trial, seeded by its number, so
        that a search that was killed draws as if it had not been. ``given``: the decisions of one by gradient.
        """
        from depthscale.search.strategy import Strategy

        options: dict[str, Any] = {"space": space} if of.strategy == "largest" else {}
        if of.strategy in ONE_SHOT:
            options["decisions"] = given
        if of.strategy in LEARNED:
            options["features"] = _features(space, self.scores if of.strategy != "screened" or self.scores else SCREEN)
        made = strategy(of.strategy, of.seed, **options)
        return made if isinstance(made, Strategy) else strategy(of.strategy, of.seed * 100_003 + trial)

    def pruning(self) -> "BasePruner":
        """The pruner."""
        import warnings

        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.pruner == "halving":
                few = self.limits.trials is not None and self.limits.trials < PLENTY
                return optuna.pruners.SuccessiveHalvingPruner(
                    min_resource=1, reduction_factor=3, bootstrap_count=0 if few else BOOTSTRAP
                )
            if self.pruner == "hyperband":
                return optuna.pruners.HyperbandPruner(1, self.evaluator.rungs[-1], reduction_factor=3)
            if self.pruner == "median":
                return optuna.pruners.MedianPruner(n_startup_trials=4)
            return optuna.pruners.NopPruner()

    def picklable(self) -> None:
        """Raise SearchError where the job cannot be sent to another process."""
        try:
            pickle.dumps(self)
        except Exception as error:
            raise SearchError(
                f"expected a space and data that other processes can load, but they cannot be sent ({error}); "
                "give the space as FILE.py:FUNCTION or a module's function, or use one worker"
            ) from None

    @property
    def can_be_sent(self) -> bool:
        """Whether other processes can run it."""
        try:
            self.picklable()
        except SearchError:
            return False
        return True


SCREEN = ("spectrum", "independence")  # rank best of the scores without training on NAS-Bench-201


def _features(space: Space, scores: tuple[str, ...]) -> Callable[..., Any]:
    from depthscale.search.features import of_decisions, scores_of_decisions

    return scores_of_decisions(space, scores) if scores else of_decisions(space)


AT_WORK: set[str] = set()  # names of the workers of this process


@dataclass(frozen=True)
class Owner:
    """Who runs a trial: a process on a host, and the name its driver gave it."""

    worker: str
    host: str
    process: int
    born: float

    @staticmethod
    def me(worker: str) -> "Owner":
        """This process."""
        import psutil

        return Owner(worker, socket.gethostname(), os.getpid(), psutil.Process().create_time())

    @property
    def gone(self) -> bool:
        """Whether the process is known to have ended; of other hosts nothing is known."""
        import psutil

        if self.host != socket.gethostname():
            return False
        if self.process == os.getpid():
            return self.worker not in AT_WORK
        try:
            return bool(abs(psutil.Process(self.process).create_time() - self.born) > 0.5)
        except psutil.NoSuchProcess:
            return True


def overdue(job: Job) -> bool:
    """Whether the wall-clock time is over."""
    return job.deadline is not None and time.time() >= job.deadline
