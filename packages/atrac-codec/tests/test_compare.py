"""Comparison of two recordings: lag, measures, lengths, and what cannot be compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from atrac_codec import AudioError, compare
from atrac_codec.compare import SourceError


@pytest.fixture
def put(tmp_path: Path):
    """Write a sound to a float WAV file."""

    def put(name: str, pcm: NDArray[np.float32]) -> Path:
        soundfile.write(tmp_path / name, pcm.T, 44100, "FLOAT")
        return tmp_path / name

    return put


def test_equal_recordings_have_no_difference(put, sound):
    file = put("a.wav", sound(20_000))
    scores = compare(file, file)
    assert (scores["lag (samples)"], scores["peak difference"], scores["disturbed frames (%)"]) == (0, 0, 0)
    assert scores["SNR (dB)"] > 100


@pytest.mark.parametrize("samples", [20_000, 300_000])
@pytest.mark.parametrize("lag", [-300, 266, 4096])
def test_lag_is_found_however_long_the_recording(lag: int, samples: int, put):
    wave = np.random.default_rng(2).standard_normal((2, samples + 10_000)).astype(np.float32)
    ours, theirs = wave[:, 5000 : samples + 5000], wave[:, 5000 - lag : samples + 5000 - lag]
    assert compare(put("a.wav", ours), put("b.wav", theirs))["lag (samples)"] == lag


def test_measures_are_those_of_the_noise_added(put, sound):
    wave = sound(40_000)
    noise = 1e-3 * np.random.default_rng(1).standard_normal(wave.shape).astype(np.float32)
    expected = 10 * np.log10((wave.astype(float) ** 2).mean(1) / (noise.astype(float) ** 2).mean(1)).mean()
    scores = compare(put("a.wav", wave), put("b.wav", wave + noise))
    assert scores["SNR (dB)"] == pytest.approx(expected, abs=0.01)
    assert -30 < scores["noise-to-mask ratio (dB)"] < 30


def test_an_aea_file_is_decoded_without_its_delay_by_a_decoder_alone(put, sound, aea, tmp_path, monkeypatch):
    monkeypatch.setattr("atrac_codec.presets.build_encoder", None)
    (tmp_path / "x.aea").write_bytes(aea())
    scores = compare(put("a.wav", sound(20_000)), tmp_path / "x.aea")
    assert (scores["decoded samples"], scores["lag (samples)"]) == (20_000, 0)
    assert scores["SNR (dB)"] > 20


def test_lengths_may_differ_and_channels_may_not(put, sound):
    long, short = put("a.wav", sound(20_000)), put("b.wav", sound(20_000)[:, :15_000])
    for pair, counts in (((long, short), (20_000, 15_000)), ((short, long), (15_000, 20_000))):
        scores = compare(*pair)
        assert (scores["reference samples"], scores["decoded samples"]) == counts
    with pytest.raises(ValueError, match="2 and 1 channels"):
        compare(long, put("c.wav", sound(1000, 1)))


def test_which_recording_cannot_be_read_is_said(put, sound, tmp_path):
    good = put("a.wav", sound(1000))
    (tmp_path / "bad.wav").write_bytes(b"nothing")
    for place, pair in enumerate(((tmp_path / "bad.wav", good), (good, tmp_path / "bad.wav"))):
        with pytest.raises(SourceError) as error:
            compare(*pair)
        assert error.value.place == place
        assert isinstance(error.value.cause, AudioError)
