from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from atrac_data import render

FLATNESS = 0.7
"""dB: bands of 30 bins or more, averaged over 200 stretches, scatter by 0.1 dB; seven times that."""


def band_levels(sound: NDArray[np.float32], edges: list[float]) -> NDArray[np.float64]:
    """Mean power per hertz in each band, in dB."""
    stretches = sound[: len(sound) // 2048 * 2048].reshape(-1, 2048) * np.hanning(2048)
    power = np.mean(np.abs(np.fft.rfft(stretches)) ** 2, axis=0)
    frequencies = np.fft.rfftfreq(2048, 1 / 44100)
    bands = pairwise(edges)
    return np.array([10 * np.log10(power[(frequencies >= a) & (frequencies < b)].mean()) for a, b in bands])


@pytest.mark.parametrize("channels", [1, 2])
def test_white_noise_has_the_same_power_in_every_hertz(channels: int):
    for channel in render("noise", seconds=10.0, channels=channels):
        assert np.ptp(band_levels(channel, [100.0 + 2190.0 * i for i in range(11)])) < FLATNESS


def test_pink_noise_loses_three_decibels_per_octave():
    for channel in render("pink_noise", seconds=20.0):
        levels = band_levels(channel, [625.0 * 2**i for i in range(6)])
        np.testing.assert_allclose(np.diff(levels), -10 * np.log10(2), atol=FLATNESS)


@pytest.mark.parametrize("name", ["noise", "pink_noise"])
def test_left_and_right_are_independent(name: str):
    left, right = np.fft.rfft(render(name, seconds=10.0))[:, 1000:]  # above 100 Hz: enough bins to average
    assert abs(np.vdot(left, right)) < 0.05 * np.linalg.norm(left) * np.linalg.norm(right)
