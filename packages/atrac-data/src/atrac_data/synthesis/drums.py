"""Three drums: bass drum, snare drum, hi-hat."""

import numpy as np

from atrac_bitstream.tables import SAMPLE_RATE
from atrac_data.synthesis.mixing import Sound, fade, seconds_of, seconds_to_samples


def kick() -> Sound:
    """Strike a bass drum: a sine that falls from 160 to 48 Hz within a tenth of a second.

    Shape:    -> [T]
    """
    time = seconds_of(seconds_to_samples(0.45))
    frequency = 48.0 + 112.0 * np.exp(-time / 0.028)
    return fade(np.sin(2.0 * np.pi * np.cumsum(frequency) / SAMPLE_RATE) * np.exp(-time / 0.13), 0.001, 0.05)


def snare(rng: np.random.Generator) -> Sound:
    """Strike a snare drum: a short tone under a longer hiss.

    Shape:    -> [T]
    """
    time = seconds_of(seconds_to_samples(0.3))
    hiss = high_passed_noise(len(time), 1200.0, rng) * np.exp(-time / 0.07)
    tone = np.sin(2.0 * np.pi * 186.0 * time) + 0.6 * np.sin(2.0 * np.pi * 331.0 * time)
    return fade(0.35 * hiss + 0.4 * tone * np.exp(-time / 0.045), 0.0005, 0.03)


def hat(rng: np.random.Generator, decay: float = 0.03) -> Sound:
    """Strike a hi-hat: hiss above 7 kHz.

    Args:
        rng: draws the hiss.
        decay: s for a fall to 37 %; 0.03 closed, 0.15 open.

    Shape:    -> [T]
    """
    time = seconds_of(seconds_to_samples(8.0 * decay))
    return fade(0.5 * high_passed_noise(len(time), 7000.0, rng) * np.exp(-time / decay), 0.0005, decay)


def high_passed_noise(n_samples: int, lowest: float, rng: np.random.Generator) -> Sound:
    """Draw noise that holds nothing below a frequency.

    Args:
        n_samples: length.
        lowest: Hz.
        rng: draws the noise.

    Shape:    -> [n_samples]
    """
    spectrum = np.fft.rfft(rng.normal(size=n_samples))
    spectrum[np.fft.rfftfreq(n_samples, 1.0 / SAMPLE_RATE) < lowest] = 0.0
    return np.fft.irfft(spectrum, n_samples)
