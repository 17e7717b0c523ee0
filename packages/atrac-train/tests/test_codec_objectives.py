"""apps/finetune_e2e.py and apps/train_allocator.py: codecs learn, are saved as folders, and are measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from atrac_codec import NNFullCodec, build_encoder, encode_file
from atrac_codec.cli import main as atrac1
from atrac_modules import NeuralDequantizer, NeuralEntropyTransient, NeuralRateDistortionAllocator
from atrac_train.data import TrainingData
from atrac_train.objective import Tensors
from atrac_train.objectives.codec import AUXILIARY, LOSSES, CodecObjective
from atrac_train.objectives.distillation import GAIN, DistillationObjective
from atrac_train.settings import DataSettings, TrainingSettings

SHORT = (
    "epochs=2",
    "steps_per_epoch=4",
    "data.batch_size=2",
    "data.shuffle=16",
    "optimizer.learning_rate=0.02",
    "optimizer.warmup_steps=0",
)
MODEL: dict[str, dict[str, Any]] = {
    "transient": {"class": "NeuralEntropyTransient", "hidden": 8},
    "allocator": {"class": "NeuralRateDistortionAllocator", "hidden": 8},
}


@pytest.fixture(scope="module")
def tuned(run: Callable[..., int], folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished fine-tuning with the app's own configuration."""
    output = folder(tmp_path_factory.mktemp("tuned"))
    assert run("finetune_e2e", *SHORT, f"output={output.path}") == 0
    return output


@pytest.fixture(scope="module")
def taught(run: Callable[..., int], folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished distillation with the app's own configuration."""
    output = folder(tmp_path_factory.mktemp("taught"))
    assert run("train_allocator", *SHORT, "optimizer.learning_rate=0.003", f"output={output.path}") == 0
    return output


def batch_of(objective: CodecObjective | DistillationObjective, shards: Path) -> Tensors:
    settings = TrainingSettings("any", 1, 1, data=DataSettings(str(shards), batch_size=4, shuffle=16))
    return next(TrainingData(objective.train(), settings).training_batches(1))


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_a_codec_becomes_better_than_it_was_and_a_table_says_so(tuned: Any, run, capsys):
    measured = tuned.metrics
    for split in ("validation", "test"):
        assert measured[split]["units over budget"] == 0
        assert measured[split]["NMR (dB)"] < measured["start"][split]["NMR (dB)"]
    assert run("finetune_e2e", *SHORT, f"output={tuned.path}") == 0
    said = capsys.readouterr().out
    assert f"{measured['test']['NMR (dB)']:.6g}" in said
    assert f"{measured['start']['test']['NMR (dB)']:.6g}" in said


def test_it_is_measured_again_and_so_is_its_start(tuned: Any, run, out, no_pictures):
    assert run("finetune_e2e", *SHORT, f"output={out.path}", "weights=neural-stages") == 0
    assert out.measured == tuned.metrics["start"]
    assert run("finetune_e2e", *SHORT, f"output={out.path}", f"weights={tuned.path}/weights") == 0
    assert out.measured["test"] == pytest.approx(tuned.metrics["test"])


def test_the_result_is_a_codec_folder_that_replaces_a_preset_name(tuned: Any, tmp_path: Path):
    weights, sound = tuned.path / "weights", tuned.path / "pictures/run0.original.wav"
    codec, start = NNFullCodec.from_pretrained(weights), NNFullCodec.from_pretrained("neural-stages")
    assert isinstance(codec.encoder.allocator, NeuralRateDistortionAllocator)
    assert all(
        same(getattr(codec.encoder, role), getattr(start.encoder, role)) for role in ("qmf", "transient", "mdct")
    )
    encode_file(sound, tmp_path / "x.aea", codec.encoder)
    assert atrac1(["encode", str(sound), "-o", str(tmp_path / "y.aea"), "--preset", str(weights)]) == 0
    assert (tmp_path / "x.aea").read_bytes() == (tmp_path / "y.aea").read_bytes()
    about = json.loads((weights / "codec.json").read_text())
    assert about["metrics"]["start"]["test"] == tuned.metrics["start"]["test"]
    for name in ("original", "before", "after"):
        samples, rate = soundfile.read(tuned.path / f"pictures/run0.{name}.wav", always_2d=True)
        assert (rate, samples.shape[1]) == (44100, 2)


def test_distillation_comes_nearer_to_the_search(taught: Any):
    first, last = (line["validation"] for line in (taught.log[0], taught.log[-1]))
    assert last["loss"] < first["loss"]
    assert last["loss"] == pytest.approx(last["importance"] + last["blocks"])
    scores = taught.metrics["test"]
    assert all(0 <= scores[f"F1 {band}"] <= 1 for band in ("low", "mid", "high"))
    encoder, start = build_encoder(taught.path / "weights"), build_encoder("neural-stages")
    assert isinstance(encoder.transient, NeuralEntropyTransient)
    assert type(build_encoder(taught.path / "weights", effort="best").transient).__name__ == "RateDistortionTransient"
    assert all(same(getattr(encoder, role), getattr(start, role)) for role in ("qmf", "mdct", "scaler", "quantizer"))


def test_fine_tuning_goes_on_from_a_distillation(taught: Any, run, out, no_pictures):
    start = (f"objective.start={taught.path}/weights", "model.allocator={}", "epochs=1")
    assert run("finetune_e2e", *SHORT, *start, f"output={out.path}") == 0
    own, before = (build_encoder(one.path / "weights") for one in (out, taught))
    assert same(own.transient, before.transient)
    assert not same(own.allocator, before.allocator)


@pytest.mark.slow
def test_encoder_and_neural_decoder_train_together_and_follow_the_teacher(run, out, no_pictures):
    everything = [f"objective.losses.{name}=0.1" for name in LOSSES]
    followed = [f"objective.auxiliary.{name}=0.01" for name in AUXILIARY]
    argv = ("objective.decoder=neural-stages", "objective.train.dequantizer=0.01", "precision=bf16", *everything)
    assert run("finetune_e2e", *SHORT, *argv, *followed, "epochs=1", f"output={out.path}") == 0
    (line,) = out.log
    assert set(line["train"]) == {"loss", *LOSSES, *(f"auxiliary {name}" for name in AUXILIARY)}
    assert line["train"]["auxiliary bands"] < 1e-10
    codec = NNFullCodec.from_pretrained(out.path / "weights")
    assert isinstance(codec.decoder.dequantizer, NeuralDequantizer)
    assert all(weight.dtype == torch.float32 for weight in codec.parameters())


def test_shares_of_the_rate_are_kept_and_only_trained_stages_get_slopes(shards: Path):
    settings: dict[str, Any] = {"losses": {"snr": 1.0}, "train": {"allocator": 1.0, "transient": 0.1, "mdct": 0.0}}
    objective = CodecObjective({}, **settings)
    assert [group["rate"] for group in objective.parameter_groups()] == [1.0, 0.1]
    objective(objective.example(batch_of(objective, shards), torch.Generator()))["loss"].backward()
    for name, weight in objective.named_parameters():
        assert (weight.grad is not None) == (".allocator." in name or ".transient." in name), name


def test_what_is_measured_is_what_the_codec_gives():
    objective = CodecObjective({}, losses={"snr": 1.0}, train={"allocator": 1.0}).eval()
    run = {"pcm": 0.1 * torch.randn(2, 20, 512, generator=torch.Generator().manual_seed(0))}
    wave = run["pcm"].flatten(-2)[None]
    with torch.no_grad():
        decoded = objective.codec(wave)
        sums = objective.measure(objective.example(run, torch.Generator()))
    error = decoded[..., :-266] - wave[..., :-266]
    snr = 10 * (wave[..., :-266].square().sum(-1) / error.square().sum(-1)).log10().mean()
    assert objective.scores(sums)["SNR (dB)"] == pytest.approx(snr.item(), abs=0.05)


def test_distillation_teaches_two_stages_at_all_gains(shards: Path):
    torch.manual_seed(0)
    objective = DistillationObjective(MODEL)
    batch = batch_of(objective, shards)
    losses = objective(objective.example(batch, torch.Generator().manual_seed(1)))
    losses["loss"].backward()
    for name, weight in objective.named_parameters():
        taught = name.startswith(("codec.encoder.transient.", "codec.encoder.allocator."))
        assert (weight.grad is not None) == taught == weight.requires_grad, name
        assert not taught or (weight.grad.isfinite().all() and weight.grad.any()), name
    wide = {"pcm": batch["pcm"].repeat(20, 1, 1)}
    given, drawn = (
        objective.train(training).example(wide, torch.Generator().manual_seed(1))["bands"] for training in (False, True)
    )
    gains = 10 * (drawn.square().sum((1, 2)) / given.square().sum((1, 2))).log10()
    assert GAIN[0] - 0.01 < gains.min() < GAIN[0] + 6
    assert GAIN[1] - 6 < gains.max() < GAIN[1] + 0.01


def test_an_importance_off_by_the_same_everywhere_is_no_error(shards: Path, monkeypatch: pytest.MonkeyPatch):
    objective = DistillationObjective(MODEL)
    example = objective.example(batch_of(objective, shards), torch.Generator().manual_seed(1))
    alternating = torch.tensor([3.0, -3.0]).repeat(26)
    for added, error in ((7.0, 0.0), (7.0 + alternating, 3.0)):
        found = example["importance"] + added
        monkeypatch.setattr(objective.codec.encoder.allocator.importance, "forward", lambda *_, found=found: found)
        assert objective(example)["importance"].item() == pytest.approx(error, abs=1e-5)
        scores = objective.scores(objective.measure(example))
        assert scores["importance, RMS error (dB)"] == pytest.approx(3.0103 * error, abs=1e-4)


def test_distillation_takes_only_what_it_can_teach():
    with pytest.raises(ValueError, match="model: transient NeuralTransient, allocator NeuralRateDistortionAllocator, "):
        DistillationObjective({**MODEL, "transient": {"class": "NeuralTransient"}})


@pytest.mark.parametrize(
    ("app", "wrong", "said"),
    [
        ("finetune_e2e", "objective.train.nothing=1", "objective.train: 'nothing', allowed qmf, transient, mdct"),
        ("finetune_e2e", "objective.train.qmf=-1", "objective.train.qmf = -1, allowed from 0 on"),
        (
            "finetune_e2e",
            "objective.train.dequantizer=1",
            "dequantizer is a ReferenceDequantizer, which has nothing to",
        ),
        ("finetune_e2e", "objective.train.allocator=0", "objective.train: name at least one stage to train"),
        ("finetune_e2e", "objective.losses.psnr=1", "objective.losses: 'psnr', allowed l1, mse, snr, stft, mel, lsd"),
        ("finetune_e2e", "objective.auxiliary.pcm=1", "objective.auxiliary: 'pcm', allowed bands, bsm"),
        ("finetune_e2e", "objective.start=nothing", "preset 'nothing', allowed bitexact, reference"),
        ("finetune_e2e", "objective.decoder=nothing", "decoder 'nothing', allowed standard"),
        ("finetune_e2e", "model.allocator.width=3", "model or objective settings of stage codec: "),
        ("finetune_e2e", "model.allocator.class=NeuralQmf", "model.allocator.class = 'NeuralQmf', allowed NeuralAll"),
        ("finetune_e2e", "model.nothing.hidden=3", "model: 'nothing', allowed qmf"),
        ("finetune_e2e", "weights=nothing", "preset 'nothing', allowed bitexact"),
        ("train_allocator", "weights=reference", "transient is a ReferenceTransient, which has nothing to learn"),
        ("train_allocator", "objective.losses.snr=1", "unexpected keyword argument 'losses'"),
        ("train_allocator", "stage=joint", "stage = 'joint', allowed distil"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(fails, out, app: str, wrong: str, said: str):
    assert said in fails(app, *SHORT, f"output={out.path}", wrong)
    assert not out.path.exists()
