"""apps/watermark.py: a mark is trained through the codec, and read out of files that FFmpeg decodes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from atrac_bitstream import read_info
from atrac_codec import NNFullCodec
from atrac_codec.outside import ffmpeg_decode
from atrac_data import render

_SPEC = importlib.util.spec_from_file_location("watermark", Path(__file__).parents[1] / "apps/watermark.py")
watermark = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = watermark  # dataclasses look their module up
_SPEC.loader.exec_module(watermark)

BITS = 4


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and short sounds, marked more loudly, so that a few steps show something."""
    monkeypatch.setattr(watermark, "TRAINING_SEEDS", range(100, 101))
    monkeypatch.setattr(watermark, "TEST_SEEDS", range(1))
    monkeypatch.setattr(watermark, "SECONDS", 1.0)
    monkeypatch.setattr(watermark, "EXCERPT", 11025)
    monkeypatch.setattr(watermark, "BATCH", 4)
    monkeypatch.setattr(watermark, "LEVEL", -20.0)


def test_a_mark_is_learned_through_the_codec_and_read_from_real_files(quick, tmp_path, capsys):
    assert watermark.main([f"--bits={BITS}", "--steps=25", f"--output={tmp_path}"]) == 0
    said = capsys.readouterr().out
    numbers = json.loads((tmp_path / "results.json").read_text())["scores"]
    untrained, through = numbers["untrained"], numbers[watermark.THROUGH]
    assert through["ffmpeg"] == pytest.approx(through["layer"], abs=0.02)
    assert through["ffmpeg"] > 0.8
    assert through["ffmpeg"] > untrained["ffmpeg"] + 0.15
    assert f"{100 * through['ffmpeg']:.1f}" in said
    assert through["snr"] == pytest.approx(20, abs=0.5)
    files = sorted(tmp_path.glob("*.aea"))
    assert files
    for file in files:
        assert not read_info(file).damages
        assert ffmpeg_decode(file.read_bytes()).any()
    assert (tmp_path / "watermark.png").stat().st_size > 10_000


def test_embedder_and_reader_get_their_slopes_through_the_codec():
    codec = NNFullCodec.from_pretrained("reference").requires_grad_(False)
    mark = watermark.Watermark(BITS, torch.Generator().manual_seed(0))
    wave = torch.from_numpy(render("music", seconds=0.5, seed=9, channels=2))[None]
    message = torch.ones(1, BITS)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(mark.read(codec(mark.embed(wave, message))), message)
    loss.backward()
    for name, weight in mark.named_parameters():
        assert torch.isfinite(weight.grad).all(), name
        assert weight.grad.any(), name


def test_a_file_of_yours_is_marked_and_wrong_ones_are_said(quick, tmp_path, capsys):
    source = tmp_path / "mine.wav"
    soundfile.write(source, render("speech", seconds=0.5, seed=3, channels=2).T, 44100)
    assert watermark.main([str(source), "--steps=1", "--bits=1", f"--output={tmp_path}/out"]) == 0
    assert (tmp_path / "out/mine.aea").exists()
    capsys.readouterr()
    for argv, said in (
        ([str(tmp_path / "none.wav")], "none.wav"),
        (["--preset=nothing"], "preset 'nothing'"),
        (["--preset=bitexact"], "has no gradient"),
    ):
        assert watermark.main([*argv, f"--output={tmp_path}/other"]) == 1
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        watermark.main(["--bits=0"])
