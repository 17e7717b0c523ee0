"""apps/train_stage.py and the loop under it: stages learn, go on, are shared and measured; what is wrong is said.

Run as a script, this file is the app with an objective that tells when it is calibrated, for tests that need processes
of their own.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

import atrac_codec.presets
from atrac_bitstream.tables import BFU_AMOUNTS, BSM_SHORT, IDWL_MAX, N_BFU_MAX
from atrac_codec import Trained
from atrac_codec.checkpoint import load_stage
from atrac_data import FIELDS, DataError
from atrac_modules import used_value_bits, value_bits
from atrac_train.data import TrainingData, corpus_shards
from atrac_train.launch import CONFIGS, show
from atrac_train.loop import learning_rate, weights_hash
from atrac_train.objective import Tensors
from atrac_train.objectives import OBJECTIVES, AllocatorObjective, ScalerObjective, TransientObjective, allocator
from atrac_train.pictures import PICTURES
from atrac_train.settings import DataSettings, OptimizerSettings
from atrac_train.tracking import read_log

APP = "atrac_train.train_stage"
SETTINGS = (
    "stage=scaler",
    "epochs=5",
    "steps_per_epoch=4",
    "data.batch_size=16",
    "data.shuffle=64",
    "data.sounds=[noise,attacks]",
    "data.seconds=0.3",
    "optimizer.learning_rate=0.5",
    "optimizer.final_learning_rate=0.1",
)
ROWS: dict[str, tuple[str, ...]] = {
    "qmf": ("SNR recordings (dB)", "SNR recordings low (dB)", "SNR noise (dB)", "SNR noise high (dB)"),
    "transient": ("F1 low", "precision mid", "recall high", "positives low"),
    "mdct": ("SNR recordings long (dB)", "SNR noise (dB)", "SNR noise short (dB)", "SNR noise short to long (dB)"),
    "scaler": ("IDSF equal (%)", "largest error of the table (log2)"),
    "allocator": (
        "word lengths equal (%)",
        "word lengths within one (%)",
        "BFU amount equal (%)",
        "units over budget",
        "baseline, mean word length per BFU: equal (%)",
        "baseline, most frequent amount: equal (%)",
    ),
    "quantizer": ("equal where there are bits (%)",),
    "dequantizer": ("SNR to the standard values (dB)",),
    "dequantizer-original": ("SNR to the standard values (dB)", "gain (dB)", "gain in steps (dB)"),
    "imdct": ("SNR recordings long (dB)", "SNR noise (dB)", "SNR noise long to short (dB)"),
    "iqmf": ("SNR recordings pcm (dB)", "SNR noise (dB)"),
}
"""Configuration to scores, of which more may be there."""


class Spoiled(ScalerObjective):
    """Has no finite loss at a step."""

    def __init__(self, model: dict[str, Any], spoil_at: int) -> None:
        super().__init__(model)
        self._spoil_at, self._steps = spoil_at, 0

    def forward(self, example: Tensors) -> dict[str, Tensor]:
        self._steps += self.training
        spoilt = self.training and self._steps == self._spoil_at
        return {name: loss * math.nan if spoilt else loss for name, loss in super().forward(example).items()}


class Calibrated(TransientObjective):
    """Moves its thresholds by what it is shown, and says so."""

    @torch.no_grad()
    def calibrate(self, examples: Sequence[Tensors]) -> None:
        self.stage.rise.add_(torch.stack([example["bands"].abs().mean() for example in examples]).mean())
        print(f"calibrated {weights_hash(self)} by {len(examples)}", flush=True)


if __name__ == "__main__":
    OBJECTIVES["transient"] = Calibrated
    PICTURES.clear()
    sys.exit(importlib.import_module("atrac_train.train_stage").main())


CALIBRATE = AllocatorObjective.calibrate


def calibrate_among_few(self: AllocatorObjective, examples: Sequence[Tensors]) -> None:
    """Calibrate an allocator in a second, not in minutes: few offsets, hardly any turns, few units."""
    moved = allocator._moved
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atrac_modules.water_filling.NEVER", float(self.stage.turn.detach().sort().values[2]))
        patch.setattr(allocator, "SEARCHES", ((0.5, 0.25, 1),))
        patch.setattr(allocator, "_moved", lambda *where: itertools.islice(moved(*where), 2))
        patch.setattr(allocator, "N_BFU_MAX", 4)
        patch.setattr(allocator, "CALIBRATED", 40)
        CALIBRATE(self, examples)


@pytest.fixture(scope="module")
def done(main: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training on the built-in corpus."""
    output = tmp_path_factory.mktemp("done")
    assert main(*SETTINGS, f"output={output}") == 0
    return output


@pytest.fixture(scope="module")
def shards(app: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny built-in corpus with what any stage reads."""
    fields = {name for objective in OBJECTIVES.values() for name in objective.fields}
    return corpus_shards(
        tmp_path_factory.mktemp("tiny"), DataSettings(sounds=("noise", "attacks"), seconds=0.5), fields
    )


@pytest.fixture(scope="module")
def trained(
    main: Callable[..., int], shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[tuple[str, ...], Path]]:
    """Train a stage by its configuration, once; return the arguments and the folder."""
    finished: dict[str, Path] = {}

    def trained(row: str) -> tuple[tuple[str, ...], Path]:
        single = OBJECTIVES[row.split("-")[0]].frames == 1
        small = ["model.hidden=8"] if row == "dequantizer-original" else []
        argv = (
            f"--config={CONFIGS}/{row}.yaml",
            f"data.shards={shards}",
            "epochs=2",
            "steps_per_epoch=12",
            *(["data.batch_size=16", "data.shuffle=2048"] if single else ["data.batch_size=4", "data.shuffle=64"]),
            "optimizer.schedule=constant",
            *small,
        )
        if row not in finished:
            output = tmp_path_factory.mktemp(row)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(AllocatorObjective, "calibrate", calibrate_among_few)
                if row in ("mdct", "imdct", "iqmf", "scaler", "dequantizer"):  # drawn as others are
                    patch.setattr("atrac_train.launch.PICTURES", {})
                assert main(*argv, f"output={output}") == 0
            finished[row] = output
        return argv, finished[row]

    return trained


@pytest.fixture
def fails(main: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run it where it must fail; return what it says."""

    def fails(*argv: str) -> str:
        assert main(*SETTINGS, *argv) == 1
        said = capsys.readouterr().err.splitlines()
        assert said[-1].startswith("error: ")
        return said[-1]

    return fails


def command(*argv: str, ranks: int = 0) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks else []
    return [sys.executable, *torchrun, *argv]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}


def lines(folder: Path) -> list[dict[str, Any]]:
    """The log, less what time alone decides."""
    return [
        {name: value for name, value in line.items() if name != "seconds"} for line in read_log(folder / "log.jsonl")
    ]


def metrics(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return content


def shipped(folder: Path) -> Path:
    """The weights that a training saved, with the sheet beside them."""
    (path,) = (folder / "weights").glob("*.safetensors")
    assert sorted((folder / "weights").iterdir()) == [path.with_suffix(".json"), path]
    return path


def weights(folder: Path, name: str = "best.pt") -> dict[str, Tensor]:
    content: dict[str, Tensor] = torch.load(folder / name, weights_only=True)["objective"]
    return content


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_loss_falls_on_the_built_in_corpus(done):
    log = lines(done)
    assert [(line["epoch"], line["step"]) for line in log] == [(n, 4 * n) for n in range(1, 6)]
    for split in ("train", "validation"):
        assert log[-1][split]["loss"] < 0.7 * log[0][split]["loss"]
        for line in log:
            assert line[split]["loss"] == pytest.approx(line[split]["values"] + 0.1 * line[split]["index"])
    assert log[-1]["learning_rate"] == pytest.approx(0.1)


def test_it_leaves_metrics_pictures_weights_and_what_they_came_from(done):
    measured = metrics(done)
    best = min(lines(done), key=lambda line: line["validation"]["loss"])
    scores = {f"loss {name}".removesuffix(" loss"): value for name, value in best["validation"].items()}
    assert measured["validation"] == pytest.approx({**scores, **best["scores"]})
    assert measured["best_epoch"] == best["epoch"]
    assert set(measured["test"]) == {"loss", "loss values", "loss index", *ROWS["scaler"]}
    assert measured["ranks"] == 1
    assert measured["settings"] == yaml.safe_load((done / "settings.yaml").read_text())
    picture = matplotlib.image.imread(done / "curve.png")
    assert len(np.unique(picture[::2, ::2].reshape(-1, picture.shape[2]), axis=0)) > 20
    path = shipped(done)
    assert measured["weights"] == f"weights/{path.name}"
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["curve"] == [[line["step"], line["train"]["loss"], line["validation"]["loss"]] for line in lines(done)]
    assert about["training data"]["frames"] == 2 * 16 * 27
    assert len(about["training data"]["recordings"]["MIT"]) == 16
    own = load_stage(path, "scaler").state_dict()
    assert same({f"stage.{name}": value for name, value in own.items()}, weights(done))


def test_a_finished_training_says_so_and_is_left_alone(main, done, capsys):
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*") if path.is_file()}
    assert main(*SETTINGS, f"output={done}") == 0
    assert "finished already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*") if path.is_file()} == before


def test_other_settings_in_the_same_folder_are_refused(fails, done):
    assert "begun with epochs = 5, now 6" in fails(f"output={done}", "epochs=6")
    assert "begun with data.batch_size = 16, now 8" in fails(f"output={done}", "data.batch_size=8")
    said = fails(f"output={done}", "objective.index_weight=0.2")
    assert "begun with objective.index_weight = not set, now 0.2" in said


@pytest.mark.parametrize("row", ROWS)
def test_every_stage_learns_is_saved_and_measures_the_same_again(main, trained, shards, monkeypatch, tmp_path, row):
    argv, output = trained(row)
    log, measured, role = lines(output), metrics(output), row.split("-")[0]
    assert log[-1]["train"]["loss"] < log[0]["train"]["loss"]
    for split in ("validation", "test"):
        assert set(ROWS[row]) <= set(measured[split])
        assert all(measured[split][name] is not None for name in ("loss", *ROWS[row]))
    said = json.loads(shipped(output).with_suffix(".json").read_text())
    assert said["training settings"]["stage"] == role
    assert said["metrics"] == {split: measured[split] for split in ("validation", "test")}
    assert all(path.is_file() for path in (output / "pictures").rglob("*"))
    load_stage(shipped(output), role)
    # The model is the file's, whatever the configuration says.
    monkeypatch.setattr("atrac_train.launch.PICTURES", {})
    others = [one for one in argv if not one.startswith("model.")]
    assert main(*others, f"output={tmp_path}", f"weights={shipped(output)}") == 0
    again = metrics(tmp_path / "evaluation")
    for split in ("validation", "test"):
        # Losses of an allocator depend on how far its training is.
        compared = [name for name in measured[split] if role != "allocator" or not name.startswith("loss")]
        assert set(again[split]) == set(measured[split])
        assert all(again[split][name] == measured[split][name] for name in compared)


@pytest.mark.parametrize("role", OBJECTIVES)
def test_silence_can_be_trained_on(role: str):
    objective = OBJECTIVES[role]({}).train()
    batch = {name: torch.zeros(2, objective.frames, *FIELDS[name].shape) for name in objective.fields}
    batch |= {name: batch[name] + 20 for name in ("n_bfu",) if name in batch}
    loss = objective(objective.example(batch, torch.Generator().manual_seed(0)))["loss"]
    loss.backward()
    assert loss.isfinite()
    gradients = [one.grad for one in objective.parameters()]
    assert all(one is not None and one.isfinite().all() for one in gradients)


@pytest.mark.parametrize("role", ["transient", "allocator"])
def test_what_trained_stages_decide_is_legal(trained, shards, role: str):
    _, output = trained(role)
    stage, objective = load_stage(shipped(output), role), OBJECTIVES[role]({}).eval()
    data = TrainingData(shards, DataSettings(), objective.fields)
    for _, run in data.runs("test"):
        example = objective.example(run, torch.Generator().manual_seed(0))
        if role == "transient":
            bsm = stage(example["bands"])
            assert ((bsm == 0) | (bsm == torch.tensor(BSM_SHORT))).all()
            assert bsm.shape == (*example["bands"].shape[:-1], 3)
        else:
            answer = stage(example["spectrum"], example["idsf"], example["bsm"], example["loudness"])
            assert set(answer.n_bfu.tolist()) <= set(BFU_AMOUNTS)
            assert set(answer.idwl.flatten().tolist()) <= set(range(IDWL_MAX + 1))
            assert (used_value_bits(answer.idwl) <= value_bits(answer.n_bfu)).all()
            assert (answer.idwl * (torch.arange(N_BFU_MAX) >= answer.n_bfu[..., None]) == 0).all()


def test_saved_weights_can_be_measured_without_training(main, done, monkeypatch, capsys):
    shown = []
    monkeypatch.setitem(
        PICTURES,
        "scaler",
        lambda objective, examples, folder: shown.extend(one["idsf"].shape for one in examples) or [],
    )
    before = metrics(done)
    assert main(*SETTINGS, f"output={done}", f"weights={shipped(done)}") == 0
    measured = metrics(done / "evaluation")
    assert measured["test"] == before["test"]
    assert measured["weights"] == str(shipped(done))
    assert "IDSF equal (%)" in capsys.readouterr().out
    assert metrics(done) == before
    assert shown == [(2, 27, 52)] * 2


@pytest.mark.parametrize("table", ["ENCODERS", "DECODERS"])
def test_a_stage_of_a_preset_can_be_measured(app, main, fails, done, tmp_path, monkeypatch, table: str):
    monkeypatch.setattr("atrac_train.launch.PICTURES", {})
    monkeypatch.setattr(atrac_codec.presets, "WEIGHTS", done / "weights")
    monkeypatch.setitem(getattr(app, table), "mine", {"scaler": Trained(shipped(done).stem), "iqmf": torch.nn.Identity})
    settings = (f"output={tmp_path}", f"data.shards={done}/shards", "weights=mine")
    assert main(*SETTINGS, *settings) == 0
    assert metrics(tmp_path / "evaluation")["test"] == metrics(done)["test"]
    assert fails(*settings, "stage=iqmf") == "error: preset mine: its iqmf is not learned"
    assert fails(*settings, "stage=mdct") == "error: preset mine: its mdct is not learned"


def test_numbers_that_are_not_finite_are_shown_as_a_dash(capsys):
    show({"stage": "any", "validation": {"ratio": None, "loss": 0.25}, "test": {"loss": 0.5}})
    assert [row.split("│")[1:4] for row in capsys.readouterr().out.splitlines() if "ratio" in row] == [
        [" ratio ", "          – ", "    – "]
    ]


def test_validation_and_test_may_lie_elsewhere(main, fails, done, shards, monkeypatch, tmp_path):
    monkeypatch.setattr("atrac_train.launch.PICTURES", {})
    for split in ("validation", "test"):
        shutil.copytree(shards / split, tmp_path / "other" / split)
    settings = DataSettings(evaluation=str(tmp_path / "other"), batch_size=4)
    mixed, alone = (TrainingData(done / "shards", one, ["idsf"]) for one in (settings, DataSettings(batch_size=4)))
    other = TrainingData(shards, DataSettings(), ["idsf"])
    for one, split, whole in ((mixed, "train", alone), (mixed, "validation", other), (mixed, "test", other)):
        found, wanted = list(one.runs(split)), list(whole.runs(split))
        assert [number for number, _ in found] == [number for number, _ in wanted]
        assert all(same(run, own) for (_, run), (_, own) in zip(found, wanted, strict=True))
    assert mixed.about() == alone.about()
    assert all(same(*pair) for pair in zip(mixed.training_batches(1, 3), alone.training_batches(1, 3), strict=True))

    def measured(*argv: str) -> tuple[Any, Any]:
        assert main(*SETTINGS, f"weights={shipped(done)}", f"output={tmp_path}", *argv) == 0
        content = metrics(tmp_path / "evaluation")
        return content["validation"], content["test"]

    elsewhere = measured(f"data.shards={done}/shards", f"data.evaluation={tmp_path}/other")
    assert elsewhere == measured(f"data.shards={shards}")
    assert elsewhere[0] != metrics(done)["validation"]
    said = fails(f"data.shards={done}/shards", "data.evaluation=nowhere", f"output={tmp_path}/out")
    assert "nowhere/validation: no shards" in said


def test_variants_of_the_built_in_corpus_are_for_training_alone(app, tmp_path):
    fields = ScalerObjective.fields

    def corpus(name: str, **more: Any) -> TrainingData:
        settings = DataSettings(sounds=("noise",), seconds=0.2, **more)
        return TrainingData(corpus_shards(tmp_path / name, settings, fields), settings, fields)

    plain, more = corpus("plain"), corpus("more", variants=3, gain=(-12, -6))
    assert 2.7 * plain.about()["frames"] < more.about()["frames"] <= 3 * plain.about()["frames"]
    assert more.about()["recordings"] == plain.about()["recordings"]
    for split in ("validation", "test"):
        for (_, one), (_, other) in zip(more.runs(split), plain.runs(split), strict=True):
            assert same(one, other)
    first, runs = ([run for _, run in data.runs("train")] for data in (plain, more))
    assert len(runs) == 3 * len(first)
    assert all(map(same, first, runs))
    levels = [float(run["spectrum"].square().sum(-1).mean()) for run in runs]
    gains = [10 * math.log10(level / levels[i % len(first)]) for i, level in enumerate(levels)][len(first) :]
    assert all(-12.5 < gain < -5.5 for gain in gains)
    assert np.std(gains) > 0.5
    with pytest.raises(DataError, match=r'"variants": 3.*not .*"variants": 2.*remove it or choose another'):
        corpus("more", variants=2, gain=(-12, -6))


LONGER = (
    "stage=transient",
    "epochs=10",
    "steps_per_epoch=8",
    "data.batch_size=4",
    "data.shuffle=64",
    "checkpoint_epochs=3",
)


@pytest.fixture(scope="module")
def whole(main: Callable[..., int], shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A longer training that draws much at random, which nothing interrupted."""
    output = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atrac_train.launch.PICTURES", {})
        assert main(*LONGER, f"output={output}", f"data.shards={shards}") == 0
    return output


def test_killed_and_called_again_it_gives_the_same_curve(main, shards, whole, tmp_path, monkeypatch, capsys):
    settings = (*LONGER, f"output={tmp_path}", f"data.shards={shards}")
    wait = float(np.random.default_rng().uniform(0, 0.1))
    process = subprocess.Popen(
        command("-m", "atrac_train.train_stage", *settings), env=environment(), stderr=subprocess.DEVNULL
    )
    log = tmp_path / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 4):
        time.sleep(0.005)
    time.sleep(wait)
    assert process.poll() is None, "it was over before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = lines(tmp_path)
    assert 4 <= len(killed) < 10
    with log.open("a") as file:
        file.write('{"half a li')
    monkeypatch.setattr("atrac_train.launch.PICTURES", {})
    assert main(*settings) == 0
    said = capsys.readouterr().err
    assert "epoch 3 of 10" not in said
    assert "epoch 10 of 10" in said
    assert lines(tmp_path) == lines(whole)
    assert lines(whole)[: len(killed)] == killed
    for name in ("best.pt", "checkpoint.pt"):
        assert same(weights(tmp_path, name), weights(whole, name))


def test_ctrl_c_can_be_gone_on_from(main, shards, whole, tmp_path, monkeypatch, capsys):
    forward, steps = TransientObjective.forward, 0

    def interrupted(self: TransientObjective, example: Tensors) -> dict[str, Tensor]:
        nonlocal steps
        steps += self.training
        if steps > 4 * 8 + 5:
            raise KeyboardInterrupt
        return forward(self, example)

    settings = (*LONGER, f"output={tmp_path}", f"data.shards={shards}")
    monkeypatch.setattr("atrac_train.launch.PICTURES", {})
    with monkeypatch.context() as patch:
        patch.setattr(TransientObjective, "forward", interrupted)
        assert main(*settings) == 130
    assert "goes on from the last checkpoint" in capsys.readouterr().err
    assert lines(tmp_path) == lines(whole)[:4]
    assert main(*settings) == 0
    assert lines(tmp_path) == lines(whole)


def test_two_ranks_are_alike_before_and_after_calibration_and_measure_as_one(main, shards, monkeypatch, tmp_path):
    settings = ("stage=transient", f"data.shards={shards}", "data.batch_size=2", "data.shuffle=64", "epochs=3")
    rates = ("optimizer.schedule=cosine", "optimizer.learning_rate=0.05", "optimizer.final_learning_rate=0.001")
    argv = command(__file__, *settings, *rates, f"output={tmp_path}", "steps_per_epoch=6", ranks=2)
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "stage transient, 2 ranks" in done.stdout
    assert "rank 0: weights" in done.stdout
    assert "rank 1: weights" in done.stdout
    # Two processes write at once: what they say may stand on one line.
    assert len(set(re.findall(r": weights ([0-9a-f]{8})", done.stdout))) == 1
    calibrated = re.findall(r"calibrated [0-9a-f]{8} by 16", done.stdout)
    stage = load_stage(shipped(tmp_path), "transient")
    objective = TransientObjective({})
    objective.stage.load_state_dict(stage.state_dict())
    assert calibrated == [f"calibrated {weights_hash(objective)} by 16"] * 2
    assert not torch.equal(stage.rise, weights(tmp_path)["stage.rise"])
    log, optimizer = lines(tmp_path), OptimizerSettings(0.05, 0.001)
    assert [line["step"] for line in log] == [6, 12, 18]
    assert [line["learning_rate"] for line in log] == [learning_rate(optimizer, step, 18) for step in (5, 11, 17)]
    rate = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["schedule"]["_last_lr"]
    assert rate == [pytest.approx(0.001)]
    assert log[-1]["train"]["loss"] < log[0]["train"]["loss"]
    both = metrics(tmp_path)
    assert both["ranks"] == 2
    monkeypatch.setattr("atrac_train.launch.PICTURES", {})
    assert main(*settings, "steps_per_epoch=6", f"output={tmp_path}", f"weights={shipped(tmp_path)}") == 0
    one = metrics(tmp_path / "evaluation")
    assert one["validation"] == pytest.approx(both["validation"])
    assert one["test"] == pytest.approx(both["test"])


def test_calibration_comes_once_after_training_with_the_best_weights(main, done, monkeypatch, tmp_path):
    calls = []

    def calibrate(self: ScalerObjective, examples: Sequence[Tensors]) -> None:
        assert not self.training
        assert len(lines(tmp_path)) == 2
        assert same(self.state_dict(), weights(tmp_path))
        calls.append(sum(one["idsf"].numel() // N_BFU_MAX for one in examples))
        with torch.no_grad():
            self.stage.levels.add_(0.25)

    monkeypatch.setattr(ScalerObjective, "calibrate", calibrate)
    monkeypatch.setattr("atrac_train.launch.PICTURES", {})
    settings = (*SETTINGS, "epochs=2", f"output={tmp_path}", f"data.shards={done}/shards")
    assert main(*settings) == 0
    assert main(*settings) == 0
    assert calls == [2 * 16 * 27]
    levels = load_stage(shipped(tmp_path), "scaler").state_dict()["levels"]
    torch.testing.assert_close(levels, weights(tmp_path)["stage.levels"] + 0.25)
    assert main(*settings, f"weights={shipped(tmp_path)}") == 0
    assert len(calls) == 1
    assert metrics(tmp_path / "evaluation")["test"] == metrics(tmp_path)["test"]


def test_ranks_share_what_is_evaluated(done):
    def numbers(rank: int, world: int) -> list[int]:
        data = TrainingData(done / "shards", DataSettings(), ["idsf"], rank=rank, world=world)
        return [number for number, _ in data.runs("train")]

    assert numbers(0, 1) == list(range(16))
    assert numbers(0, 2) == list(range(0, 16, 2))
    assert sorted(numbers(0, 3) + numbers(1, 3) + numbers(2, 3)) == numbers(0, 1)


def test_batches_have_frames_and_are_fixed_by_seed_and_epoch(done):
    def drawn(epoch: int, seed: int = 1, frames: int = 1) -> list[dict[str, Tensor]]:
        settings = DataSettings(batch_size=6, shuffle=20)
        data = TrainingData(done / "shards", settings, ["idsf", "scaled"], frames, seed=seed)
        return list(data.training_batches(epoch, 3))

    assert [list(batch["idsf"].shape) for batch in drawn(1)] == [[6, 1, 52]] * 3
    assert list(drawn(1, frames=4)[0]["scaled"].shape) == [6, 4, 512]
    assert all(same(*pair) for pair in zip(drawn(2), drawn(2), strict=True))
    assert not same(drawn(2)[0], drawn(3)[0])
    assert not same(drawn(2)[0], drawn(2, seed=2)[0])


def test_it_stops_when_the_validation_loss_no_longer_falls(main, done, monkeypatch, tmp_path):
    settings = (f"output={tmp_path}", f"data.shards={done}/shards", "epochs=500", "patience=2", "steps_per_epoch=2")
    monkeypatch.setattr("atrac_train.launch.PICTURES", {})
    assert main(*SETTINGS, *settings, "optimizer.learning_rate=3", "optimizer.schedule=constant") == 0
    losses = [line["validation"]["loss"] for line in lines(tmp_path)]
    best = losses.index(min(losses))
    assert len(losses) == best + 3 < 500
    measured = metrics(tmp_path)
    assert (measured["best_epoch"], measured["epochs"]) == (best + 1, len(losses))
    assert measured["validation"]["loss"] == losses[best]


def test_the_last_weights_are_kept_on_request(main, done, monkeypatch, tmp_path):
    settings = (f"output={tmp_path}", f"data.shards={done}/shards", "epochs=3", "steps_per_epoch=2", "keep=last")
    monkeypatch.setattr("atrac_train.launch.PICTURES", {})
    assert main(*SETTINGS, *settings, "optimizer.learning_rate=3", "optimizer.schedule=constant") == 0
    losses = [line["validation"]["loss"] for line in lines(tmp_path)]
    assert min(losses) < losses[-1] == metrics(tmp_path)["validation"]["loss"]
    assert metrics(tmp_path)["best_epoch"] == 3
    assert same(weights(tmp_path), weights(tmp_path, "checkpoint.pt"))


def test_a_loss_that_is_not_finite_stops_it_and_overwrites_nothing(fails, done, tmp_path, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "scaler", Spoiled)
    said = fails(f"output={tmp_path}", f"data.shards={done}/shards", "objective.spoil_at=6")
    assert "step 6: loss = nan" in said
    assert len(lines(tmp_path)) == 1
    assert all(value.isfinite().all() for value in weights(tmp_path, "checkpoint.pt").values())


def test_bf16_and_tensorboard_on_request(main, trained, monkeypatch, tmp_path):
    pytest.importorskip("tensorboard")
    argv, output = trained("dequantizer-original")
    monkeypatch.setattr("atrac_train.launch.PICTURES", {})
    assert main(*argv, f"output={tmp_path}", "precision=bf16", "tensorboard=true") == 0
    exact, rounded = lines(output)[-1]["train"], lines(tmp_path)[-1]["train"]
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.1)
    assert all(value.dtype == torch.float32 for value in weights(tmp_path).values())
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_without_tensorboard_it_says_so(fails, done, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said = fails(f"output={tmp_path}", f"data.shards={done}/shards", "tensorboard=true")
    assert "TensorBoard is not installed" in said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("batch_size=3", "unknown setting 'batch_size' (command line); did you mean 'data.batch_size'?"),
        ("data.batchsize=3", "unknown setting 'data.batchsize' (command line); did you mean 'data.batch_size'?"),
        ("epoch=3", "did you mean 'epochs'?"),
        ("epochs=0", "epochs = 0 (command line): input should be greater than or equal to 1"),
        ("epochs=true", "epochs = True (command line): input should be a valid integer"),
        ("data=3", "data = 3 (command line): input should be an object"),
        ("data.sounds=[noises]", "data.sounds.0 = 'noises' (command line): input should be 'music'"),
        ("data.variants=0", "data.variants = 0 (command line): input should be greater than or equal to 1"),
        ("data.gain=[-6,0]", "variants = 1 with Augmentation(offset=False, gain=(-6.0, 0.0)"),
        ("optimizer.schedule=linear", "input should be 'constant', 'cosine' or 'exponential'"),
        ("optimizer.warmup_steps=20", "warmup_steps = 20, allowed below the 20 steps"),
        ("epochs", "'epochs' (command line): allowed key=value"),
        ("stage=nothing", "stage = 'nothing', allowed qmf, transient, mdct, scaler, allocator, quantizer, dequantizer"),
        ("model.hidden=3", "model or objective settings of stage scaler: "),
        ("data.shards=nowhere", "nowhere/train: no shards"),
        ("weights=nowhere.pt", "nowhere.pt: no name of a checkpoint"),
        ("weights=nowhere/scaler-01234567.safetensors", "nowhere/scaler-01234567"),
        ("weights=nowhere/qmf-01234567.safetensors", "role qmf, asked for scaler"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(fails, tmp_path, wrong: str, said: str):
    assert said in fails(f"output={tmp_path}/out", wrong)


@pytest.mark.parametrize(
    ("preset", "role"), [("reference", "qmf"), ("bitexact", "imdct"), ("standard", "dequantizer"), ("standard", "mdct")]
)
def test_presets_without_that_stage_learned_have_nothing_to_measure(fails, tmp_path, preset: str, role: str):
    said = fails(f"stage={role}", f"output={tmp_path}/out", f"weights={preset}")
    assert said == f"error: preset {preset}: its {role} is not learned"
    assert not list(tmp_path.iterdir())


def test_a_field_that_shards_lack_is_named(fails, done, tmp_path):
    said = fails("stage=qmf", f"output={tmp_path}", f"data.shards={done}/shards")
    assert "no field 'pcm', it has bsm, idsf, scaled, spectrum" in said


def test_a_damaged_checkpoint_and_another_number_of_ranks_are_refused(app, main, fails, done, tmp_path, monkeypatch):
    settings = (f"output={tmp_path}", f"data.shards={done}/shards")
    monkeypatch.setattr("atrac_train.launch.report", lambda *args, **more: None)
    assert main(*SETTINGS, *settings) == 0
    path = tmp_path / "checkpoint.pt"
    checkpoint = torch.load(path, weights_only=True)
    torch.save({**checkpoint, "state": {**checkpoint["state"], "ranks": 2}}, path)
    assert "of a training on 2 ranks, now there are 1" in fails(*settings)
    path.write_bytes(path.read_bytes()[:500])
    assert "not readable as a checkpoint" in fails(*settings)
