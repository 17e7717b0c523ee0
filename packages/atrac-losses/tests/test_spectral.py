"""The log-spectral distance against a loop over the bins of SciPy's spectrum."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import signal as scipy_signal

from atrac_losses import LogSpectralDistance, log_spectral_distance

FLOAT64_TOLERANCE = 1e-9
"""Relative, in float64: rounding of the transform, against a floor 100 dB down."""

FLOAT32_DB = 2e-2
"""dB, in float32: a bin at the floor keeps 7 of 24 bits of a loud frame around it."""

Signal = NDArray[np.float64]


def naive_power(signal: Signal, n_fft: int, hop: int) -> NDArray[np.float64]:
    """SciPy's, which another test holds against a transform written out."""
    window = scipy_signal.get_window("hann", n_fft)
    transform = scipy_signal.ShortTimeFFT(window, hop, fs=1.0)
    return np.asarray(abs(transform.stft(signal, p0=0, p1=-(-len(signal) // hop)).T / (window.sum() / 2.0)) ** 2)


def naive_distance(estimate: Signal, reference: Signal, n_fft: int, hop: int, n_bins: int, floor: float) -> float:
    a, b = naive_power(estimate, n_fft, hop), naive_power(reference, n_fft, hop)
    per_frame = []
    for frame in range(len(a)):
        squares = 0.0
        for k in range(n_bins):
            small = 10.0 ** (floor / 10.0)
            squares += (10.0 * math.log10(a[frame, k] + small) - 10.0 * math.log10(b[frame, k] + small)) ** 2
        per_frame.append(math.sqrt(squares / n_bins))
    return sum(per_frame) / len(per_frame)


@pytest.fixture
def pair() -> tuple[Signal, Signal]:
    rng = np.random.default_rng(2)
    reference = rng.normal(0.0, 0.3, (2, 130))
    reference[:, 60:] *= 1e-4
    return reference + rng.normal(0.0, 0.001, reference.shape), reference


@pytest.mark.parametrize(("f_max", "n_bins"), [(None, 17), (22050.0, 17), (22049.0, 16), (5000.0, 4), (1.0, 1)])
@pytest.mark.parametrize("floor", [-100.0, -30.0])
def test_distance_matches_a_loop(pair: tuple[Signal, Signal], f_max: float | None, n_bins: int, floor: float) -> None:
    expected = [naive_distance(e, r, 32, 8, n_bins, floor) for e, r in zip(*pair)]
    estimate, reference = (torch.from_numpy(x) for x in pair)
    measure = partial(log_spectral_distance, reduction="none", n_fft=32, hop=8, f_max=f_max, floor=floor)
    doubles, singles = measure(estimate, reference), measure(estimate.float(), reference.float())
    np.testing.assert_allclose(doubles.numpy(), expected, rtol=FLOAT64_TOLERANCE)
    np.testing.assert_allclose(singles.numpy(), expected, rtol=0, atol=FLOAT32_DB)


def test_distance_is_the_gain_in_db() -> None:
    hiss = torch.randn(8192, generator=torch.Generator().manual_seed(3))
    assert log_spectral_distance(0.5 * hiss, hiss).item() == pytest.approx(20.0 * math.log10(2.0), abs=1e-3)


def test_distance_is_symmetric(pair: tuple[Signal, Signal]) -> None:
    estimate, reference = (torch.from_numpy(x) for x in pair)
    torch.testing.assert_close(log_spectral_distance(estimate, reference), log_spectral_distance(reference, estimate))


def test_distance_ignores_what_lies_below_the_floor() -> None:
    quiet = 1e-7 * torch.randn(8192, generator=torch.Generator().manual_seed(4))
    assert log_spectral_distance(quiet, torch.zeros(8192)).item() < 0.01


def test_f_max_leaves_out_what_lies_above() -> None:
    time = torch.arange(8192, dtype=torch.float64) / 44100
    low, high = torch.sin(2.0 * math.pi * 500 * time), torch.sin(2.0 * math.pi * 15000 * time)
    envelope = torch.hann_window(8192, dtype=torch.float64)  # no click at the ends
    estimate, reference = envelope * low, envelope * (low + high)
    assert log_spectral_distance(estimate, reference, f_max=12000.0).item() < 0.01
    assert log_spectral_distance(estimate, reference).item() > 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_fft": 1}, "n_fft = 1"),
        ({"hop": 0}, "hop = 0"),
        ({"f_max": 0.0}, "f_max = 0.0 Hz, allowed above 0 and up to 22050.0 Hz"),
        ({"f_max": 9000.0, "sample_rate": 16000}, "up to 8000.0 Hz"),
    ],
)
def test_distance_refuses_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_spectral_distance(torch.ones(4), torch.ones(4), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        LogSpectralDistance(**options)  # type: ignore[arg-type]
