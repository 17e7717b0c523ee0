"""A filter whose response changes over time."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from atrac_bitstream.tables import SAMPLE_RATE
from atrac_data.synthesis.mixing import Sound, add_at

WINDOW = 1024
HOP = 256
N_FFT = 2048
_BATCH = 256

Response = Callable[[Sound, Sound], NDArray[np.float64] | NDArray[np.complex128]]
"""Times [n, 1] in s and frequencies [K] in Hz -> gains [n, K]."""


def moving_filter(sound: Sound, response: Response) -> Sound:
    """Filter a sound with a response that depends on time.

    Hann-windowed stretches of 1024 samples, each filtered in the frequency domain and added up again: a
    response that does not change is applied exactly if it rings for less than 1024 samples.

    Args:
        sound: one channel.
        response: from times and frequencies to gains, real or complex.

    Shape:    sound [T] -> [T]
    Example:
        >>> tone = np.sin(0.1 * np.arange(3000))
        >>> bool(np.allclose(moving_filter(tone, lambda t, f: np.ones((len(t), len(f)))), tone))
        True
    """
    n_windows = -(-(len(sound) + WINDOW) // HOP)
    padded = np.zeros(n_windows * HOP + WINDOW)
    padded[WINDOW : WINDOW + len(sound)] = sound
    out = np.zeros(len(padded) + N_FFT)
    stretches = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    window = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW) / WINDOW)) * (2.0 * HOP / WINDOW)
    frequencies = np.linspace(0.0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    for first in range(0, len(stretches), _BATCH):
        batch = stretches[first : first + _BATCH] * window
        starts = (first + np.arange(len(batch))) * HOP
        times = (starts - WINDOW / 2)[:, None] / SAMPLE_RATE
        filtered = np.fft.irfft(np.fft.rfft(batch, N_FFT) * response(times, frequencies), N_FFT)
        for start, stretch in zip(starts, filtered):
            add_at(out, stretch, int(start))
    return out[WINDOW : WINDOW + len(sound)]
