"""apps/finetune_e2e.py: the codec gets better by what it is trained for, goes on, is shared, saved and measured."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import soundfile
import torch
from torch import Tensor

from atrac_codec import NNFullCodec, encode_file
from atrac_codec.cli import main as atrac1
from atrac_codec.trace import trace
from atrac_modules import NeuralDequantizer, NeuralRateDistortionAllocator
from atrac_modules.frame import FrameBatch
from atrac_train.data import TrainingData, corpus_shards
from atrac_train.objective import Tensors
from atrac_train.objectives.codec import AUXILIARY, LOSSES, CodecObjective
from atrac_train.settings import DataSettings
from atrac_train.tracking import read_log

APP = "atrac_train.finetune_e2e"
SHORT = (
    "epochs=3",
    "steps_per_epoch=5",
    "data.batch_size=2",
    "data.shuffle=16",
    "optimizer.learning_rate=0.02",
    "optimizer.warmup_steps=0",
)
SCORES = {"NMR (dB)", "LSD (dB)", "SNR (dB)", "segmental SNR (dB)", "units over budget"}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny built-in corpus with all that can be followed."""
    return corpus_shards(
        tmp_path_factory.mktemp("tiny"), DataSettings(sounds=("music", "attacks"), seconds=0.5), ("pcm", *AUXILIARY)
    )


@pytest.fixture(scope="module")
def done(main: Callable[..., int], shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training with the app's own configuration."""
    output = tmp_path_factory.mktemp("done")
    assert main(*SHORT, f"output={output}", f"data.shards={shards}") == 0
    return output


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atrac_train.launch.PICTURES", {})


def lines(folder: Path) -> list[dict[str, Any]]:
    return [{name: one for name, one in line.items() if name != "seconds"} for line in read_log(folder / "log.jsonl")]


def metrics(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return content


def test_the_codec_becomes_better_than_it_was_and_a_table_says_so(done: Path, main, shards, capsys):
    measured = metrics(done)
    for split in ("validation", "test"):
        assert set(measured[split]) >= SCORES
        assert measured[split]["units over budget"] == 0
        assert measured[split]["loss"] < measured["start"][split]["loss"] - 0.5
        assert measured[split]["NMR (dB)"] < measured["start"][split]["NMR (dB)"]
    assert [line["step"] for line in lines(done)] == [5, 10, 15]
    assert main(*SHORT, f"output={done}", f"data.shards={shards}") == 0
    said = capsys.readouterr().out
    assert "finished already" in said
    assert "before" in said
    assert f"{measured['test']['NMR (dB)']:.6g}" in said
    assert f"{measured['start']['test']['NMR (dB)']:.6g}" in said


def test_what_it_started_from_is_the_preset_it_names(done: Path, main, shards, no_pictures, tmp_path):
    argv = (*SHORT, f"output={tmp_path}", f"data.shards={shards}")
    assert main(*argv, "weights=neural-stages") == 0
    again = metrics(tmp_path / "evaluation")
    assert {split: again[split] for split in ("validation", "test")} == metrics(done)["start"]
    assert main(*argv, f"weights={done}/weights") == 0
    again = metrics(tmp_path / "evaluation")
    assert all(again[split] == pytest.approx(metrics(done)[split]) for split in ("validation", "test"))
    assert main(*argv, "weights=nothing") == 1


def test_the_result_is_a_codec_folder_whose_files_play_everywhere(done: Path, tmp_path):
    folder = done / "weights"
    codec = NNFullCodec.from_pretrained(folder)
    assert isinstance(codec.encoder.allocator, NeuralRateDistortionAllocator)
    start = NNFullCodec.from_pretrained("neural-stages")
    for role in ("qmf", "mdct"):  # they were frozen
        own, other = (getattr(one.encoder, role).state_dict() for one in (codec, start))
        assert all(torch.equal(own[name], other[name]) for name in own)
    sound = folder.parent / "pictures/run0.original.wav"
    encode_file(sound, tmp_path / "x.aea", codec.encoder)
    assert atrac1(["encode", str(sound), "-o", str(tmp_path / "y.aea"), "--preset", str(folder)]) == 0
    assert (tmp_path / "x.aea").read_bytes() == (tmp_path / "y.aea").read_bytes()
    about = json.loads((folder / "codec.json").read_text())
    assert about["seed"] == 0
    assert about["metrics"]["start"]["test"] == metrics(done)["start"]["test"]
    assert len(about["curve"]) == 3


def test_sounds_and_pictures_are_there_to_be_looked_at(done: Path):
    for name in ("original", "before", "after"):
        samples, rate = soundfile.read(done / f"pictures/run0.{name}.wav", always_2d=True)
        assert (rate, samples.shape[1]) == (44100, 2)
        assert samples.any()
    for picture in (done / "pictures/run0.png", done / "curve.png"):
        assert len(set(map(tuple, matplotlib.image.imread(picture)[::9, ::9].reshape(-1, 4).tolist()))) > 20


def test_what_was_interrupted_gives_the_same_curve(done: Path, main, shards, no_pictures, monkeypatch, tmp_path):
    forward, steps = CodecObjective.forward, 0

    def interrupted(self: CodecObjective, example: Tensors) -> dict[str, Tensor]:
        nonlocal steps
        steps += self.training
        if steps > 7:
            raise KeyboardInterrupt
        return forward(self, example)

    argv = (*SHORT, f"output={tmp_path}", f"data.shards={shards}")
    with monkeypatch.context() as patch:
        patch.setattr(CodecObjective, "forward", interrupted)
        assert main(*argv) == 130
    assert lines(tmp_path) == lines(done)[:1]
    assert main(*argv) == 0
    assert lines(tmp_path) == lines(done)


def test_two_ranks_have_equal_weights(shards: Path, tmp_path: Path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    argv = ["-m", "atrac_train.finetune_e2e", *SHORT, "epochs=2", f"output={tmp_path}", f"data.shards={shards}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    result = subprocess.run([*torchrun, *argv], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "stage codec, 2 ranks" in result.stdout
    hashes = re.findall(r": weights ([0-9a-f]{8})", result.stdout)
    assert len(hashes) == 2
    assert len(set(hashes)) == 1
    assert metrics(tmp_path)["ranks"] == 2
    assert metrics(tmp_path)["validation"]["loss"] < metrics(tmp_path)["start"]["validation"]["loss"]


def test_encoder_and_neural_decoder_train_together_and_follow_the_teacher(main, shards, no_pictures, tmp_path):
    everything = [f"objective.losses.{name}=0.1" for name in LOSSES]
    followed = [f"objective.auxiliary.{name}=0.01" for name in AUXILIARY]
    argv = ("objective.decoder=neural-stages", "objective.train.dequantizer=0.01", "precision=bf16", *everything)
    assert main(*SHORT, *argv, *followed, "epochs=1", f"output={tmp_path}", f"data.shards={shards}") == 0
    (line,) = lines(tmp_path)
    assert set(line["train"]) == {"loss", *LOSSES, *(f"auxiliary {name}" for name in AUXILIARY)}
    assert line["train"]["auxiliary bands"] < 1e-10
    codec = NNFullCodec.from_pretrained(tmp_path / "weights")
    assert isinstance(codec.decoder.dequantizer, NeuralDequantizer)
    assert all(weight.dtype == torch.float32 for weight in codec.parameters())
    start = NNFullCodec.from_pretrained(decoder="neural-stages").decoder.dequantizer
    assert not torch.equal(codec.decoder.dequantizer.steps, start.steps)


def test_shares_of_the_rate_are_kept_and_frozen_stages_stay(shards: Path):
    settings: dict[str, Any] = {"losses": {"snr": 1.0}, "train": {"allocator": 1.0, "transient": 0.1, "mdct": 0.0}}
    objective = CodecObjective({}, **settings).train()
    groups = objective.parameter_groups()
    assert [group["rate"] for group in groups] == [1.0, 0.1]
    assert {id(w) for group in groups for w in group["params"]} == {
        id(w) for w in objective.parameters() if w.requires_grad
    }
    data = TrainingData(shards, DataSettings(batch_size=2, shuffle=8), objective.fields, objective.frames)
    batch = next(data.training_batches(1, 1))
    objective(objective.example(batch, torch.Generator()))["loss"].backward()
    for name, weight in objective.named_parameters():
        assert (weight.grad is not None) == (".allocator." in name or ".transient." in name), name


def test_what_is_measured_is_what_the_codec_gives(shards: Path):
    objective = CodecObjective({}, losses={"snr": 1.0}, train={"allocator": 1.0}).eval()
    run = {"pcm": 0.1 * torch.randn(2, 20, 512, generator=torch.Generator().manual_seed(0))}
    decoded, batch = objective.codec(run["pcm"].flatten(-2)[None], return_batch=True)
    with torch.no_grad():
        made = trace(objective.codec.encoder, objective.codec.decoder, run["pcm"].flatten(-2)[None])
        own = made["dec_pcm"].flatten(-2)[..., 266:]
    # The layer encodes a frame of silence more, which leaves the samples before as they are.
    assert torch.allclose(own[..., :-600], decoded[..., : own.shape[-1] - 600], atol=1e-5)
    assert isinstance(batch, FrameBatch)
    assert set(AUXILIARY) <= set(made)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("objective.train.nothing=1", "objective.train: 'nothing', allowed qmf, transient, mdct, scaler"),
        ("objective.train.qmf=-1", "objective.train.qmf = -1, allowed from 0 on"),
        ("objective.train.dequantizer=1", "dequantizer is a ReferenceDequantizer, which has nothing to learn"),
        ("objective.losses.psnr=1", "objective.losses: 'psnr', allowed l1, mse, snr, stft, mel, lsd, bands, nmr"),
        ("objective.auxiliary.pcm=1", "objective.auxiliary: 'pcm', allowed bands, bsm"),
        ("objective.start=nothing", "preset 'nothing', allowed bitexact, reference"),
        ("objective.decoder=nothing", "decoder 'nothing', allowed standard"),
        ("model.allocator.width=3", "model or objective settings of stage codec: "),
        ("model.allocator.class=NeuralQmf", "model.allocator.class = 'NeuralQmf', allowed NeuralAllocator, Neural"),
        ("model.nothing.hidden=3", "model: 'nothing', allowed qmf"),
        ("objective.epochs=3", "unexpected keyword argument 'epochs'"),
        ("epoch=3", "did you mean 'epochs'?"),
        ("data.shards=nowhere", "nowhere/train: no shards"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(main, shards, tmp_path, capsys, wrong: str, said: str):
    assert main(*SHORT, f"data.shards={shards}", f"output={tmp_path}/out", wrong) == 1
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_nothing_to_learn_is_an_error(main, shards, tmp_path, capsys):
    assert main(*SHORT, f"data.shards={shards}", f"output={tmp_path}/out", "objective.train.allocator=0") == 1
    assert "allowed one stage to train or more" in capsys.readouterr().err
