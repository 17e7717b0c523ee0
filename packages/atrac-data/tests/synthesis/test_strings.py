"""The string against the loop it solves, sample by sample."""

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


def test_string_obeys_its_loop():
    """Where all delays are whole: y[n] = g (y[n - 101] + y[n - 102]) / 2 once the burst is over.

    The period of 101.5 samples is 101 and half a sample of the average; the string is plucked at 10.
    """
    frequency, decay = 44100 / 101.5, 2.0
    options = {"decay": decay, "damping": 0.5, "brightness": 1e12, "position": 10 / 101.5}
    string = pluck(frequency, 1.4, np.random.default_rng(1), **options)
    gain = 10.0 ** (-3.0 / (decay * frequency))
    n = np.arange(2000, 40000)
    np.testing.assert_allclose(string[n], gain * 0.5 * (string[n - 101] + string[n - 102]), atol=1e-9)


def test_string_decays_as_asked():
    string = pluck(220.0, 2.5, np.random.default_rng(2), decay=3.0, damping=0.1)
    wave = string * np.exp(-2j * np.pi * 220.0 * np.arange(len(string)) / 44100)
    early, late = (abs(wave[int(t * 44100) :][:8820].mean()) for t in (0.5, 2.0))
    assert 20 * np.log10(late / early) == pytest.approx(-60.0 * 1.5 / 3.0, abs=1.0)
