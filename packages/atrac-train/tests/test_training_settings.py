"""Settings, schedule, log and curve of trainings, without a training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from atrac_train.launch import CONFIGS
from atrac_train.loop import learning_rate
from atrac_train.objectives import OBJECTIVES
from atrac_train.objectives.codec import CodecObjective
from atrac_train.settings import DataSettings, OptimizerSettings, TrainingSettings, claim, read_settings
from atrac_train.tracking import JsonLog, draw_curve, read_log


def test_a_file_states_what_differs_from_its_base_and_the_command_line_counts_most(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "epochs: 3\nsteps_per_epoch: 1e1\noptimizer: {learning_rate: 1e-3, betas: [0.5, 0.9]}"
    )
    (tmp_path / "own.yaml").write_text("base: base.yaml\nstage: any\nsteps_per_epoch: 7\nmodel: {a: 1, b: {c: 2}}\n")
    settings = read_settings([tmp_path / "own.yaml"], ["optimizer.learning_rate=2e-4", "model.b.d=x", "data.seconds=2"])
    assert settings == TrainingSettings(
        stage="any",
        epochs=3,
        steps_per_epoch=7,
        model={"a": 1, "b": {"c": 2, "d": "x"}},
        data=DataSettings(seconds=2.0),
        optimizer=OptimizerSettings(learning_rate=2e-4, betas=(0.5, 0.9)),
    )
    assert settings.folder == Path("runs/any")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("epochs: 10.5", r"epochs = 10\.5 \(.*own\.yaml\): input should be a valid integer"),
        ("optimizer: {momentum: 1}", r"unknown setting 'optimizer\.momentum' \(.*own\.yaml\)"),
        ("base: own.yaml", r"own\.yaml: is its own base"),
        ("base: 3", r"own\.yaml: allowed keys and values, and a file's name as base"),
        ("a: [", r"own\.yaml: no YAML"),
        ("epochs: 1", "stage is not set; set it by stage=VALUE or in a file"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_name(tmp_path, content: str, said: str):
    (tmp_path / "own.yaml").write_text(content)
    stage = [] if content == "epochs: 1" else ["stage=any"]
    with pytest.raises(ValueError, match=said):
        read_settings([tmp_path / "own.yaml"], [*stage, "steps_per_epoch=1"] + ["epochs=1"] * ("epochs" not in content))


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configurations_are_valid(config: Path):
    wanted = {"base": "any", "finetune_e2e": "codec"}.get(config.stem, config.stem.split("-")[0])
    settings = read_settings([config], ["stage=any"] if config.stem == "base" else [])
    assert settings.stage == wanted
    objectives = {**OBJECTIVES, "codec": CodecObjective}
    if wanted in objectives:
        objectives[wanted](settings.model, **settings.objective)


def test_resolved_settings_are_read_back_as_they_were(tmp_path):
    settings = TrainingSettings("any", 2, 3, output=str(tmp_path), data=DataSettings(sounds=("noise",)))
    claim(settings, write=True)
    claim(settings, write=True)
    assert read_settings([tmp_path / "settings.yaml"]) == settings


@pytest.mark.parametrize(("schedule", "middle"), [("constant", 0.1), ("cosine", 0.0505), ("exponential", 0.01)])
def test_learning_rates_rise_and_end_as_they_should(schedule: Any, middle: float):
    settings = OptimizerSettings(0.1, 0.001, schedule, warmup_steps=4)
    rates = [learning_rate(settings, step, 15) for step in range(15)]
    assert rates[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert rates[9] == pytest.approx(middle)
    assert rates[-1] == pytest.approx(0.1 if schedule == "constant" else 0.001)
    assert learning_rate(settings, 15, 15) == rates[-1]


def test_the_log_is_cut_where_the_checkpoint_is(tmp_path):
    log = JsonLog(tmp_path / "log.jsonl")
    for i in range(3):
        log.write({"i": i, "x": math.nan})
    log.close()
    JsonLog(tmp_path / "log.jsonl", 2).close()
    assert read_log(tmp_path / "log.jsonl") == [{"i": 0, "x": None}, {"i": 1, "x": None}]
    with pytest.raises(ValueError, match=r"log\.jsonl: 2 whole lines, expected 3 or more"):
        JsonLog(tmp_path / "log.jsonl", 3)


@pytest.mark.parametrize("losses", [[1.0, 0.5, 0.7], [0.5, -0.5, 0.0], [0.3]])
def test_a_curve_can_be_drawn_of_any_losses(tmp_path, losses: list[float]):
    log = JsonLog(tmp_path / "log.jsonl")
    for epoch, loss in enumerate(losses, 1):
        log.write({"epoch": epoch, "train": {"loss": loss}, "validation": {"loss": loss + 0.1}})
    log.close()
    draw_curve(tmp_path / "log.jsonl", tmp_path / "pictures" / "curve.png")
    assert matplotlib.image.imread(tmp_path / "pictures" / "curve.png").shape[:2] == (500, 900)
