"""apps/train_allocator.py: networks learn what a search decides, then what sounds better, and work as a preset."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import yaml
from torch import Tensor

from atrac_codec import build_encoder, encode_file
from atrac_codec.encoder import NNEncoder
from atrac_modules import NeuralEntropyTransient, NeuralRateDistortionAllocator
from atrac_train import launch
from atrac_train.data import TrainingData, corpus_shards
from atrac_train.objective import Tensors
from atrac_train.objectives.codec import CodecObjective
from atrac_train.objectives.distillation import GAIN, DistillationObjective
from atrac_train.settings import DataSettings
from atrac_train.tracking import read_log

APP = "atrac_train.train_allocator"
SHORT = (
    "epochs=3",
    "steps_per_epoch=5",
    "data.batch_size=2",
    "data.shuffle=16",
    "optimizer.learning_rate=0.003",
    "optimizer.warmup_steps=0",
)
STEPS = ("distil", "perceptual")
LATER = ("joint", "everything")
CONFIGS = launch.CONFIGS / "train_allocator"
SCORES = {
    "distil": {
        "importance, RMS error (dB)",
        *(f"{name} {band}" for name in ("F1", "short") for band in ("low", "mid", "high")),
    },
    "perceptual": {"NMR (dB)", "LSD (dB)", "SNR (dB)", "segmental SNR (dB)", "units over budget"},
}
MODEL: dict[str, dict[str, Any]] = {
    "transient": {"class": "NeuralEntropyTransient", "hidden": 8},
    "allocator": {"class": "NeuralRateDistortionAllocator", "hidden": 8, "features": ["spectrum"]},
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny built-in corpus."""
    return corpus_shards(
        tmp_path_factory.mktemp("tiny"), DataSettings(sounds=("music", "attacks"), seconds=0.5), ("pcm",)
    )


@pytest.fixture(scope="module")
def done(main: Callable[..., int], shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both steps, finished, with the app's own configurations."""
    output = tmp_path_factory.mktemp("done")
    assert main(*SHORT, f"output={output}", f"data.shards={shards}") == 0
    return output


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atrac_train.launch.PICTURES", {})


@pytest.fixture
def fails(main: Callable[..., int], shards: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run it where it must fail; return what it says."""

    def fails(*argv: str) -> str:
        assert main(*SHORT, f"data.shards={shards}", *argv) == 1
        said = capsys.readouterr().err.splitlines()
        assert said[-1].startswith("error: ")
        return said[-1]

    return fails


def lines(folder: Path) -> list[dict[str, Any]]:
    """The log, less what time alone decides."""
    return [{name: one for name, one in line.items() if name != "seconds"} for line in read_log(folder / "log.jsonl")]


def metrics(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return content


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def encoders(done: Path) -> list[NNEncoder]:
    return [build_encoder(done / step / "weights") for step in STEPS]


@pytest.mark.parametrize("step", STEPS)
def test_each_step_learns_and_leaves_its_scores(done: Path, step: str):
    log, measured = lines(done / step), metrics(done / step)
    assert [line["step"] for line in log] == [5, 10, 15]
    assert log[0]["validation"]["loss"] > log[-1]["validation"]["loss"]
    assert measured["stage"] == step
    assert measured["settings"]["stage"] == step
    for split in ("validation", "test"):
        names = {name for name in measured[split] if name.partition(" ")[0] != "loss"}
        assert names == SCORES[step]
        assert all(isinstance(value, float) for value in measured[split].values())
    best = min(log, key=lambda line: line["validation"]["loss"])
    assert measured["best_epoch"] == best["epoch"]
    assert measured["validation"]["loss"] == pytest.approx(best["validation"]["loss"])


def test_distillation_comes_nearer_to_the_search_in_importances_and_blocks(done: Path):
    first, last = (line["validation"] for line in (lines(done / "distil")[0], lines(done / "distil")[-1]))
    assert last["importance"] < 0.9 * first["importance"]
    assert last["blocks"] < first["blocks"]
    for line in lines(done / "distil"):
        for split in ("train", "validation"):
            assert line[split]["loss"] == pytest.approx(line[split]["importance"] + line[split]["blocks"])
    for split in ("validation", "test"):
        scores = metrics(done / "distil")[split]
        assert all(0 <= scores[f"F1 {band}"] <= 1 for band in ("low", "mid", "high"))
        assert sum(scores[f"short {band}"] for band in ("low", "mid", "high")) > 10


def test_the_second_step_starts_from_the_weights_of_the_first_and_gets_better(done: Path, main, shards, no_pictures):
    measured = metrics(done / "perceptual")
    assert measured["settings"]["objective"]["start"] == f"{done}/distil/weights"
    for split in ("validation", "test"):
        assert measured[split]["loss"] < measured["start"][split]["loss"]
        assert measured[split]["units over budget"] == 0
    argv = (*SHORT, "stage=perceptual", f"data.shards={shards}", f"output={done}/again")
    assert main(*argv, f"weights={done}/distil/weights") == 0
    again = metrics(done / "again/evaluation")
    assert {split: again[split] for split in ("validation", "test")} == measured["start"]


def test_each_step_changes_its_own_stages_and_no_others(done: Path):
    start, (taught, heard) = build_encoder("neural-stages"), encoders(done)
    for role in ("qmf", "mdct", "scaler", "quantizer"):
        assert same(getattr(taught, role), getattr(start, role)), role
        assert same(getattr(heard, role), getattr(start, role)), role
    assert same(heard.transient, taught.transient)
    assert not same(heard.allocator, taught.allocator)
    assert heard.allocator.settings == taught.allocator.settings


def test_both_results_are_presets_at_every_effort(done: Path, tmp_path: Path):
    sound = done / "perceptual/pictures/run0.original.wav"
    assert soundfile.info(sound).frames > 10000
    written = set()
    for number, folder in enumerate(done / step / "weights" for step in STEPS):
        encoder = build_encoder(folder)
        assert isinstance(encoder.transient, NeuralEntropyTransient)
        assert isinstance(encoder.allocator, NeuralRateDistortionAllocator)
        assert build_encoder(folder, effort="fast").allocator.effort == "fast"
        for effort in ("default", "fast"):
            path = tmp_path / f"{number}{effort}.aea"
            encode_file(sound, path, build_encoder(folder, effort))
            written.add(path.read_bytes())
    assert len(written) == 4, "each sounds its own way"
    about = json.loads((done / "perceptual/weights/codec.json").read_text())
    assert about["metrics"]["start"] == metrics(done / "perceptual")["start"]
    assert about["training settings"]["stage"] == "perceptual"


def test_finished_steps_say_so_and_are_left_alone(done: Path, main, shards, capsys):
    before = {path: path.stat().st_mtime_ns for step in STEPS for path in (done / step).rglob("*") if path.is_file()}
    assert main(*SHORT, f"output={done}", f"data.shards={shards}") == 0
    said = capsys.readouterr().out
    assert said.count("finished already") == 2
    assert "stage distil" in said
    assert f"{metrics(done / 'perceptual')['test']['NMR (dB)']:.6g}" in said
    after = {path: path.stat().st_mtime_ns for step in STEPS for path in (done / step).rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("step", STEPS)
def test_what_was_interrupted_in_either_step_goes_on_to_the_same_end(
    step: str, done: Path, main, shards, no_pictures, monkeypatch, tmp_path
):
    objective = {"distil": DistillationObjective, "perceptual": CodecObjective}[step]
    forward, steps = objective.forward, 0

    def interrupted(self: Any, example: Tensors) -> dict[str, Tensor]:
        nonlocal steps
        steps += self.training
        if steps > 7:
            raise KeyboardInterrupt
        return forward(self, example)

    argv = (*SHORT, f"output={tmp_path}", f"data.shards={shards}")
    with monkeypatch.context() as patch:
        patch.setattr(objective, "forward", interrupted)
        assert main(*argv) == 130
    assert lines(tmp_path / step) == lines(done / step)[:1]
    assert (tmp_path / "distil/metrics.json").exists() == (step == "perceptual")
    assert (tmp_path / "perceptual").exists() == (step == "perceptual"), "the second waits for the first"
    assert main(*argv) == 0
    for one in STEPS:
        assert lines(tmp_path / one) == lines(done / one)


def test_settings_count_for_both_steps(main, shards, no_pictures, tmp_path):
    argv = ("model.allocator.hidden=8", "epochs=1", "seed=3", f"output={tmp_path}", f"data.shards={shards}")
    assert main(*SHORT, *argv) == 0
    for step, encoder in zip(STEPS, encoders(tmp_path), strict=True):
        settings = yaml.safe_load((tmp_path / step / "settings.yaml").read_text())
        assert (settings["epochs"], settings["seed"]) == (1, 3)
        assert encoder.allocator.settings["hidden"] == 8
        assert encoder.transient.settings["hidden"] == 48


@pytest.mark.parametrize("stage", LATER)
def test_later_steps_train_more_stages(stage: str, done: Path, main, shards, no_pictures, tmp_path):
    argv = (f"stage={stage}", f"objective.start={done}/perceptual/weights", "epochs=1", "steps_per_epoch=2")
    assert main(*SHORT, *argv, f"output={tmp_path}", f"data.shards={shards}") == 0
    measured = metrics(tmp_path)
    assert SCORES["perceptual"] <= set(measured["test"])
    assert measured["start"]["test"] == pytest.approx(metrics(done / "perceptual")["test"])
    trained = {role for role, rate in measured["settings"]["objective"]["train"].items() if rate}
    assert {"allocator", "transient"} < trained
    own, start = build_encoder(tmp_path / "weights"), encoders(done)[1]
    for role in ("qmf", "transient", "mdct", "scaler", "allocator", "quantizer"):
        assert same(getattr(own, role), getattr(start, role)) == (role not in trained), role


def test_all_codecs_whose_allocator_is_learned_are_measured(done: Path, main, shards, no_pictures, tmp_path):
    argv = (*SHORT, f"output={tmp_path}", f"data.shards={shards}")
    assert main(*argv, f"weights={done}/perceptual/weights") == 0
    again = metrics(tmp_path / "evaluation")
    assert again["stage"] == "perceptual"
    assert again["weights"] == f"{done}/perceptual/weights"
    for split in ("validation", "test"):
        assert again[split] == pytest.approx(metrics(done / "perceptual")[split])
    assert main(*argv, "weights=neural") == 0
    assert set(metrics(tmp_path / "evaluation")["test"]) == set(again["test"])
    assert metrics(tmp_path / "evaluation")["test"]["NMR (dB)"] != again["test"]["NMR (dB)"]
    assert not (tmp_path / "settings.yaml").exists(), "nothing was trained"


def test_what_was_distilled_is_measured_again(done: Path, main, shards, tmp_path):
    argv = (*SHORT, "stage=distil", f"output={tmp_path}", f"data.shards={shards}")
    assert main(*argv, f"weights={done}/distil/weights") == 0
    for split in ("validation", "test"):
        assert metrics(tmp_path / "evaluation")[split] == pytest.approx(metrics(done / "distil")[split])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("weights=nothing", "preset 'nothing', allowed bitexact, reference"),
        ("weights=reference", "allocator is a ReferenceAllocator, which has nothing to learn"),
        ("objective.start=nothing", "preset 'nothing', allowed bitexact, reference"),
        ("epoch=3", "did you mean 'epochs'?"),
        ("data.shards=nowhere", "nowhere/train: no shards"),
        ("model.nothing.hidden=3", "model: 'nothing', allowed qmf"),
        ("model.allocator.features=[tone]", "features: tone, allowed idsf, energy, entropy, loudness, spectrum"),
        ("model.transient.class=ReferenceTransient", "model.transient.class = 'ReferenceTransient', allowed"),
        ("stage=distil objective.losses.snr=1", "unexpected keyword argument 'losses'"),
        (
            "stage=perceptual objective.start=neural objective.losses.psnr=1",
            "objective.losses: 'psnr', allowed l1, mse, snr",
        ),
        ("stage=perceptual objective.start=nowhere/weights", "preset 'nowhere/weights', allowed bitexact"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_stops_it(fails, tmp_path, wrong: str, said: str):
    assert said in fails(f"output={tmp_path}/out", *wrong.split())
    assert not (tmp_path / "out/perceptual").exists()


def test_an_unknown_stage_is_refused_with_those_there_are(fails, tmp_path):
    said = fails("stage=nothing", f"output={tmp_path}")
    assert "stage = 'nothing', allowed distil, perceptual, joint, everything" in said


def test_distillation_takes_only_what_it_can_teach():
    wrong: dict[str, dict[str, Any]] = {"transient": {"class": "NeuralTransient"}, "allocator": MODEL["allocator"]}
    with pytest.raises(ValueError, match="model: transient NeuralTransient, allocator NeuralRateDistortionAllocator, "):
        DistillationObjective(wrong)


@pytest.fixture
def distillation(shards: Path) -> tuple[DistillationObjective, Tensors]:
    """An objective in training, and a batch."""
    torch.manual_seed(0)
    objective = DistillationObjective(MODEL).train()
    data = TrainingData(shards, DataSettings(batch_size=4, shuffle=16), objective.fields, objective.frames)
    return objective, next(data.training_batches(1, 1))


def test_only_the_taught_stages_get_slopes_and_all_their_weights_do(distillation):
    objective, batch = distillation
    losses = objective(objective.example(batch, torch.Generator().manual_seed(1)))
    losses["loss"].backward()
    assert losses["loss"] == losses["importance"] + losses["blocks"]
    for name, weight in objective.named_parameters():
        taught = name.startswith(("codec.encoder.transient.", "codec.encoder.allocator."))
        assert (weight.grad is not None) == taught == weight.requires_grad, name
        assert not taught or (weight.grad.isfinite().all() and weight.grad.any()), name
    groups = [weight for group in objective.parameter_groups() for weight in group["params"]]
    assert {id(weight) for weight in groups} == {id(w) for w in objective.parameters() if w.requires_grad}


def test_an_importance_off_by_the_same_everywhere_is_no_error_and_others_are(distillation, monkeypatch):
    objective, batch = distillation
    example = objective.example(batch, torch.Generator().manual_seed(1))
    allocator = objective.codec.encoder.allocator
    turns = torch.tensor([3.0, -3.0]).repeat(26)
    for added, error in ((7.0, 0.0), (7.0 + turns, 3.0)):
        found = example["importance"] + added
        monkeypatch.setattr(allocator.importance, "forward", lambda *known, found=found: found)
        assert objective(example)["importance"].item() == pytest.approx(error, abs=1e-5)
        sums = objective.measure(example)
        assert objective.scores(sums)["importance, RMS error (dB)"] == pytest.approx(3.0103 * error, abs=1e-4)


def test_training_hears_all_gains_and_evaluation_the_recorded_one(distillation):
    objective, batch = distillation
    wide = {"pcm": batch["pcm"].repeat(50, 1, 1)}
    given = objective.eval().example(wide, torch.Generator().manual_seed(1))["bands"]
    drawn = objective.train().example(wide, torch.Generator().manual_seed(1))["bands"]
    torch.testing.assert_close(given, objective.codec.encoder.qmf(wide["pcm"].flatten(-2)), rtol=0, atol=0)
    gains = 10 * (drawn.square().sum((1, 2)) / given.square().sum((1, 2))).log10()
    low, high = GAIN
    assert (low, high) == (-40, 6)
    assert low - 0.01 < gains.min() < low + 3
    assert high - 3 < gains.max() < high + 0.01


def test_blocks_are_scored_by_those_found_and_missed():
    counts = {"hit": [2, 0, 4], "false alarm": [1, 0, 0], "miss": [3, 0, 0]}
    sums = {name: torch.tensor(count).double() for name, count in counts.items()}
    sums |= {"error": torch.tensor(8.0), "values": torch.tensor(2.0)}
    objective = DistillationObjective(MODEL)
    assert objective.scores(sums) == pytest.approx(
        {
            "importance, RMS error (dB)": 6.0206,
            "F1 low": 0.5, "F1 mid": 0.0, "F1 high": 1.0,
            "short low": 5.0, "short mid": 0.0, "short high": 4.0,
        }
    )  # fmt: skip


def test_several_processes_are_asked_for_one_stage_at_a_time(fails, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "several processes train one stage at a time: stage=distil, stage=perceptual" in fails("epochs=1")
