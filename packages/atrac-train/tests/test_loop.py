"""The loop of all trainings: losses fall, an interrupted training goes on, ranks agree, what is wrong is said."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from atrac_codec.checkpoint import load_stage
from atrac_train.loop import State, TrainingError, _load_state, _save_state, learning_rate
from atrac_train.objective import Tensors
from atrac_train.objectives import OBJECTIVES, ScalerObjective
from atrac_train.settings import OptimizerSettings, TrainingSettings

SHORT = (
    "stage=scaler",
    "epochs=4",
    "steps_per_epoch=4",
    "data.batch_size=16",
    "data.shuffle=64",
    "optimizer.learning_rate=0.5",
    "optimizer.final_learning_rate=0.1",
    "checkpoint_epochs=2",
)


@pytest.fixture(scope="module")
def done(run: Callable[..., int], folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished training."""
    output = folder(tmp_path_factory.mktemp("done"))
    assert run("train_stage", *SHORT, f"output={output.path}") == 0
    return output


def shipped(folder: Path) -> Path:
    """The weights that a training saved."""
    (path,) = (folder / "weights").glob("*.safetensors")
    return path


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_losses_fall_and_weights_metrics_and_sheet_are_those_of_the_best_epoch(done: Any, shards: Path):
    log, measured = done.log, done.metrics
    assert [(line["epoch"], line["step"]) for line in log] == [(n, 4 * n) for n in range(1, 5)]
    assert all(log[-1][split]["loss"] < 0.8 * log[0][split]["loss"] for split in ("train", "validation"))
    assert log[-1]["learning_rate"] == pytest.approx(0.1)
    best = min(log, key=lambda line: line["validation"]["loss"])
    scores = {f"loss {name}".removesuffix(" loss"): value for name, value in best["validation"].items()}
    assert measured["validation"] == pytest.approx({**scores, **best["scores"]})
    assert (measured["best_epoch"], measured["epochs"], measured["ranks"]) == (best["epoch"], 4, 1)
    assert measured["settings"] == yaml.safe_load((done.path / "settings.yaml").read_text())
    assert {path.name for path in done.path.rglob("*.png")} == {"curve.png", "scaler.png"}
    path = shipped(done.path)
    assert measured["weights"] == f"weights/{path.name}"
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["curve"] == [[line["step"], line["train"]["loss"], line["validation"]["loss"]] for line in log]
    assert about["training data"]["name"] == str(shards)
    own = load_stage(path, "scaler").state_dict()
    assert same({f"stage.{name}": value for name, value in own.items()}, done.tensors())


def test_a_finished_training_is_left_alone_and_another_is_refused(run, fails, done, capsys):
    before = {path: path.stat().st_mtime_ns for path in done.path.rglob("*") if path.is_file()}
    assert run("train_stage", *SHORT, f"output={done.path}") == 0
    assert "finished already" in capsys.readouterr().out
    assert "begun with epochs = 4, now 6" in fails("train_stage", *SHORT, f"output={done.path}", "epochs=6")
    assert {path: path.stat().st_mtime_ns for path in done.path.rglob("*") if path.is_file()} == before


def test_an_interrupted_training_goes_on_to_the_same_end(run, done, out, no_pictures, monkeypatch, capsys):
    forward, steps = ScalerObjective.forward, 0

    def interrupted(self: ScalerObjective, example: Tensors) -> dict[str, Tensor]:
        nonlocal steps
        steps += self.training
        if steps > 3 * 4 + 1:  # one epoch after the checkpoint
            raise KeyboardInterrupt
        return forward(self, example)

    with monkeypatch.context() as patch:
        patch.setattr(ScalerObjective, "forward", interrupted)
        assert run("train_stage", *SHORT, f"output={out.path}") == 130
    assert "goes on from the last checkpoint" in capsys.readouterr().err
    assert out.log == done.log[:3]
    with (out.path / "log.jsonl").open("a") as file:
        file.write('{"half a li')
    assert run("train_stage", *SHORT, f"output={out.path}") == 0
    assert "epoch 2 of 4" not in capsys.readouterr().err
    assert out.log == done.log
    assert all(same(out.tensors(name), done.tensors(name)) for name in ("best.pt", "checkpoint.pt"))


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_end(run, process, out, folder, tmp_path, no_pictures):
    longer = (*SHORT, "stage=transient", "epochs=8", "steps_per_epoch=8", "data.batch_size=4", "checkpoint_epochs=3")
    whole = folder(tmp_path / "whole")
    assert run("train_stage", *longer, f"output={whole.path}") == 0
    started, log = process("train_stage", *longer, f"output={out.path}"), out.path / "log.jsonl"
    while started.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 4):
        time.sleep(0.005)
    assert started.poll() is None, "it was over before it could be killed"
    started.send_signal(signal.SIGKILL)
    started.communicate()
    assert run("train_stage", *longer, f"output={out.path}") == 0
    assert out.log == whole.log
    assert same(out.tensors(), whole.tensors())


@pytest.mark.slow
@pytest.mark.parametrize(("app", "settings"), [("train_stage", SHORT), ("finetune_e2e", SHORT[1:5])])
def test_two_ranks_have_equal_weights_and_measure_as_one(app: str, settings: Sequence[str], run, process, out):
    more = ("data.batch_size=2", "optimizer.warmup_steps=0", f"output={out.path}")
    stdout, stderr = (started := process(app, *settings, *more, ranks=2)).communicate()
    assert started.returncode == 0, stderr
    assert ", 2 ranks, " in stdout
    # Two processes write at once: their lines may run together.
    hashes = re.findall(r": weights ([0-9a-f]{8})", stdout)
    assert len(hashes) == 2
    assert len(set(hashes)) == 1
    both = out.metrics
    assert both["ranks"] == 2
    assert [line["step"] for line in out.log] == [4, 8, 12, 16]
    saved = shipped(out.path) if app == "train_stage" else out.path / "weights"
    assert run(app, *settings, *more, f"weights={saved}") == 0
    assert out.measured["test"] == pytest.approx(both["test"], rel=1e-4)


def test_calibration_comes_once_after_training_with_the_best_weights(run, out, no_pictures, monkeypatch):
    calls = []

    def calibrate(self: ScalerObjective, examples: Sequence[Tensors]) -> None:
        assert not self.training
        assert same(self.state_dict(), out.tensors())
        calls.append(len(examples))
        with torch.no_grad():
            self.stage.levels.add_(0.25)

    monkeypatch.setattr(ScalerObjective, "calibrate", calibrate)
    for _ in range(2):
        assert run("train_stage", *SHORT, "epochs=1", f"output={out.path}") == 0
    assert run("train_stage", *SHORT, f"weights={shipped(out.path)}", f"output={out.path}") == 0
    assert len(calls) == 1
    levels = load_stage(shipped(out.path), "scaler").state_dict()["levels"]
    torch.testing.assert_close(levels, out.tensors()["stage.levels"] + 0.25)
    assert out.measured["test"] == out.metrics["test"]


def test_the_best_epoch_is_kept_or_the_last_and_patience_ends_it():
    settings = TrainingSettings("any", 10, 1, patience=2)
    state = State()
    for loss in (3.0, 1.0, 2.0, 1.0):
        assert not state.finished(settings)
        state = state.after(loss, 1.0, "best")
    assert state == State(4, 2, 1.0, 4.0)
    assert state.finished(settings)
    assert State(4, 2).finished(TrainingSettings("any", 4, 1))
    assert State(1, 1, 1.0).after(5.0, 0.0, "last") == State(2, 2, 5.0)


def test_a_loss_that_is_not_finite_stops_it_and_overwrites_nothing(fails, out, monkeypatch):
    forward = ScalerObjective.forward

    class Spoiled(ScalerObjective):
        """Has no finite loss from step 10 on."""

        steps = 0

        def forward(self, example: Tensors) -> dict[str, Tensor]:
            self.steps += self.training
            return {name: loss * (math.nan if self.steps == 10 else 1) for name, loss in forward(self, example).items()}

    monkeypatch.setitem(OBJECTIVES, "scaler", Spoiled)
    assert "step 10: loss = nan" in fails("train_stage", *SHORT, f"output={out.path}")
    assert len(out.log) == 2
    assert all(value.isfinite().all() for value in out.tensors("checkpoint.pt").values())


def test_a_damaged_checkpoint_and_another_number_of_ranks_are_refused(tmp_path: Path):
    parts = {"model": torch.nn.Linear(2, 2)}
    _save_state(tmp_path, State(3, 2, 0.5, 9.0, ranks=2), parts)
    assert _load_state(tmp_path, {"model": torch.nn.Linear(2, 2)}, 2) == State(3, 2, 0.5, 9.0, 2)
    other = {"x": torch.nn.Linear(2, 2)}
    for wrong, ranks, said in ((parts, 1, "on 2 ranks, now there are 1"), (other, 2, "another model")):
        with pytest.raises(TrainingError, match=said):
            _load_state(tmp_path, wrong, ranks)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: not readable as a checkpoint"):
        _load_state(tmp_path, parts, 2)


@pytest.mark.parametrize(("schedule", "middle"), [("constant", 0.1), ("cosine", 0.0505), ("exponential", 0.01)])
def test_learning_rates_rise_and_end_as_they_should(schedule: Any, middle: float):
    settings = OptimizerSettings(0.1, 0.001, schedule, warmup_steps=4)
    rates = [learning_rate(settings, step, 15) for step in range(15)]
    assert rates[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert rates[9] == pytest.approx(middle)
    assert rates[-1] == pytest.approx(0.1 if schedule == "constant" else 0.001)


@pytest.mark.slow
def test_bf16_and_tensorboard_on_request(run, done, out, no_pictures):
    pytest.importorskip("tensorboard")
    assert run("train_stage", *SHORT, f"output={out.path}", "precision=bf16", "tensorboard=true") == 0
    assert out.log[-1]["train"] == pytest.approx(done.log[-1]["train"], rel=0.1)
    assert all(value.dtype == torch.float32 for value in out.tensors().values())
    assert list((out.path / "tensorboard").glob("events.*"))


def test_without_tensorboard_it_says_so(fails, out, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said = fails("train_stage", *SHORT, f"output={out.path}", "tensorboard=true")
    assert "TensorBoard is not installed" in said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("epoch=3", "did you mean 'epochs'?"),
        ("stage=nothing", "stage = 'nothing', allowed qmf, transient, mdct, scaler, allocator, quantizer, dequantizer"),
        ("model.hidden=3", "model or objective settings of stage scaler: "),
        ("data.shards=nowhere", "nowhere/train: no shards"),
        ("data.evaluation=nowhere", "nowhere/validation: no shards"),
        ("weights=nowhere.pt", "nowhere.pt: not a checkpoint"),
        ("weights=nowhere/qmf-01234567.safetensors", "role qmf, asked for scaler"),
        ("weights=reference", "preset reference: its scaler is not learned"),
        ("weights=standard", "preset standard: its scaler is not learned"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(fails, out, wrong: str, said: str):
    assert said in fails("train_stage", *SHORT, f"output={out.path}", wrong)
    assert not (out.path / "metrics.json").exists()


def test_help_explains_every_setting():
    command = [sys.executable, "-m", "atrac_train.train_stage", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "learning_rate: the largest one, after the warm-up." in said
    assert "  batch_size: 32" in said
