"""apps/watermark.py: a mark is trained through the codec, and read out of files that FFmpeg decodes."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from atrac_bitstream import read_info
from atrac_data import render

APP = Path(__file__).parents[1] / "apps/watermark.py"


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The app with few and short sounds, marked more loudly, so that a few steps show something."""
    spec = importlib.util.spec_from_file_location("watermark", APP)
    app = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "watermark", app)  # dataclasses look their module up
    spec.loader.exec_module(app)
    app.TRAINING_SEEDS, app.TEST_SEEDS = range(100, 101), range(1)
    app.SECONDS, app.EXCERPT, app.BATCH, app.LEVEL = 1.0, 11025, 4, -20.0
    return app.main


def test_a_mark_is_learned_through_the_codec_and_read_from_real_files(main, tmp_path: Path, capsys):
    assert main(["--bits=4", "--steps=25", f"--output={tmp_path}"]) == 0
    scores = json.loads((tmp_path / "results.json").read_text())
    untrained, through = scores["untrained"], scores["trained through the codec"]
    assert through["ATRAC1, FFmpeg"] == pytest.approx(through["ATRAC1, layer"], abs=0.05)
    assert through["ATRAC1, FFmpeg"] > max(0.8, untrained["ATRAC1, FFmpeg"] + 0.15)
    assert through["SNR dB"] == pytest.approx(20, abs=0.5)
    assert f"{100 * through['ATRAC1, FFmpeg']:.1f}" in capsys.readouterr().out
    files = list(tmp_path.glob("*.aea"))
    assert files
    assert not any(read_info(file).damages for file in files)
    assert (tmp_path / "watermark.safetensors").exists()


def test_a_file_of_yours_is_marked_and_wrong_ones_are_said(main, tmp_path: Path, capsys):
    source = tmp_path / "mine.wav"
    soundfile.write(source, render("speech", seconds=0.5, seed=3, channels=2).T, 44100)
    assert main([str(source), "--steps=1", "--bits=1", f"--output={tmp_path}/out"]) == 0
    assert (tmp_path / "out/mine.aea").exists()
    for argv, said in (
        ([str(tmp_path / "none.wav")], "none.wav"),
        (["--preset=nothing"], "preset 'nothing'"),
        (["--preset=bitexact"], "has no gradient"),
        (["--bits=0"], "--bits 0: allowed 1 or more"),
    ):
        assert main([*argv, f"--output={tmp_path}/other"]) == 1
        assert said in capsys.readouterr().err
    assert torch.is_grad_enabled()
