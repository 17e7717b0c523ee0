from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from atrac_bitstream.tables import BANDS, SAMPLE_RATE
from atrac_modules import MaskingModel, ReferenceMdct, ReferenceQmf

SHORT = torch.tensor([2.0, 2.0, 3.0])
HERTZ = (np.arange(512) + 0.5) * SAMPLE_RATE / 1024
BARK = 7 * np.arcsinh(HERTZ / 650)
UP, DOWN, SLOPE_TOLERANCE = -10.0, 25.0, 3.0
"""dB per Bark. The tolerance is for bands of half a Bark, which the slope is measured over."""
TONAL, TONAL_TOLERANCE = 6.0, 0.5
"""dB. The tolerance is for energies that do not fall into bands evenly."""


def decibel(x: Tensor) -> Tensor:
    return 10 * x.log10()


def analyse(pcm: Tensor, short: bool = False) -> tuple[Tensor, Tensor]:
    """Return spectrum and block size modes of mono PCM [T] -> [F, 512], [F, 3]."""
    bands = ReferenceQmf()(pcm[None])[0]
    bsm = SHORT.expand(len(bands), 3) * short
    return ReferenceMdct()(bands, bsm), bsm


def sine(hertz: float, frames: int = 12) -> Tensor:
    return torch.sin(2 * math.pi * hertz / SAMPLE_RATE * torch.arange(512 * frames, dtype=torch.float64)).float()


@pytest.fixture
def quiet() -> Tensor:
    """The threshold in quiet [512]."""
    return MaskingModel()(torch.zeros(1, 512), torch.zeros(1, 3))[0]


def test_masking_model_keeps_the_contract_of_a_stage(keeps_contract, random_bsm, generator):
    spectrum = torch.randn(3, 8, 512, generator=generator) * 10.0 ** -torch.arange(8.0)[:, None]
    inputs = spectrum, random_bsm(3, 8)
    keeps_contract(MaskingModel(), inputs, ((8, 512),))
    assert (MaskingModel()(*inputs) > 0).all()


def test_in_silence_the_threshold_is_that_in_quiet(quiet):
    # Coefficient 76 lies in the band from 16 to 16.5 Bark; by hand at its middle, 650 sinh(16.25 / 7) = 3280 Hz:
    # 3.64 x 3.28 ** -0.8 - 6.5 exp(-0.6 x 0.02 ** 2) + 0.001 x 3.28 ** 3.6 = 1.407 - 6.498 + 0.072 = -5.019 dB SPL,
    # where 94 dB SPL is a sine of full scale, 1/4.
    assert quiet[76].item() == pytest.approx(0.25 * 10 ** ((-5.019 - 94) / 10), rel=0.01)
    assert abs(int(quiet.argmin()) - 76) < 3
    assert (quiet[:60].diff() <= 0).all()
    assert (quiet[100:].diff() >= 0).all()
    assert decibel(quiet[[1, 450]] / quiet[76]).min() > 40, "60 Hz and 19 kHz"


@pytest.mark.parametrize("short", [0.0, 1.0])
def test_well_above_quiet_the_threshold_follows_the_level(short: float, quiet, generator):
    spectrum, bsm = torch.randn(20, 512, generator=generator), (short * SHORT).expand(20, 3)
    soft, loud = MaskingModel()(spectrum, bsm), MaskingModel()(10 * spectrum, bsm)
    above = soft > 300 * quiet.max()
    assert above.float().mean() > 0.7, "next to all of them"
    assert (decibel(loud / soft)[above] - 20).abs().max() < 0.1


@pytest.mark.parametrize("line", [60, 100, 150, 200])
def test_masking_of_a_line_falls_by_10_db_per_bark_upwards_and_25_downwards(line: int):
    threshold = decibel(MaskingModel().threshold(torch.zeros(512).index_fill(0, torch.tensor(line), 0.01))).numpy()
    distance = BARK - BARK[line]
    for side, slope in (((distance > 1) & (distance < 3), UP), ((distance < -1) & (distance > -2.5), DOWN)):
        assert np.polyfit(distance[side], threshold[side], 1)[0] == pytest.approx(slope, abs=SLOPE_TOLERANCE)


def test_noise_masks_6_db_more_than_tones_of_the_same_energy():
    # One line in 16, where that is about a band of half a Bark.
    flat, comb = torch.full((512,), 0.01), torch.zeros(512)
    comb[8::16] = 0.16
    model = MaskingModel()
    wide = slice(230, 370)
    difference = decibel(model.threshold(flat)[wide].mean() / model.threshold(comb)[wide].mean())
    assert difference.item() == pytest.approx(TONAL, abs=TONAL_TOLERANCE)


def test_gaussian_noise_counts_as_noise(generator):
    # Were it taken for tones, 6 dB would be missing; what is missing is chance among few coefficients.
    model = MaskingModel()
    noise = 0.1 * torch.randn(100, 512, generator=generator)
    threshold = model(noise, torch.zeros(100, 3)).mean(0)
    missing = decibel(model.threshold(torch.full((512,), 0.01)) / threshold)[60:470]
    assert missing.mean() < 1
    assert missing.max() < 2


def test_power_of_a_tone_in_low_falls_off_where_that_of_the_coefficients_does_not():
    hertz = 3000  # in the low band, the only one under the window
    spectrum, bsm = analyse(sine(hertz))
    power, raw = MaskingModel().power(spectrum, bsm)[4:].mean(0), spectrum[4:].square().mean(0)
    peak = hertz * 1024 / SAMPLE_RATE - 0.5
    around = torch.from_numpy(np.abs(np.arange(512) - peak) < 8)
    assert decibel(power[~around].max() / power.max()) < -40
    assert decibel(raw[~around].max() / raw.max()) > -40
    # 1/4 is what a sine of full scale has, with either.
    assert power.sum().item() == pytest.approx(0.25, rel=0.02)


@pytest.mark.parametrize(
    ("hertz", "range_in_db"),
    # Both quadratures together hardly know the phase of the tone, which neighbours do a little.
    [(1000, 1), (4000, 1), (6500, 4), (9000, 4), (12000, 4), (16000, 4), (20000, 4)],
)
def test_power_of_a_tone_is_highest_at_its_coefficient_in_every_band_and_frame(hertz: int, range_in_db: float):
    spectrum, bsm = analyse(sine(hertz))
    power = MaskingModel().power(spectrum, bsm)[4:]
    expected = hertz * 1024 / SAMPLE_RATE - 0.5
    assert (power.argmax(-1) - expected).abs().max() < 1
    assert decibel(power.amax(-1)).aminmax()[1] - decibel(power.amax(-1)).aminmax()[0] < range_in_db


@pytest.mark.parametrize(("band", "n_blocks", "fading"), [(0, 4, 0.7), (1, 4, 0.7), (2, 8, 0.7**0.5)])
def test_a_loud_short_block_masks_itself_and_those_after_it(band: int, n_blocks: int, fading: float, generator):
    own = BANDS[band]
    spectrum = 1e-4 * torch.randn(512, generator=generator)
    spectrum[own].view(n_blocks, 32)[1] *= 1e3
    threshold = MaskingModel()(spectrum[None], SHORT[None])[0]
    blocks = decibel(threshold[own].view(n_blocks, 32))
    assert (blocks[1] - blocks[0]).min() > 15
    later = (blocks[2:] - blocks[1:-1]).mean(1)
    torch.testing.assert_close(later, torch.full_like(later, 5 * math.log10(fading)), rtol=0, atol=1e-3)


def test_steady_noise_gives_long_and_short_blocks_the_same_threshold(generator):
    pcm = 0.1 * torch.randn(512 * 100, generator=generator)
    long, short = (MaskingModel()(*analyse(pcm, short))[2:] for short in (False, True))
    difference = decibel(short.mean(0) / long.mean(0))
    for own in BANDS:
        assert difference[own].mean().abs() < 1.5
    assert decibel(short / long).mean().abs() < 1.5


def test_thresholds_depend_on_the_blocks_of_their_own_band_and_on_spreading(generator):
    spectrum = torch.randn(1, 512, generator=generator)
    long, mixed = (MaskingModel()(spectrum, bsm) for bsm in (torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 3.0]])))
    assert (decibel(mixed / long)[:, :200].abs() < 0.1).all(), "3 Bark below the high band"
    assert (decibel(mixed / long)[:, 256:].abs() > 0.5).any()


@pytest.mark.parametrize("bsm", [(0.0, 0.0, 0.0), (2.0, 2.0, 3.0), (2.0, 0.0, 3.0)])
def test_slope_of_the_threshold_is_its_difference(
    bsm: tuple[float, ...], in_float64, slopes_are_differences, generator
):
    spectrum = torch.nn.Parameter(torch.randn(1, 512, generator=generator, dtype=torch.float64))
    model, weight = MaskingModel(), torch.randn(1, 512, generator=generator, dtype=torch.float64)
    slopes_are_differences([spectrum], lambda: (weight * model(spectrum, torch.tensor([bsm])).log()).sum())


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-10, 1e10])
@pytest.mark.parametrize("short", [0.0, 1.0])
def test_thresholds_and_slopes_are_finite_at_every_level(short: float, level: float):
    spectrum = (level * torch.ones(2, 512)).requires_grad_()
    threshold = MaskingModel()(spectrum, (short * SHORT).expand(2, 3))
    assert torch.isfinite(threshold).all()
    assert (threshold > 0).all()
    threshold.sum().backward()
    assert torch.isfinite(spectrum.grad).all()
    assert bool(spectrum.grad.any()) == (level > 0)
