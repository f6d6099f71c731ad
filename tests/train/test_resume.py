"""A run that was killed, paused or copied goes on bit for bit as if it had not been."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from depthscale.errors import TrainingError
from depthscale.record import read
from depthscale.train import Augment, Budget, TrainConfig, Trainer, TrainResult, fit, read_checkpoint
from tests.train.toys import convnet, images, mlp, noise, numbers, same_weights

# everything with a state, at once
EVERYTHING = TrainConfig(
    Budget(epochs=4),
    batch=32,
    ema=0.9,
    clip=1.0,
    label_smoothing=0.1,
    augment=Augment(shift=1, flip=True, rotate=10, cutout=2, mixup=0.2),
    patience=50,
    checkpoint_seconds=0.0,
    seed=3,
)
STEPS = 5  # an epoch of 150 rows


def whole(config: TrainConfig = EVERYTHING) -> TrainResult:
    return fit(convnet(), images(), config=config, progress=False)


def equal(a: TrainResult, b: TrainResult) -> bool:
    """Weights and every number but times."""

    def numbers_of(r: TrainResult) -> list[object]:
        return [(h.epoch, h.step, h.lr, h.train_loss, dict(h.val), h.best) for h in r.history]

    return same_weights(a.model, b.model) and numbers_of(a) == numbers_of(b) and a.best is not None


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("at", [1, STEPS - 1, STEPS, STEPS + 2, 4 * STEPS - 1])
def test_pausing_anywhere_changes_nothing(at: int, kind: str) -> None:
    config = EVERYTHING.with_(optimiser=kind, lr=0.01)
    trainer = Trainer(convnet(), images(), config, progress=False)
    first = trainer.run(until=Budget(steps=at))
    assert (first.status, first.steps) == ("paused", at)
    assert first.last is not None
    assert first.last.val  # a rung has its score even within an epoch
    torch.rand(7)  # what the caller does with torch's generator in between is the caller's
    second = trainer.run()
    assert second.status == "finished"
    assert equal(second, whole(config))


def test_runs_repeat_and_seeds_differ() -> None:
    a, b = whole(), whole()
    assert equal(a, b)
    assert not same_weights(a.model, whole(EVERYTHING.with_(seed=4)).model)


@pytest.mark.parametrize("at", [STEPS - 2, 2 * STEPS, 2 * STEPS + 1])
def test_a_state_in_memory_or_on_disk_continues_elsewhere(at: int, tmp_path: Path) -> None:
    trainer = Trainer(convnet(), images(), EVERYTHING, out=tmp_path / "a", progress=False)
    trainer.run(until=Budget(steps=at))
    other = Trainer(convnet(seed=9), images(), EVERYTHING, progress=False)
    other.load(trainer.state())
    assert equal(other.run(), whole())
    again = Trainer(convnet(seed=8), images(), EVERYTHING, out=tmp_path / "a", progress=False)
    assert again.resume()
    assert equal(again.run(), whole())


RUN = """
import sys
from depthscale.train import fit
from tests.train.test_resume import EVERYTHING
from tests.train.toys import convnet, images
fit(convnet(), images(), config=EVERYTHING.with_(checkpoint_steps=1), out=sys.argv[1], resume=True, progress=False)
"""


def test_kill_9_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    """Killed again and again, at whatever moment, the run ends where the undisturbed one does."""
    out, root = tmp_path / "run", Path(__file__).parents[2]
    config = EVERYTHING.with_(checkpoint_steps=1)
    expected = whole(config)
    slow = RUN.replace("import sys", "import sys, time").replace(
        "fit(", "import torch; torch.nn.Flatten.forward = lambda s, x: (time.sleep(0.02), x.flatten(1))[1]\nfit("
    )
    middles = 0
    for _ in range(2):
        before = _checkpoint_step(out)
        with subprocess.Popen([sys.executable, "-c", slow, out], cwd=root) as process:
            deadline = time.monotonic() + 60
            while _checkpoint_step(out) < before + 4 and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
        middles += _checkpoint_step(out) % STEPS != 0
    assert middles >= 1
    assert _checkpoint_step(out) < 4 * STEPS
    result = fit(convnet(seed=5), images(), config=config, out=out, resume=True, progress=False)
    assert result.status == "finished"
    assert equal(result, expected)
    events = read(out / "run.jsonl").of("epoch")
    assert [e["epoch"] for e in events] == [1, 2, 3, 4]  # none twice, none missing
    assert [e["train_loss"] for e in events] == [h.train_loss for h in expected.history]


def _checkpoint_step(out: Path) -> int:
    file = out / "checkpoint.safetensors"
    with contextlib.suppress(FileNotFoundError):
        head = file.read_bytes()
        header = json.loads(head[8 : 8 + int.from_bytes(head[:8], "little")])
        return int(json.loads(header["__metadata__"]["depthscale.checkpoint"])["step"])
    return 0


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    seen: list[int] = []

    def press(report: object) -> None:
        seen.append(1)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "run"
    result = fit(convnet(), images(), config=EVERYTHING, out=out, on_epoch=press, progress=False)
    assert (result.status, result.steps) == ("interrupted", 2 * STEPS)
    assert signal.getsignal(signal.SIGINT) is handler
    assert read(out / "run.jsonl").events[-1]["status"] == "interrupted"
    assert not (out / "model.safetensors").exists()
    resumed = fit(convnet(), images(), config=EVERYTHING, out=out, resume=True, progress=False)
    assert equal(resumed, whole())
    assert (out / "model.safetensors").exists()


def test_the_second_ctrl_c_does_not_wait() -> None:
    def press(report: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(convnet(), images(), config=EVERYTHING, on_epoch=press, progress=False)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_finished_run_is_not_run_again_but_can_be_given_more(tmp_path: Path) -> None:
    config = EVERYTHING.with_(schedule="constant", warmup=0.0)
    fit(convnet(), images(), config=config, out=tmp_path, progress=False)
    again = fit(convnet(), images(), config=config, out=tmp_path, resume=True, progress=False)
    assert (again.status, again.steps, len(again.history)) == ("finished", 4 * STEPS, 4)
    longer = config.with_(budget=Budget(epochs=6))
    more = fit(convnet(), images(), config=longer, out=tmp_path, resume=True, progress=False)
    assert equal(more, whole(longer))  # under a constant rate the first four epochs are the same
    trainer = Trainer(convnet(), images(), config, progress=False)
    trainer.run()
    trainer.extend(Budget(epochs=6))
    assert equal(trainer.run(), whole(longer))


def test_the_best_weights_come_back_too(tmp_path: Path) -> None:
    """Validation soon gets worse here, so the best lies before the pause."""
    config = TrainConfig(Budget(epochs=40), batch=32, lr=0.05, schedule="constant", warmup=0.0)
    trainer = Trainer(mlp((20, 64, 1)), noise(), config, out=tmp_path, progress=False)
    trainer.run(until=Budget(epochs=20))
    trainer.close()
    resumed = fit(mlp((20, 64, 1), seed=1), noise(), config=config, out=tmp_path, resume=True, progress=False)
    assert resumed.best is not None
    assert resumed.best.epoch < 20
    assert equal(resumed, fit(mlp((20, 64, 1)), noise(), config=config, progress=False))


def test_work_behind_the_last_checkpoint_is_recorded_once(tmp_path: Path) -> None:
    trainer = Trainer(convnet(), images(), EVERYTHING, out=tmp_path, progress=False)
    trainer.run(until=Budget(steps=STEPS + 2))
    early = (tmp_path / "checkpoint.safetensors").read_bytes()
    trainer.run()
    trainer.close()
    (tmp_path / "checkpoint.safetensors").write_bytes(early)  # as if killed before any later one
    assert equal(fit(convnet(), images(), config=EVERYTHING, out=tmp_path, resume=True, progress=False), whole())
    assert [e["epoch"] for e in read(tmp_path / "run.jsonl").of("epoch")] == [1, 2, 3, 4]


def test_running_on_without_resume_is_refused(tmp_path: Path) -> None:
    fit(convnet(), images(), config=EVERYTHING, out=tmp_path, progress=False)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(TrainingError, match="hold no run yet"):
        fit(convnet(), images(), config=EVERYTHING, out=tmp_path, progress=False)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    fit(convnet(), images(), config=EVERYTHING, out=tmp_path, progress=False)

    def resume(model: torch.nn.Module, toy: object, config: TrainConfig) -> None:
        fit(model, toy, config=config, out=tmp_path, resume=True, progress=False)  # type: ignore[arg-type]

    with pytest.raises(TrainingError, match=r"lr=0\.003 as the run began"):
        resume(convnet(), images(), EVERYTHING.with_(lr=0.1))
    with pytest.raises(TrainingError, match="other data"):
        resume(convnet(), images(seed=1), EVERYTHING)
    with pytest.raises(TrainingError, match="of shape"):
        resume(convnet(classes=4), images(), EVERYTHING)
    with pytest.raises(TrainingError, match="same network, got"):
        resume(mlp_of_images(), images(), EVERYTHING)


def mlp_of_images() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), mlp((64, 3)))


@pytest.mark.parametrize("damage", ["empty", "cut", "other", "version"])
def test_damaged_checkpoints(tmp_path: Path, damage: str) -> None:
    fit(convnet(), images(), config=EVERYTHING, out=tmp_path, progress=False)
    file = tmp_path / "checkpoint.safetensors"
    data = file.read_bytes()
    if damage == "other":
        shutil.copy(tmp_path / "model.safetensors", file)
    else:
        versioned = data.replace(b'\\"version\\":1', b'\\"version\\":9')
        file.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "version": versioned}[damage])
    with pytest.raises(TrainingError, match="checkpoint"):
        read_checkpoint(file)


FULL = """
import resource, signal, sys
from depthscale.errors import DepthscaleError
from depthscale.train import Budget, fit
from tests.train.test_resume import EVERYTHING
from tests.train.toys import convnet, images
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def fill(report):
    if report.epoch == 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
try:
    fit(convnet(), images(), config=EVERYTHING, out=sys.argv[1], on_epoch=fill, progress=False)
except DepthscaleError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    root, out = Path(__file__).parents[2], tmp_path / "run"
    said = subprocess.run(
        [sys.executable, "-c", FULL, out], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert "make room and resume" in said
    assert sorted(p.name for p in out.iterdir()) == ["checkpoint.safetensors", "run.jsonl"]  # no half-written file
    assert _checkpoint_step(out) >= STEPS
    assert equal(fit(convnet(), images(), config=EVERYTHING, out=out, resume=True, progress=False), whole())


def test_regression_resumes_too(tmp_path: Path) -> None:
    config = TrainConfig(Budget(epochs=3), batch=32, checkpoint_seconds=0.0)
    trainer = Trainer(mlp(), numbers(), config, out=tmp_path, progress=False)
    trainer.run(until=Budget(steps=9))
    trainer.close()
    resumed = fit(mlp(seed=4), numbers(), config=config, out=tmp_path, resume=True, progress=False)
    assert equal(resumed, fit(mlp(), numbers(), config=config, progress=False))
