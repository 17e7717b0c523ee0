"""Steady noise, white and pink."""

import numpy as np

from atrac_bitstream.tables import SAMPLE_RATE
from atrac_data.synthesis.mixing import Sound


def render_noise(n_samples: int, rng: np.random.Generator) -> Sound:
    """Draw white noise, independent left and right: the same power in every hertz.

    Args:
        n_samples: length.
        rng: draws the samples.

    Shape:    -> [2, n_samples]
    """
    return rng.normal(size=(2, n_samples))


def render_pink_noise(n_samples: int, rng: np.random.Generator) -> Sound:
    """Draw pink noise, independent left and right: the same power in every octave above 20 Hz.

    Args:
        n_samples: length.
        rng: draws the samples.

    Shape:    -> [2, n_samples]
    """
    n_fft = 1 << max(n_samples, 1 << 13).bit_length()
    spectrum = np.fft.rfft(rng.normal(size=(2, n_fft)))
    frequencies = np.fft.rfftfreq(n_fft, 1.0 / SAMPLE_RATE)
    spectrum /= np.sqrt(np.maximum(frequencies, 20.0))
    spectrum[:, 0] = 0.0
    return np.fft.irfft(spectrum, n_fft)[:, :n_samples]
