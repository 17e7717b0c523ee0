"""The mel filterbank against librosa, and the mel distance on SciPy's spectra and librosa's filterbank."""

import math
from functools import partial

import librosa
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import signal as scipy_signal

from atrac_losses import MelDistance, mel_distance, mel_filterbank
from atrac_losses.mel import hertz_to_mel, mel_to_hertz

FLOAT64_TOLERANCE = 1e-9
"""Relative, in float64: rounding of the transform, against a floor 100 dB down."""

FLOAT32_DB = 2e-3
"""dB, in float32: a band adds up several bins."""


@pytest.mark.parametrize(
    ("sample_rate", "n_fft", "n_mels", "f_min", "f_max"),
    [
        (44100, 2048, 80, 0.0, None),
        (44100, 2048, 128, 0.0, None),
        (44100, 4096, 64, 30.0, 16000.0),
        (22050, 1024, 80, 0.0, 8000.0),
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


def test_mel_scale_is_linear_below_1_khz_and_a_factor_above() -> None:
    f = torch.tensor([0.0, 100.0, 999.0, 1000.0, 1001.0, 6400.0, 20000.0], dtype=torch.float64)
    np.testing.assert_allclose(hertz_to_mel(f).numpy(), librosa.hz_to_mel(f.numpy()), rtol=1e-12)
    torch.testing.assert_close(mel_to_hertz(hertz_to_mel(f)), f)


def test_bands_have_area_one() -> None:
    bank = mel_filterbank(44100, 16384, 40)
    torch.testing.assert_close(
        (bank * 44100 / 16384).sum(dim=-1), torch.ones(40, dtype=torch.float64), rtol=0.01, atol=0
    )


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


def test_distance_is_the_gain_in_db() -> None:
    hiss = torch.randn(8192, generator=torch.Generator().manual_seed(8))
    assert mel_distance(0.5 * hiss, hiss).item() == pytest.approx(20.0 * math.log10(2.0), abs=1e-3)


def test_frequencies_outside_do_not_count() -> None:
    time = torch.arange(8192, dtype=torch.float64) / 44100
    envelope = torch.hann_window(8192, dtype=torch.float64)  # no click at the ends
    low, mid, high = (envelope * torch.sin(2.0 * math.pi * f * time) for f in (100.0, 1000.0, 15000.0))
    measure = partial(mel_distance, n_mels=40, f_min=500.0, f_max=8000.0, floor=-60.0)
    assert measure(mid + low + high, mid).item() < 0.01
    assert measure(2.0 * mid, mid).item() > 0.5


def test_first_use_in_inference_mode_leaves_later_gradients_alone() -> None:
    measure = partial(mel_distance, n_fft=512, hop=128, n_mels=21)
    with torch.inference_mode():
        measure(torch.ones(600, dtype=torch.float64), torch.ones(600, dtype=torch.float64))
    estimate = torch.ones(600, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(measure(estimate, 0.5 * torch.ones(600, dtype=torch.float64)), estimate)
    assert slope.abs().max() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_fft": 1}, "n_fft = 1"),
        ({"hop": 0}, "hop = 0"),
        ({"n_mels": 0}, "n_mels = 0"),
        ({"f_min": -1.0}, "f_min = -1.0 Hz"),
        ({"f_min": 9000.0, "f_max": 8000.0}, "f_min = 9000.0 Hz, f_max = 8000.0 Hz"),
        ({"f_max": 9000.0, "sample_rate": 16000}, "<= 8000.0 Hz"),
        ({"n_fft": 512, "n_mels": 128}, "of the bands hold no bin of n_fft = 512"),
    ],
)
def test_distance_refuses_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mel_distance(torch.ones(4), torch.ones(4), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        MelDistance(**options)  # type: ignore[arg-type]
