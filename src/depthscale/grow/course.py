"""A schedule followed: stage by stage, each finished before the next begins."""

from collections.abc import Callable, Sequence

from depthscale.grow.schedules.schedule import Plan, Schedule, Stage
from depthscale.grow.training import Point, Training
from depthscale.train.batches import DatasetLike
from depthscale.train.config import TrainConfig

Done = Callable[[int, Stage, Point], None]
Stop = Callable[[], bool]


def follow(
    training: Training,
    stages: Sequence[Stage],
    *,
    first: int = 0,
    done: Done | None = None,
    stop: Stop | None = None,
    acted: Callable[[Stage], None] | None = None,
) -> bool:
    """Go through the stages from number ``first`` on; False where ``stop`` (asked after every step) said so.

    ``done`` is called behind each stage, ``acted`` when its action is over. Raises FloatingPointError where the loss is
    no longer finite.
    """
    stopped = False

    def told(now: Training) -> bool:
        nonlocal stopped
        stopped = stop is not None and stop()
        return stopped or (when is not None and when(now))

    for i, stage in enumerate(stages[first:], first):
        if stage.act is not None:
            stage.act(training)
        if acted is not None:
            acted(stage)
        training.since = training.values()
        when = stage.when
        training.train(stage.until, told)
        if stopped:
            return False
        point = training.validate(stage.name)
        if done is not None:
            done(i, stage, point)
    return True


def trained(
    schedule: Schedule, plan: Plan, data: DatasetLike, config: TrainConfig, flops: float, seed: int = 0
) -> Training:
    """A network trained along a schedule from its beginning to its end."""
    training = Training.begin(schedule.begins(plan, seed), data, config, flops, seed)
    follow(training, schedule.stages(plan))
    return training
