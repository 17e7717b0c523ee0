"""apps/compare_stages.py: nothing differs where nothing is changed, and what is changed is found where it was."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

import atrac_modules as m
from atrac_codec import DECODERS, ENCODERS, NNFullCodec
from atrac_codec.trace import STAGE_OF_FIELD as STAGES
from atrac_codec.trace import Tracer
from atrac_data import NAMES, SEEDS, BuiltinTeacher, render
from atrac_train.evaluation import chain
from atrac_train.evaluation.chain import alone, runs
from atrac_train.evaluation.stages import COMPARABLE, MAIN, WHOLE, Comparison, tally

FRAMES = 15
"""Of a run here, so that there are several."""
FRAMES_OF_SOUND = 40
DAMAGE = 1.01
"""Gain of a damaged stage: an error 40 dB below what is there."""


@pytest.fixture(scope="module")
def app() -> Iterator[ModuleType]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield importlib.import_module("atrac_train.evaluation.compare_stages")
    torch.set_num_threads(threads)


@pytest.fixture
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "CHUNK_FRAMES", FRAMES)


@pytest.fixture
def fails(app: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run it where it must fail; return what it says."""

    def fails(*argv: str) -> str:
        assert app.main(["-o", str(tmp_path / "out"), *argv]) == 1
        said = capsys.readouterr()
        (line,) = said.err.splitlines()
        assert line.startswith("error: ")
        assert not said.out
        return line

    return fails


@cache
def sound() -> np.ndarray:
    """Two channels, not of whole frames, with short blocks in all bands."""
    return np.concatenate([render("attacks", seconds=0.3), 0.1 * render("music", seconds=0.15)], axis=1)


@cache
def teachers() -> dict[str, Tensor]:
    """What the teacher makes of it, all at once."""
    (fields,) = BuiltinTeacher().frames([np.pad(sound(), ((0, 0), (0, 512 * FRAMES_OF_SOUND - sound().shape[1])))])
    return {name: torch.from_numpy(field) for name, field in fields.items()}


def codec(encoder: str = "bitexact", decoder: str = "bitexact") -> NNFullCodec:
    return NNFullCodec.from_pretrained(encoder, decoder)


def compared(candidate: NNFullCodec, *sounds: np.ndarray) -> Comparison:
    comparison = Comparison(codec(), candidate)
    for i, pcm in enumerate(sounds or [sound()]):
        comparison.add(f"sound {i}", [pcm])
    return comparison


def deviates(field: str, subsets: dict[str, Any]) -> bool:
    """Whether the main measure and that of all values, which may say more, have something to tell."""
    return any(subsets[name]["equal (%)"] < 100 for name in {"all", MAIN.get(field, "all")})


def deviating(fields: dict[str, Any], column: str) -> set[str]:
    return {field for field, own in fields.items() if column in own and deviates(field, own[column])}


class Damaged(nn.Module):
    """A stage whose answer is changed."""

    def __init__(self, stage: nn.Module, change: Callable[..., Any]) -> None:
        super().__init__()
        self.stage, self.change = stage, change

    def forward(self, *args: Tensor) -> Any:
        return self.change(self.stage(*args), *args)

    def scaled(self, *args: Tensor) -> Tensor:
        return self.stage.scaled(*args)


def louder(answer: Tensor, *_: Tensor) -> Tensor:
    return DAMAGE * answer


def one_idsf_more(answer: Any, spectrum: Tensor, bsm: Tensor) -> Any:
    return (answer + (torch.arange(52) >= 10)).clamp_max(63)


CHANGES: dict[str, tuple[Callable[..., Any], set[str]]] = {
    "qmf": (louder, {"bands"}),
    "qmf, silent": (lambda bands, *_: 0 * bands, {"bands"}),
    "transient": (lambda bsm, *_: 0 * bsm, {"bsm"}),
    "mdct": (louder, {"spectrum"}),
    "loudness": (lambda track, *_: m.LoudnessTrack(1e6 * track.loudness, track.end), {"loudness"}),
    "scaler": (one_idsf_more, {"idsf"}),
    "allocator": (lambda a, *_: m.Allocation(a.n_bfu, a.idwl - (a.idwl > 1).float(), a.idsf), {"idwl"}),
    "quantizer": (lambda quantized, *_: quantized - quantized.sign(), {"quantized"}),
    "dequantizer": (louder, {"dec_spectrum"}),
    "imdct": (louder, {"dec_bands"}),
    "iqmf": (louder, {"dec_pcm"}),
}
"""Role, and in which way, to what is done to its answer, and the fields that it makes of it."""


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], NNFullCodec]:
    """Put a preset and a decoder `damaged` among the others, each like `bitexact` but for one stage."""

    def damaged(way: str) -> NNFullCodec:
        role = way.split(",")[0]
        for table in (ENCODERS, DECODERS):
            row = dict(table["bitexact"])
            if role in row:
                row[role] = lambda make=row[role]: Damaged(make(), CHANGES[way][0])
            monkeypatch.setitem(table, "damaged", row)
        return codec("damaged", "damaged")

    return damaged


def test_a_teacher_is_equal_to_itself_everywhere(short_runs):
    comparison = compared(codec(), sound(), sound()[:1, :5000])
    fields = comparison.fields()
    assert set(fields) == set(STAGES)
    for field, own in fields.items():
        for column in ("chained",) if field == "units" else ("alone", "chained"):
            assert {"all", MAIN.get(field, "all"), COMPARABLE.get(field, "all")} <= set(own[column])
            for numbers in own[column].values():
                parts = [
                    numbers,
                    numbers["worst"],
                    *(numbers[band] for band in ("low", "mid", "high") if band in numbers),
                ]
                assert all(part["values"] > 0 and part["equal (%)"] == 100 for part in parts)
                measure, best = ("mean difference", 0) if field in WHOLE else ("SNR (dB)", math.inf)
                assert all(part[measure] == best for part in parts)
    modes = fields["bsm"]["chained"]["short in either"]
    assert all(modes[band]["F1"] == 1 and modes[band]["found"] > 0 for band in ("low", "mid", "high"))
    assert fields["quantized"]["chained"]["same step"]["of those with bits (%)"] == 100
    frames = 2 * FRAMES_OF_SOUND + 11
    assert fields["units"]["chained"]["all"]["values"] == frames
    assert fields["spectrum"]["alone"]["all"]["values"] == 512 * frames


def test_the_decoded_sound_is_held_against_the_original_where_it_belongs(short_runs):
    pcm = render("noise", seconds=0.4)  # loud from the first sample to the last
    original = compared(codec("neural-stages", "standard"), pcm).original()
    for column, own in (("teacher", codec()), ("candidate", codec("neural-stages", "standard"))):
        with torch.no_grad():
            decoded = own(torch.from_numpy(pcm)[None])[0].numpy().astype(np.float64)
        wanted = 10 * np.log10((pcm.astype(np.float64) ** 2).sum() / ((decoded - pcm) ** 2).sum())
        for row in (original["together"], original["mean"], original["recordings"]["sound 0"]):
            assert row[column] == pytest.approx(wanted, abs=1e-4)
            assert row["difference"] == row["candidate"] - row["teacher"]


def test_a_chain_shows_what_the_teacher_extracts_however_it_is_cut(short_runs):
    follower, shown = Tracer(codec().encoder, codec().decoder), []
    for run, _ in runs([sound()[:, :777], sound()[:, 777:]]):
        traced = follower.push(torch.from_numpy(run))
        assert traced.lead == (2 if shown else 0)
        assert (traced.loudness is None) == (not shown)
        again = alone(codec(), traced.fields, traced.lead, traced.loudness)
        assert all(torch.equal(again[name], traced.own[name]) for name in again)
        shown.append(traced.own)
    assert len(shown) > 2
    for name in STAGES.keys() - {"sent_idsf"}:
        assert torch.equal(torch.cat([fields[name] for fields in shown], 1), teachers()[name].float())


def test_runs_hold_all_samples_and_what_the_codec_needs_to_give_them_back(short_runs):
    size = 512 * FRAMES
    for samples in (1, 246, 247, size - 266, size - 265, size, size + 1, 3 * size + 7):
        pcm = np.arange(1, 2 * samples + 1, dtype=np.float32).reshape(2, -1)
        for blocks in ([pcm], np.split(pcm, [samples // 3, samples // 2], axis=1)):
            cut = list(runs(blocks))
            joined = np.concatenate([run for run, _ in cut], axis=1)
            assert all(run.shape[1] % 512 == 0 for run, _ in cut)
            assert joined.shape[1] == 512 * -(-(samples + 266) // 512)
            assert np.array_equal(joined[:, :samples], pcm)
            assert not joined[:, samples:].any()
            assert cut[-1][1] == samples
    assert not list(runs([]))
    assert not list(runs([np.zeros((2, 0), np.float32)]))


def test_sums_are_those_of_a_slow_count():
    generator = torch.Generator().manual_seed(0)
    own, truth = torch.randint(-2, 3, (2, 3, 7, 52), generator=generator).float()
    counted = torch.rand(3, 7, 52, generator=generator) < 0.5
    for mask in (None, counted):
        wanted = np.zeros((5, 3))
        for place in np.ndindex(3, 7, 52):
            a, b = float(own[place]), float(truth[place])
            if mask is None or mask[place]:
                band = 0 if place[2] < 20 else 1 if place[2] < 36 else 2
                wanted[:, band] += 1, a == b, abs(a - b), b * b, (a - b) ** 2
        assert np.array_equal(tally(own, truth, mask), wanted)


@pytest.mark.parametrize("way", CHANGES)
def test_one_damaged_stage_is_found_where_it_is(damaged, way: str):
    fields = compared(damaged(way)).fields()
    own = CHANGES[way][1]
    assert deviating(fields, "alone") == own
    before = list(STAGES)[: min(map(list(STAGES).index, own))]
    chained = deviating(fields, "chained")
    assert not chained & set(before)
    assert own | {"dec_spectrum", "dec_bands", "dec_pcm"} - set(before) <= chained
    assert ("units" in chained) == ("units" not in before)
    for field in own:
        main = MAIN.get(field, "all")
        assert deviates(field, {name: fields[field]["alone"][name] for name in ("all", main)})
        if CHANGES[way][0] is louder:
            for numbers in fields[field]["alone"]["all"], fields[field]["chained"]["all"]:
                assert numbers["SNR (dB)"] == pytest.approx(40, abs=0.01)


def test_what_is_said_of_scale_factors_is_what_was_done_to_them(damaged):
    own = compared(damaged("scaler")).fields()
    n = teachers()["idsf"].numel()
    assert own["idsf"]["alone"]["all"]["values"] == n
    assert own["idsf"]["alone"]["all"]["mean difference"] == pytest.approx(42 / 52)
    assert own["idsf"]["alone"]["all"]["low"]["equal (%)"] == 50
    scaled = own["scaled"]["chained"]
    assert 0 < scaled["same scale factors"]["values"] < scaled["all"]["values"]
    assert scaled["same scale factors"]["equal (%)"] == 100
    assert scaled["all"]["SNR (dB)"] < 20


def test_what_is_said_of_block_modes_is_what_was_done_to_them(damaged):
    fields = compared(damaged("transient")).fields()
    modes = fields["bsm"]["alone"]["short in either"]
    for band, name in enumerate(("low", "mid", "high")):
        short = int((teachers()["bsm"][..., band] > 0).sum())
        assert (modes[name]["found"], modes[name]["missed"], modes[name]["invented"]) == (0, short, 0)
        assert modes[name]["values"] == short > 0
        assert modes[name]["F1"] == modes[name]["recall"] == modes[name]["equal (%)"] == 0
        assert math.isnan(modes[name]["precision"])
    for field in ("spectrum", "dec_spectrum"):
        subsets = fields[field]["chained"]
        assert subsets["all"]["SNR (dB)"] < 20
        assert subsets["all"]["SNR (dB)"] + 5 < subsets["same block modes"]["SNR (dB)"]
        assert 0 < subsets["same block modes"]["values"] < subsets["all"]["values"]
    assert fields["spectrum"]["chained"]["same block modes"]["equal (%)"] == 100


def test_what_is_said_of_word_lengths_is_what_was_done_to_them(damaged):
    fields = compared(damaged("allocator")).fields()
    words = teachers()["idwl"]
    n, shorter = int((words > 0).sum()), int((words > 1).sum())
    for column in ("alone", "chained"):
        numbers = fields["idwl"][column]["with bits"]
        assert numbers["values"] == n
        assert numbers["mean difference"] == pytest.approx(shorter / n)
        assert numbers["equal (%)"] == pytest.approx(100 - 100 * shorter / n)
    quantized = fields["quantized"]["chained"]
    assert 0 < quantized["same step"]["values"] < quantized["with bits"]["values"]
    assert quantized["same step"]["equal (%)"] == 100  # what still has its step has its value
    share = 100 * quantized["same step"]["values"] / quantized["with bits"]["values"]
    assert quantized["same step"]["of those with bits (%)"] == pytest.approx(share)
    assert quantized["with bits"]["equal (%)"] < 100
    assert fields["quantized"]["alone"]["with bits"]["equal (%)"] == 100


def no_constant(name: str) -> float:
    raise AssertionError(f"{name} is no JSON")


def test_neural_stages_on_built_in_sounds_give_table_and_numbers(app, tmp_path, capsys):
    assert app.main(["--longest", "0.4", "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert not said.err
    for words in ("neural-stages", "bitexact", "of those with bits, %", "decoded sound to the original", *STAGES):
        assert words in said.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["stages.json"]
    report = json.loads((tmp_path / "out" / "stages.json").read_text(), parse_constant=no_constant)
    assert (report["encoder"], report["decoder"], report["teacher"]) == ("neural-stages", "neural-stages", "bitexact")
    assert (report["recordings"], report["seconds"]) == (len(NAMES), pytest.approx(0.4 * len(NAMES), abs=0.01))
    assert set(report["original"]["recordings"]) == {f"{name}-{SEEDS['test'][0]:03d}" for name in NAMES}
    fields = report["fields"]
    for name in ("bands", "spectrum", "dec_spectrum", "dec_bands", "dec_pcm"):
        assert 100 < fields[name]["alone"]["all"]["SNR (dB)"] < 160
    assert fields["bands"]["chained"] == fields["bands"]["alone"]
    assert fields["dec_pcm"]["chained"]["all"]["SNR (dB)"] < 60
    assert 75 < fields["idwl"]["alone"]["with bits"]["equal (%)"] < 100
    assert fields["units"]["chained"]["all"]["equal (%)"] < 100


def test_recordings_of_a_split_are_taken_and_cut_and_silence_is_no_trouble(app, tmp_path, capsys):
    folder, split = tmp_path / "in", {"a.wav": "test", "b/silent.wav": "test", "c.wav": "train"}
    (folder / "b").mkdir(parents=True)
    for path, pcm in zip(split, (sound(), np.zeros((1, 9000)), sound()), strict=True):
        soundfile.write(folder / path, pcm.T, 44100, "FLOAT")
    (folder / "split.json").write_text(json.dumps(split))
    halves = ("--encoder", "bitexact", "--decoder", "bitexact")
    assert app.main([str(folder), *halves, "--longest", "0.25", "-o", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "stages.json").read_text(), parse_constant=no_constant)
    assert list(report["original"]["recordings"]) == ["a.wav", "b/silent.wav"]
    assert report["seconds"] == pytest.approx(0.25 + 9000 / 44100, abs=0.001)
    assert report["fields"]["bands"]["chained"]["all"]["equal (%)"] == 100
    assert report["fields"]["bands"]["chained"]["all"]["SNR (dB)"] is None
    assert report["original"]["recordings"]["b/silent.wav"]["teacher"] is None
    assert "equal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("nowhere",), "nowhere is no folder"),
        (("--encoder", "nothing"), "preset 'nothing', allowed bitexact, reference, rd"),
        (("--decoder", "nothing"), "decoder 'nothing', allowed standard, bitexact, neural-stages"),
        (("--split", "half"), "invalid choice: 'half'"),
        (("--longest", "-1"), "--longest -1.0, allowed 0 for all, or seconds"),
        (("--longest", "1e-5"), "--longest 1e-05, allowed 0"),
        (("--longest", "nan"), "--longest nan, allowed"),
        (("--longest", "long"), "argument --longest: invalid float value: 'long'"),
        (("--device", "abacus"), "--device abacus: "),
        (("--no-such",), "unrecognized arguments: --no-such"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(fails, tmp_path, wrong: tuple[str, ...], said: str):
    assert said in fails(*wrong)
    assert not (tmp_path / "out").exists()


def test_folders_and_files_that_do_not_serve_are_named(fails, tmp_path):
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
    assert str(tmp_path / "file") in fails("-o", str(tmp_path / "file"))
    assert not list(tmp_path.rglob("stages.*"))
