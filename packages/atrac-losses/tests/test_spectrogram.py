"""The short-time spectrum against a discrete Fourier transform written out, and against SciPy's."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from atrac_losses.spectrogram import power_spectrogram, spectrogram

FLOAT64_TOLERANCE = 1e-9
"""Relative, in float64: rounding of the transform."""

LEAKAGE = 1e-9
"""Amplitude (-180 dB) that rounding leaves in an empty bin."""

Signal = NDArray[np.float64]


def naive_spectrum(signal: Signal, n_fft: int, hop: int) -> NDArray[np.complex128]:
    """A discrete Fourier transform written out."""
    n, k = np.arange(n_fft), np.arange(n_fft // 2 + 1)[:, None]
    window = 0.5 - 0.5 * np.cos(2.0 * math.pi * n / n_fft)
    padded = np.concatenate([np.zeros(n_fft // 2), signal, np.zeros(n_fft)])
    frames = [padded[start : start + n_fft] for start in range(0, len(signal), hop)]
    return np.array(frames) @ (window * np.exp(-2j * math.pi * k * n / n_fft)).T / (window.sum() / 2.0)


@pytest.fixture
def pair() -> Signal:
    rng = np.random.default_rng(2)
    signals = rng.normal(0.0, 0.3, (2, 130))
    signals[:, 60:] *= 1e-4
    return signals


@pytest.mark.parametrize(("n_fft", "hop"), [(32, 8), (32, 33), (15, 4), (64, 130)])
def test_spectrogram_matches_naive_transform(pair: Signal, n_fft: int, hop: int) -> None:
    expected = np.stack([naive_spectrum(signal, n_fft, hop) for signal in pair])
    found = spectrogram(torch.from_numpy(pair), n_fft, hop)
    assert found.shape == (2, -(-130 // hop), n_fft // 2 + 1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=FLOAT64_TOLERANCE, atol=LEAKAGE)
    powers = power_spectrogram(torch.from_numpy(pair), n_fft, hop).numpy()
    np.testing.assert_allclose(powers, abs(expected) ** 2, rtol=FLOAT64_TOLERANCE, atol=LEAKAGE**2)
