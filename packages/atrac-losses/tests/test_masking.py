"""The noise-to-mask ratio behaves as hearing does, and as the standard says."""

import math

import pytest
import torch
from torch import Tensor

from atrac_losses import EarModel, nmr, noise_to_mask
from atrac_losses.ear import hertz_to_bark, threshold_in_quiet

RATE = 44100
SAMPLES = 22050
EAR = EarModel()


def tone(f: float, level: float, n: int = SAMPLES) -> Tensor:
    """A sine at a level in dB SPL of the default ear, whose full scale is at 92 dB."""
    return 10.0 ** ((level - 92.0) / 20.0) * torch.sin(2.0 * math.pi * f / RATE * torch.arange(n, dtype=torch.float64))


def hiss(seed: int, level: float = 0.0, n: int = SAMPLES) -> Tensor:
    """White noise of a level in dBFS."""
    return 10.0 ** (level / 20.0) * torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def narrow_hiss(f: float, level: float, seed: int = 3) -> Tensor:
    """Noise 100 Hz wide around f, of a level in dBFS."""
    spectrum = torch.fft.rfft(hiss(seed))
    bins = torch.arange(len(spectrum)) * RATE / SAMPLES
    noise = torch.fft.irfft(torch.where((bins - f).abs() < 50.0, spectrum, torch.zeros_like(spectrum)), SAMPLES)
    return noise * 10.0 ** (level / 20.0) / noise.square().mean().sqrt()


@pytest.fixture
def music() -> Tensor:
    """A chord with a beat: tones over faint noise, and every quarter of a second a burst."""
    time = torch.arange(SAMPLES, dtype=torch.float64) / RATE
    chord = sum((tone(f, 75.0) for f in (220.0, 277.2, 329.6, 440.0, 880.0, 3520.0)), torch.zeros_like(time))
    beat = hiss(1, -20.0) * torch.exp(-(time % 0.25) / 0.03)
    return chord + beat + hiss(2, -70.0)


@pytest.mark.parametrize("level", [-80.0, -60.0, -40.0])
def test_6_db_of_noise_are_6_db_of_ratio(music: Tensor, level: float) -> None:
    first = nmr(music + hiss(4, level), music).item()
    second = nmr(music + hiss(4, level + 6.0), music).item()
    assert second - first == pytest.approx(6.0, abs=0.1)


def test_noise_near_a_loud_neighbour_counts_less_than_far_away() -> None:
    reference = tone(1000.0, 85.0)
    ratios = {f: nmr(reference + narrow_hiss(f, -60.0), reference).item() for f in (500.0, 1150.0, 2000.0, 5000.0)}
    assert ratios[1150.0] < ratios[2000.0] < ratios[5000.0]
    assert ratios[5000.0] > ratios[1150.0] + 20.0
    assert ratios[500.0] > ratios[2000.0] + 3.0  # masks reach up further than down


def test_a_burst_hides_what_follows_it_for_a_while() -> None:
    time = torch.arange(SAMPLES)
    burst = torch.where((time >= 5000) & (time < 7000), hiss(5, -10.0), torch.zeros(SAMPLES, dtype=torch.float64))
    ears = {on: EarModel(n_fft=256, hop=64, forward_masking=on) for on in (True, False)}

    def ratio(start: int, on: bool) -> float:
        noise = torch.where((time >= start) & (time < start + 256), hiss(6, -60.0), torch.zeros_like(burst))
        return nmr(burst + noise, burst, ear=ears[on]).item()

    assert ratio(7200, True) < ratio(7600, True) - 3.0
    assert ratio(7600, True) < ratio(12000, True) - 3.0
    assert ratio(7600, True) < ratio(7600, False) - 3.0
    assert ratio(4000, True) == pytest.approx(ratio(4000, False), abs=0.01)  # before the burst


@pytest.mark.parametrize("f", [150.0, 1000.0, 3300.0, 12000.0])
def test_threshold_in_quiet(f: float) -> None:
    """20 dB below it nothing is disturbed, 20 above all is."""
    threshold = threshold_in_quiet(torch.tensor(f)).item()
    silence, inner = torch.zeros(SAMPLES, dtype=torch.float64), torch.arange(SAMPLES) > 2048
    window = torch.hann_window(SAMPLES, dtype=torch.float64).clamp(max=0.1) * 10.0  # no click at the ends
    found = {x: noise_to_mask(window * tone(f, threshold + x), silence, inner) for x in (-20.0, 0.0, 20.0)}
    assert found[-20.0].disturbed.item() == 0.0
    assert found[20.0].disturbed.item() > 0.8  # all but the faded ends
    assert -3.0 < found[0.0].by_band.max().item() < 9.0


def test_noise_is_found_in_its_band_and_its_frame() -> None:
    reference = hiss(7, -40.0)
    noise = torch.where((torch.arange(SAMPLES) - 11264).abs() < 500, hiss(8, -40.0), torch.zeros_like(reference))
    assert noise_to_mask(reference + noise, reference).by_frame.argmax() == 11264 // EAR.hop
    for f in (200.0, 12000.0):
        result = noise_to_mask(reference + narrow_hiss(f, -50.0), reference)
        assert result.by_band.shape == (EAR.n_bands,)
        centre = EAR.centres[result.noise.mean(dim=0).argmax()]
        assert abs(hertz_to_bark(centre) - hertz_to_bark(torch.tensor(f))) < 0.5
        worst = EAR.centres[result.by_band.argmax()]
        assert abs(hertz_to_bark(worst) - hertz_to_bark(torch.tensor(f))) < 0.8


def test_three_noise_levels_are_ranked(music: Tensor) -> None:
    results = [noise_to_mask(music + hiss(9, level), music) for level in (-90.0, -65.0, -30.0)]
    ratios = [r.ratio.item() for r in results]
    assert ratios[0] < ratios[1] - 20.0 < ratios[2] - 40.0
    shares = [r.disturbed.item() for r in results]
    assert 0.0 == shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.9
    worst = 10.0 * (results[1].noise / results[1].mask).amax(dim=-1).log10()
    assert shares[1] == pytest.approx((worst >= 1.5).double().mean().item())


def test_padding_counts_in_no_reading(music: Tensor) -> None:
    short = 14000
    estimate = music + hiss(9, -50.0)
    mask = torch.arange(SAMPLES) < short
    padded = noise_to_mask(estimate.masked_fill(~mask, float("nan")), music, mask)
    cropped = noise_to_mask(estimate[:short], music[:short])
    for name in ("ratio", "by_band", "disturbed"):
        torch.testing.assert_close(getattr(padded, name), getattr(cropped, name))
    torch.testing.assert_close(padded.by_frame[: cropped.by_frame.shape[0]], cropped.by_frame)


def test_ratio_depends_on_the_level_of_playback() -> None:
    reference, estimate = hiss(7, -60.0), hiss(7, -60.0) + hiss(9, -90.0)
    quiet, loud = (nmr(estimate, reference, ear=EarModel(level=level)).item() for level in (40.0, 92.0))
    assert quiet < loud - 3.0  # what is near the threshold is hidden by it


def test_reference_without_gradient_keeps_nothing_of_the_spreading() -> None:
    """What training needs is the gradient of the noise: one step back, whatever the mask took."""
    estimate = hiss(1, n=4096).requires_grad_()
    result = noise_to_mask(estimate, hiss(2, n=4096))
    assert result.noise.requires_grad
    assert not result.mask.requires_grad
