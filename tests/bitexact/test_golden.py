"""The bit-exact chain against the golden vectors: every byte, every sample."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from atrac_bitstream import SoundUnit, pack_units, unpack_units
from atrac_bitstream.tables import BFU_AMOUNTS, WORD_LENGTHS
from atrac_codec import (
    StreamDecoder,
    build_decoder,
    build_encoder,
    from_units,
    to_aea,
    to_units,
)
from atrac_codec.outside import ffmpeg_decode
from atrac_codec.trace import trace

GOLDEN = Path(__file__).parent / "golden"
SIGNALS = {
    "clicks_stereo": 344, "dc_nyquist_mono": 86, "fullscale_square_stereo": 172, "impulse_mono": 86,
    "multitone_stereo": 258, "music_stereo": 516, "pinknoise_stereo": 258, "quiet_noise_mono": 86,
    "silence_stereo": 16, "sweep_mono": 172, "voice_mono": 172,
}  # fmt: skip
"""Sound units of each signal."""


@pytest.fixture(scope="module", params=SIGNALS)
def golden(request: pytest.FixtureRequest) -> SimpleNamespace:
    """One signal's vectors; a missing file fails."""
    with np.load(GOLDEN / f"{request.param}.npz") as file:
        values = SimpleNamespace(name=request.param, **{key: file[key] for key in file.files})
    values.wave = torch.from_numpy(values.pcm.astype(np.float32) / 32768)[None]
    return values


def test_there_are_2166_sound_units():
    assert sum(SIGNALS.values()) == 2166
    assert {path.stem for path in GOLDEN.glob("*.npz")} == set(SIGNALS)


def test_sound_units_unpack_to_the_golden_fields_and_pack_again(golden):
    fields = unpack_units(golden.sound_units)
    assert golden.sound_units[..., 0].size == SIGNALS[golden.name]
    assert np.array_equal((fields.bsm > 0) @ [1, 2, 4], golden.window_mask)
    assert np.array_equal(fields.n_bfu, np.array(BFU_AMOUNTS)[golden.bfu_amount_idx])
    assert np.array_equal(WORD_LENGTHS[fields.idwl], golden.word_length)
    carried = np.arange(52) < fields.n_bfu[..., None]
    assert np.array_equal(fields.idsf, golden.scale_factor_idx * carried)
    assert np.array_equal(fields.quantized, golden.quantized)
    assert np.array_equal(pack_units(*fields), golden.sound_units)
    for raw in golden.sound_units.reshape(-1, 212)[::11]:
        unit = SoundUnit.unpack(raw.tobytes())
        assert unit.residue == b""
        assert unit.pack() == raw.tobytes()


@torch.no_grad()
def test_preset_bitexact_writes_every_golden_sound_unit(golden):
    units = to_units(build_encoder("bitexact")(golden.wave))[0].swapaxes(0, 1)
    assert np.array_equal(units, golden.sound_units)


@torch.no_grad()
def test_every_stage_of_preset_bitexact_equals_golden(golden):
    made = trace(build_encoder("bitexact"), build_decoder("bitexact"), golden.wave)
    frames = len(golden.qmf)
    for name, field in (("qmf", "bands"), ("mdct", "spectrum"), ("scaled", "scaled")):
        assert np.array_equal(made[field][0, :, :frames].swapaxes(0, 1).numpy(), getattr(golden, name)), name
    assert np.array_equal(made["idsf"][0].swapaxes(0, 1).numpy(), golden.scale_factor_idx)


@torch.no_grad()
def test_decoder_bitexact_gives_pytracs_samples_and_ffmpegs_within_1e_6(golden):
    decoded = build_decoder("bitexact").stages(from_units(golden.sound_units).map(lambda f: f.transpose(0, 1)))
    frames = len(golden.dec_qmf)
    assert np.array_equal(decoded.spectrum[:, :frames].swapaxes(0, 1).numpy(), golden.dec_spectrum)
    assert np.array_equal(decoded.bands[:, :frames].swapaxes(0, 1).numpy(), golden.dec_qmf)
    pcm = decoded.pcm.numpy()[:, : golden.pcm_pytrac.shape[1]]
    assert np.abs(pcm - golden.pcm_pytrac).max() == 0
    assert np.abs(pcm - golden.pcm_ffmpeg).max() <= 1e-6


@pytest.mark.parametrize("decoder", ["bitexact", "standard"])
def test_decoders_are_within_1e_5_of_todays_ffmpeg_over_the_whole_file(golden, decoder: str):
    units = golden.sound_units
    outside = ffmpeg_decode(to_aea(from_units(units).map(lambda f: f.transpose(0, 1))))
    stream = StreamDecoder(build_decoder(decoder), channels=units.shape[1])
    ours = np.concatenate([stream.push(units), stream.finish()], axis=1)
    assert ours.shape == outside.shape == (units.shape[1], 512 * len(units))
    assert np.abs(ours - outside).max() <= 1e-5


@torch.no_grad()
def test_preset_reference_makes_the_same_decisions(golden):
    fields = unpack_units(to_units(build_encoder("reference")(golden.wave))[0].swapaxes(0, 1))
    assert np.array_equal((fields.bsm > 0) @ [1, 2, 4], golden.window_mask)
    idsf = build_encoder("reference").stages(golden.wave).idsf[0].swapaxes(0, 1).numpy()
    # Digital silence and tones put magnitudes on the very boundaries; recordings are at 99.99 %.
    assert (idsf == golden.scale_factor_idx).mean() > 0.995
    off = np.abs(fields.quantized - golden.quantized)
    assert (off <= 1).mean() > 0.98, "a pure tone at 16 bits a value shows every rounding"
