"""A plucked string has the pitch that it was asked for."""

import numpy as np
import pytest

from atrac_data.synthesis.strings import pluck


@pytest.mark.parametrize("frequency", [55.0, 441.0, 1760.0])
def test_string_is_in_tune(frequency: float):
    string = pluck(frequency, 2.0, np.random.default_rng(0), damping=0.3)
    spectrum = np.abs(np.fft.rfft(string * np.hanning(len(string)), 1 << 20))
    resolution = 44100 / (1 << 20)
    around = slice(int(0.9 * frequency / resolution), int(1.1 * frequency / resolution))
    found = (around.start + int(np.argmax(spectrum[around]))) * resolution
    assert abs(found - frequency) < max(3 * frequency * (2 ** (1 / 1200) - 1), 2 * resolution)  # 3 cents
    assert np.sqrt(np.mean(string[:11025] ** 2)) == pytest.approx(0.25)
