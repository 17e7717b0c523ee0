from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import atrac_modules
from atrac_codec import DECODERS, ENCODERS, CheckpointError, NNFullCodec, build_decoder, build_encoder
from atrac_codec.cli import main
from atrac_codec.codec_folder import ROLES, SHEET, is_codec_folder, read_row
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


def change(folder: Path, **changed: Any) -> None:
    path = folder / SHEET
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def test_roles_are_those_of_the_presets():
    assert all(set(row) == set(ROLES["encoder"]) for row in ENCODERS.values())
    assert all(set(row) == set(ROLES["decoder"]) for row in DECODERS.values())


def test_a_folder_holds_trained_stages_and_names_the_others(folder: Path):
    sheet = json.loads((folder / SHEET).read_text())
    assert sheet["seed"] == 3
    assert sheet["encoder"]["mdct"] == "ReferenceMdct"
    files = {p.name for p in folder.iterdir()}
    stems = {sheet["encoder"]["qmf"], sheet["decoder"]["iqmf"]}
    assert files == {SHEET} | {f"{stem}.{end}" for stem in stems for end in ("safetensors", "json")}
    assert is_codec_folder(folder)
    assert not is_codec_folder(folder.parent)


@pytest.mark.parametrize("preset", ENCODERS)
@pytest.mark.parametrize("decoder", DECODERS)
@torch.no_grad()
def test_every_preset_and_decoder_comes_back_as_it_was(preset: str, decoder: str, wave, tmp_path):
    codec = NNFullCodec.from_pretrained(preset, decoder)
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


def test_a_folder_works_on_the_command_line(folder: Path, wav, tmp_path, capsys):
    source = wav()
    assert main(["encode", str(source), "-o", str(tmp_path / "x.aea"), "--preset", str(folder)]) == 0
    assert main(["decode", str(tmp_path / "x.aea"), "-o", str(tmp_path / "half.wav"), "--decoder", str(folder)]) == 0
    assert main(["decode", str(tmp_path / "x.aea"), "-o", str(tmp_path / "whole.wav")]) == 0
    assert main(["compare", str(source), str(tmp_path / "half.wav"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["SNR (dB)"] == pytest.approx(6, abs=0.1)
    assert main(["compare", str(source), str(tmp_path / "whole.wav"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["SNR (dB)"] > 20
    assert main(["encode", str(source), "--preset", str(tmp_path), "--force"]) == 2
    assert "or a folder with codec.json" in " ".join(capsys.readouterr().err.split())
    (folder / f"{read_row_name(folder)}.safetensors").write_bytes(b"damaged")
    assert main(["encode", str(source), "-o", str(tmp_path / "y.aea"), "--preset", str(folder)]) == 1
    assert "damaged, the SHA-256" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "y.aea").exists()


def read_row_name(folder: Path) -> str:
    name: str = json.loads((folder / SHEET).read_text())["encoder"]["qmf"]
    return name


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"format": 2}, "format 2, allowed 1"),
        ({"encoder": {"qmf": "ReferenceQmf"}}, "encoder has qmf, allowed qmf, transient, mdct"),
        ({"encoder": 3}, "encoder has 3, allowed qmf, transient, mdct"),
    ],
)
def test_a_sheet_that_is_none_is_refused(folder: Path, changed: dict[str, Any], said: str):
    change(folder, **changed)
    with pytest.raises(CheckpointError, match=said):
        build_encoder(folder)


@pytest.mark.parametrize("name", ["NeuralQmf", "Qmf", "ReferenceMdct", "os.system", "add_table", "", 3, None, ["qmf"]])
def test_only_final_stages_of_the_role_can_be_named(folder: Path, name: Any):
    change(folder, encoder={**json.loads((folder / SHEET).read_text())["encoder"], "qmf": name})
    with pytest.raises(CheckpointError, match="allowed qmf-HASH or BitExactQmf, ReferenceQmf"):
        build_encoder(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"codec"', "[" * 10_000])
def test_what_is_no_json_object_is_refused(folder: Path, text: str):
    (folder / SHEET).write_text(text)
    with pytest.raises(CheckpointError, match=SHEET):
        build_decoder(folder)


def test_a_checkpoint_outside_the_folder_cannot_be_named(folder: Path):
    row = json.loads((folder / SHEET).read_text())["encoder"]
    change(folder, encoder={**row, "qmf": f"qmf-/../../{row['qmf']}"})
    with pytest.raises(CheckpointError, match=r"allowed qmf-HASH or"):
        build_encoder(folder)


def test_a_missing_checkpoint_is_said(folder: Path):
    (folder / f"{read_row_name(folder)}.json").unlink()
    with pytest.raises(CheckpointError, match="no qmf-"):
        build_encoder(folder)


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


def test_every_untrained_stage_can_be_named(tmp_path: Path):
    assert {"ReferenceLoudness", "BitExactLoudness"} <= set(atrac_modules.__all__)
    NNFullCodec.from_pretrained("bitexact", "bitexact").save_pretrained(tmp_path)
    assert {type(s()).__name__ for s in read_row(tmp_path, "encoder").values()} >= {"BitExactQmf", "BitExactLoudness"}


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
    ("said", "why"),
    [
        ({"class": "RateDistortionAllocator", "exponent": 2}, "exponent = 2, allowed 0 to 1"),
        ({"class": "RateDistortionAllocator", "loudness": 1}, "unexpected keyword argument 'loudness'"),
        ({"class": "os.system", "command": "true"}, "allocator is 'os.system', allowed"),
        ({"exponent": 0}, "allocator is None, allowed"),
        ({}, "allocator is {}, allowed"),
    ],
)
def test_settings_that_are_none_are_refused(folder: Path, said: dict[str, Any], why: str):
    sheet = json.loads((folder / SHEET).read_text())
    change(folder, encoder={**sheet["encoder"], "allocator": said})
    with pytest.raises(CheckpointError, match=why):
        read_row(folder, "encoder")
