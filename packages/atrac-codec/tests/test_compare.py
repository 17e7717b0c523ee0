from __future__ import annotations

import numpy as np
import pytest

from atrac_codec.compare import compare


def test_equal_recordings_have_no_difference(sound):
    scores = compare(sound(20_000), sound(20_000))
    assert scores["lag (samples)"] == 0
    assert scores["peak difference"] == 0
    assert scores["SNR (dB)"] > 100


@pytest.mark.parametrize("lag", [-300, 1, 266])
def test_lag_is_found(lag: int):
    wave = np.random.default_rng(2).standard_normal((2, 22_000)).astype(np.float32)
    assert compare(wave[:, 1000:21_000], wave[:, 1000 - lag : 21_000 - lag])["lag (samples)"] == lag


def test_snr_is_that_of_the_noise_added(sound):
    wave = sound(40_000)
    noise = 1e-3 * np.random.default_rng(1).standard_normal(wave.shape).astype(np.float32)
    expected = 10 * np.log10((wave.astype(float) ** 2).mean(1) / (noise.astype(float) ** 2).mean(1)).mean()
    assert compare(wave, wave + noise)["SNR (dB)"] == pytest.approx(expected, abs=0.01)


def test_lengths_may_differ_and_channels_may_not(sound):
    scores = compare(sound(20_000), sound(20_000)[:, :15_000])
    assert (scores["reference samples"], scores["decoded samples"]) == (20_000, 15_000)
    with pytest.raises(ValueError, match="2 and 1 channels"):
        compare(sound(1000), sound(1000, 1))
