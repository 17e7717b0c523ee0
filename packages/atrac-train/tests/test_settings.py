"""Settings: files, command line, checks, and a folder that holds one training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from atrac_train.launch import CONFIGS
from atrac_train.objectives import OBJECTIVES
from atrac_train.objectives.codec import CodecObjective
from atrac_train.objectives.distillation import DistillationObjective
from atrac_train.settings import DataSettings, OptimizerSettings, TrainingSettings, claim, read_settings

ENOUGH = ["stage=any", "epochs=2", "steps_per_epoch=10"]


def test_a_file_states_what_differs_from_its_base_and_the_command_line_counts_most(tmp_path: Path):
    (tmp_path / "base.yaml").write_text("epochs: 3\noptimizer: {learning_rate: 1e-3, betas: [0.5, 0.9]}")
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
        ("epochs: 10.5", r"epochs \(.*own\.yaml\): Value '10.5' of type 'float' could not be converted to Integer"),
        ("optimizer: {momentum: 1}", r"unknown setting 'optimizer\.momentum' \(.*own\.yaml\)"),
        ("base: own.yaml", r"own\.yaml: is its own base"),
        ("base: 3", r"own\.yaml: allowed keys and values, and a file's name as base"),
        ("a: [", r"own\.yaml: no YAML"),
        ("seed: ${nothing}", r"seed \(settings\): Interpolation key 'nothing' not found"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_name(tmp_path: Path, content: str, said: str):
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(ValueError, match=said):
        read_settings([tmp_path / "own.yaml"], ENOUGH)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("batch_size=3", "unknown setting 'batch_size' (command line); did you mean 'data.batch_size'?"),
        ("data.batchsize=3", "did you mean 'data.batch_size'?"),
        ("epochs=0", "epochs = 0, allowed 1 or more"),
        ("epochs=true", "epochs (command line): Value 'True' of type 'bool' could not be converted to Integer"),
        ("data=3", "(command line): Merge error"),
        ("data.sounds=[noises]", "data.sounds: 'noises', allowed music"),
        ("data.gain=[1,2,3]", "length 3 does not match type hint length 2"),
        ("optimizer.learning_rate=.nan", "optimizer.learning_rate = nan, allowed above 0"),
        ("optimizer.schedule=linear", "expected one of ['constant', 'cosine', 'exponential']"),
        ("optimizer.schedule=exponential", "final_learning_rate = 0.0, allowed above 0 where"),
        ("optimizer.warmup_steps=20", "warmup_steps = 20, allowed below the 20 steps"),
        ("optimizer.betas=[1.0,0]", "optimizer.betas = (1.0, 0.0), allowed"),
        ("epochs", "'epochs' (command line): allowed key=value"),
        ("epochs=[1", "command line: no YAML"),
        ("patience=1 keep=last", "patience = 1, allowed 0 where the last weights are kept"),
        ("stage=???", "stage is not set; set it by stage=VALUE or in a file"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_said_in_one_line(wrong: str, said: str):
    with pytest.raises(ValueError) as error:
        read_settings([], [*ENOUGH, *wrong.split()])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configurations_are_valid(config: Path):
    settings = read_settings([config], ["stage=any"] if config.stem == "base" else [])
    objectives = {**OBJECTIVES, "codec": CodecObjective, "distil": DistillationObjective}
    if config.stem != "base":
        objectives[settings.stage](settings.model, **settings.objective)


def test_a_folder_holds_one_training(tmp_path: Path):
    settings = TrainingSettings("any", 2, 3, output=str(tmp_path), data=DataSettings(sounds=("noise",)))
    deeper = replace(settings, model={"hidden": 3})
    claim(settings, write=True)
    claim(settings, write=True)
    assert read_settings([tmp_path / "settings.yaml"]) == settings
    with pytest.raises(ValueError, match=r"begun with epochs = 2, now 3; choose another output"):
        claim(replace(settings, epochs=3), write=False)
    with pytest.raises(ValueError, match=r"begun with model.hidden = not set, now 3"):
        claim(deeper, write=False)
