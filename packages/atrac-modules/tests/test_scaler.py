from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from atrac_bitstream.tables import SCALE_FACTORS
from atrac_modules import BfuLayout, NeuralScaler, ReferenceScaler, Scaler
from atrac_modules.scaler import LARGEST_SCALED

STAGES = [ReferenceScaler, NeuralScaler]
LEVELS_TOLERANCE = 2e-6
"""Of 2 ** x in float32, x = -21 .. 0: half a step of x there is 1e-6, which times log(2) is the relative error."""


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
    spectrum = torch.randn(3, 4, 512, generator=generator) * 10.0 ** -torch.randint(
        0, 6, (3, 4, 512), generator=generator
    )
    bsm = random_bsm(3, 4)
    keeps_contract(build(stage), (spectrum, bsm), ((4, 52), (4, 512)))
    result = build(stage)(spectrum, bsm)
    assert torch.equal(result.idsf, result.idsf.round())
    assert result.idsf.min() >= 0
    assert result.idsf.max() <= 63
    assert result.scaled.abs().max() < 1
    assert torch.equal(build(stage).scale(spectrum, result.idsf, bsm), result.scaled)


def test_scaler_equals_golden(golden):
    result = ReferenceScaler()(golden.mdct, golden.bsm)
    assert torch.equal(result.idsf, golden.idsf)
    assert torch.equal(result.scaled, golden.scaled)


def test_neural_scaler_with_the_formats_scale_factors_equals_golden(golden):
    result = taught()(golden.mdct, golden.bsm)
    assert torch.equal(result.idsf, golden.idsf)
    torch.testing.assert_close(result.scaled, golden.scaled, rtol=LEVELS_TOLERANCE, atol=0)


def test_neural_scaler_with_the_formats_scale_factors_is_the_reference_in_slope_too(in_float64, spectra):
    spectrum, bsm = spectra
    found, slopes = [], []
    for stage in (ReferenceScaler(), taught()):
        x = spectrum.clone().requires_grad_()
        result = stage(x, bsm)
        found.append(result)
        slopes.append(torch.autograd.grad(result.idsf.sum() + result.scaled.square().sum(), x)[0])
    assert torch.equal(found[1].idsf, found[0].idsf)
    torch.testing.assert_close(found[1].scaled, found[0].scaled, rtol=1e-12, atol=0)
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_table_indices_are_whole_and_nothing_reaches_1(seed: int, build, spectra):
    spectrum, bsm = (x.float() for x in spectra)
    stage = build(NeuralScaler, seed)
    for x in (spectrum, spectrum.clone().requires_grad_()):
        result = stage(x, bsm)
        assert torch.equal(result.idsf, result.idsf.round().clamp(0, 63))
        assert result.scaled.abs().max() < 1
        assert torch.isfinite(result.scaled).all()
        for idsf in (result.idsf.detach() - 5, result.idsf.detach() + 5):
            assert stage.scale(x, idsf.clamp(0, 63), bsm).abs().max() < 1


def test_index_is_the_number_of_scale_factors_below_the_largest_magnitude(build, spectra):
    spectrum, bsm = (x.float() for x in spectra)
    stage = build(NeuralScaler)
    largest = BfuLayout().maximum(spectrum, bsm)
    below = (stage.levels.detach().exp2() < largest[..., None]).sum(-1).clamp_max(63)
    assert torch.equal(stage(spectrum, bsm).idsf, below.float())


def test_every_scale_factor_gets_its_slope(in_float64, gets_slopes, slopes_are_differences, spectra):
    spectrum, bsm = spectra
    spectrum.requires_grad_()
    stage = taught()
    idsf = stage(spectrum, bsm).idsf.detach()
    assert len(idsf.unique()) == 64
    gets_slopes(stage, stage(spectrum, bsm).scaled, (spectrum,))
    assert stage.levels.grad.all()
    # With indices fixed and nothing at the limit: the slope of the quotient.
    quiet = 0.9 * spectrum.detach().clamp(-1, 1)
    slopes_are_differences([stage.levels], lambda: stage.scale(quiet, idsf, bsm).square().sum(), step=1e-7)


def test_a_table_of_random_order_gets_slopes_as_well(in_float64, build, gets_slopes, spectra):
    stage = build(NeuralScaler)
    gets_slopes(stage, stage(*spectra).scaled)


def test_scale_factor_is_the_smallest_that_is_not_below_the_largest_magnitude(generator, random_bsm):
    spectrum, bsm = 0.5 * torch.randn(4, 512, generator=generator), random_bsm(4)
    idsf = ReferenceScaler()(spectrum, bsm).idsf
    largest = BfuLayout().maximum(spectrum, bsm)
    table = torch.tensor(SCALE_FACTORS, dtype=torch.float32)
    for value, index in zip(largest.flatten().tolist(), idsf.flatten().int().tolist(), strict=True):
        assert index == next((i for i, factor in enumerate(table.tolist()) if factor >= value), 63)


def test_a_value_equal_to_its_scale_factor_and_all_beyond_1_become_0_99999():
    spectrum = torch.zeros(1, 512)
    spectrum[0, 0], spectrum[0, 8], spectrum[0, 16], spectrum[0, 24] = 1.0, -0.5, 4.0, -1.5
    result = ReferenceScaler()(spectrum, torch.zeros(1, 3))
    assert result.idsf[0, :4].tolist() == [63, 60, 63, 63]
    assert result.scaled[0, [0, 8, 16, 24]].tolist() == pytest.approx([0.99999, -0.99999, 0.99999, -0.99999])
    assert LARGEST_SCALED == 0.99999


def test_silence_has_index_0_and_stays_silent():
    result = ReferenceScaler()(torch.zeros(1, 512), torch.zeros(1, 3))
    assert not result.idsf.any()
    assert not result.scaled.any()


def test_scaling_passes_gradcheck_with_indices_fixed(in_float64, generator):
    spectrum = torch.rand(1, 512, generator=generator, dtype=torch.float64, requires_grad=True)
    bsm = torch.tensor([[0.0, 2.0, 0.0]], dtype=torch.float64)
    idsf = torch.full((1, 52), 63.0, dtype=torch.float64)
    stage = ReferenceScaler()
    assert torch.autograd.gradcheck(lambda x: stage.scale(x * 0.9, idsf, bsm)[0, ::13], spectrum)


def test_slope_of_the_index_follows_the_logarithm_of_the_largest_magnitude(in_float64, generator):
    spectrum = torch.rand(1, 512, generator=generator, dtype=torch.float64, requires_grad=True)
    bsm = torch.zeros(1, 3, dtype=torch.float64)
    (slope,) = torch.autograd.grad(ReferenceScaler()(spectrum, bsm).idsf[0, 0], spectrum)
    place = int(spectrum[0, :8].argmax())
    assert slope[0, place].item() == pytest.approx(3 / math.log(2) / spectrum[0, place].item(), rel=1e-9)
    assert slope.count_nonzero() == 1


def test_slope_along_the_index_is_that_of_the_scale_factor_formula(in_float64, generator):
    spectrum = 0.1 * torch.rand(1, 512, generator=generator, dtype=torch.float64)
    bsm = torch.zeros(1, 3, dtype=torch.float64)
    idsf = torch.full((1, 52), 55.0, dtype=torch.float64, requires_grad=True)
    scaled = ReferenceScaler().scale(spectrum, idsf, bsm)
    (slope,) = torch.autograd.grad(scaled[0, 3], idsf)
    # spectrum / 2 ** (idsf / 3 - 21), by hand
    assert slope[0, 0].item() == pytest.approx(-math.log(2) / 3 * scaled[0, 3].item(), rel=1e-9)


@pytest.mark.parametrize("stage", STAGES)
def test_slopes_are_finite_on_silence_and_overload(stage: type[Scaler], build):
    for level in (0.0, 1.0, 4.0):
        spectrum = torch.full((1, 512), level, requires_grad=True)
        result = build(stage)(spectrum, torch.zeros(1, 3))
        (result.idsf.sum() + result.scaled.sum()).backward()
        assert torch.isfinite(spectrum.grad).all()
