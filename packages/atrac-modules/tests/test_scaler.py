from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from atrac_bitstream.tables import SCALE_FACTORS
from atrac_modules import BfuLayout, NeuralScaler, ReferenceScaler, Scaler

STAGES = [ReferenceScaler, NeuralScaler]


def taught() -> NeuralScaler:
    """Return the learned stage with the format's scale factors."""
    stage = NeuralScaler()
    with torch.no_grad():
        stage.levels.copy_(torch.from_numpy(np.log2(SCALE_FACTORS)))
    return stage


@pytest.fixture
def spectra(generator, random_bsm) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectra of all levels, silence and overload among them, and block modes; float64."""
    level = 10.0 ** (1 - 8 * torch.rand(40, 16, dtype=torch.float64, generator=generator))
    spectrum = torch.randn(40, 512, generator=generator, dtype=torch.float64) * level.repeat_interleave(32, -1)
    spectrum[0] = 0
    return spectrum, random_bsm(40, dtype=torch.float64)


@pytest.mark.parametrize("stage", STAGES)
def test_scaler_keeps_the_contract(stage: type[Scaler], build, keeps_contract, random_bsm, generator):
    level = 10.0 ** -torch.randint(0, 6, (3, 4, 512), generator=generator)
    inputs = torch.randn(3, 4, 512, generator=generator) * level, random_bsm(3, 4)
    keeps_contract(build(stage), inputs, ((4, 52),))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("seed", range(3))
def test_index_is_the_number_of_scale_factors_below_the_largest_magnitude(stage, seed: int, build, spectra):
    spectrum, bsm = (x.float() for x in spectra)
    module = build(stage, seed)
    table = module.levels.detach().exp2() if stage is NeuralScaler else torch.tensor(SCALE_FACTORS)
    below = (table < BfuLayout().maximum(spectrum, bsm)[..., None]).sum(-1).clamp_max(63)
    for x in (spectrum, spectrum.clone().requires_grad_()):
        assert torch.equal(module(x, bsm), below.float())


@pytest.mark.parametrize("stage", [ReferenceScaler, taught])
def test_scaler_equals_golden(stage, golden):
    assert torch.equal(stage()(golden.mdct, golden.bsm), golden.idsf)


def test_neural_scaler_with_the_formats_scale_factors_is_the_reference_in_slope_too(in_float64, spectra):
    spectrum, bsm = spectra
    found, slopes = [], []
    for stage in (ReferenceScaler(), taught()):
        x = spectrum.clone().requires_grad_()
        result = stage(x, bsm)
        found.append(result)
        slopes.append(torch.autograd.grad(result.sum(), x)[0])
    assert torch.equal(*found)
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-9, atol=1e-9)


def test_every_scale_factor_has_its_slope(in_float64, build, gets_slopes, spectra):
    spectrum, bsm = spectra
    stage = taught()
    idsf = stage(spectrum.requires_grad_(), bsm)
    assert len(idsf.unique()) == 64
    gets_slopes(stage, idsf, (spectrum,))
    assert (stage.levels.grad < 0).all(), "a higher scale factor is reached later"
    stage = build(NeuralScaler)  # a table of random order
    gets_slopes(stage, stage(*spectra))


def test_a_value_equal_to_its_scale_factor_has_it_and_all_beyond_1_the_largest():
    spectrum = torch.zeros(1, 512)
    spectrum[0, 0], spectrum[0, 8], spectrum[0, 16], spectrum[0, 24] = 1.0, -0.5, 4.0, -1.5
    assert ReferenceScaler()(spectrum, torch.zeros(1, 3))[0, :4].tolist() == [63, 60, 63, 63]


def test_slope_of_the_index_follows_the_logarithm_of_the_largest_magnitude(in_float64, generator):
    spectrum = torch.rand(1, 512, generator=generator, dtype=torch.float64, requires_grad=True)
    bsm = torch.zeros(1, 3, dtype=torch.float64)
    (slope,) = torch.autograd.grad(ReferenceScaler()(spectrum, bsm)[0, 0], spectrum)
    place = int(spectrum[0, :8].argmax())
    assert slope[0, place].item() == pytest.approx(3 / math.log(2) / spectrum[0, place].item(), rel=1e-9)
    assert slope.count_nonzero() == 1


@pytest.mark.parametrize("stage", STAGES)
def test_slopes_are_finite_on_silence_and_overload(stage: type[Scaler], build):
    for level in (0.0, 1.0, 4.0):
        spectrum = torch.full((1, 512), level, requires_grad=True)
        result = build(stage)(spectrum, torch.zeros(1, 3))
        result.sum().backward()
        assert torch.isfinite(spectrum.grad).all()
