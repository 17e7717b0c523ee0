"""The log-spectral distance against its definition on SciPy's spectrum."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import signal as scipy_signal

from atrac_losses import log_spectral_distance

FLOAT64_TOLERANCE = 1e-9
"""Relative, in float64: rounding of the transform, against a floor 100 dB down."""

FLOAT32_DB = 2e-2
"""dB, in float32: a bin at the floor keeps 7 of 24 bits of a loud frame around it."""

Signal = NDArray[np.float64]


def naive_distance(estimate: Signal, reference: Signal, n_fft: int, hop: int, n_bins: int, floor: float) -> float:
    window = scipy_signal.get_window("hann", n_fft)
    transform = scipy_signal.ShortTimeFFT(window, hop, fs=1.0)
    frames = -(-len(reference) // hop)
    spectra = (transform.stft(x, p0=0, p1=frames)[:n_bins] / (window.sum() / 2.0) for x in (estimate, reference))
    a, b = (10.0 * np.log10(abs(x) ** 2 + 10.0 ** (floor / 10.0)) for x in spectra)
    return float(np.mean([math.sqrt(np.mean((x - y) ** 2)) for x, y in zip(a.T, b.T)]))


@pytest.fixture
def pair() -> tuple[Signal, Signal]:
    rng = np.random.default_rng(2)
    reference = rng.normal(0.0, 0.3, (2, 130))
    reference[:, 60:] *= 1e-4
    return reference + rng.normal(0.0, 0.001, reference.shape), reference


@pytest.mark.parametrize(
    ("n_fft", "hop", "f_max", "n_bins"),
    [
        (32, 8, None, 17), (32, 8, 22050.0, 17), (32, 8, 22049.0, 16), (32, 8, 5000.0, 4), (32, 8, 1.0, 1),
        (15, 4, None, 8), (32, 33, None, 17), (64, 130, None, 33),
    ],
)  # fmt: skip
@pytest.mark.parametrize("floor", [-100.0, -30.0])
def test_distance_is_as_defined(
    pair: tuple[Signal, Signal], n_fft: int, hop: int, f_max: float | None, n_bins: int, floor: float
) -> None:
    expected = [naive_distance(e, r, n_fft, hop, n_bins, floor) for e, r in zip(*pair)]
    estimate, reference = (torch.from_numpy(x) for x in pair)
    measure = partial(log_spectral_distance, reduction="none", n_fft=n_fft, hop=hop, f_max=f_max, floor=floor)
    doubles, singles = measure(estimate, reference), measure(estimate.float(), reference.float())
    np.testing.assert_allclose(doubles.numpy(), expected, rtol=FLOAT64_TOLERANCE)
    np.testing.assert_allclose(singles.numpy(), expected, rtol=0, atol=FLOAT32_DB)
