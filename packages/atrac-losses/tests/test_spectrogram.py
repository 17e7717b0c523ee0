"""The short-time spectrum against a discrete Fourier transform written out, and against SciPy's."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import signal as scipy_signal

from atrac_losses.spectrogram import frames_that_count, power_spectrogram, root, spectrogram

FLOAT64_TOLERANCE = 1e-9
"""Relative, in float64: rounding of the transform."""

LEAKAGE = 1e-9
"""Amplitude (-180 dB) that rounding leaves in an empty bin."""

Signal = NDArray[np.float64]


def naive_spectrum(signal: Signal, n_fft: int, hop: int) -> NDArray[np.complex128]:
    window = np.array([0.5 - 0.5 * math.cos(2.0 * math.pi * n / n_fft) for n in range(n_fft)])
    frames = []
    for centre in range(0, len(signal), hop):
        bins = []
        for k in range(n_fft // 2 + 1):
            total = 0j
            for n in range(n_fft):
                at = centre - n_fft // 2 + n
                if 0 <= at < len(signal):
                    angle = 2.0 * math.pi * k * n / n_fft
                    total += window[n] * signal[at] * complex(math.cos(angle), -math.sin(angle))
            bins.append(total / (window.sum() / 2.0))
        frames.append(bins)
    return np.array(frames)


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


@pytest.mark.parametrize(("n_fft", "hop"), [(64, 16), (64, 24), (128, 100)])
def test_spectrogram_matches_scipy(n_fft: int, hop: int) -> None:
    signal = np.random.default_rng(3).normal(0.0, 0.3, 1000)
    window = scipy_signal.get_window("hann", n_fft)
    transform = scipy_signal.ShortTimeFFT(window, hop, fs=1.0)
    expected = transform.stft(signal, p0=0, p1=-(-1000 // hop)).T / (window.sum() / 2.0)
    found = spectrogram(torch.from_numpy(signal), n_fft, hop).numpy()
    np.testing.assert_allclose(abs(found), abs(expected), rtol=FLOAT64_TOLERANCE, atol=LEAKAGE)


def test_full_scale_sine_has_power_one_and_a_quarter_beside_it() -> None:
    tone = torch.sin(2.0 * math.pi * 100 * torch.arange(8192, dtype=torch.float64) / 2048)
    powers = power_spectrogram(tone, 2048, 512)[8, 98:103]
    torch.testing.assert_close(powers, torch.tensor([0.0, 0.25, 1.0, 0.25, 0.0], dtype=torch.float64))


def test_float32_keeps_six_digits_of_a_loud_bin(pair: Signal) -> None:
    exact = spectrogram(torch.from_numpy(pair), 32, 8)
    single = spectrogram(torch.from_numpy(pair).float(), 32, 8)
    assert single.dtype == torch.complex64
    assert (single - exact).abs().max() < 1e-6 * exact.abs().max()


def test_root_has_no_slope_at_zero() -> None:
    x = torch.tensor([0.0, 4.0], requires_grad=True)
    (slope,) = torch.autograd.grad(root(x).sum(), x)
    assert slope.tolist() == [0.0, 0.25]


def test_a_frame_counts_with_its_centre() -> None:
    valid = torch.tensor([[True] * 5 + [False] * 3, [False] * 2 + [True] * 6])
    counted = frames_that_count(valid, 4)
    assert counted is not None
    assert counted.tolist() == [[True, True], [False, True]]
    assert frames_that_count(None, 4) is None
