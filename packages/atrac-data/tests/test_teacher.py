"""Teachers against golden vectors, slow obvious versions, and each other."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from atrac_bitstream import unpack_units
from atrac_bitstream.tables import BFU_AMOUNTS, BFU_BANDS, BFU_OFFSETS, BFU_SIZES, BFU_STARTS_SHORT, WORD_LENGTHS
from atrac_codec.outside import load_pytrac
from atrac_data import FIELDS, NAMES, BuiltinTeacher, Frames, PytracTeacher, Teacher, render


def show(teacher: Teacher, pcm: NDArray[np.float32], *frames: int) -> Frames:
    """Have a recording encoded in chunks of these numbers of frames, the last again and again, and join the results."""
    sizes = itertools.chain(frames, itertools.repeat(frames[-1]))

    def chunks(at: int = 0) -> Iterator[NDArray[np.float32]]:
        while at < pcm.shape[1]:
            size = 512 * next(sizes)
            yield pcm[:, at : at + size]
            at += size

    parts = list(teacher.frames(chunks()))
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


def sound(name: str = "attacks", frames: int = 60, channels: int = 2) -> NDArray[np.float32]:
    return render(name, seconds=frames * 512 / 44100, seed=5, channels=channels)[:, : 512 * frames]


def place(bsm: Any, bfu: int) -> slice:
    """Return where the values of a BFU stand in the spectrum."""
    start = (BFU_STARTS_SHORT if bsm[BFU_BANDS[bfu]] else BFU_OFFSETS)[bfu]
    return slice(start, start + BFU_SIZES[bfu])


@pytest.mark.parametrize("frames", [(1, 1, 1, 17), (7, 2, 11)], ids=str)
def test_builtin_equals_golden_in_every_field_whatever_the_chunks(golden, teacher, frames: tuple[int, ...]):
    whole, truth = show(teacher, golden.pcm, 20), show(teacher, golden.pcm, *frames)
    assert tuple(truth) == teacher.fields == tuple(FIELDS)
    for name, field in FIELDS.items():
        assert (truth[name].shape, truth[name].dtype) == ((len(golden.pcm), 20, *field.shape), field.dtype)
        assert np.array_equal(truth[name], whole[name]), name
    expected = {
        "pcm": golden.pcm.reshape(len(golden.pcm), -1, 512),
        "units": golden.sound_units,
        "n_bfu": np.array(BFU_AMOUNTS)[golden.bfu_amount_idx],
        "idsf": golden.scale_factor_idx,
        "quantized": golden.quantized,
        "bands": golden.qmf,
        "spectrum": golden.mdct,
        "scaled": golden.scaled,
        "dec_spectrum": golden.dec_spectrum,
        "dec_bands": golden.dec_qmf,
        "dec_pcm": golden.pcm_pytrac.reshape(len(golden.pcm), -1, 512),
    }
    for name, vectors in expected.items():
        assert np.array_equal(truth[name][:, : vectors.shape[1]], vectors), name
    assert np.array_equal((truth["bsm"] > 0) @ [1, 2, 4], golden.window_mask)
    assert np.array_equal(WORD_LENGTHS[truth["idwl"]], golden.word_length)


def test_values_beside_the_golden_ones_equal_slow_loops(teacher):
    truth = show(teacher, sound(), 60)
    assert (truth["bsm"] > 0).any()
    for channel, frame in np.ndindex(2, 60):
        own = {name: values[channel, frame] for name, values in truth.items()}
        for bfu in range(52):
            values = place(own["bsm"], bfu)
            assert own["max_energy"][bfu] == (own["spectrum"][values] ** 2).max()
            bits = WORD_LENGTHS[own["idwl"][bfu]]
            levels = np.float32(2 ** (bits - 1) - 1 if bits else 1)
            error = own["scaled"][values] - own["quantized"][values].astype(np.float32) / levels
            assert np.array_equal(own["quantization_error"][values], error if bits else 0 * error)
    assert np.array_equal(truth["loudness"][0], truth["loudness"][1])
    assert 0 < truth["loudness"].min() < truth["loudness"].max()


def test_other_chains_can_teach_too_and_sound_units_hold_the_fields():
    teacher = BuiltinTeacher("reference", "standard")
    assert teacher.name == "builtin reference, standard"
    truth = show(teacher, sound(), 60)
    fields = unpack_units(truth["units"])
    for name in ("bsm", "n_bfu", "idwl", "quantized"):
        assert np.array_equal(getattr(fields, name), truth[name]), name
    assert np.array_equal(fields.idsf, truth["idsf"] * (np.arange(52) < truth["n_bfu"][..., None]))


def test_wrong_chunks_are_refused_and_empty_ones_passed_over(teacher):
    for shape in ((512,), (3, 512), (1, 511), (0, 512)):
        with pytest.raises(ValueError, match=r"chunk is \[.*\], expected \[1 or 2, 512 F\]"):
            list(teacher.frames([np.zeros(shape, np.float32)]))
    with pytest.raises(ValueError, match=r"chunk is \[2, 512\], expected \[1, 512 F\]"):
        list(teacher.frames([np.zeros((1, 512), np.float32), np.zeros((2, 512), np.float32)]))
    shown = list(teacher.frames([np.zeros((1, 0), np.float32), np.zeros((1, 512), np.float32)]))
    assert [part["bsm"].shape for part in shown] == [(1, 1, 3)]


class Replay:
    """Stands in for pytrac's encoder or decoder: gives the builtin teacher's fields as pytrac would."""

    def __init__(self, truth: Frames) -> None:
        self._frames = ({name: values[:, i] for name, values in truth.items()} for i in itertools.count())

    def process_frame(self, frame: NDArray[np.float32]) -> SimpleNamespace:
        t = next(self._frames)
        blocks = [
            [SimpleNamespace(max_energy=e, scale_factor_index=i, values=v) for e, i, v in zip(*fields, strict=True)]
            for fields in zip(t["max_energy"], t["idsf"].tolist(), by_bfu(t, "scaled"), strict=True)
        ]
        return SimpleNamespace(
            pcm_input=frame.tolist(),
            **by_band(t["bands"]),
            window_mask=((t["bsm"] > 0) @ [1, 2, 4]).tolist(),
            mdct_specs=t["spectrum"].tolist(),
            scaled_blocks=blocks,
            bfu_amount_table_idx_used=[list(BFU_AMOUNTS).index(n) for n in t["n_bfu"]],
            bits_per_bfu=WORD_LENGTHS[t["idwl"]].tolist(),
            quantized_values=by_bfu(t, "quantized"),
            quantization_error=by_bfu(t, "quantization_error"),
            compressed_data_per_channel=[[chr(byte) for byte in unit] for unit in t["units"]],
        )

    def decode_frame_from_bitstream(self, units: list[bytes]) -> SimpleNamespace:
        t = next(self._frames)
        assert units == [unit.tobytes() for unit in t["units"]]
        spectra = t["dec_spectrum"].tolist()
        for spectrum, bsm in zip(spectra, t["bsm"], strict=True):
            for band, first, last in ((1, 128, 256), (2, 256, 512)):
                size = 32 if bsm[band] else last - first
                for start in range(first, last, size):
                    spectrum[start : start + size] = spectrum[start : start + size][::-1]
        return SimpleNamespace(mdct_specs=spectra, **by_band(t["dec_bands"]), pcm_output=t["dec_pcm"].tolist())


def by_band(bands: NDArray[np.float32]) -> dict[str, list[list[float]]]:
    return {
        "qmf_low": bands[:, :128].tolist(),
        "qmf_mid": bands[:, 128:256].tolist(),
        "qmf_hi": bands[:, 256:].tolist(),
    }


def by_bfu(fields: Frames, name: str) -> list[list[list[float]]]:
    """Give each BFU its values; those without bits have none where pytrac leaves them out."""
    left_out = fields["idwl"] == 0 if name.startswith("quant") else np.zeros((len(fields["idwl"]), 52), bool)
    return [
        [[] if out else values[place(bsm, bfu)].tolist() for bfu, out in enumerate(own)]
        for values, bsm, own in zip(fields[name], fields["bsm"], left_out, strict=True)
    ]


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


NOISE = np.random.default_rng(3).standard_normal((2, 30 * 512)).clip(-1, 1).astype(np.float32)
NOISE[:, 9 * 512 : 20 * 512] = 0


@pytest.mark.pytrac
@pytest.mark.parametrize("source", [*itertools.product(NAMES, (1, 2)), 4.0, 1e-4, 1e-7, 1e-38], ids=str)
def test_builtin_equals_a_live_pytrac_in_every_field_from_overload_to_denormals(teacher, source: Any):
    try:
        load_pytrac()
    except ImportError as error:
        pytest.skip(str(error))
    pcm = sound(source[0], 100, source[1]) if isinstance(source, tuple) else np.float32(source) * NOISE
    theirs, ours = show(PytracTeacher(), pcm, 64), show(teacher, pcm, 64)
    for field in theirs:
        assert np.array_equal(ours[field], theirs[field]), field
