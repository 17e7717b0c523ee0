"""Teachers against golden vectors, slow obvious versions, and each other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from atrac_bitstream import CODEC_DELAY, unpack_units
from atrac_bitstream.tables import BFU_BANDS, BFU_OFFSETS, BFU_SIZES, BFU_STARTS_SHORT, WORD_LENGTHS
from atrac_codec.outside import load_pytrac
from atrac_data import FIELDS, NAMES, BuiltinTeacher, Frames, PytracTeacher, Teacher, render
from atrac_data.teacher import pytrac_frame


def cut(pcm: NDArray[np.float32], *frames: int) -> Iterator[NDArray[np.float32]]:
    """Cut samples into chunks of these numbers of frames, the last again and again."""
    at, sizes = 0, list(frames)
    while at < pcm.shape[1]:
        size = 512 * (sizes.pop(0) if len(sizes) > 1 else sizes[0])
        yield pcm[:, at : at + size]
        at += size


def show(teacher: Teacher, pcm: NDArray[np.float32], *frames: int) -> Frames:
    """Have a recording shown in chunks, and join them."""
    parts = list(teacher.frames(cut(pcm, *frames)))
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


def sound(name: str = "attacks", frames: int = 60, channels: int = 2) -> NDArray[np.float32]:
    return render(name, seconds=frames * 512 / 44100, seed=5, channels=channels)[:, : 512 * frames]


@pytest.mark.parametrize("frames", [(20,), (1, 1, 1, 17), (7, 2, 11)], ids=str)
def test_builtin_equals_golden_in_every_field_whatever_the_chunks(golden, teacher, frames: tuple[int, ...]):
    truth = show(teacher, golden.pcm, *frames)
    assert np.array_equal(truth["pcm"].reshape(golden.pcm.shape), golden.pcm)
    assert np.array_equal(truth["units"], golden.sound_units)
    assert np.array_equal((truth["bsm"] > 0) @ [1, 2, 4], golden.window_mask)
    assert np.array_equal(truth["n_bfu"], np.array([20, 28, 32, 36, 40, 44, 48, 52])[golden.bfu_amount_idx])
    assert np.array_equal(WORD_LENGTHS[truth["idwl"]], golden.word_length)
    assert np.array_equal(truth["idsf"], golden.scale_factor_idx)
    assert np.array_equal(truth["quantized"], golden.quantized)
    for field, vectors in {
        "bands": golden.qmf,
        "spectrum": golden.mdct,
        "scaled": golden.scaled,
        "dec_spectrum": golden.dec_spectrum,
        "dec_bands": golden.dec_qmf,
    }.items():
        assert np.array_equal(truth[field][:, : vectors.shape[1]], vectors), field
    decoded = truth["dec_pcm"].reshape(golden.pcm.shape)
    assert np.array_equal(decoded[:, : golden.pcm_pytrac.shape[1]], golden.pcm_pytrac)


@pytest.mark.parametrize("channels", [1, 2])
def test_chunks_make_no_difference_in_any_field(teacher, channels: int):
    pcm = sound(frames=24, channels=channels)
    whole = show(teacher, pcm, 24)
    assert (whole["bsm"] > 0).any()
    for frames in ((1, 1, 1, 2, 3, 16), (2, 1, 13), (17,)):
        parts = show(teacher, pcm, *frames)
        assert all(np.array_equal(parts[name], whole[name]) for name in FIELDS)


def test_fields_have_their_shapes_and_types(teacher):
    assert teacher.fields == tuple(FIELDS)
    truth = show(teacher, sound(frames=5), 3)
    for name, field in FIELDS.items():
        assert truth[name].shape == (2, 5, *field.shape)
        assert truth[name].dtype == field.dtype


def test_values_beside_the_golden_ones_equal_slow_loops(teacher):
    truth = show(teacher, sound(), 60)
    assert (truth["bsm"] > 0).any()
    for channel, frame in np.ndindex(2, 60):
        own = {name: values[channel, frame] for name, values in truth.items()}
        for bfu in range(52):
            start = (BFU_STARTS_SHORT if own["bsm"][BFU_BANDS[bfu]] else BFU_OFFSETS)[bfu]
            values = slice(start, start + BFU_SIZES[bfu])
            assert own["max_energy"][bfu] == (own["spectrum"][values] ** 2).max()
            bits = WORD_LENGTHS[own["idwl"][bfu]]
            levels = np.float32(2 ** (bits - 1) - 1 if bits else 1)
            error = own["scaled"][values] - own["quantized"][values].astype(np.float32) / levels
            assert np.array_equal(own["quantization_error"][values], error if bits else 0 * error)
    assert np.array_equal(truth["loudness"][0], truth["loudness"][1])
    assert 0 < truth["loudness"].min() < truth["loudness"].max()


def test_sound_units_hold_the_fields(teacher):
    truth = show(teacher, sound(), 60)
    fields = unpack_units(truth["units"])
    carried = np.arange(52) < truth["n_bfu"][..., None]
    for name in ("bsm", "n_bfu", "idwl", "quantized"):
        assert np.array_equal(getattr(fields, name), truth[name]), name
    assert np.array_equal(fields.idsf, truth["idsf"] * carried)


@pytest.mark.parametrize(("name", "snr"), [("music", 20.0), ("noise", 4.0), ("attacks", 10.0)])
def test_what_comes_out_is_what_went_in_266_samples_later(teacher, name: str, snr: float):
    pcm = sound(name, 90)
    out = show(teacher, pcm, 32)["dec_pcm"].reshape(2, -1)[:, CODEC_DELAY:]
    error = out - pcm[:, :-CODEC_DELAY]
    assert 10 * np.log10(np.mean(pcm**2) / np.mean(error**2)) > snr


def test_silence_gives_silence(teacher):
    truth = show(teacher, np.zeros((1, 2048), np.float32), 4)
    assert not truth["dec_pcm"].any()
    assert not truth["quantized"].any()


def test_other_chains_can_teach_too():
    teacher = BuiltinTeacher("reference", "standard")
    assert teacher.name == "builtin reference, standard"
    assert show(teacher, sound(frames=4), 4)["units"].shape == (2, 4, 212)


def test_wrong_chunks_are_refused_and_empty_ones_passed_over(teacher):
    for chunk in (np.zeros(512), np.zeros((3, 512)), np.zeros((1, 511)), np.zeros((0, 512))):
        with pytest.raises(ValueError, match=r"chunk is \[.*\], expected \[1 or 2, 512 F\]"):
            list(teacher.frames([chunk.astype(np.float32)]))
    with pytest.raises(ValueError, match=r"chunk is \[2, 512\], expected \[1, 512 F\]"):
        list(teacher.frames([np.zeros((1, 512), np.float32), np.zeros((2, 512), np.float32)]))
    assert list(teacher.frames([])) == []
    shown = list(teacher.frames([np.zeros((1, 0), np.float32), np.zeros((1, 512), np.float32)]))
    assert [part["bsm"].shape for part in shown] == [(1, 1, 3)]


def test_chunks_may_be_read_only_and_are_not_changed(teacher):
    pcm = sound(frames=4)
    kept = pcm.copy()
    pcm.flags.writeable = False
    show(teacher, pcm, 2)
    assert np.array_equal(pcm, kept)


def test_without_pytrac_its_repository_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytrac", None)
    with pytest.raises(ImportError, match=r"pytrac is not installed; it is built from github\.com/aynik/pytrac"):
        PytracTeacher()


def test_the_ticket_library_of_that_name_is_told_apart(monkeypatch, tmp_path: Path):
    (tmp_path / "pytrac").mkdir()
    (tmp_path / "pytrac" / "__init__.py").write_text("class Ticket: ...\n")
    monkeypatch.delitem(sys.modules, "pytrac", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"is no codec but another pytrac; .* github\.com/aynik/pytrac"):
        PytracTeacher()
    del sys.modules["pytrac"]


class Replay:
    """Stands in for pytrac's encoder or decoder: gives the builtin teacher's fields as pytrac would."""

    def __init__(self, truth: Frames) -> None:
        self._truth, self._frame = truth, -1

    def _next(self) -> tuple[range, dict[str, Any]]:
        self._frame += 1
        return range(len(self._truth["bsm"])), {name: values[:, self._frame] for name, values in self._truth.items()}

    def process_frame(self, frame: NDArray[np.float32]) -> SimpleNamespace:
        channels, t = self._next()
        return SimpleNamespace(
            pcm_input=frame.tolist(),
            qmf_low=t["bands"][:, :128].tolist(),
            qmf_mid=t["bands"][:, 128:256].tolist(),
            qmf_hi=t["bands"][:, 256:].tolist(),
            window_mask=((t["bsm"] > 0) @ [1, 2, 4]).tolist(),
            mdct_specs=t["spectrum"].tolist(),
            scaled_blocks=[
                [
                    SimpleNamespace(max_energy=float(energy), scale_factor_index=int(idsf), values=values)
                    for energy, idsf, values in zip(t["max_energy"][c], t["idsf"][c], gathered(t, "scaled", c))
                ]
                for c in channels
            ],
            bfu_amount_table_idx_used=[[20, 28, 32, 36, 40, 44, 48, 52].index(n) for n in t["n_bfu"]],
            bits_per_bfu=WORD_LENGTHS[t["idwl"]].tolist(),
            quantized_values=[gathered(t, "quantized", c) for c in channels],
            quantization_error=[gathered(t, "quantization_error", c) for c in channels],
            compressed_data_per_channel=[[chr(byte) for byte in unit] for unit in t["units"]],
        )

    def decode_frame_from_bitstream(self, units: list[bytes]) -> SimpleNamespace:
        channels, t = self._next()
        assert units == [unit.tobytes() for unit in t["units"]]
        spectra = t["dec_spectrum"].tolist()
        for c in channels:
            for band, first, last, short in ((1, 128, 256, 32), (2, 256, 512, 32)):
                size = short if t["bsm"][c][band] else last - first
                for start in range(first, last, size):
                    spectra[c][start : start + size] = spectra[c][start : start + size][::-1]
        return SimpleNamespace(
            mdct_specs=spectra,
            qmf_low=t["dec_bands"][:, :128].tolist(),
            qmf_mid=t["dec_bands"][:, 128:256].tolist(),
            qmf_hi=t["dec_bands"][:, 256:].tolist(),
            pcm_output=t["dec_pcm"].tolist(),
        )


def gathered(fields: dict[str, Any], name: str, channel: int) -> list[list[float]]:
    """Give each BFU its values; those without bits have none where pytrac leaves them out."""
    out = []
    for bfu in range(52):
        start = (BFU_STARTS_SHORT if fields["bsm"][channel][BFU_BANDS[bfu]] else BFU_OFFSETS)[bfu]
        values = fields[name][channel][start : start + BFU_SIZES[bfu]].tolist()
        out.append([] if name.startswith("quant") and not fields["idwl"][channel][bfu] else values)
    return out


@pytest.mark.parametrize("channels", [1, 2])
def test_pytracs_intermediates_come_to_their_places(teacher, monkeypatch, channels: int):
    pcm = sound(frames=30, channels=channels)
    truth = show(teacher, pcm, 30)
    assert (truth["bsm"] > 0).any()
    stand_in = ModuleType("pytrac")
    stand_in.FrameProcessor = stand_in.FrameDecoder = lambda channels: Replay(truth)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pytrac", stand_in)
    pytrac = PytracTeacher()
    shown = show(pytrac, pcm, 7, 23)
    assert set(shown) == set(pytrac.fields) == set(FIELDS) - {"loudness"}
    for name, values in shown.items():
        assert values.dtype == FIELDS[name].dtype
        assert np.array_equal(values, truth[name]), name


@pytest.fixture
def pytrac() -> ModuleType:
    try:
        return load_pytrac()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.pytrac
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_builtin_equals_a_live_pytrac_in_every_field(pytrac, teacher, name: str, channels: int):
    pcm = sound(name, 100, channels)
    theirs, ours = show(PytracTeacher(), pcm, 64), show(teacher, pcm, 64)
    for field in theirs:
        assert np.array_equal(ours[field], theirs[field]), field


@pytest.mark.pytrac
@pytest.mark.parametrize("gain", [4.0, 1e-4, 1e-7, 1e-38])
def test_builtin_equals_a_live_pytrac_from_overload_to_denormals(pytrac, teacher, gain: float):
    pcm = gain * np.random.default_rng(3).standard_normal((2, 30 * 512)).clip(-1, 1).astype(np.float32)
    pcm[:, 9 * 512 : 20 * 512] = 0
    theirs, ours = show(PytracTeacher(), pcm, 64), show(teacher, pcm, 64)
    for field in theirs:
        assert np.array_equal(ours[field], theirs[field]), field


@pytest.mark.pytrac
def test_pytracs_decoder_shows_nothing_else_that_the_sound_unit_does_not_hold(pytrac):
    pcm = sound(frames=20)
    encoder, decoder = pytrac.FrameProcessor(2), pytrac.FrameDecoder(2)
    second_encoder, second_decoder = pytrac.FrameProcessor(2), pytrac.FrameDecoder(2)
    for frame in cut(pcm, 1):
        frame = np.ascontiguousarray(frame)
        truth = pytrac_frame(encoder, decoder, frame)
        units = [[ord(b) & 255 for b in u] for u in second_encoder.process_frame(frame).compressed_data_per_channel]
        d = second_decoder.decode_frame_from_bitstream([bytes(unit) for unit in units])
        for c in range(2):
            n = truth["n_bfu"][c]
            assert d.bits_per_bfu[c][:n] == truth["idwl"][c][:n]
            assert d.scale_factor_indices[c][:n] == truth["idsf"][c][:n]
            assert d.block_size_log_count[c] == truth["bsm"][c]
            assert d.window_mask[c] == sum(1 << band for band in range(3) if truth["bsm"][c][band])
            for bfu, values in enumerate(d.parsed_quantized_values[c][:n]):
                start = (BFU_STARTS_SHORT if truth["bsm"][c][BFU_BANDS[bfu]] else BFU_OFFSETS)[bfu]
                place = slice(start, start + BFU_SIZES[bfu])
                assert np.array_equal(values or np.zeros(BFU_SIZES[bfu]), truth["quantized"][c][place])
