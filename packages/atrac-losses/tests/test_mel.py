"""The mel filterbank against librosa, and the mel distance on SciPy's spectra and librosa's filterbank."""

from functools import partial

import librosa
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import signal as scipy_signal

from atrac_losses import mel_distance, mel_filterbank

FLOAT64_TOLERANCE = 1e-9
"""Relative, in float64: rounding of the transform, against a floor 100 dB down."""

FLOAT32_DB = 2e-3
"""dB, in float32: a band adds up several bins."""


@pytest.mark.parametrize(
    ("sample_rate", "n_fft", "n_mels", "f_min", "f_max"),
    [
        (44100, 2048, 80, 0.0, None),
        (44100, 4096, 64, 30.0, 16000.0),
        (16000, 400, 40, 60.0, 7600.0),
        (48000, 63, 3, 0.0, 24000.0),
    ],
)
def test_filterbank_matches_librosa(
    sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float | None
) -> None:
    expected = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max, dtype=np.float64)
    found = mel_filterbank(sample_rate, n_fft, n_mels, f_min, f_max)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("floor", [-100.0, -30.0])
def test_distance_matches_librosa(floor: float) -> None:
    rng = np.random.default_rng(7)
    reference = rng.normal(0.0, 0.3, (2, 3000))
    reference[:, 1500:] *= 1e-4
    estimate = reference + rng.normal(0.0, 0.001, reference.shape)

    bank = librosa.filters.mel(sr=16000, n_fft=512, n_mels=30, fmin=50.0, fmax=7000.0, dtype=np.float64)
    transform = scipy_signal.ShortTimeFFT(scipy_signal.get_window("hann", 512), 100, fs=1.0)

    def level(x: NDArray[np.float64]) -> NDArray[np.float64]:
        powers = abs(transform.stft(x, p0=0, p1=30) / 128.0) ** 2  # 30 centres lie inside; the window sums to 256
        return np.asarray(10.0 * np.log10(bank @ powers * 16000 / 512 + 10.0 ** (floor / 10.0)))

    expected = abs(level(estimate) - level(reference)).mean(axis=(-1, -2))
    options = {"sample_rate": 16000, "n_fft": 512, "hop": 100, "n_mels": 30, "f_min": 50.0, "f_max": 7000.0}
    measure = partial(mel_distance, reduction="none", floor=floor, **options)
    e, r = torch.from_numpy(estimate), torch.from_numpy(reference)
    np.testing.assert_allclose(measure(e, r).numpy(), expected, rtol=FLOAT64_TOLERANCE)
    np.testing.assert_allclose(measure(e.float(), r.float()).numpy(), expected, rtol=0, atol=FLOAT32_DB)
