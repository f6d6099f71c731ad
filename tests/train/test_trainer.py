"""The loop's policy: budgets, early stopping, hooks, records, progress, manners."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from depthscale import zoo
from depthscale.errors import TrainingError
from depthscale.record import Record, read
from depthscale.train import Augment, Budget, EpochReport, TrainConfig, Trainer, evaluate, fit, progress, suggest
from depthscale.train.engine import Engine
from tests.train.toys import Split, convnet, images, mlp, noise, numbers, same_weights

CONFIG = TrainConfig(Budget(epochs=5), batch=32, lr=0.01)


def test_it_learns() -> None:
    result = fit(convnet(), images(600, 200), config=CONFIG, progress=False)
    assert result.status == "finished"
    assert result.val["accuracy"] > 0.9  # chance is a third
    regression = fit(mlp(), numbers(), config=CONFIG.with_(budget=Budget(epochs=60), lr=0.02), progress=False)
    assert regression.val["r2"] > 0.95


def test_a_graph_is_built_with_the_seed_and_trained() -> None:
    toy, graph = images(), zoo.mlp((64, 16, 3), input_shape=(1, 8, 8))
    a, b = (fit(graph, toy, config=CONFIG, progress=False) for _ in range(2))
    assert same_weights(a.model, b.model)
    other = fit(graph, toy, config=CONFIG.with_(seed=1), progress=False)
    assert not same_weights(a.model, other.model)
    assert a.parameters == graph.cost().parameters


def test_the_result_is_what_it_says() -> None:
    toy = images()
    result = fit(convnet(), toy, config=CONFIG, progress=False)
    assert (result.steps, result.epochs, len(result.history)) == (25, 5.0, 5)
    assert not result.model.training
    got = evaluate(result.model, toy.val, "classification")
    assert dict(result.val) == got.summary()
    assert result.best is not None
    assert result.best == max((h for h in result.history), key=lambda h: (h.val["accuracy"], -h.val["loss"]))
    assert [h.best for h in result.history] == _records(result.history)


def _records(history: tuple[EpochReport, ...]) -> list[bool]:
    found, so_far = [], (-1.0, 0.0)
    for h in history:
        mark = (h.val["accuracy"], -h.val["loss"])
        found.append(mark > so_far)
        so_far = max(so_far, mark)
    return found


def test_the_epochs_train_loss_is_the_mean_of_its_steps() -> None:
    engine = Engine(mlp(), numbers(), CONFIG.with_(schedule="constant", warmup=0.0))
    losses = [engine.advance(1.0).item() for _ in range(2 * engine.steps_per_epoch)]
    result = fit(mlp(), numbers(), config=CONFIG.with_(schedule="constant", warmup=0.0), progress=False)
    want = np.array(losses).reshape(2, -1).mean(1)
    assert [h.train_loss for h in result.history[:2]] == pytest.approx(list(want), rel=1e-12)


# --- budgets ----------------------------------------------------------------------------------------------------


def test_a_fraction_of_an_epoch() -> None:
    result = fit(convnet(), images(), config=CONFIG.with_(budget=Budget(epochs=1.6)), progress=False)
    assert result.steps == 8
    assert [h.step for h in result.history] == [5, 8]  # the part of an epoch is validated and reported too
    assert [h.epoch for h in result.history] == [1, 2]


class Clock(nn.Module):
    """The trainer's clock, which moves only when rows pass through here: so many seconds a batch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, training: float, validation: float) -> None:
        super().__init__()
        self.now, self.costs = 100.0, {True: training, False: validation}
        monkeypatch.setattr("depthscale.train.trainer.time", SimpleNamespace(perf_counter=lambda: self.now))

    def forward(self, x: Tensor) -> Tensor:
        self.now += self.costs[self.training]
        return x


@pytest.mark.parametrize("cost", [0.001, 0.03])
def test_a_budget_of_seconds_anneals_over_the_time_it_has(cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the steps are, the whole schedule is run through in the time given."""
    clock = Clock(monkeypatch, cost, 0.01)
    trainer = Trainer(nn.Sequential(clock, mlp()), numbers(), CONFIG.with_(budget=Budget(seconds=2.0)), progress=False)
    rates: list[float] = []
    advance = trainer.engine.advance

    def noted(factor: float) -> Tensor:
        rates.append(factor)
        return advance(factor)

    trainer.engine.advance = noted  # type: ignore[method-assign]
    started = clock.now
    result = trainer.run()
    assert result.status == "finished"
    assert result.seconds == pytest.approx(clock.now - started)
    assert 2.0 - cost - 0.01 <= result.seconds <= 2.0 + cost + 0.01
    assert max(rates) > 0.99
    assert rates[-1] < 0.02
    top = rates.index(max(rates))
    assert rates[: top + 1] == pytest.approx(sorted(rates[: top + 1]), abs=0.05)
    assert top / len(rates) == pytest.approx(0.2, abs=0.06)  # the peak is where the warm-up ends
    assert result.last is not None
    assert result.last.step == result.steps  # validated at its very end


def test_time_for_the_last_validation_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 0.001, 0.25)
    config = CONFIG.with_(budget=Budget(seconds=1.5), validate_every=3)
    result = fit(nn.Sequential(clock, mlp()), numbers(), config=config, progress=False)
    assert result.last is not None
    assert result.last.val
    # several validations of 0.25 s, none of them on top of the budget
    assert sum(bool(h.val) for h in result.history) >= 4
    assert result.seconds <= 1.5 + 0.01


def test_seconds_count_over_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 1 / 64, 0.0)
    trainer = Trainer(nn.Sequential(clock, mlp()), numbers(), CONFIG.with_(budget=Budget(seconds=1.0)), progress=False)
    first = trainer.run(until=Budget(seconds=0.25))
    assert (first.status, first.steps) == ("paused", 16)
    clock.now += 1000  # what happens between does not count
    last = trainer.run()
    assert (last.status, last.steps) == ("finished", 64)


def test_several_limits() -> None:
    result = fit(convnet(), images(), config=CONFIG.with_(budget=Budget(epochs=50, steps=7)), progress=False)
    assert result.steps == 7
    trainer = Trainer(convnet(), images(), CONFIG, progress=False)
    assert trainer.run(until=Budget(epochs=1)).steps == 5
    assert trainer.run(until=Budget(epochs=1)).steps == 5  # already there
    assert trainer.run(until=Budget(epochs=3)).steps == 15
    assert trainer.run(until=Budget(epochs=99)).status == "finished"


# --- early stopping, hooks ----------------------------------------------------------------------------------------


def test_early_stopping_gives_the_best_weights_back() -> None:
    config = CONFIG.with_(budget=Budget(epochs=200), patience=3, schedule="constant")
    toy = noise()
    result = fit(mlp((20, 64, 1)), toy, config=config, progress=False)
    assert result.status == "stopped"
    assert result.best is not None
    assert len(result.history) == result.best.epoch + 3
    assert evaluate(result.model, toy.val, "regression").loss == min(h.val["loss"] for h in result.history)
    kept = fit(mlp((20, 64, 1)), toy, config=config.with_(keep_best=False), progress=False)
    assert evaluate(kept.model, toy.val, "regression").loss == kept.history[-1].val["loss"] > result.val["loss"]


def test_monitors() -> None:
    losses, accuracies = (
        fit(convnet(), images(40, 30), config=CONFIG.with_(budget=Budget(epochs=30), monitor=m), progress=False)
        for m in ("loss", "accuracy")
    )
    assert losses.val["loss"] == min(h.val["loss"] for h in losses.history)
    assert accuracies.val["accuracy"] == max(h.val["accuracy"] for h in accuracies.history)


def test_validating_seldom() -> None:
    result = fit(convnet(), images(), config=CONFIG.with_(validate_every=2), progress=False)
    assert [bool(h.val) for h in result.history] == [False, True, False, True, True]  # the last always


def test_without_validation_rows() -> None:
    toy = images()
    toy.val = Split(toy.val.x[:0], toy.val.y[:0])
    result = fit(convnet(), toy, config=CONFIG, progress=False)
    assert (result.status, dict(result.val), result.best) == ("finished", {}, None)
    with pytest.raises(TrainingError, match="early stopping"):
        fit(convnet(), toy, config=CONFIG.with_(patience=2), progress=False)


def test_the_hook_may_stop_the_run_and_it_may_go_on_later() -> None:
    seen: list[int] = []

    def hook(report: EpochReport) -> bool:
        seen.append(report.epoch)
        return report.epoch == 2

    trainer = Trainer(convnet(), images(), CONFIG, on_epoch=hook, progress=False)
    assert trainer.run().status == "pruned"
    assert seen == [1, 2]
    assert trainer.run().status == "pruned"  # stays so
    trainer.extend(Budget(epochs=5))
    assert same_weights(trainer.run().model, fit(convnet(), images(), config=CONFIG, progress=False).model)


def test_what_the_hook_raises_comes_out_and_leaves_a_good_model() -> None:
    class Enough(Exception):
        pass

    def hook(report: EpochReport) -> None:
        raise Enough

    model = convnet()
    trainer = Trainer(model, images(), CONFIG, on_epoch=hook, progress=False)
    with pytest.raises(Enough):
        trainer.run()
    assert not model.training
    got = trainer.result()
    assert (got.status, len(got.history)) == ("interrupted", 1)
    assert evaluate(model, images().val, "classification").summary() == dict(got.val)


def test_auxiliary_heads_are_trained() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.aux = mlp(seed=0), mlp(seed=1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.main(x), self.aux(x)

    model, untouched = Two(), Two()
    fit(model, numbers(), config=CONFIG.with_(aux_weight=0.5), progress=False)
    assert not same_weights(model.aux, untouched.aux)
    alone = fit(mlp(seed=0), numbers(), config=CONFIG, progress=False)
    assert same_weights(model.main, alone.model)  # heads without common layers do not disturb each other


# --- records, progress, manners ---------------------------------------------------------------------------------


def test_the_record_tells_the_run(tmp_path: Path) -> None:
    graph = zoo.mlp((64, 16, 3), input_shape=(1, 8, 8))
    result = fit(graph, images(), config=CONFIG.with_(seed=5), out=tmp_path, progress=False)
    got = read(tmp_path / "run.jsonl")
    assert (got.header["seed"], got.header["graph_key"]) == (5, graph.key)
    assert [e["kind"] for e in got.events] == ["start", *["epoch"] * 5, "end"]
    start, end = got.events[0], got.events[-1]
    assert TrainConfig.from_dict(start["config"]) == result.config
    assert (start["parameters"], start["rows"], start["val_rows"]) == (result.parameters, 150, 50)
    for event, report in zip(got.of("epoch"), result.history, strict=True):
        assert {k: event[k] for k in report.to_dict()} == report.to_dict()
        assert event["rows_per_second"] > 0
    assert (end["status"], end["step"]) == ("finished", 25)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.safetensors", "model.safetensors", "run.jsonl"]


def test_a_callers_record_is_written_to_and_left_open(tmp_path: Path) -> None:
    with Record(tmp_path / "all.jsonl") as record:
        for _ in range(2):
            fit(convnet(), images(), config=CONFIG, record=record, progress=False)
        record.write("mine")
    events = read(tmp_path / "all.jsonl").events
    assert [e["kind"] for e in events] == 2 * ["start", *["epoch"] * 5, "end"] + ["mine"]


def test_the_final_weights_load_into_a_plain_module(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    tied = mlp((5, 5, 5, 2))
    tied[2].weight = tied[0].weight  # type: ignore[index, assignment]
    result = fit(tied, numbers(), config=CONFIG, out=tmp_path, progress=False)
    other = mlp((5, 5, 5, 2), seed=7)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert same_weights(other, result.model)
    assert torch.equal(tied[0].weight, tied[2].weight)  # type: ignore[index, arg-type]


def test_an_out_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write"):
        fit(convnet(), images(), config=CONFIG, out=tmp_path / "file" / "run", progress=False)


def test_torchs_generators_come_back_as_they_were() -> None:
    torch.manual_seed(11)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    fit(convnet(), images(), config=CONFIG.with_(augment=Augment(shift=1, mixup=0.1)), progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_the_data_are_not_touched() -> None:
    toy, fresh = images(), images()
    toy.train.x.flags.writeable = False
    fit(convnet(), toy, config=CONFIG.with_(augment=Augment(shift=1, cutout=2, mixup=0.3)), progress=False)
    assert np.array_equal(toy.train.x, fresh.train.x)
    assert np.array_equal(toy.train.y, fresh.train.y)


@pytest.mark.parametrize("kind", [True, "lines", "bar", False])
def test_progress_goes_to_standard_error(kind: Any, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("depthscale.train.progress._QUIET_SECONDS", 0.0)
    monkeypatch.setattr("depthscale.train.progress._LINE_SECONDS", 0.05)
    fit(convnet(), images(), config=CONFIG.with_(budget=Budget(seconds=0.5)), progress=kind)
    out, err = capsys.readouterr()
    assert out == ""
    if kind in (True, "lines"):  # a captured stream is no terminal
        assert "loss" in err
        assert "val accuracy" in err
        assert "rows/s" in err
        assert "\x1b" not in err
    elif kind is False:
        assert err == ""


def test_short_runs_are_silent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 1e6)  # a busy machine may need longer than a person waits
    fit(convnet(), images(), config=CONFIG)
    assert capsys.readouterr().err == ""
    with pytest.raises(TrainingError, match="progress"):
        fit(convnet(), images(), config=CONFIG, progress="loud")


def test_suggestions_suit_the_data() -> None:
    picture, table = images(6000), numbers()
    assert suggest(picture).augment == Augment(shift=1)
    assert suggest(picture).batch > suggest(table).batch
    assert suggest(table).augment is None
    assert suggest(table, batch=7, seed=2).batch == 7
    with pytest.raises(TrainingError, match="images"):
        fit(mlp(), table, config=suggest(table, augment=Augment(shift=1)), progress=False)
