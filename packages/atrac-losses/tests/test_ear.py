"""The ear model against the standard's tables, numbers worked out by hand, and the text of the standard written out."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from atrac_losses import EarModel
from atrac_losses.ear import (
    CALIBRATION_DB,
    band_energies,
    masked_energies,
)
from atrac_losses.spectrogram import power_spectrogram

FLOAT64_TOLERANCE = 1e-9
"""Relative, in float64: rounding of sums of a hundred powers of 0.4."""

FLOAT32_TOLERANCE = 1e-3
"""Relative, in float32 (0.004 dB): a logarithm, a power, and a hundred products in a row."""

Array = NDArray[np.float64]


def test_bands_are_those_of_the_standard() -> None:
    ear = EarModel()
    assert ear.n_bands == 109
    edges, centres = ear.edges.tolist(), ear.centres.tolist()
    assert edges[:5] == pytest.approx([80.0, 103.445, 127.023, 150.762, 174.694], abs=5e-4)
    assert edges[-4:] == pytest.approx([16186.049, 16775.035, 17385.420, 18000.0], abs=3e-3)
    assert centres[:3] == pytest.approx([91.708, 115.216, 138.870], abs=5e-4)
    assert centres[52] == pytest.approx(2352.008, abs=5e-4)
    assert centres[-2:] == pytest.approx([17077.504, 17690.045], abs=3e-3)
    assert EarModel(bands_per_bark=2.0).n_bands == 55


def test_full_scale_sine_of_the_standard_is_at_92_db() -> None:
    tone = torch.sin(2.0 * math.pi * 1019.5 / 48000.0 * torch.arange(8192, dtype=torch.float64))
    largest = 10.0 * math.log10(power_spectrogram(tone, 2048, 1024)[4].max().item())
    assert EarModel().level + CALIBRATION_DB + largest == pytest.approx(92.0, abs=0.01)


def naive_bands(signal: Array, ear: EarModel) -> Array:
    """Energies with the weights and shares of the standard's text, band by band and frame by frame."""
    window = np.array([0.5 - 0.5 * math.cos(2.0 * math.pi * n / ear.n_fft) for n in range(ear.n_fft)])
    padded = np.concatenate([np.zeros(ear.n_fft // 2), signal, np.zeros(ear.n_fft)])
    frames = [padded[start : start + ear.n_fft] for start in range(0, len(signal), ear.hop)]
    powers = abs(np.fft.rfft(window * np.array(frames)) / (window.sum() / 2.0)) ** 2
    step, k = ear.sample_rate / ear.n_fft, np.arange(ear.n_fft // 2 + 1)
    khz = np.maximum(k, 0.5) * step / 1000.0
    weight = -2.184 * khz**-0.8 + 6.5 * np.exp(-0.6 * (khz - 3.3) ** 2) - 0.001 * khz**3.6
    heard = powers * 10.0 ** ((weight + ear.level + CALIBRATION_DB) / 10.0)
    bark = 7.0 * math.asinh(ear.f_min / 650.0) + np.arange(ear.n_bands + 1) / ear.bands_per_bark
    edges = np.minimum(650.0 * np.sinh(bark / 7.0), ear.f_max)
    shares = [np.minimum(high, (k + 0.5) * step) - np.maximum(low, (k - 0.5) * step) for low, high in pairwise(edges)]
    return np.stack([heard @ np.maximum(share / step, 0.0) for share in shares], axis=-1)


def naive_spread(energies: Array, ear: EarModel) -> Array:
    """The standard's double loop over bands: each spreads its energy over all."""

    def unscaled(energies: Array) -> Array:
        received = np.zeros(ear.n_bands)
        for giver, energy in enumerate(energies):
            level = 10.0 * math.log10(energy) if ear.spreading == "level" else 60.0
            up = -24.0 - 230.0 / ear.centres[giver].item() + 0.2 * level
            bark = (np.arange(ear.n_bands) - giver) / ear.bands_per_bark
            shape = 10.0 ** (np.where(bark < 0, 27.0, up) * bark / 10.0)
            received += (energy * shape / shape.sum()) ** 0.4
        return received**2.5

    return unscaled(energies) / unscaled(np.ones(ear.n_bands))


def naive_mask(energies: Array, ear: EarModel) -> Array:
    centre, above = ear.centres.numpy(), np.arange(ear.n_bands) / ear.bands_per_bark
    decay = np.exp(-ear.hop / (ear.sample_rate * (0.008 + 100.0 / centre * 0.022)))
    left, frames = np.zeros(ear.n_bands), []
    for frame in energies:
        excitation = frame + 10.0 ** (0.1456 * (centre / 1000.0) ** -0.8)
        if ear.spreading != "none":
            excitation = naive_spread(excitation, ear)
        if ear.forward_masking:
            left = decay * left + (1.0 - decay) * excitation
            excitation = np.maximum(excitation, left)
        frames.append(excitation * 10.0 ** (-np.where(above <= 12.0, 3.0, 0.25 * above) / 10.0))
    return np.array(frames)


MODELS = {
    "standard": EarModel(sample_rate=48000, n_fft=2048, hop=1024),
    "loud": EarModel(n_fft=512, hop=256, bands_per_bark=2.0, level=110.0),
    "fixed": EarModel(n_fft=512, hop=256, bands_per_bark=2.0, spreading="fixed"),
    "neither": EarModel(n_fft=512, hop=256, spreading="none", forward_masking=False),
    "narrow": EarModel(sample_rate=8000, n_fft=64, hop=5, f_max=3000.0, bands_per_bark=0.9),
}


@pytest.mark.parametrize("name", MODELS)
def test_bands_and_mask_match_loops_over_the_standards_text(name: str) -> None:
    ear = MODELS[name]
    rng = np.random.default_rng(11)
    n = 4 * ear.hop
    signal = 0.3 * np.sin(0.3 * np.arange(n)) + rng.normal(0.0, 0.01, n)
    signal[n // 2 :] *= 1e-3  # so that what was masks what comes
    bands = naive_bands(signal, ear)
    mask = naive_mask(bands, ear)
    found = band_energies(torch.from_numpy(signal), ear)
    np.testing.assert_allclose(found.numpy(), bands, rtol=FLOAT64_TOLERANCE)
    np.testing.assert_allclose(masked_energies(found, ear)[0].numpy(), mask, rtol=FLOAT64_TOLERANCE)
    single, _ = masked_energies(band_energies(torch.from_numpy(signal).float(), ear), ear)
    np.testing.assert_allclose(single.numpy(), mask, rtol=FLOAT32_TOLERANCE)
