"""What each stage learns: every stage by its configuration, silence, and the stages of a preset measured."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from atrac_codec.checkpoint import load_stage
from atrac_data import FIELDS
from atrac_train.launch import CONFIGS
from atrac_train.objective import Tensors
from atrac_train.objectives import OBJECTIVES, AllocatorObjective, allocator

SCORES: dict[str, tuple[str, ...]] = {
    "qmf": ("SNR recordings (dB)", "SNR recordings low (dB)", "SNR noise (dB)", "SNR noise high (dB)"),
    "transient": ("F1 low", "precision mid", "recall high", "positives low"),
    "mdct": ("SNR recordings long (dB)", "SNR noise (dB)", "SNR noise short (dB)", "SNR noise short to long (dB)"),
    "scaler": ("IDSF equal (%)", "largest error of the table (log2)"),
    "allocator": ("word lengths equal (%)", "word lengths within one (%)", "BFU amount equal (%)", "units over budget"),
    "quantizer": ("equal where there are bits (%)",),
    "dequantizer": ("SNR to the standard values (dB)",),
    "dequantizer-original": ("SNR to the standard values (dB)", "gain (dB)", "gain in steps (dB)"),
    "imdct": ("SNR recordings long (dB)", "SNR noise (dB)", "SNR noise long to short (dB)"),
    "iqmf": ("SNR recordings pcm (dB)", "SNR noise (dB)"),
}
"""Configuration to some of its scores."""
CALIBRATE = AllocatorObjective.calibrate


def calibrate_among_few(self: AllocatorObjective, examples: Sequence[Tensors]) -> None:
    """Calibrate an allocator in a second instead of minutes: few offsets, few changes of the order, few units."""
    moved = allocator._moved
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(allocator, "SEARCHES", ((0.5, 0.25, 1),))
        patch.setattr(allocator, "_moved", lambda *where: itertools.islice(moved(*where), 2))
        patch.setattr(allocator, "N_BFU_MAX", 4)
        patch.setattr(allocator, "CALIBRATED", 40)
        CALIBRATE(self, examples)


@pytest.mark.slow
@pytest.mark.parametrize("config", SCORES)
def test_every_stage_learns_is_saved_and_measures_the_same_again(config: str, run, out, monkeypatch):
    role = config.split("-")[0]
    monkeypatch.setattr(AllocatorObjective, "calibrate", calibrate_among_few)
    batch = ("data.batch_size=16", "data.shuffle=2048")
    if OBJECTIVES[role].frames > 1:
        batch = ("data.batch_size=4", "data.shuffle=64")
    small = ("epochs=2", "steps_per_epoch=12", "optimizer.schedule=constant", *batch, f"output={out.path}")
    settings = (f"--config={CONFIGS / config}.yaml", *small)
    hidden = ["model.hidden=8"] if config == "dequantizer-original" else []
    assert run("train_stage", *settings, *hidden) == 0
    assert out.log[-1]["train"]["loss"] < out.log[0]["train"]["loss"]
    for split in ("validation", "test"):
        assert all(out.metrics[split][name] is not None for name in ("loss", *SCORES[config]))
    assert list((out.path / "pictures").glob("*.png"))
    (path,) = (out.path / "weights").glob("*.safetensors")
    load_stage(path, role)
    # The model is the file's, whatever the configuration says.
    assert run("train_stage", *settings, f"weights={path}") == 0
    for split, measured in out.measured.items():
        # Losses of an allocator depend on how far its training is.
        compared = [name for name in measured if role != "allocator" or not name.startswith("loss")]
        assert {k: measured[k] for k in compared} == {k: out.metrics[split][k] for k in compared}


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


def test_the_stage_of_a_preset_can_be_measured(run: Callable[..., int], out: Any, no_pictures: None):
    assert run("train_stage", "stage=quantizer", "weights=neural-stages", f"output={out.path}") == 0
    assert out.measured["test"]["equal where there are bits (%)"] > 99
    assert not (out.path / "settings.yaml").exists(), "nothing was trained"


def test_weights_of_another_scaler_are_refused(fails: Callable[..., str], tmp_path: Path):
    said = fails("train_stage", "stage=quantizer", "objective.scaler=reference", f"output={tmp_path}")
    assert "its scaler is a ReferenceScaler, allowed NeuralScaler" in said
