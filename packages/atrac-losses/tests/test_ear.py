"""The ear model against the standard's tables, numbers worked out by hand, and loops over bins, bands and frames."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrac_losses import EarModel
from atrac_losses.ear import (
    CALIBRATION_DB,
    band_energies,
    bark_to_hertz,
    ear_weight,
    hertz_to_bark,
    internal_noise,
    masked_energies,
    masking_offset,
)
from atrac_losses.spectrogram import power_spectrogram

FLOAT64_TOLERANCE = 1e-9
"""Relative, in float64: rounding of sums of a hundred powers of 0.4."""

FLOAT32_TOLERANCE = 1e-3
"""Relative, in float32 (0.004 dB): a logarithm, a power, and a hundred products in a row."""

Array = NDArray[np.float64]


def at(function: Any, f: float) -> float:
    return float(function(torch.tensor(f, dtype=torch.float64)))


def test_weight_of_outer_and_middle_ear_by_hand() -> None:
    assert at(ear_weight, 1000.0) == pytest.approx(-2.184 + 6.5 * math.exp(-0.6 * 2.3**2) - 0.001, abs=1e-9)
    assert at(ear_weight, 1000.0) == pytest.approx(-1.9131, abs=1e-4)
    assert at(ear_weight, 3300.0) == pytest.approx(5.5860, abs=1e-3)  # -2.184 / 2.5992 + 6.5 - 0.0736
    assert at(ear_weight, 100.0) == pytest.approx(-13.770, abs=0.02)  # -2.184 * 6.3096 + 6.5 exp(-6.144)
    assert at(ear_weight, 16000.0) == pytest.approx(-21.86, abs=0.02)  # -2.184 / 9.1896 - 21.62


def test_internal_noise_by_hand() -> None:
    assert at(internal_noise, 1000.0) == pytest.approx(1.456, abs=1e-9)
    assert at(internal_noise, 100.0) == pytest.approx(1.456 * 10**0.8, abs=1e-9)
    assert at(internal_noise, 100.0) == pytest.approx(9.187, abs=1e-3)


def test_weight_and_internal_noise_share_the_threshold_in_quiet_3_to_2() -> None:
    """Their low-frequency terms are 0.6 and 0.4 of the threshold's 3.64 k ** -0.8 dB."""
    f = torch.tensor([80.0, 120.0], dtype=torch.float64)
    torch.testing.assert_close(internal_noise(f) - ear_weight(f), 3.64 * (f / 1000.0) ** -0.8, rtol=0, atol=0.02)


def test_masking_offset_is_3_db_and_grows_above_12_bark() -> None:
    bark = torch.tensor([0.0, 6.0, 12.0, 12.25, 16.0, 27.0])
    assert masking_offset(bark).tolist() == [3.0, 3.0, 3.0, 3.0625, 4.0, 6.75]


def test_bark_scale_inverts() -> None:
    f = torch.tensor([0.0, 80.0, 650.0, 18000.0], dtype=torch.float64)
    torch.testing.assert_close(bark_to_hertz(hertz_to_bark(f)), f)
    assert at(hertz_to_bark, 650.0) == pytest.approx(7.0 * math.log(1.0 + math.sqrt(2.0)), abs=1e-12)


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


def test_grouping_conserves_energy_however_fine_the_bands(generator: torch.Generator) -> None:
    signal = torch.randn(4096, generator=generator, dtype=torch.float64)
    for n_fft in (64, 1024, 2048):
        totals = [
            band_energies(signal, EarModel(n_fft=n_fft, bands_per_bark=bands)).sum(dim=-1) for bands in (0.01, 1.0, 4.0)
        ]
        torch.testing.assert_close(totals[1], totals[0], rtol=FLOAT64_TOLERANCE, atol=0)
        torch.testing.assert_close(totals[2], totals[0], rtol=FLOAT64_TOLERANCE, atol=0)


def test_energy_does_not_depend_on_the_window(generator: torch.Generator) -> None:
    hiss = 0.1 * torch.randn(65536, generator=generator, dtype=torch.float64)
    levels = [
        10.0 * band_energies(hiss, EarModel(n_fft=n, bands_per_bark=1.0, f_min=1000.0)).mean(dim=-2).log10()
        for n in (512, 2048)
    ]
    torch.testing.assert_close(levels[0], levels[1], rtol=0, atol=0.5)


def naive_bands(signal: Array, ear: EarModel) -> Array:
    """Energies bin by bin, with the weights and shares of the standard's text, frame by frame."""
    window = np.array([0.5 - 0.5 * math.cos(2.0 * math.pi * n / ear.n_fft) for n in range(ear.n_fft)])
    padded = np.concatenate([np.zeros(ear.n_fft // 2), signal, np.zeros(ear.n_fft)])
    lowest, step = 7.0 * math.asinh(ear.f_min / 650.0), ear.sample_rate / ear.n_fft
    frames = []
    for start in range(0, len(signal), ear.hop):
        spectrum = np.fft.rfft(window * padded[start : start + ear.n_fft]) / (window.sum() / 2.0)
        bands = []
        for b in range(ear.n_bands):
            low = 650.0 * math.sinh((lowest + b / ear.bands_per_bark) / 7.0)
            high = min(650.0 * math.sinh((lowest + (b + 1) / ear.bands_per_bark) / 7.0), ear.f_max)
            energy = 0.0
            for k, value in enumerate(spectrum):
                share = (min(high, (k + 0.5) * step) - max(low, (k - 0.5) * step)) / step
                if share > 0.0:
                    khz = max(k, 0.5) * step / 1000.0
                    weight = -2.184 * khz**-0.8 + 6.5 * math.exp(-0.6 * (khz - 3.3) ** 2) - 0.001 * khz**3.6
                    energy += share * abs(value) ** 2 * 10.0 ** ((weight + ear.level + CALIBRATION_DB) / 10.0)
            bands.append(energy)
        frames.append(bands)
    return np.array(frames)


def naive_spread(energies: Array, ear: EarModel) -> Array:
    """The standard's double loop over bands: each gives to each."""

    def unscaled(energies: Array) -> Array:
        n, width = len(energies), 1.0 / ear.bands_per_bark
        received = np.zeros(n)
        for giver in range(n):
            level = 10.0 * math.log10(energies[giver]) if ear.spreading == "level" else 60.0
            up = -24.0 - 230.0 / centres[giver] + 0.2 * level
            falls = [27.0 * (b - giver) * width if b < giver else up * (b - giver) * width for b in range(n)]
            total = sum(10.0 ** (fall / 10.0) for fall in falls)
            for taker in range(n):
                received[taker] += (energies[giver] / total * 10.0 ** (falls[taker] / 10.0)) ** 0.4
        return received**2.5

    centres = ear.centres.tolist()
    return np.asarray(unscaled(energies) / unscaled(np.ones(len(energies))))


def naive_mask(energies: Array, ear: EarModel) -> Array:
    left = np.zeros(ear.n_bands)
    frames = []
    for frame in energies:
        excitation = np.array(
            [e + 10.0 ** (0.1456 * (f / 1000.0) ** -0.8) for e, f in zip(frame, ear.centres.tolist())]
        )
        if ear.spreading != "none":
            excitation = naive_spread(excitation, ear)
        if ear.forward_masking:
            for b, f in enumerate(ear.centres.tolist()):
                a = math.exp(-ear.hop / (ear.sample_rate * (0.008 + 100.0 / f * 0.022)))
                left[b] = a * left[b] + (1.0 - a) * excitation[b]
                excitation[b] = max(excitation[b], left[b])
        for b in range(ear.n_bands):
            above = b / ear.bands_per_bark
            excitation[b] *= 10.0 ** (-(3.0 if above <= 12.0 else 0.25 * above) / 10.0)
        frames.append(excitation)
    return np.array(frames)


MODELS = {
    "standard": EarModel(sample_rate=48000, n_fft=2048, hop=1024),
    "coarse": EarModel(n_fft=256, hop=100, bands_per_bark=1.0),
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


def tone_energies(band: int, level: float, ear: EarModel) -> Tensor:
    energies = torch.zeros(1, ear.n_bands, dtype=torch.float64)
    energies[0, band] = 10.0 ** (level / 10.0)
    return energies


def mask_db(band: int, level: float, ear: EarModel) -> Tensor:
    """Mask of a tone re its highest point, without the offset."""
    offset = masking_offset(torch.arange(ear.n_bands, dtype=torch.float64) / ear.bands_per_bark)
    mask = (10.0 * masked_energies(tone_energies(band, level, ear), ear)[0].log10() + offset)[0]
    return mask - mask[band]


def test_louder_sounds_mask_further_up_and_not_further_down() -> None:
    ear = EarModel(forward_masking=False)
    soft, loud = mask_db(40, 70.0, ear), mask_db(40, 90.0, ear)
    for above in (4, 8):  # 1 and 2 Bark: 0.2 dB per dB and Bark
        assert loud[40 + above] - soft[40 + above] == pytest.approx(0.2 * 20.0 * above / 4.0, abs=0.5)
    assert loud[40 - 4] - soft[40 - 4] < 0.5
    assert loud[40 + 8] > loud[40 - 8] + 20.0


def test_slopes_of_fixed_spreading_do_not_depend_on_level() -> None:
    ear = EarModel(forward_masking=False, spreading="fixed")
    soft, loud = mask_db(40, 90.0, ear), mask_db(40, 120.0, ear)
    torch.testing.assert_close(loud[37:49], soft[37:49], rtol=0, atol=0.2)


def test_lower_slope_is_27_db_per_bark() -> None:
    mask = mask_db(60, 110.0, EarModel(forward_masking=False))
    assert mask[60] - mask[56] == pytest.approx(27.0, abs=0.5)


def test_without_spreading_a_band_masks_itself_alone() -> None:
    ear = EarModel(forward_masking=False, spreading="none")
    noise, _ = masked_energies(torch.zeros(1, ear.n_bands, dtype=torch.float64), ear)
    masked, _ = masked_energies(tone_energies(40, 60.0, ear), ear)
    others = torch.arange(ear.n_bands) != 40
    assert torch.equal(masked[:, others], noise[:, others])
    assert 10.0 * masked[0, 40].log10() == pytest.approx(57.0, abs=0.01)


def test_forward_masking_dies_away_with_its_time_constant() -> None:
    ear = EarModel(spreading="none", hop=441)  # 10 ms
    energies = torch.cat([tone_energies(b, 80.0, ear) for b in (3,)] + [torch.zeros(4, ear.n_bands).double()])
    masked = masked_energies(energies, ear)[0][:, 3]
    centre = ear.centres[3].item()
    decay = math.exp(-0.010 / (0.008 + 100.0 / centre * 0.022))
    loud, quiet = 1e8 * 10.0**-0.3, 10.0 ** (at(internal_noise, centre) / 10.0 - 0.3)
    for age in (1, 2, 3):
        assert masked[age].item() == pytest.approx(loud * (1.0 - decay) * decay**age + quiet, rel=0.01)
    assert torch.equal(
        masked_energies(energies[:1], ear)[0], masked_energies(energies, ear)[0][:1]
    )  # not backwards


def test_mask_of_silence_is_the_internal_noise_spread_and_lowered() -> None:
    ear = EarModel()
    mask, _ = masked_energies(torch.zeros(3, ear.n_bands, dtype=torch.float64), ear)
    unspread = internal_noise(ear.centres) - masking_offset(torch.arange(109) / 4.0)
    assert (10.0 * mask.log10() - unspread).abs().max() < 1.5
    assert torch.equal(mask[0], mask[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_fft": 1}, "n_fft = 1"),
        ({"hop": 0}, "hop = 0"),
        ({"f_min": 0.0}, "f_min = 0.0 Hz, f_max = 18000.0 Hz"),
        ({"f_min": 18000.0}, "f_min = 18000.0 Hz"),
        ({"sample_rate": 32000}, "allowed 0 < f_min < f_max <= 16000.0 Hz"),
        ({"bands_per_bark": 0.0}, "bands_per_bark = 0.0"),
        ({"bands_per_bark": math.inf}, "bands_per_bark = inf"),
        ({"level": math.nan}, "level = nan"),
        ({"spreading": "some"}, "spreading = 'some', allowed 'level', 'fixed', 'none'"),
    ],
)
def test_ear_model_refuses_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EarModel(**options)
