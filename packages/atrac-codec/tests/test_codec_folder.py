from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from atrac_codec import CheckpointError, NNFullCodec, build_decoder, build_encoder
from atrac_codec.cli import main
from atrac_codec.codec_folder import SHEET, is_codec_folder, read_row
from atrac_modules import (
    Iqmf,
    NeuralIqmf,
    NeuralQmf,
    RateDistortionAllocator,
    RateDistortionTransient,
    ReferenceIqmf,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A codec with a trained QMF of its own, and a decoder that plays at half the level."""
    codec = NNFullCodec.from_pretrained("reference")
    codec.encoder.qmf = NNFullCodec.from_pretrained("neural-stages").encoder.qmf
    codec.decoder.iqmf = NNFullCodec.from_pretrained(decoder="neural-stages").decoder.iqmf
    with torch.no_grad():
        for weight in codec.decoder.iqmf.parameters():
            weight.mul_(0.5)
    codec.save_pretrained(tmp_path / "mine", {"seed": 3})
    return tmp_path / "mine"


@pytest.fixture
def wave(sound) -> Tensor:
    return torch.from_numpy(sound(6000))[None]


@pytest.fixture
def change(folder: Path):
    """Put other stages into the encoder of the folder; return the folder."""

    def change(**stages: Any) -> Path:
        sheet = json.loads((folder / SHEET).read_text())
        sheet["encoder"] |= stages
        (folder / SHEET).write_text(json.dumps(sheet))
        return folder

    return change


def test_a_folder_holds_trained_stages_and_names_the_others(folder: Path):
    sheet = json.loads((folder / SHEET).read_text())
    assert sheet["seed"] == 3
    assert sheet["encoder"]["mdct"] == "ReferenceMdct"
    files = {p.name for p in folder.iterdir()}
    stems = {sheet["encoder"]["qmf"], sheet["decoder"]["iqmf"]}
    assert files == {SHEET} | {f"{stem}.{end}" for stem in stems for end in ("safetensors", "json")}
    assert is_codec_folder(folder)
    assert not is_codec_folder(folder.parent)


@torch.no_grad()
def test_every_preset_and_decoder_comes_back_as_it_was(pair: tuple[str, str], wave, tmp_path):
    codec = NNFullCodec.from_pretrained(*pair)
    codec.save_pretrained(tmp_path)
    again = NNFullCodec.from_pretrained(tmp_path)
    assert torch.equal(again(wave), codec(wave))
    assert [type(m) for m in again.modules()] == [type(m) for m in codec.modules()]


@torch.no_grad()
def test_a_folder_works_wherever_a_name_does(folder: Path, wave):
    own = NNFullCodec.from_pretrained(folder)
    assert isinstance(own.encoder.qmf, NeuralQmf)
    assert isinstance(own.decoder.iqmf, NeuralIqmf)
    mixed = NNFullCodec.from_pretrained(str(folder), "standard")
    assert isinstance(mixed.decoder.iqmf, ReferenceIqmf)
    assert torch.allclose(own(wave), mixed(wave) / 2, atol=1e-5)
    assert torch.equal(NNFullCodec(build_encoder(folder), build_decoder(str(folder)))(wave), own(wave))
    other = NNFullCodec.from_pretrained("reference", folder)
    assert isinstance(other.decoder.iqmf, NeuralIqmf)
    assert isinstance(NNFullCodec.from_pretrained("reference").decoder.iqmf, ReferenceIqmf)


def test_a_name_counts_more_than_a_folder_of_that_name(folder: Path, monkeypatch, tmp_path):
    folder.rename(tmp_path / "reference")
    monkeypatch.chdir(tmp_path)
    assert not isinstance(build_encoder("reference").qmf, NeuralQmf)
    assert isinstance(build_encoder("./reference").qmf, NeuralQmf)


def test_a_folder_works_on_the_command_line(folder: Path, wav, tmp_path, capsys, monkeypatch):
    wav()
    monkeypatch.chdir(tmp_path)
    for command in (
        "encode in.wav -o x.aea --preset ./mine",
        "decode x.aea -o half.wav --decoder mine",
        "compare in.wav half.wav --json",
    ):
        assert main(command.split()) == 0
    assert json.loads(capsys.readouterr().out)["SNR (dB)"] == pytest.approx(6, abs=0.1)
    assert main(["encode", "in.wav", "--preset", ".", "--force"]) == 2
    assert "or a folder with codec.json" in capsys.readouterr().err
    next(folder.glob("qmf-*.safetensors")).write_bytes(b"damaged")
    assert main(["encode", "in.wav", "-o", "y.aea", "--preset", "mine"]) == 1
    assert "damaged, the SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "y.aea").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "codec.json: not JSON"),
        ("[]", "codec.json: list, allowed an object"),
        ('{"format": 2}', "format 2, allowed 1"),
        ('{"format": 1, "encoder": {"qmf": "ReferenceQmf"}}', "encoder has qmf, allowed qmf, transient, mdct"),
        ('{"format": 1, "encoder": 3}', "encoder has 3, allowed qmf, transient, mdct"),
    ],
)
def test_damaged_sheets_are_refused(folder: Path, text: str, message: str):
    (folder / SHEET).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        build_encoder(folder)


@pytest.mark.parametrize(
    "name", ["NeuralQmf", "Qmf", "ReferenceMdct", "os.system", "", 3, None, ["qmf"], "qmf-/../../qmf-1a2b3c4d"]
)
def test_only_final_stages_of_the_role_and_checkpoints_of_the_folder_can_be_named(change, name: Any):
    with pytest.raises(CheckpointError, match="allowed qmf-HASH or BitExactQmf, ReferenceQmf"):
        build_encoder(change(qmf=name))


def test_what_cannot_be_read_again_is_not_saved(tmp_path: Path):
    class Own(Iqmf):
        def forward(self, bands: Tensor) -> Tensor:
            return bands.flatten(-2)

    codec = NNFullCodec.from_pretrained()
    codec.decoder.iqmf = Own()
    with pytest.raises(ValueError, match="iqmf is a Own, allowed final stages of that role that atrac_modules exports"):
        codec.save_pretrained(tmp_path)
    assert not (tmp_path / SHEET).exists()
    with pytest.raises(ValueError, match="about has encoder"):
        NNFullCodec.from_pretrained().save_pretrained(tmp_path, {"encoder": 1})
    assert not is_codec_folder(tmp_path)


def test_a_class_keeps_its_settings(wave, tmp_path: Path):
    codec = NNFullCodec.from_pretrained("rd")
    codec.encoder.allocator, codec.encoder.transient = RateDistortionAllocator(0.0), RateDistortionTransient(0.0)
    codec.save_pretrained(tmp_path / "snr")
    sheet = json.loads((tmp_path / "snr" / SHEET).read_text())
    assert sheet["encoder"]["allocator"] == {"class": "RateDistortionAllocator", "exponent": 0.0}
    back = NNFullCodec.from_pretrained(tmp_path / "snr")
    assert (back.encoder.allocator.exponent, back.encoder.transient.exponent) == (0, 0)
    assert all(torch.equal(*pair) for pair in zip(codec.encode(wave), back.encode(wave), strict=True))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"class": "RateDistortionAllocator", "exponent": 2}, "exponent = 2, allowed 0 to 1"),
        ({"class": "RateDistortionAllocator", "loudness": 1}, "unexpected keyword argument 'loudness'"),
        ({"class": "os.system", "command": "true"}, "allocator is 'os.system', allowed"),
        ({"exponent": 0}, "allocator is None, allowed"),
        ({}, "allocator is {}, allowed"),
    ],
)
def test_unsuitable_settings_are_refused(change, entry: dict[str, Any], message: str):
    with pytest.raises(CheckpointError, match=message):
        read_row(change(allocator=entry), "encoder")
