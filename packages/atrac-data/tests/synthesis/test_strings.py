"""The string against the loop it solves, sample by sample."""

import numpy as np
import pytest

from atrac_data import SAMPLE_RATE
from atrac_data.synthesis.strings import pluck

CENT = 2 ** (1 / 1200)


@pytest.mark.parametrize("frequency", [55.0, 220.0, 441.0, 1000.0, 1760.0])
def test_string_is_in_tune(frequency: float) -> None:
    string = pluck(frequency, 2.0, np.random.default_rng(0), damping=0.3)
    spectrum = np.abs(np.fft.rfft(string * np.hanning(len(string)), 1 << 20))
    resolution = SAMPLE_RATE / (1 << 20)
    around = slice(int(0.9 * frequency / resolution), int(1.1 * frequency / resolution))
    found = (around.start + int(np.argmax(spectrum[around]))) * resolution
    assert abs(found - frequency) < max(3 * frequency * (CENT - 1), 2 * resolution)  # 3 cents


def test_string_obeys_its_loop() -> None:
    """Where all delays are whole: y[n] = g (y[n - 101] + y[n - 102]) / 2 once the burst is over.

    The period of 101.5 samples is 101 and half a sample of the average; the string is plucked at 10.
    """
    frequency, decay = SAMPLE_RATE / 101.5, 2.0
    string = pluck(
        frequency,
        1.4,
        np.random.default_rng(1),
        decay=decay,
        damping=0.5,
        brightness=1e12,
        position=10 / 101.5,
    )
    gain = 10.0 ** (-3.0 / (decay * frequency))
    n = np.arange(2000, 40000)
    expected = gain * 0.5 * (string[n - 101] + string[n - 102])
    np.testing.assert_allclose(string[n], expected, atol=1e-9)


def test_string_decays_as_asked() -> None:
    string = pluck(220.0, 2.5, np.random.default_rng(2), decay=3.0, damping=0.1)
    time = np.arange(len(string)) / SAMPLE_RATE
    wave = string * np.exp(-2j * np.pi * 220.0 * time)
    early, late = (abs(wave[int(t * SAMPLE_RATE) :][: SAMPLE_RATE // 5].mean()) for t in (0.5, 2.0))
    assert 20 * np.log10(late / early) == pytest.approx(-60.0 * 1.5 / 3.0, abs=1.0)


def test_string_has_overtones_that_fall() -> None:
    string = pluck(220.0, 1.0, np.random.default_rng(3))
    assert np.sqrt(np.mean(string[: SAMPLE_RATE // 4] ** 2)) == pytest.approx(0.25)
    spectrum = np.abs(np.fft.rfft(string * np.hanning(len(string))))
    assert spectrum[218:223].max() > 100 * spectrum[320:340].max()
    assert spectrum[200:2000].max() > 10 * spectrum[8000:12000].max()
