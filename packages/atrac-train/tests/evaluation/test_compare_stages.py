"""The stage comparison: no error where nothing is changed, and the error of a changed stage in its own fields."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

import atrac_modules as m
from atrac_codec import NNFullCodec, chunks
from atrac_codec.trace import STAGE_OF_FIELD as STAGES
from atrac_data import NAMES, SEEDS, BuiltinTeacher, render
from atrac_train.evaluation.compare_stages import main, text
from atrac_train.evaluation.stages import COLUMNS, COMPARABLE, INTEGERS, Comparison, tally

FRAMES_OF_RUN = 15
FRAMES_OF_SOUND = 40
GAIN = 1.01
"""Gain of a changed stage: an error 40 dB below the signal."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_FRAMES", FRAMES_OF_RUN)


@pytest.fixture
def fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command where it must fail; return its message."""

    def fails(*argv: str) -> str:
        assert main(["-o", str(tmp_path / "out"), *argv]) == 1
        printed = capsys.readouterr()
        (line,) = printed.err.splitlines()
        assert line.startswith("error: ")
        assert not printed.out
        return line

    return fails


@cache
def sound() -> np.ndarray:
    """Return two channels, not of whole frames, with short blocks in all bands."""
    return np.concatenate([render("attacks", seconds=0.3), 0.1 * render("music", seconds=0.15)], axis=1)


@cache
def teacher_fields() -> dict[str, Tensor]:
    """Return the teacher's fields of the sound, made at once."""
    (fields,) = BuiltinTeacher().frames([np.pad(sound(), ((0, 0), (0, 512 * FRAMES_OF_SOUND - sound().shape[1])))])
    return {name: torch.from_numpy(field) for name, field in fields.items()}


def codec(encoder: str = "bitexact", decoder: str = "bitexact") -> NNFullCodec:
    return NNFullCodec.from_pretrained(encoder, decoder)


def compared(candidate: NNFullCodec, *sounds: np.ndarray) -> Comparison:
    comparison = Comparison(codec(), candidate)
    for i, pcm in enumerate(sounds or [sound()]):
        comparison.add(f"sound {i}", [pcm])
    return comparison


def is_equal(field: str, numbers: dict[str, Any]) -> bool:
    return numbers["equal (%)"] == 100 if field in INTEGERS else numbers["SNR (dB)"] == math.inf


class Changed(nn.Module):
    """A stage whose result is changed."""

    def __init__(self, stage: nn.Module, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self.stage, self.change = stage, change

    def forward(self, *args: Tensor) -> Any:
        return self.change(self.stage(*args))

    def scaled(self, *args: Tensor) -> Tensor:
        return self.stage.scaled(*args)


def louder(result: Tensor) -> Tensor:
    return GAIN * result


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "qmf": (louder, "bands"),
    "transient": (lambda bsm: 0 * bsm, "bsm"),
    "mdct": (louder, "spectrum"),
    "loudness": (lambda track: m.LoudnessTrack(1e6 * track.loudness, track.end), "loudness"),
    "scaler": (lambda idsf: (idsf + (torch.arange(52) >= 10)).clamp_max(63), "idsf"),
    "allocator": (lambda a: m.Allocation(a.n_bfu, a.idwl - (a.idwl > 1).float(), a.idsf), "idwl"),
    "quantizer": (lambda quantized: quantized - quantized.sign(), "quantized"),
    "dequantizer": (louder, "dec_spectrum"),
    "imdct": (louder, "dec_bands"),
    "iqmf": (louder, "dec_pcm"),
}
"""Role to the change of its result, and the field that changes when the stage gets the teacher's fields."""


@cache
def changed(role: str) -> dict[str, Any]:
    """Return the measures of a codec like `bitexact` but for one stage."""
    candidate = codec()
    part = candidate.encoder if hasattr(candidate.encoder, role) else candidate.decoder
    setattr(part, role, Changed(getattr(part, role), CHANGES[role][0]))
    return compared(candidate).fields()


def test_a_teacher_equals_itself_and_its_extraction_however_it_is_cut(short_runs):
    comparison = compared(codec(), sound(), sound()[:1, :5000])
    fields = comparison.fields()
    assert set(fields) == set(STAGES)
    for field, own in fields.items():
        for column in ("chained",) if field == "units" else COLUMNS:
            assert {"all", COMPARABLE.get(field, "all")} <= set(own[column])
            parts = [numbers for part, numbers in own[column].items() if part != "short blocks"]
            assert all(numbers["values"] > 0 and is_equal(field, numbers) for numbers in parts)
    short = fields["bsm"]["chained"]["short blocks"]
    assert all(short[band]["F1"] == 1 and short[band]["positives"] > 0 for band in ("low", "mid", "high"))
    assert fields["units"]["chained"]["all"]["values"] == 2 * FRAMES_OF_SOUND + 11
    assert fields["spectrum"]["alone"]["all"]["values"] == 512 * (2 * FRAMES_OF_SOUND + 11)


def test_the_decoded_sound_is_compared_with_the_original_without_delay(short_runs):
    pcm = render("noise", seconds=0.4)  # loud from the first sample to the last
    original = compared(codec("neural-stages", "standard"), pcm).original()
    for name, own in (("teacher", codec()), ("candidate", codec("neural-stages", "standard"))):
        with torch.no_grad():
            decoded = own(torch.from_numpy(pcm)[None])[0].numpy().astype(np.float64)
        expected = 10 * np.log10((pcm.astype(np.float64) ** 2).sum() / ((decoded - pcm) ** 2).sum())
        for row in (original["mean"], original["recordings"]["sound 0"]):
            assert row[name] == pytest.approx(expected, abs=1e-4)


def test_sums_are_those_of_a_slow_count():
    generator = torch.Generator().manual_seed(0)
    own, truth = torch.randint(-2, 3, (2, 3, 7, 52), generator=generator).float()
    for mask in (None, torch.rand(3, 7, 52, generator=generator) < 0.5):
        expected = np.zeros(4)
        for place in np.ndindex(3, 7, 52):
            a, b = float(own[place]), float(truth[place])
            if mask is None or mask[place]:
                expected += 1, a == b, b * b, (a - b) ** 2
        assert np.array_equal(tally(own, truth, mask), expected)


@pytest.mark.parametrize("role", CHANGES)
def test_a_changed_stage_is_found_where_it_is(role: str):
    fields, field = changed(role), CHANGES[role][1]
    different = {
        column: {name for name, own in fields.items() if column in own and not is_equal(name, own[column]["all"])}
        for column in COLUMNS
    }
    before = set(list(STAGES)[: list(STAGES).index(field)])
    assert different["alone"] == {field}
    assert not different["chained"] & before
    assert {field, "dec_spectrum", "dec_bands", "dec_pcm"} - before <= different["chained"]
    assert ("units" in different["chained"]) == ("units" not in before)
    if CHANGES[role][0] is louder:
        assert all(fields[field][column]["all"]["SNR (dB)"] == pytest.approx(40, abs=0.01) for column in COLUMNS)


def test_changed_scale_factors_leave_the_comparable_values_equal():
    fields = changed("scaler")
    assert fields["idsf"]["alone"]["all"]["values"] == teacher_fields()["idsf"].numel()
    assert fields["idsf"]["alone"]["all"]["equal (%)"] == pytest.approx(1000 / 52)
    scaled = fields["scaled"]["chained"]
    assert 0 < scaled["same scale factors"]["values"] < scaled["all"]["values"]
    assert scaled["same scale factors"]["SNR (dB)"] == math.inf
    assert scaled["all"]["SNR (dB)"] < 20


def test_changed_block_modes_leave_the_comparable_values_equal():
    fields = changed("transient")
    short = fields["bsm"]["alone"]["short blocks"]
    for band, name in enumerate(("low", "mid", "high")):
        assert short[name]["positives"] == int((teacher_fields()["bsm"][..., band] > 0).sum()) > 0
        assert short[name]["F1"] == short[name]["recall"] == 0
    for field in ("spectrum", "dec_spectrum"):
        parts = fields[field]["chained"]
        assert parts["all"]["SNR (dB)"] + 5 < parts["same block modes"]["SNR (dB)"]
        assert 0 < parts["same block modes"]["values"] < parts["all"]["values"]
    assert fields["spectrum"]["chained"]["same block modes"]["SNR (dB)"] == math.inf


def test_changed_word_lengths_leave_the_comparable_values_equal():
    fields = changed("allocator")
    idwl = teacher_fields()["idwl"]
    with_bits, shorter = int((idwl > 0).sum()), int((idwl > 1).sum())
    for column in COLUMNS:
        numbers = fields["idwl"][column]["with bits"]
        assert numbers["values"] == with_bits
        assert numbers["equal (%)"] == pytest.approx(100 - 100 * shorter / with_bits)
    quantized = fields["quantized"]
    assert 0 < quantized["chained"]["same step"]["values"] < quantized["alone"]["same step"]["values"]
    assert quantized["chained"]["same step"]["equal (%)"] == 100
    assert quantized["chained"]["all"]["equal (%)"] < 100


@pytest.mark.parametrize(
    ("measure", "value", "written"),
    [
        ("equal (%)", 100.0, "100"),
        ("equal (%)", 99.99999, "99.9999"),
        ("SNR (dB)", math.inf, "equal"),
        ("SNR (dB)", math.nan, "–"),
        ("SNR (dB)", 12.34, "12.3"),
    ],
)
def test_a_share_reads_100_only_if_all_values_are_equal(measure: str, value: float, written: str):
    assert text(measure, value) == written


def not_json(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


def read(folder: Path) -> dict[str, Any]:
    assert [path.name for path in folder.iterdir()] == ["stages.json"]
    report: dict[str, Any] = json.loads((folder / "stages.json").read_text(), parse_constant=not_json)
    return report


def test_neural_stages_on_built_in_sounds_give_table_and_numbers(tmp_path, capsys):
    assert main(["--longest", "0.4", "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert not printed.err
    for words in ("neural-stages", "bitexact", "SNR (dB), same block modes", "F1", *STAGES):
        assert words in printed.out
    report = read(tmp_path / "out")
    assert (report["encoder"], report["decoder"], report["teacher"]) == ("neural-stages", "neural-stages", "bitexact")
    assert (report["recordings"], report["seconds"]) == (len(NAMES), pytest.approx(0.4 * len(NAMES), abs=0.01))
    assert set(report["original"]["recordings"]) == {f"{name}-{SEEDS['test'][0]:03d}" for name in NAMES}
    fields = report["fields"]
    for name in ("bands", "spectrum", "dec_spectrum", "dec_bands", "dec_pcm"):
        assert 100 < fields[name]["alone"]["all"]["SNR (dB)"] < 160
    assert fields["bands"]["chained"] == fields["bands"]["alone"]
    assert fields["dec_pcm"]["chained"]["all"]["SNR (dB)"] < 60
    assert 75 < fields["idwl"]["alone"]["with bits"]["equal (%)"] < 100


def test_recordings_of_a_split_are_taken_and_cut_and_silence_is_accepted(tmp_path):
    folder, split = tmp_path / "in", {"a.wav": "test", "b/silent.wav": "test", "c.wav": "train"}
    (folder / "b").mkdir(parents=True)
    for path, pcm in zip(split, (sound(), np.zeros((1, 9000)), sound()), strict=True):
        soundfile.write(folder / path, pcm.T, 44100, "FLOAT")
    (folder / "split.json").write_text(json.dumps(split))
    codecs = ("--encoder", "bitexact", "--decoder", "bitexact")
    assert main([str(folder), *codecs, "--longest", "0.25", "-o", str(tmp_path / "out")]) == 0
    report = read(tmp_path / "out")
    assert list(report["original"]["recordings"]) == ["a.wav", "b/silent.wav"]
    assert report["seconds"] == pytest.approx(0.25 + 9000 / 44100, abs=0.001)
    assert report["fields"]["bands"]["chained"]["all"]["SNR (dB)"] is None
    assert report["original"]["recordings"]["b/silent.wav"]["teacher"] is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("nowhere",), "nowhere is no folder"),
        (("--encoder", "nothing"), "preset 'nothing', allowed bitexact, reference, rd"),
        (("--decoder", "nothing"), "decoder 'nothing', allowed standard, bitexact, neural-stages"),
        (("--longest", "-1"), "--longest -1.0, allowed 0 for all, or the seconds"),
        (("--longest", "1e-5"), "--longest 1e-05, allowed 0"),
        (("--longest", "nan"), "--longest nan, allowed"),
        (("--device", "abacus"), "--device abacus: "),
    ],
)
def test_an_error_is_one_line(fails, tmp_path, wrong: tuple[str, ...], message: str):
    assert message in fails(*wrong)
    assert not (tmp_path / "out").exists()


def test_unusable_folders_and_files_are_named(fails, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    assert f"{folder}: no recordings" in fails(str(folder))
    (folder / "a.wav").write_bytes(b"no audio")
    (folder / "split.json").write_text('{"a.wav": "test"}')
    assert f"{folder}: no recordings of split train" in fails(str(folder), "--split", "train")
    assert "a.wav: " in fails(str(folder))
    soundfile.write(folder / "a.wav", np.zeros((0, 2)), 44100)
    assert "a.wav: no samples" in fails(str(folder))
    (tmp_path / "file").write_bytes(b"")
    assert str(tmp_path / "file") in fails("--longest", "0.01", "-o", str(tmp_path / "file"))
    assert not list(tmp_path.rglob("stages.*"))
